"""Who gets in: only who holds a token that the issuer signed for us, and only with a role that the route admits."""

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from services.payments.settings import Settings
from shared import auth
from shared.auth import DEVELOPMENT_ISSUER, Keys, Role, Unauthorized, Verifier
from shared.errors import DomainError, Unavailable
from shared.settings import read_settings
from tests.conftest import ServiceUrls, environment, until
from tests.payments.conftest import create_tenant, new_request

ISSUER, AUDIENCE = "https://issuer.example", "takings"
PRIVATE = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def pem(algorithm):
    public = PRIVATE[algorithm].public_key()
    return public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()  # fmt: skip


def claims(**changes):
    now = int(time.time())
    known = {"iss": ISSUER, "aud": AUDIENCE, "sub": "s1", "iat": now, "exp": now + 60, "roles": ["finance"],
             "tenant_id": "t1"}  # fmt: skip
    return {name: value for name, value in {**known, **changes}.items() if value is not ...}


def token(algorithm="EdDSA", *, kid=None, key=None, **changes):
    headers = {"kid": kid} if kid else None
    return jwt.encode(claims(**changes), key or PRIVATE[algorithm], algorithm=algorithm, headers=headers)


def raw(header=None, **changes):
    """A token signed with the right key whatever it says; the library would refuse to make some of these."""
    signed = f"{b64(header or {'alg': 'EdDSA', 'typ': 'JWT'})}.{b64(claims(**changes))}"
    return f"{signed}.{b64(PRIVATE['EdDSA'].sign(signed.encode()))}"


def verifier(algorithm="EdDSA"):
    return Verifier(Keys(pem=pem(algorithm)), ISSUER, AUDIENCE)


