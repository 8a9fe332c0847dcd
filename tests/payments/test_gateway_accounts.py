"""Gateway accounts: opened and rotated by those who keep them; a secret is shown once and stored sealed."""

import base64
import json

from cryptography.fernet import Fernet

from services.payments.gateway_accounts import Vault
from shared.pages import write_cursor
from tests.conftest import connected
from tests.payments.conftest import Payments, another_tenant, create_tenant

ROUTE = "/api/v1/gateway-accounts"


async def post(payments, path="", body=None, *, role="admin", tenant="t1"):
    headers = payments.running.as_(role, tenant=tenant)
    return await payments.http.post(ROUTE + path, json=body, headers=headers)


async def listed(payments, *, role="admin", tenant="t1", **params):
    return await payments.http.get(ROUTE, params=params, headers=payments.running.as_(role, tenant=tenant))


async def test_an_account_is_the_tenants_and_its_secret_is_shown_once(payments: Payments):
    answer = await post(payments, body={"gateway": "standard", "name": "Main till"})
    assert answer.status_code == 201
    opened = answer.json()
    assert opened["id"].startswith("t1.")
    assert opened["secret"].startswith("whsec_")
    assert len(base64.b64decode(opened["secret"].removeprefix("whsec_"))) == 32
    page = (await listed(payments)).json()
    assert {item["name"] for item in page["items"]} == {"default", "Main till"}
    assert "secret" not in json.dumps(page)
    assert opened["secret"] not in (await listed(payments)).text


async def test_a_rotation_gives_a_new_secret_and_is_audited_without_it(payments: Payments):
    first = await post(payments, f"/{payments.account}/rotate")
    second = await post(payments, f"/{payments.account}/rotate")
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["id"] == payments.account
    secrets = {payments.secret, first.json()["secret"], second.json()["secret"]}
    assert len(secrets) == 3
    async with connected(payments.running.urls.app, "t1") as conn:
        trail = await conn.fetch(
            "SELECT action, subject, before::text, after::text FROM audit WHERE action LIKE '%gateway%'"
        )
        stored = await conn.fetch("SELECT encrypted, expires_at FROM gateway_secrets ORDER BY created_at")
        sealed = b"".join(row["encrypted"] for row in stored)
    assert sorted(row["action"] for row in trail) == ["open-gateway-account"] + ["rotate-gateway-secret"] * 2
    for secret in secrets:
        assert secret not in str(trail)
        assert secret.removeprefix("whsec_").encode() not in sealed
    assert [row["expires_at"] is None for row in stored] == [False, False, True]


async def test_refusals(payments: Payments):
    await create_tenant(payments.running, "t2")
    for body in (
        {},
        {"gateway": "paypal"},
        {"gateway": "standard", "name": ""},
        {"gateway": "standard", "secret": "mine"},
        None,
    ):
        assert (await post(payments, body=body)).status_code == 422, body
    for role in ("finance", "manager", "driver", "client", "operator"):
        assert (await post(payments, body={"gateway": "standard"}, role=role)).status_code == 403
        assert (await post(payments, f"/{payments.account}/rotate", role=role)).status_code == 403
        assert (await listed(payments, role=role)).status_code == 403
    assert (await post(payments, body={"gateway": "standard"}, tenant="unheard-of")).status_code == 403
    for path, tenant in ((f"/{payments.account}/rotate", "t2"), ("/t1.unknown/rotate", "t1"), ("/%00/rotate", "t1")):
        assert (await post(payments, path, tenant=tenant)).status_code in {404, 422}, (path, tenant)
    assert (await listed(payments, tenant="t2")).json() == {"items": [], "next_cursor": None}
    assert (await payments.callback()).status_code == 200  # the other tenant's try has rotated nothing


async def test_more_accounts_than_fit_on_a_page_come_once_each(payments: Payments):
    await another_tenant(payments)
    for number in range(6):
        assert (await post(payments, body={"gateway": "standard", "name": f"Till {number}"})).status_code == 201
    for limit in (1, 3, 6, 7, 8):
        seen, cursor = [], None
        while True:
            answer = await listed(payments, limit=limit, **({"cursor": cursor} if cursor else {}))
            seen += answer.json()["items"]
            assert len(answer.json()["items"]) <= limit
            cursor = answer.json()["next_cursor"]
            if cursor is None:
                break
        assert {item["name"] for item in seen} == {"default", *(f"Till {number}" for number in range(6))}
        assert len(seen) == len({item["id"] for item in seen}) == 7
        assert seen == (await listed(payments)).json()["items"]
    for cursor in ("nonsense", write_cursor(5), write_cursor("\0"), write_cursor("a", "b")):
        answer = await listed(payments, cursor=cursor)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:takings:problem:bad-cursor"), cursor
    for limit in (0, 1001):
        assert (await listed(payments, limit=limit)).status_code == 422


def test_the_vault_opens_what_an_older_key_has_sealed():
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    sealed = Vault(old).seal("whsec_x")
    assert Vault(f"{new}, {old}").open(sealed) == "whsec_x"
    assert Vault(new).open(Vault(f"{new},{old}").seal("whsec_y")) == "whsec_y"
