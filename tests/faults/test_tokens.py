"""Forged tokens: none opens any route of any service, and none is an error of ours."""

import base64
import hashlib
import hmac
import json
import re
import time
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from deploy.tokens import AUDIENCE, ISSUER
from shared.auth import CLOCK_LEEWAY_S
from tests.conftest import Running
from tests.faults.seeds import seeded
from tests.faults.sizes import LONG
from tests.faults.test_tenants import operations
from tests.shared.sockets import exchange, listening

SERVICES = ("payments", "payouts", "reporting", "alerts")
HEADER = {"alg": "EdDSA", "typ": "JWT", "kid": ISSUER}
EVERYONE = ["admin", "finance", "system", "operator", "manager", "driver", "client"]


def b64(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Forger:
    """Makes tokens; holds the issuer's own key too, for those that are signed well and say something wrong."""

    def __init__(self, issuer: Any) -> None:
        self.own, self.public = issuer._key, issuer.public_key
        self.foreign = ed25519.Ed25519PrivateKey.generate()
        self.now = int(time.time())

    def signed(self, header: dict[str, Any] | None = None, key: Any = None, **changes: Any) -> str:
        """Signed whatever it says; the library would refuse to make some of these. A claim of ... is left out."""
        head = {name: value for name, value in {**HEADER, **(header or {})}.items() if value is not ...}
        text = f"{b64(head)}.{b64(self.claims(**changes))}"
        return f"{text}.{b64((key or self.own).sign(text.encode()))}"

    def hashed(self, algorithm: str, key: bytes) -> str:
        """With a symmetric algorithm, which anyone who knows the key could sign with."""
        text = f"{b64({**HEADER, 'alg': algorithm})}.{b64(self.claims())}"
        digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[algorithm]
        return f"{text}.{b64(hmac.digest(key, text.encode(), digest))}"

    def unsigned(self, algorithm: str, signature: str = "") -> str:
        return f"{b64({**HEADER, 'alg': algorithm})}.{b64(self.claims())}.{signature}"

    def claims(self, **changes: Any) -> dict[str, Any]:
        known = {"iss": ISSUER, "aud": AUDIENCE, "sub": "intruder", "iat": self.now, "exp": self.now + 600,
                 "roles": EVERYONE, "tenant_id": "t1"}  # fmt: skip
        return {name: value for name, value in {**known, **changes}.items() if value is not ...}


def without_key(f: Forger) -> dict[str, str]:
    """Made by someone who has only the public key."""
    public = serialization.load_pem_public_key(f.public.encode())
    form = serialization.PublicFormat
    der = public.public_bytes(serialization.Encoding.DER, form.SubjectPublicKeyInfo)
    raw = public.public_bytes(serialization.Encoding.Raw, form.Raw)
    rsa_key, ec_key = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
    claims, kid = f.claims(), {"kid": ISSUER}
    own_jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(f.foreign.public_key().public_bytes_raw())}
    good = f.signed()
    head, body, signature = good.split(".")
    turned = bytearray(base64.urlsafe_b64decode(signature + "=="))
    turned[10] ^= 1
    return {
        **{f"algorithm {a!r}": f.unsigned(a) for a in ("none", "None", "NONE", "nOnE", "")},
        "algorithm none with a signature": f.unsigned("none", signature),
        **{f"{a} with the public key": f.hashed(a, f.public.encode()) for a in ("HS256", "HS384", "HS512")},
        "HS256 with the key's text stripped": f.hashed("HS256", f.public.strip().encode()),
        "HS256 with the key's DER": f.hashed("HS256", der),
        "HS256 with the raw key": f.hashed("HS256", raw),
        "HS256 with nothing": f.hashed("HS256", b""),
        "HS256 with the issuer's name": f.hashed("HS256", ISSUER.encode()),
        "signed by someone else": f.signed(key=f.foreign),
        "RS256 by someone else": jwt.encode(claims, rsa_key, algorithm="RS256", headers=kid),
        "PS256 by someone else": jwt.encode(claims, rsa_key, algorithm="PS256", headers=kid),
        "ES256 by someone else": jwt.encode(claims, ec_key, algorithm="ES256", headers=kid),
        "brings its own key": f.signed({"jwk": own_jwk}, f.foreign),
        "says where its key is": f.signed({"jku": "http://127.0.0.1:9/jwks.json"}, f.foreign),
        "brings a certificate": f.signed({"x5c": [b64(b"\x30" * 64)], "x5u": "http://127.0.0.1:9/"}, f.foreign),
        "signature stripped": f"{head}.{body}.",
        "signature cut": good[:-20],
        "signature longer": good + "AAAA",
        "signature of zeros": f"{head}.{body}.{b64(bytes(64))}",
        "signature with a bit turned": f"{head}.{body}.{b64(bytes(turned))}",
        "signature of other claims": f"{head}.{b64(f.claims(sub='admin'))}.{signature}",
        "signature of another header": f"{b64({**HEADER, 'x': 1})}.{body}.{signature}",
    }


