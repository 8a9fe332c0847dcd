"""Commission plans: who keeps how much from which day on."""

from datetime import date
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.payouts.models import Plan
from services.payouts.queries import list_plans
from services.payouts.set_commission import set_commission
from shared.auth import Allow, Principal, Role
from shared.clocks import utc_now
from shared.db import Connection, Database
from shared.fields import Body, Id
from shared.money import WHOLE_BP
from shared.pages import BadCursor, Cursor, Limit, Page, page, read_text_cursor, write_cursor
from shared.routes import actor

Keeper = Annotated[Principal, Depends(Allow(Role.ADMIN, Role.FINANCE))]


class PlanIn(Body):
    """For a payee, a fleet, or with neither for the whole tenant; the day is the payment's, in the tenant's zone."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"fleet_id": "line-7", "commission_bp": 1200, "valid_from": "2026-12-01"}]}
    )

    fleet_id: Id | None = None
    payee_id: Id | None = None
    commission_bp: Annotated[int, Field(strict=True, ge=0, le=WHOLE_BP, description="Basis points", examples=[1000])]
    delay_days: Annotated[int, Field(strict=True, ge=0, le=365, description="Until the money is available")] = 0
    valid_from: date

    @model_validator(mode="after")
    def _one_scope(self) -> Self:
        if self.fleet_id is not None and self.payee_id is not None:
            raise ValueError("a plan is for a fleet or for a payee, not for both")
        return self


class PlanOut(BaseModel):
    """A commission plan."""

    id: UUID
    fleet_id: str | None
    payee_id: str | None
    commission_bp: int
    delay_days: int
    valid_from: date


def router(db: Database) -> APIRouter:
    """The routes of commission plans."""
    routes = APIRouter(prefix="/api/v1/commission-plans", tags=["commission plans"])

    @routes.post("", status_code=201)
    async def create(request: Request, body: PlanIn, caller: Keeper) -> PlanOut:
        """Add a plan; payments accrued already keep theirs. 409 for a second one from the same day on."""
        plan = Plan(**body.model_dump())

        async def effect(conn: Connection) -> UUID:
            who = actor(request, caller)
            return await set_commission(conn, plan, tenant_id=caller.tenant, actor=who, now=utc_now())

        return PlanOut(id=await db.run(effect, caller.tenant), **body.model_dump())

    @routes.get("")
    async def list_(caller: Keeper, limit: Limit = 100, cursor: Cursor = None) -> Page[PlanOut]:
        """All plans in the order they were set."""
        async with db.transaction(caller.tenant) as conn:
            rows = await list_plans(conn, caller.tenant, after=_after(cursor), limit=limit + 1)
        items, next_cursor = page(rows, limit, lambda row: write_cursor(str(row["id"])))
        return Page(items=[PlanOut(**row) for row in items], next_cursor=next_cursor)

    return routes


def _after(cursor: str | None) -> UUID | None:
    text = read_text_cursor(cursor)
    try:
        return UUID(text) if text is not None else None
    except ValueError as error:
        raise BadCursor from error
