"""Who calls: bearer JWTs checked against one issuer's keys, and the roles that a route admits."""

import asyncio
import re
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jwt
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from shared.errors import DomainError, Forbidden, Unavailable
from shared.log import logger
from shared.tenants import TenantCopy

log = logger(__name__)

DEVELOPMENT_ISSUER = "takings-development"
ALGORITHMS = ("RS256", "ES256", "EdDSA")
TOKEN_LIMIT_BYTES = 8192
CLOCK_LEEWAY_S = 10
JWKS_MAX_AGE_S = 300
JWKS_MIN_AGE_S = 5
JWKS_RETRY_S = 1
JWKS_LIMIT_S = 3
TOKEN_TYPES = frozenset({"jwt", "at+jwt"})
CLAIM = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,255}")  # as PostgreSQL can hold it, as long as OpenID's `sub`
TENANT_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Role(StrEnum):
    """What a token may say its bearer is."""

    OPERATOR = "operator"
    ADMIN = "admin"
    FINANCE = "finance"
    MANAGER = "manager"
    DRIVER = "driver"
    CLIENT = "client"
    SYSTEM = "system"


class Unauthorized(DomainError):
    """No token, or none that this service accepts; why is for the log, not for the caller."""

    code = "unauthorized"
    status = 401
    title = "Unauthorized"


@dataclass(frozen=True, slots=True)
class Principal:
    """The bearer of an accepted token."""

    subject: str
    roles: frozenset[Role]
    tenant_id: str | None
    fleet_ids: frozenset[str]
    driver_id: str | None
    client_id: str | None

    @property
    def tenant(self) -> str:
        """The tenant that every query of this call is bound to. Raises Forbidden for a token without one."""
        if self.tenant_id is None:
            raise Forbidden("This token names no tenant.")
        return self.tenant_id

    def has(self, *roles: Role) -> bool:
        """Whether the bearer has any of `roles`."""
        return not self.roles.isdisjoint(roles)

    @property
    def fleets(self) -> list[str] | None:
        """The fleets the bearer is confined to; None for all. Only a mere manager is confined."""
        if self.has(Role.MANAGER) and not self.has(Role.ADMIN, Role.FINANCE, Role.SYSTEM):
            return sorted(self.fleet_ids)
        return None


class Keys:
    """The issuer's public keys: one PEM, or a JWKS fetched when an unknown key id turns up."""

    def __init__(self, *, pem: str | None = None, jwks_url: str | None = None, key_id: str | None = None) -> None:
        """`key_id`, when given, is the only one that the PEM is for."""
        self._pem = pem
        self._pem_id = key_id
        self._url = jwks_url
        self._set: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._lock = asyncio.Lock()
        self._refresh: asyncio.Task[None] | None = None

    async def key_for(self, key_id: str | None) -> Any:
        """The key that should have signed a token of `key_id`. Raises Unauthorized, Unavailable."""
        if self._pem is not None:
            if self._pem_id is not None and key_id != self._pem_id:
                raise Unauthorized("The token's key is not known.")
            return self._pem
        if key_id is None:
            raise Unauthorized("The token names no key.")
        if key_id not in self._set:
            await self._fetch()
        elif time.monotonic() - self._fetched_at > JWKS_MAX_AGE_S and (self._refresh is None or self._refresh.done()):
            self._refresh = asyncio.create_task(self._fetch())  # the known key serves meanwhile
        if key_id not in self._set:
            raise Unauthorized("The token's key is not known.")
        return self._set[key_id].key

    async def _fetch(self) -> None:
        import httpx  # noqa: PLC0415 - it takes its time, and a service with a PEM starts without it

        async with self._lock:
            # Neither unknown key ids nor an issuer that is down may cost a call, or a wait, for every request.
            if time.monotonic() - self._tried_at <= (JWKS_MIN_AGE_S if self._set else JWKS_RETRY_S):
                if not self._set:
                    raise Unavailable("The issuer's keys cannot be fetched.")
                return
            try:
                async with asyncio.timeout(JWKS_LIMIT_S), httpx.AsyncClient() as client:
                    answer = await client.get(str(self._url))
                keys = jwt.PyJWKSet.from_dict(answer.raise_for_status().json()).keys
                self._set = {key.key_id: key for key in keys if key.key_id}
                self._fetched_at = time.monotonic()
            except Exception as error:  # whatever it is that was answered
                if self._set:
                    log.warning("keys not fetched anew", error=repr(error))
                    return  # a stale set is better than refusing everyone while the issuer is down
                raise Unavailable("The issuer's keys cannot be fetched.") from error
            finally:
                self._tried_at = time.monotonic()