def b64(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


async def test_a_subject_as_long_as_openid_allows_is_accepted():
    assert (await verifier().principal(raw(sub="s" * 255))).subject == "s" * 255


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_the_three_algorithms_are_accepted(algorithm):
    caller = await verifier(algorithm).principal(
        token(algorithm, roles=["manager", "unheard-of"], fleet_ids=["f2", "f1"], driver_id="d", client_id="c")
    )
    assert (caller.subject, caller.roles, caller.tenant) == ("s1", {Role.MANAGER}, "t1")
    assert (caller.fleets, caller.driver_id, caller.client_id) == (["f1", "f2"], "d", "c")


@pytest.mark.parametrize("trusted", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("used", ["RS256", "ES256", "EdDSA"])
async def test_a_key_of_another_sort_is_refused_not_an_error(trusted, used):
    if trusted != used:
        with pytest.raises(Unauthorized):
            await verifier(trusted).principal(token(used))


def forged_with_the_public_key():
    """HS256 with the public key's text as secret: the classic confusion. The library refuses to make it, so we do."""
    import hashlib
    import hmac

    signed = f"{b64({'alg': 'HS256', 'typ': 'JWT'})}.{b64(claims())}"
    return f"{signed}.{b64(hmac.digest(pem('EdDSA').encode(), signed.encode(), hashlib.sha256))}"


def unsigned(algorithm):
    return f"{b64({'alg': algorithm, 'typ': 'JWT'})}.{b64(claims())}."


now = int(time.time())
BAD = {
    "empty": "",
    "not a token": "abc",
    "two parts": "a.b",
    "none": unsigned("none"),
    "None": unsigned("None"),
    "HS256 with the public key": forged_with_the_public_key(),
    "signature stripped": token().rpartition(".")[0] + ".",
    "signature cut": raw()[:-10],
    "other claims under the signature": ".".join(
        [token().split(".")[0], b64(claims(roles=["operator"])), token().split(".")[2]]
    ),
    "signed by someone else": token(key=ed25519.Ed25519PrivateKey.generate()),
    "expired": raw(exp=now - 60, iat=now - 120),
    "no exp": raw(exp=...),
    "no iat": raw(iat=...),
    "no sub": raw(sub=...),
    "no aud": raw(aud=...),
    "no iss": raw(iss=...),
    "not yet": raw(nbf=now + 3_600),
    "issued in the future": raw(iat=now + 3_600),
    "wrong audience": raw(aud="someone-else"),
    "wrong issuer": raw(iss="https://evil.example"),
    "issuer as a list": raw(iss=[ISSUER]),
    "exp as text": raw(exp="tomorrow"),
    "exp infinite": raw(exp=float("inf")),
    "sub as number": raw(sub=7),
    "sub empty": raw(sub=""),
    "sub with a nul": raw(sub="s1\0"),
    "sub with half a character": raw(sub="s\ud800"),
    "sub longer than OpenID allows": raw(sub="s" * 256),
    "driver with half a character": raw(driver_id="\udfff"),
    "client with a nul": raw(client_id="c\0"),
    "fleet with a nul": raw(fleet_ids=["f1", "f\0"]),
    "roles not a list": raw(roles="admin"),
    "roles a mapping": raw(roles={"admin": True}),
    "roles of lists": raw(roles=[["admin"]]),
    "roles of mappings": raw(roles=[{"admin": 1}]),
    "roles missing": raw(roles=...),
    "fleets not a list": raw(fleet_ids="f1"),
    "tenant not a text": raw(tenant_id=["t1", "t2"]),
    "tenant that is two": raw(tenant_id="t1,t2"),
    "tenant with a nul": raw(tenant_id="t1\0"),
    "a megabyte": raw(padding="x" * 1_000_000),
    "a megabyte of nothing": "x" * 1_000_000,
    "deep header": f"{b64(b'[' * 5_000)}.{b64(claims())}.AAAA",
    "header no mapping": f"{b64([1])}.{b64(claims())}.AAAA",
    "alg a list": f"{b64({'alg': ['EdDSA']})}.{b64(claims())}.AAAA",
    "kid a number": f"{b64({'alg': 'EdDSA', 'kid': 7})}.{b64(claims())}.AAAA",
    "not base64": "{}.{}.{}",
    "not ascii": "ü.ü.ü",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
async def test_every_other_token_is_unauthorized(name):
    with pytest.raises(Unauthorized):
        await verifier().principal(BAD[name])


class IssuerServer:
    """A local issuer whose key set can be changed, and which can be told to fail; counts how often it is asked."""

    def __init__(self):
        self.keys, self.down, self.asked, self.answer = {}, False, 0, None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                body = outer.answer or json.dumps({"keys": list(outer.keys.values())}).encode()
                self.send_response(500 if outer.down else 200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"

    def publish(self, kid, algorithm, key=None):
        public = (key or PRIVATE[algorithm]).public_key()
        jwk = get_default_algorithms()[algorithm].to_jwk(public, as_dict=True)
        self.keys[kid] = {**jwk, "kid": kid, "alg": algorithm, "use": "sig"}

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def issuer_server():
    server = IssuerServer()
    yield server
    server.close()


@pytest.fixture
def remote(issuer_server):
    return Verifier(Keys(jwks_url=issuer_server.url), ISSUER, AUDIENCE)


async def test_keys_are_fetched_once_and_chosen_by_their_id(issuer_server, remote):
    for algorithm in PRIVATE:
        issuer_server.publish(f"key-{algorithm}", algorithm)
    await asyncio.gather(*(remote.principal(token(a, kid=f"key-{a}")) for a in PRIVATE for _ in range(5)))
    assert issuer_server.asked == 1
    for kid, algorithm in (("key-RS256", "EdDSA"), ("key-EdDSA", "RS256"), ("nobody", "EdDSA"), (None, "EdDSA")):
        with pytest.raises(Unauthorized):
            await remote.principal(token(algorithm, kid=kid))
    assert issuer_server.asked == 1  # unknown ids within seconds do not make us hammer the issuer


@pytest.fixture
def clock(monkeypatch):
    """The time of day of the key cache; `clock.passes(seconds)`."""

    class Clock:
        at_s = 1_000.0

        def monotonic(self):
            return self.at_s

        def passes(self, seconds):
            self.at_s += seconds

    made = Clock()
    monkeypatch.setattr(auth, "time", made)
    return made


async def test_a_rotated_key_is_found_and_a_withdrawn_one_forgotten(issuer_server, remote, clock):
    old, new = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
    issuer_server.publish("old", "EdDSA", old)
    await remote.principal(token(kid="old", key=old))
    issuer_server.publish("new", "EdDSA", new)
    clock.passes(6)
    assert (await remote.principal(token(kid="new", key=new))).subject == "s1"
    with pytest.raises(Unauthorized):
        await remote.principal(token(kid="new", key=old))
    del issuer_server.keys["old"]
    clock.passes(301)
    await remote.principal(token(kid="new", key=new))  # the known key serves while the set is fetched anew

    async def is_forgotten():
        try:
            await remote.principal(token(kid="old", key=old))
        except Unauthorized:
            return True
        return False

    await until(is_forgotten)


async def test_an_issuer_that_was_never_reached_is_unavailable_not_unauthorized(issuer_server, remote, clock):
    issuer_server.publish("k", "EdDSA")
    issuer_server.down = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            await remote.principal(token(kid="k"))
    assert issuer_server.asked == 1  # nobody waits in line for an issuer that is down
    issuer_server.down = False
    clock.passes(2)
    assert (await remote.principal(token(kid="k"))).subject == "s1"


async def test_an_issuer_that_goes_down_later_locks_nobody_out_and_delays_nobody(issuer_server, remote, clock):
    issuer_server.publish("k", "EdDSA")
    await remote.principal(token(kid="k"))
    issuer_server.down = True
    clock.passes(3_600)
    for _ in range(20):
        assert (await remote.principal(token(kid="k"))).subject == "s1"

    async def is_asked(times):
        return issuer_server.asked == times

    await until(lambda: is_asked(2))  # a failed fetch is not repeated for every request
    issuer_server.down = False
    clock.passes(6)
    await remote.principal(token(kid="k"))
    await until(lambda: is_asked(3))


NO_KEY_SETS = {
    "a list": b"[]",
    "null": b"null",
    "a text": b'"keys"',
    "keys null": b'{"keys": null}',
    "keys a mapping": b'{"keys": {"k": 1}}',
    "not JSON": b"<html>",
    "too deep": b"[" * 100_000,
    "a key id that is none": b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": ["k"], "x": "%s"}]}' % (b"A" * 43),
}


@pytest.mark.parametrize("name", NO_KEY_SETS)
async def test_an_answer_that_is_no_key_set_is_an_issuer_that_is_down(issuer_server, remote, clock, name):
    issuer_server.answer = NO_KEY_SETS[name]
    with pytest.raises(Unavailable):
        await remote.principal(token(kid="k"))
    issuer_server.publish("k", "EdDSA")
    issuer_server.answer = None
    clock.passes(2)
    await remote.principal(token(kid="k"))
    issuer_server.answer = NO_KEY_SETS[name]
    clock.passes(301)
    await remote.principal(token(kid="k"))  # the keys known serve, and are fetched anew meanwhile
    await remote.keys._refresh
    assert (await remote.principal(token(kid="k"))).subject == "s1"


@pytest.mark.parametrize("answer", [{"keys": []}, {"keys": [{"kty": "oct", "k": "AAAA", "kid": "k"}]}])
async def test_a_symmetric_or_empty_key_set_trusts_nobody(issuer_server, remote, answer):
    issuer_server.keys = {str(i): key for i, key in enumerate(answer["keys"])}
    with pytest.raises(DomainError) as refused:
        await remote.principal(token(kid="k"))
    assert refused.value.status in {401, 503}


async def test_over_http_a_bad_token_is_401_and_a_wrong_role_403(run):
    running = await run("payments")
    await create_tenant(running)
    good = running.as_("system")["authorization"]
    for header in (None, "", "Bearer", "Bearer ", "Basic abc", good.removeprefix("Bearer "), good[:-5],
                   "Bearer " + BAD["deep header"], "Bearer " + BAD["HS256 with the public key"], good + " x"):  # fmt: skip
        headers = {} if header is None else {"authorization": header}
        answer = await running.http.get("/api/v1/payments", headers=headers)
        assert answer.status_code == 401, header
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (
        await running.http.get("/api/v1/payments", headers={"authorization": good.replace("Bearer", "bearer")})
    ).is_success
    for roles in (["driver"], ["client"], ["operator"], []):
        answer = await running.http.post("/api/v1/requests", json=new_request(), headers=running.as_(*roles))
        assert answer.status_code == 403, roles
        assert answer.json()["type"] == "urn:takings:problem:forbidden"
    answer = await running.http.get("/api/v1/payments", headers=running.as_("admin", tenant=None))
    assert answer.status_code == 403  # a token without a tenant


@pytest.fixture
def whole(issuer):
    """Everything that payments reads from its environment."""
    urls = ServiceUrls(
        "none", "postgresql://app:hush@h/d", "postgresql://s:hush@h/d", "postgresql://o:hush@h/d", "", ""
    )
    values = {**environment("payments", urls, issuer), "http_port": "1"}
    return {f"PAYMENTS_{name.upper()}": value for name, value in values.items()}


@pytest.mark.parametrize(
    ("missing", "given", "said"),
    [
        ("SECRETS_KEYS", {}, "PAYMENTS_SECRETS_KEYS"),
        ("DATABASE_URL", {}, "PAYMENTS_DATABASE_URL"),
        ("SYSTEM_DATABASE_URL", {}, "PAYMENTS_SYSTEM_DATABASE_URL"),
        ("KAFKA_BOOTSTRAP", {}, "PAYMENTS_KAFKA_BOOTSTRAP"),
        ("AUTH_ISSUER", {}, "PAYMENTS_AUTH_ISSUER"),
        ("AUTH_PUBLIC_KEY", {}, "AUTH_PUBLIC_KEY"),
        ("LOG_LEVEL", {"AUTH_JWKS_URL": "http://127.0.0.1:1/"}, "AUTH_JWKS_URL"),
        ("ENVIRONMENT", {}, DEVELOPMENT_ISSUER),
        ("ENVIRONMENT", {"ENVIRONMENT": "production"}, DEVELOPMENT_ISSUER),
        ("ENVIRONMENT", {"ENVIRONMENT": "Local"}, "PAYMENTS_ENVIRONMENT"),
        ("HTTP_PORT", {"HTTP_PORT": "many"}, "PAYMENTS_HTTP_PORT"),
    ],
)
def test_wrong_or_missing_settings_stop_the_start_with_their_names(  # noqa: PLR0917
    whole, monkeypatch, capsys, missing, given, said
):
    for name, value in whole.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(f"PAYMENTS_{missing}", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(f"PAYMENTS_{name}", value)
    with pytest.raises(SystemExit) as ended:
        read_settings(Settings, "PAYMENTS_")
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert "hush" not in error
    assert whole["PAYMENTS_SECRETS_KEYS"] not in error


def test_whole_settings_start(whole, monkeypatch):
    for name, value in whole.items():
        monkeypatch.setenv(name, value)
    assert "hush" not in repr(read_settings(Settings, "PAYMENTS_"))


def test_the_process_itself_ends_with_2_and_the_name_of_what_is_missing(whole):
    env = {name: value for name, value in os.environ.items() if not name.startswith("PAYMENTS_")} | whole
    del env["PAYMENTS_SECRETS_KEYS"]
    ended = subprocess.run(
        [sys.executable, "-m", "services.payments"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("cannot start: PAYMENTS_SECRETS_KEYS: ")
