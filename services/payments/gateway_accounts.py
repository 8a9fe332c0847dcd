"""Gateway accounts: open one, rotate its secret, and find an account's secrets for a callback that is not yet trusted."""

import asyncio
import re
import secrets as random
import time
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography.fernet import Fernet, MultiFernet

from services.payments.gateways.registry import GATEWAYS
from shared import audit
from shared.db import Connection, Database
from shared.errors import NotFound
from shared.ids import new_id
from shared.writes import write

OLD_SECRET_LIVES = timedelta(hours=24)
CACHE_FOR_S = 0.5  # a new account or secret is known within this time
CACHE_LIMIT = 10_000
ACCOUNT_ID = re.compile(r"[a-z0-9-]{1,63}\.[a-z0-9]{1,32}")

OPEN = "INSERT INTO gateway_accounts (tenant_id, account_id, gateway, name, created_at) VALUES ($1, $2, $3, $4, $5)"
KEEP_SEALED = """
INSERT INTO gateway_secrets (tenant_id, account_id, secret_id, encrypted, created_at) VALUES ($1, $2, $3, $4, $5)
"""
EXPIRE_SECRETS = """
UPDATE gateway_secrets SET expires_at = $3 WHERE tenant_id = $1 AND account_id = $2 AND expires_at IS NULL
"""
GATEWAY_OF = "SELECT gateway FROM gateway_accounts WHERE tenant_id = $1 AND account_id = $2 FOR UPDATE"
SECRETS = """
SELECT a.gateway, s.encrypted
FROM gateway_accounts AS a JOIN gateway_secrets AS s USING (tenant_id, account_id)
WHERE a.tenant_id = $1 AND a.account_id = $2 AND (s.expires_at IS NULL OR s.expires_at > $3)
ORDER BY s.created_at DESC
"""


class AccountUnknown(NotFound):
    """No such gateway account in this tenant."""

    code = "gateway-account-unknown"


class Opened(NamedTuple):
    """An account and its newest secret, which is shown this once."""

    account_id: str
    gateway: str
    secret: str


class Account(NamedTuple):
    """What is needed to trust a callback."""

    tenant_id: str
    account_id: str
    gateway: str
    secrets: tuple[str, ...]


class Vault:
    """Encrypts secrets at rest; the first key encrypts, all decrypt, so that keys can be changed."""

    def __init__(self, keys: str) -> None:
        """`keys`: Fernet keys, comma-separated. Raises ValueError for one that is none."""
        self._fernet = MultiFernet([Fernet(key.strip()) for key in keys.split(",")])

    def seal(self, secret: str) -> bytes:
        """The secret as it is stored."""
        return self._fernet.encrypt(secret.encode())

    def open(self, sealed: bytes) -> str:
        """The secret as it is used."""
        return self._fernet.decrypt(sealed).decode()


async def open_account(
    conn: Connection, vault: Vault, *, tenant_id: str, gateway: str, name: str, actor: audit.Actor, now: datetime
) -> Opened:
    """Open an account. Its id starts with the tenant's, so that a callback's address says whose secrets to try."""
    account_id = f"{tenant_id}.{random.token_hex(8)}"
    await conn.execute(OPEN, tenant_id, account_id, gateway, name, now)
    secret = await _add_secret(conn, vault, tenant_id=tenant_id, account_id=account_id, gateway=gateway, now=now)
    change = audit.Change(account_id, None, {"gateway": gateway, "name": name})
    await write(conn, audit.record(actor, "open-gateway-account", [change], tenant_id=tenant_id, now=now))
    return Opened(account_id, gateway, secret)


async def rotate_secret(
    conn: Connection, vault: Vault, *, tenant_id: str, account_id: str, actor: audit.Actor, now: datetime
) -> Opened:
    """A new secret; those before it stay valid for a day. Raises AccountUnknown."""
    gateway = await conn.fetchval(GATEWAY_OF, tenant_id, account_id)
    if gateway is None:
        raise AccountUnknown(f"There is no gateway account {account_id}.")
    await conn.execute(EXPIRE_SECRETS, tenant_id, account_id, now + OLD_SECRET_LIVES)
    secret = await _add_secret(conn, vault, tenant_id=tenant_id, account_id=account_id, gateway=gateway, now=now)
    change = audit.Change(account_id, None, {"old_secrets_expire_at": now + OLD_SECRET_LIVES})
    await write(conn, audit.record(actor, "rotate-gateway-secret", [change], tenant_id=tenant_id, now=now))
    return Opened(account_id, gateway, secret)


async def _add_secret(
    conn: Connection, vault: Vault, *, tenant_id: str, account_id: str, gateway: str, now: datetime
) -> str:
    secret = GATEWAYS[gateway].new_secret()
    await conn.execute(KEEP_SEALED, tenant_id, account_id, new_id(), vault.seal(secret), now)
    return secret


class Accounts:
    """Accounts by the id in a callback's address, kept for half a second so that a flood costs few queries."""

    def __init__(self, db: Database, vault: Vault) -> None:
        self._db = db
        self._vault = vault
        self._cache: dict[str, tuple[float, Account | None]] = {}
        self._asked: dict[str, asyncio.Task[Account | None]] = {}

    async def find(self, account_id: str, *, now: datetime) -> Account | None:
        """The account, or None when there is none. The tenant is read off the id and proved by the signature."""
        cached = self._cache.get(account_id)
        if cached is not None and time.monotonic() - cached[0] < CACHE_FOR_S:
            return cached[1]
        if not ACCOUNT_ID.fullmatch(account_id):
            return None  # anyone can call: what we never gave out is not worth a query
        asked = self._asked.get(account_id)
        if asked is None:
            asked = self._asked[account_id] = asyncio.create_task(self._read(account_id, now))
            asked.add_done_callback(lambda done: self._forget(account_id, done))
        return await asyncio.shield(asked)  # others wait for it too: who hangs up does not end it

    def _forget(self, account_id: str, done: asyncio.Task[Account | None]) -> None:
        del self._asked[account_id]
        if not done.cancelled():
            done.exception()  # told to whoever waits, who may all have hung up

    async def _read(self, account_id: str, now: datetime) -> Account | None:
        clock = time.monotonic()
        tenant_id = account_id.partition(".")[0]
        async with self._db.transaction(tenant_id) as conn:
            rows = await conn.fetch(SECRETS, tenant_id, account_id, now)
        account = None
        if rows:
            secrets = tuple(self._vault.open(row["encrypted"]) for row in rows)
            account = Account(tenant_id, account_id, rows[0]["gateway"], secrets)
        if len(self._cache) >= CACHE_LIMIT:
            self._cache.clear()
        self._cache[account_id] = (clock, account)
        return account