def wrong_headers(f: Forger) -> dict[str, str]:
    """Signed by the issuer, with a header that is not an access token's."""
    kids = [
        "other",
        "",
        "../../../../etc/passwd",
        "http://127.0.0.1:9/",
        "' OR 1=1 --",
        "x" * 5_000,
        7,
        None,
        [ISSUER],
        {"a": 1},
    ]
    return {
        **{f"kid {str(kid)[:30]!r}": f.signed({"kid": kid}) for kid in kids},
        "no kid": f.signed({"kid": ...}),
        **{f"type {t!r}": f.signed({"typ": t}) for t in ("id+jwt", "dpop+jwt", "JWE", "secevent+jwt", 7, ["JWT"])},
        "no algorithm": f.signed({"alg": ...}),
        "algorithm of another curve": f.signed({"alg": "ES256"}),
        "algorithms": f.signed({"alg": ["EdDSA"]}),
        "critical and unknown": f.signed({"crit": ["tenant-lock"], "tenant-lock": "t2"}),
        "payload not encoded": f.signed({"crit": ["b64"], "b64": False}),
    }  # fmt: skip


def wrong_claims(f: Forger) -> dict[str, str]:
    """Signed by the issuer, for someone else, for another time, or meaning nothing."""
    past, future = f.now - CLOCK_LEEWAY_S - 5, f.now + CLOCK_LEEWAY_S + 60
    cases: dict[str, dict[str, Any]] = {
        "expired": {"exp": past, "iat": past - 60},
        "expired long ago": {"exp": 1, "iat": 0},
        "not yet": {"nbf": future},
        "issued in the future": {"iat": future},
        "audience of others": {"aud": "bookings"},
        "audience in a list of others": {"aud": ["bookings", "takings-staging"]},
        "audience nearly": {"aud": "takings "},
        "issuer of others": {"iss": "https://evil.example"},
        "issuer nearly": {"iss": ISSUER + "/"},
        "issuer in capitals": {"iss": ISSUER.upper()},
        "two tenants": {"tenant_id": "t1,t2"},
        "tenants": {"tenant_id": ["t1"]},
        "tenant of anything": {"tenant_id": "%"},
        "tenant and nul": {"tenant_id": "t1\0"},
        "padded to a megabyte": {"padding": "x" * 1_000_000},
    }
    for name in ("exp", "iat", "sub", "aud", "iss", "roles"):
        cases[f"no {name}"] = {name: ...}
        cases[f"{name} null"] = {name: None}
    for name, values in {
        "exp": ("tomorrow", float("inf"), float("nan"), -1, [f.now + 60], {"a": 1}),
        "nbf": ("yesterday", [0]),
        "iat": ("now", float("inf")),
        "sub": (7, ["admin"], {"a": 1}),
        "aud": ("", [], {"takings": 1}, 7),
        "iss": ([ISSUER], 7),
        "roles": ("admin", {"admin": True}, [["admin"]], [{"admin": 1}], [7], 7, 0, "", False),
        "fleet_ids": ("", {}, 0, False, "f1"),
    }.items():
        cases |= {f"{name} {value!r}": {name: value} for value in values}
    return {name: f.signed(**changes) for name, changes in cases.items()}


def no_tokens(f: Forger) -> dict[str, str]:
    """Texts that are not tokens."""
    good = f.signed()
    head, body, signature = good.split(".")
    return {
        "a word": "abc",
        "dots": "..",
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.{signature}",
        "five parts": f"{head}..{body}.{signature}.{signature}",
        "braces": "{}.{}.{}",
        "not ascii": "\xfc.\xfc.\xfc",
        "a deep header": f"{b64(b'[' * 100_000)}.{body}.{signature}",
        "a header that is a list": f"{b64([HEADER])}.{body}.{signature}",
        "claims that are a list": f"{head}.{b64([f.claims()])}.{signature}",
        "a megabyte": "x" * 1_000_000,
        "a megabyte of dots": "." * 1_000_000,
        "a megabyte of signature": f"{head}.{body}.{'A' * 1_000_000}",
        "twice": f"{good},{good}",
        "spaces inside": good.replace(".", " . "),
        "in JSON": json.dumps({"protected": head, "payload": body, "signature": signature}),
        "quoted": f'"{good}"',
    }


async def call(running: Running, method: str, path: str, token: str) -> int:
    url = re.sub(r"\{\w+\}", str(uuid4()), path)
    headers = {"authorization": f"Bearer {token}".encode("latin-1"), "content-type": "application/json"}
    answer = await running.http.request(method, url, headers=headers, content=b"{}" if method != "GET" else b"")
    if answer.status_code == 401:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == "Bearer"
    return answer.status_code


@pytest.mark.timeout(300)
@pytest.mark.parametrize("service", SERVICES)
async def test_no_forged_token_opens_any_route(run, issuer, service):
    chance = seeded(f"tokens at {service}")
    running = await run(service, auth_key_id=ISSUER)
    forger = Forger(issuer)
    forged = without_key(forger) | wrong_headers(forger) | wrong_claims(forger) | no_tokens(forger)
    assert len(forged) >= 100
    routes = [(method, path) for method, path, _ in operations(running) if "/webhooks/" not in path]
    assert 401 not in [await call(running, *route, forger.signed()) for route in routes]
    accepted = []
    for name, token in forged.items():
        for route in routes if LONG else chance.sample(routes, 2):
            status = await call(running, *route, token)
            if status != 401:
                accepted.append((name, route, status))
    assert accepted == []


async def test_a_megabyte_of_token_over_a_real_socket_harms_nobody(run, issuer):
    running = await run("payments", auth_key_id=ISSUER)
    async with listening(running.service.app) as port:
        for token in ("x" * 1_000_000, Forger(issuer).signed(padding="x" * 1_000_000)):
            head = f"GET /api/v1/payments HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
            answer = await exchange(port, head.encode())
            assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 400", b"HTTP/1.1 431")), answer[:100]
        good = "GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        assert (await exchange(port, good.encode())).startswith(b"HTTP/1.1 200")
