"""Gateway accounts: where callbacks come in, and the secrets that they are signed with."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from services.payments.gateway_accounts import Opened, Vault, open_account, rotate_secret
from services.payments.queries import list_accounts
from shared.auth import Allow, Principal, Role
from shared.clocks import utc_now
from shared.db import Connection, Database
from shared.fields import Body, Id, Text
from shared.pages import Cursor, Limit, Page, page, read_text_cursor, write_cursor
from shared.routes import actor

Keeper = Annotated[Principal, Depends(Allow(Role.ADMIN, Role.SYSTEM))]


class NewAccount(Body):
    """An account at a gateway."""

    gateway: Literal["standard"]
    name: Text = "default"


class AccountSecret(BaseModel):
    """An account with its newest secret, shown this once."""

    id: str
    gateway: str
    secret: str = Field(examples=["whsec_…"])

    @classmethod
    def of(cls, opened: Opened) -> "AccountSecret":
        """As it goes out."""
        return cls(id=opened.account_id, gateway=opened.gateway, secret=opened.secret)


class AccountOut(BaseModel):
    """An account without its secrets."""

    id: str
    gateway: str
    name: str
    created_at: datetime


def router(db: Database, vault: Vault) -> APIRouter:
    """The routes of gateway accounts."""
    routes = APIRouter(prefix="/api/v1/gateway-accounts", tags=["gateway accounts"])

    @routes.post("", status_code=201)
    async def open_(request: Request, body: NewAccount, caller: Keeper) -> AccountSecret:
        """Open an account; usable at once at `/api/v1/webhooks/{gateway}/{id}`."""

        async def effect(conn: Connection) -> Opened:
            return await open_account(
                conn, vault, tenant_id=caller.tenant, gateway=body.gateway, name=body.name,
                actor=actor(request, caller), now=utc_now(),
            )  # fmt: skip

        return AccountSecret.of(await db.run(effect, caller.tenant))

    @routes.post("/{account_id}/rotate")
    async def rotate(request: Request, account_id: Id, caller: Keeper) -> AccountSecret:
        """A new secret; the old ones stay valid for 24 hours."""
        who, now = actor(request, caller), utc_now()
        return AccountSecret.of(
            await db.run(
                lambda conn: rotate_secret(
                    conn, vault, tenant_id=caller.tenant, account_id=account_id, actor=who, now=now
                ),
                caller.tenant,
            )
        )

    @routes.get("")
    async def list_(caller: Keeper, limit: Limit = 100, cursor: Cursor = None) -> Page[AccountOut]:
        """All accounts of the tenant, by their ids."""
        after = read_text_cursor(cursor)
        async with db.transaction(caller.tenant) as conn:
            rows = await list_accounts(conn, caller.tenant, after=after, limit=limit + 1)
        shown, next_cursor = page(rows, limit, lambda row: write_cursor(row["id"]))
        return Page(items=[AccountOut(**row) for row in shown], next_cursor=next_cursor)

    return routes
