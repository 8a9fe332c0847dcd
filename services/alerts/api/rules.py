"""Rules: what raises an alert, and who is told."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

import asyncpg
import msgspec
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.config import JsonDict

from services.alerts.change_rule import change_rule
from services.alerts.create_rule import create_rule
from services.alerts.models import Kind, RuleTerms
from services.alerts.queries import list_rules
from shared.auth import Allow, Principal, Role
from shared.clocks import utc_now
from shared.db import Connection, Database
from shared.fields import Amount, Body, Currency
from shared.pages import Cursor, Limit, Page, page, read_time_cursor, time_cursor
from shared.routes import actor

Writer = Annotated[Principal, Depends(Allow(Role.ADMIN, Role.FINANCE))]
Reader = Annotated[Principal, Depends(Allow(Role.ADMIN, Role.FINANCE, Role.MANAGER))]
# Stricter than RFC 5321: plain ASCII, no quoted local part, a domain with a dot.
Email = Annotated[
    str,
    StringConstraints(
        max_length=254,
        pattern=r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@([A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{1,63}$",
    ),
]
RECIPIENT_LIMIT = 20
COOLDOWN_LIMIT_S = 7 * 24 * 3600
EXAMPLE: JsonDict = {
    "kind": "high_value",
    "thresholds": {"KES": 1000000},
    "recipients": ["finance@sacco.example"],
    "cooldown_seconds": 300,
    "enabled": True,
}


class RuleIn(Body):
    """A rule. `thresholds` (currency to minor units) is for high_value, which fires from that amount on."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    kind: Kind
    thresholds: Annotated[dict[Currency, Amount], Field(max_length=200)] | None = None
    recipients: Annotated[list[Email], Field(max_length=RECIPIENT_LIMIT)]
    cooldown_seconds: Annotated[int, Field(strict=True, ge=0, le=COOLDOWN_LIMIT_S)] = 300
    enabled: bool = True

    @model_validator(mode="after")
    def _thresholds_fit_the_kind(self) -> Self:
        if (self.kind is Kind.HIGH_VALUE) != bool(self.thresholds):
            raise ValueError("thresholds are given for high_value, and for no other kind")
        if len({address.lower() for address in self.recipients}) < len(self.recipients):
            raise ValueError("a recipient is named twice")
        return self

    def terms(self) -> RuleTerms:
        """As the use cases take it."""
        return RuleTerms(self.kind, self.thresholds or {}, tuple(self.recipients), self.cooldown_seconds, self.enabled)


class RuleOut(BaseModel):
    """A rule."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "0190f2c4-7a51-7c3e-9b7a-3f6f0e6d2a11",
                **EXAMPLE,
                "created_at": "2026-03-01T09:15:00Z",
                "updated_at": "2026-03-01T09:15:00Z",
            }
        }
    )

    id: UUID
    kind: Kind
    thresholds: dict[str, int] | None
    recipients: list[str]
    cooldown_seconds: int
    enabled: bool
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: asyncpg.Record) -> "RuleOut":
        """As it goes out."""
        return cls(**{**row, "thresholds": msgspec.json.decode(row["thresholds"]) or None})


def router(db: Database) -> APIRouter:
    """The routes of rules."""
    routes = APIRouter(prefix="/api/v1/payments/alerts", tags=["rules"])

    async def read(conn: Connection, tenant_id: str, rule_id: UUID) -> RuleOut:
        (row,) = await list_rules(conn, tenant_id, rule_id=rule_id, limit=1)
        return RuleOut.of(row)

    @routes.post("", status_code=201)
    async def create(request: Request, body: RuleIn, caller: Writer) -> RuleOut:
        """Create a rule; it fires on what happens from now on."""

        async def effect(conn: Connection) -> RuleOut:
            who = actor(request, caller)
            rule_id = await create_rule(conn, body.terms(), tenant_id=caller.tenant, actor=who, now=utc_now())
            return await read(conn, caller.tenant, rule_id)

        return await db.run(effect, caller.tenant)

    @routes.put("/{rule_id}")
    async def change(request: Request, rule_id: UUID, body: RuleIn, caller: Writer) -> RuleOut:
        """Change all of a rule but its kind; recipients who are left out get nothing more, not even what waits.

        Disabled, it raises nothing, and nobody gets what waits; enabled again, it fires on what happens from then on.
        """

        async def effect(conn: Connection) -> RuleOut:
            who = actor(request, caller)
            await change_rule(conn, rule_id, body.terms(), tenant_id=caller.tenant, actor=who, now=utc_now())
            return await read(conn, caller.tenant, rule_id)

        return await db.run(effect, caller.tenant)

    @routes.get("")
    async def list_(caller: Reader, limit: Limit = 100, cursor: Cursor = None) -> Page[RuleOut]:
        """All rules, newest first."""
        async with db.transaction(caller.tenant) as conn:
            rows = await list_rules(conn, caller.tenant, after=read_time_cursor(cursor), limit=limit + 1)
        shown, next_cursor = page(rows, limit, lambda row: time_cursor(row["created_at"], str(row["id"])))
        return Page(items=[RuleOut.of(row) for row in shown], next_cursor=next_cursor)

    return routes
