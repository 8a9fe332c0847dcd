"""Every answer of a service, also the unexpected one: problem details, limits, request ids, security headers."""

import asyncio
import json

import asyncpg
import pytest
from fastapi.responses import StreamingResponse

from shared import http as edge
from shared.auth import public
from tests.payments.conftest import callback_body, create_tenant, new_request, sign
from tests.shared.sockets import exchange, listening

SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
WEBHOOK = "/api/v1/webhooks/standard/t1.0000000000000000"
REQUESTS = "/api/v1/requests"
DEAD = "postgresql://nobody:x@127.0.0.1:1/none"


@pytest.fixture
async def running(run):
    made = await run("payments")
    await create_tenant(made)
    return made


def check_problem(answer, status, *, type_ends=""):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:takings:problem:")
    assert body["type"].endswith(type_ends)
    assert body["title"]
    assert body["request_id"] == answer.headers["x-request-id"]
    for name, value in SECURITY.items():
        assert answer.headers[name] == value
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    return body


async def test_unknown_paths_are_404(running):
    for path in ("/", "/api/v1/nothing", "/api/v2/requests", "/api/v1/webhooks/unheard-of/t1.x", "/%00"):
        check_problem(await running.http.post(path), 404)


async def test_a_wrong_method_is_405_and_says_which_are_right(running):
    for method, path, allowed in [
        ("DELETE", REQUESTS, "POST"),
        ("PUT", "/api/v1/requests/x", "GET"),
        ("POST", "/health/live", "GET"),
        ("GET", WEBHOOK, "POST"),
        ("PUT", WEBHOOK, "POST"),
    ]:
        answer = await running.http.request(method, path, headers=running.as_("admin"))
        check_problem(answer, 405)
        assert allowed in answer.headers["allow"]


async def test_a_body_that_is_declared_too_large_is_413_unread(running):
    for path in (REQUESTS, WEBHOOK):
        headers = {**running.as_("system"), "content-type": "application/json"}
        for length in (str(edge.BODY_LIMIT_BYTES + 1), "1" * 30, "9" * 5_000, "-1", "many"):
            answer = await running.http.post(path, content=b"{}", headers={**headers, "content-length": length})
            check_problem(answer, 413)


async def test_a_chunked_body_is_413_as_soon_as_it_is_too_large(running):
    """What comes after that is read for a while, so that the caller sees the answer, but not for ever."""
    for path in (REQUESTS, WEBHOOK):
        sent = 0

        async def chunks():
            nonlocal sent
            while True:
                sent += 100_000
                yield b" " * 100_000

        headers = {**running.as_("system"), "content-type": "application/json"}
        check_problem(await running.http.post(path, content=chunks(), headers=headers), 413)
        assert sent < edge.BODY_LIMIT_BYTES + edge.DRAIN_LIMIT_BYTES + 300_000


async def test_the_largest_body_allowed_is_read(running):
    for path in (REQUESTS, WEBHOOK):
        body = json.dumps({"x": "y" * (edge.BODY_LIMIT_BYTES - 9)}).encode()
        assert len(body) == edge.BODY_LIMIT_BYTES
        headers = {**running.as_("system"), "content-type": "application/json"}
        answer = await running.http.post(path, content=body, headers=headers)
        assert answer.status_code in {401, 422}


async def test_a_slow_body_is_408(running, monkeypatch):
    for path in (REQUESTS, WEBHOOK):
        monkeypatch.setattr(edge, "BODY_TIME_LIMIT_S", 0.3)

        async def drops():
            while True:
                yield b" "
                await asyncio.sleep(0.05)

        headers = {**running.as_("system"), "content-type": "application/json"}
        async with asyncio.timeout(5):
            answer = await running.http.post(path, content=drops(), headers=headers)
        check_problem(answer, 408)