@dataclass(frozen=True, slots=True)
class Verifier:
    """Turns a bearer token into a Principal."""

    keys: Keys
    issuer: str
    audience: str

    async def principal(self, token: str) -> Principal:
        """Check signature, algorithm, issuer, audience and times. Raises Unauthorized, Unavailable."""
        if len(token) > TOKEN_LIMIT_BYTES:
            raise Unauthorized("The token is too long.")
        try:
            header = jwt.get_unverified_header(token)
            if str(header.get("typ", "jwt")).lower() not in TOKEN_TYPES:
                raise Unauthorized("The token is not an access token.")
            claims = jwt.decode(
                token,
                await self.keys.key_for(header.get("kid")),
                algorithms=list(ALGORITHMS),
                audience=self.audience,
                issuer=self.issuer,
                leeway=CLOCK_LEEWAY_S,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Unauthorized("The token is not valid.") from error
        return _principal(claims)


def _principal(claims: dict[str, Any]) -> Principal:
    def text(name: str) -> str | None:
        value = claims.get(name)
        if value is not None and not (isinstance(value, str) and CLAIM.fullmatch(value)):
            raise Unauthorized(f"The claim {name} is not a text.")
        return value

    def texts(name: str) -> frozenset[str]:
        values = [] if claims.get(name) is None else claims[name]
        if not isinstance(values, list) or not all(isinstance(v, str) and CLAIM.fullmatch(v) for v in values):
            raise Unauthorized(f"The claim {name} is not a list of texts.")
        return frozenset(values)

    subject = text("sub")
    if subject is None:
        raise Unauthorized("The token names no subject.")
    if claims.get("roles") is None:
        raise Unauthorized("The token names no roles.")
    roles = frozenset(Role(role) for role in texts("roles") & set(Role))
    tenant_id = text("tenant_id")
    if tenant_id is not None and not TENANT_ID.fullmatch(tenant_id):
        raise Unauthorized("The claim tenant_id is no tenant's.")  # a comma in it would bind two tenants
    return Principal(subject, roles, tenant_id, texts("fleet_ids"), text("driver_id"), text("client_id"))


class Allow(HTTPBearer):
    """The roles a route admits: `caller: Annotated[Principal, Depends(Allow(Role.FINANCE))]`.

    What a driver, client or manager may see of it (self, own fleets) is checked by the route with `own_only` or `fleets`.
    """

    def __init__(self, *roles: Role) -> None:
        super().__init__(scheme_name="bearer", bearerFormat="JWT", auto_error=False)
        self.roles = frozenset(roles)

    async def __call__(self, request: Request) -> Principal:  # type: ignore[override]  # a caller, not a raw token
        """The caller, whose token has one of the roles, of a tenant that is known. Raises Unauthorized, Forbidden."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("A bearer token is needed.")
        verifier: Verifier = request.app.state.verifier
        caller = await verifier.principal(token)
        if not caller.has(*self.roles):
            raise Forbidden("This needs one of the roles: " + ", ".join(sorted(self.roles)) + ".")
        is_operator = caller.has(*self.roles & {Role.OPERATOR})  # who makes the tenants, on a route for that
        if caller.tenant_id is not None and not is_operator:
            tenants: TenantCopy = request.app.state.tenants
            await tenants.refuse_unknown(caller.tenant_id)
        request.state.caller = caller
        return caller


class Public:
    """Marks a route that anyone may call (health, metrics, the API's own description)."""

    async def __call__(self) -> None:
        """Admit everyone."""


public = Depends(Public())


def own_only(caller: Principal, *, claim: str | None, wanted: str, roles: tuple[Role, ...]) -> None:
    """Admit `roles`, and anyone else only to `wanted` when it is their own `claim`. Raises Forbidden."""
    if not caller.has(*roles) and (claim is None or claim != wanted):
        raise Forbidden("This belongs to someone else.")