async def test_over_a_real_socket_an_oversized_or_stalled_body_is_answered_and_the_connection_closed(
    running, monkeypatch
):
    monkeypatch.setattr(edge, "BODY_TIME_LIMIT_S", 0.3)
    head = f"POST {WEBHOOK} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    async with listening(running.service.app) as port:
        for rest, status in (
            (f"Content-Length: {edge.BODY_LIMIT_BYTES + 1}\r\n\r\n", b"413"),
            ("Content-Length: 100\r\n\r\n{", b"408"),
            ("Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"408"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write((head + rest).encode())
            async with asyncio.timeout(5):
                answer = await reader.read()  # to the end: the server hangs up
            writer.close()
            assert answer.startswith(b"HTTP/1.1 " + status)
            assert b"connection: close" in answer.lower()
            assert b"application/problem+json" in answer


async def test_a_wrong_field_is_422_and_named(running):
    answer = await running.http.post(REQUESTS, json=new_request(amount="12"), headers=running.as_("system"))
    body = check_problem(answer, 422)
    assert [error["field"] for error in body["errors"]] == ["amount"]
    nested = new_request(payees=[{"payee_id": "d1", "share_bp": 10_001}])
    body = check_problem(await running.http.post(REQUESTS, json=nested, headers=running.as_("system")), 422)
    assert [error["field"] for error in body["errors"]] == ["payees.0.share_bp"]
    answer = await running.http.get("/api/v1/payments", params={"limit": "1001"}, headers=running.as_("system"))
    assert "limit" in check_problem(answer, 422)["errors"][0]["field"]


MALFORMED = [
    (b"{not json", {400}),
    (b"", {400, 422}),
    (b"\xff\xfe", {400}),
    (b"[" * 100_000, {400}),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, {400}),
    (b'{"amount": ' + b"9" * 10_000 + b"}", {400}),
    (b'{"amount": 1, "amount": 2}', {400}),
    (b'{"items": [{"amount": 1, "am\\u006funt": 1}]}', {400}),
    (b"null", {422}),
    (b'"text"', {422}),
    (b"[]", {422}),
    (b'{"\\ud800": 1}', {400, 422}),
    (b'{"\\u0000": 1}', {422}),
]


async def test_a_malformed_body_is_refused_and_never_500(running):
    headers = {**running.as_("system"), "content-type": "application/json"}
    for content, statuses in MALFORMED:
        for path in (REQUESTS, REQUESTS + "/batch", "/api/v1/payments"):
            answer = await running.http.post(path, content=content, headers=headers)
            assert answer.status_code in statuses, (path, content[:50], answer.text)
            check_problem(answer, answer.status_code)


IMPOSSIBLE = [
    ("amount", "NaN"),
    ("amount", "Infinity"),
    ("amount", "1e400"),
    ("amount", "10.0"),
    ("amount", "-1"),
    ("amount", "true"),
    ("amount", '"10"'),
    ("amount", "1000000000000001"),
    ("currency", '"XAU"'),
    ("currency", '"kes"'),
    ("occurred_at", '"2026-03-01T08:00:00"'),
    ("occurred_at", '"9999-12-31T23:59:59-12:00"'),
    ("occurred_at", '"0001-01-01T00:00:00+12:00"'),
    ("occurred_at", "1700000000"),
    ("client_id", '"a\\u0000b"'),
    ("client_id", '"a\\nb"'),
    ("client_id", '"\\ud800"'),
    ("client_id", '""'),
    ("client_id", '"' + "x" * 201 + '"'),
    ("client", '{"name": "a\\u0000"}'),
    ("kind", '"gift"'),
    ("payees", '[{"payee_id": "a"}, {"payee_id": "a"}]'),
    ("payees", '[{"payee_id": "a", "share_bp": 5000}, {"payee_id": "b", "share_bp": 4999}]'),
    ("payees", '[{"payee_id": "a", "share_bp": 10000}, {"payee_id": "b"}]'),
    ("colour", '"red"'),
]


async def test_values_that_the_books_cannot_hold_are_422(running):
    headers = {**running.as_("system"), "content-type": "application/json"}
    items = []
    for field, value in IMPOSSIBLE:
        body = new_request()
        body.pop(field, None)
        content = json.dumps(body)[:-1] + f', "{field}": {value}}}'
        answer = await running.http.post(REQUESTS, content=content, headers=headers)
        assert answer.status_code == 422, (field, value, answer.text)
        problem = check_problem(answer, 422)
        assert field == "payees" or problem["errors"][0]["field"].startswith(field), problem
        items.append(content)
    good = json.dumps(new_request(id="good"))
    batch = await running.http.post(
        REQUESTS + "/batch", content=f'{{"items": [{",".join([*items, good])}]}}', headers=headers
    )
    assert batch.status_code == 200, batch.text
    results = batch.json()["results"]
    assert [(r["status"], r["id"]) for r in results] == [(422, None)] * len(items) + [(201, "good")]


async def test_the_unexpected_is_500_without_detail_and_with_the_request_id(running):
    async def boom() -> None:
        raise RuntimeError("the password is swordfish")

    running.service.api.add_api_route("/boom", boom, dependencies=[public])
    answer = await running.http.get("/boom", headers={"x-request-id": "my-request-id"})
    body = check_problem(answer, 500)
    assert body["request_id"] == "my-request-id"
    assert "swordfish" not in answer.text
    assert "RuntimeError" not in answer.text
    owner = await asyncpg.connect(running.urls.owner)
    await owner.execute("DROP TABLE gateway_secrets")
    await owner.close()
    webhook = callback_body()
    answer = await running.http.post(WEBHOOK, content=webhook, headers=sign("whsec_AAAA", webhook))
    check_problem(answer, 503)
    assert "gateway_secrets" not in answer.text


async def test_whatever_takes_too_long_all_together_is_503(running, monkeypatch):
    monkeypatch.setattr(edge, "CALL_LIMIT_S", 0.3)

    async def linger() -> None:
        while True:
            await asyncio.sleep(0.1)  # each step is short enough

    running.service.api.add_api_route("/linger", linger, dependencies=[public])
    async with asyncio.timeout(5):
        answer = await running.http.get("/linger")
    check_problem(answer, 503, type_ends="unavailable")
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("ending", ["too late", "broken"])
async def test_an_answer_that_ends_half_way_is_hung_up_on_and_logged(running, monkeypatch, caplog, ending):
    monkeypatch.setattr(edge, "CALL_LIMIT_S", 0.3)

    async def half():
        yield b"the first half"
        if ending == "broken":
            raise ValueError("no second half")
        await asyncio.Event().wait()

    async def answer() -> StreamingResponse:
        return StreamingResponse(half())

    running.service.api.add_api_route("/half", answer, dependencies=[public])
    async with listening(running.service.app) as port:
        got = await exchange(port, b"GET /half HTTP/1.1\r\nhost: x\r\n\r\n", within_s=5)
    assert got.startswith(b"HTTP/1.1 200")
    assert b"the first half" in got
    assert not got.endswith(b"0\r\n\r\n")
    assert "answer broken off" in caplog.text


async def test_a_database_that_is_down_is_503_with_retry_after(run):
    running = await run("payments", database_url=DEAD)
    body = callback_body()
    answers = [
        await running.http.post(REQUESTS, json=new_request(), headers=running.as_("system")),
        await running.http.get("/api/v1/payments", headers=running.as_("finance")),
        await running.http.post(WEBHOOK, content=body, headers=sign("whsec_AAAA", body)),
    ]
    for answer in answers:
        check_problem(answer, 503, type_ends="unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert "127.0.0.1" not in answer.text
    assert (await running.http.get("/health/live")).status_code == 200
    assert (await running.http.get("/health/ready")).status_code == 503
    assert (await running.http.get("/metrics")).status_code == 200


async def test_health_is_ready_when_the_database_answers_whatever_the_broker_does(running):
    answer = await running.http.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


async def test_a_good_request_id_is_echoed_and_a_bad_one_replaced(running):
    for good in ("abcdefgh", "A1.b-c_d" * 8):
        assert (await running.http.get("/health/live", headers={"x-request-id": good})).headers["x-request-id"] == good
    for bad in ("short", "x" * 65, "with space 1", 'quote"12345', "new%0aline-forged", "ünïcödé-1234".encode()):
        given = (await running.http.get("/health/live", headers={"x-request-id": bad})).headers["x-request-id"]
        assert given != bad
        assert len(given) == 36
    first, second = [(await running.http.get("/health/live")).headers["x-request-id"] for _ in range(2)]
    assert first != second


async def test_good_answers_carry_the_security_headers_too(running):
    for answer in (
        await running.http.get("/health/live"),
        await running.http.get("/openapi.json"),
        await running.http.post(REQUESTS, json=new_request(), headers=running.as_("system")),
    ):
        assert answer.status_code < 300
        for name, value in SECURITY.items():
            assert answer.headers.get_list(name) == [value]


async def test_the_description_has_every_route_with_its_problems(running):
    described = (await running.http.get("/openapi.json")).json()
    assert described["openapi"].startswith("3.1")
    assert "/api/v1/webhooks/standard/{account_id}" in described["paths"]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/api/v1/") and "webhooks" not in path:
                assert {"401", "403", "422", "500", "503"} <= operation["responses"].keys(), (method, path)


async def test_nothing_odd_in_the_headers_is_500(running):
    for path in (REQUESTS, WEBHOOK):
        odd = {
            "content-type": "\xff/;;=",
            "traceparent": "\xff",
            "accept": "\xff",
            "idempotency-key": "\xff",
            "cookie": "\xff=\xff",
        }
        for name, value in odd.items():
            headers = {**running.as_("system"), "content-type": "application/json", name: value.encode("latin-1")}
            answer = await running.http.post(path, content=b"{}", headers=headers)
            assert 400 <= answer.status_code < 500, (name, answer.text)
