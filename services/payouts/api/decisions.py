"""Finance decides payouts, one or many."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.payouts.api.payouts import PayoutOut
from services.payouts.decide_payouts import Decision, decide_payouts
from services.payouts.models import PayoutStatus
from services.payouts.queries import get_payout
from shared.auth import Allow, Principal, Role
from shared.clocks import utc_now
from shared.db import Connection, Database
from shared.errors import DomainError
from shared.fields import Body, Results, Text
from shared.idempotency import Key, once
from shared.routes import actor, results

Finance = Annotated[Principal, Depends(Allow(Role.FINANCE, Role.ADMIN))]
Means = Literal["bank_transfer", "cash", "wallet"]


class StatusIn(Body):
    """The next status; `rejected` and `failed` need a reason, `disbursed` a method."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"status": "approved"},
                {"status": "rejected", "reason": "The account number is wrong."},
                {"status": "disbursed", "method": "bank_transfer", "reference": "EFT 20261121-7"},
            ]
        }
    )

    status: Literal["approved", "rejected", "disbursed", "failed"]
    reason: Text | None = None
    method: Means | None = None
    reference: Text | None = None

    @model_validator(mode="after")
    def _says_enough(self) -> Self:
        if self.status in {"rejected", "failed"} and self.reason is None:
            raise ValueError(f"{self.status} needs a reason")
        if self.status == "disbursed" and self.method is None:
            raise ValueError("disbursed needs a method")
        return self


class Ids(Body):
    """Payouts to be decided together."""

    ids: Annotated[list[UUID], Field(max_length=1_000)]


class Disbursement(Ids):
    """How these payouts were paid."""

    method: Means
    reference: Text | None = None


def router(db: Database) -> APIRouter:
    """The routes that decide payouts."""
    routes = APIRouter(prefix="/api/v1/payouts", tags=["payouts"])

    async def decide(
        conn: Connection, request: Request, caller: Principal, ids: Sequence[UUID], decision: Decision
    ) -> Sequence[UUID | DomainError]:
        who = actor(request, caller)
        return await decide_payouts(conn, ids, decision, tenant_id=caller.tenant, actor=who, now=utc_now())

    @routes.put("/{payout_id}/status", response_model=PayoutOut)
    async def set_status(
        request: Request, payout_id: UUID, body: StatusIn, caller: Finance, key: Key = None
    ) -> Response:
        """Approve, reject, disburse or fail a payout; of two at once one wins, the other gets 409."""
        decision = Decision(PayoutStatus(body.status), body.reason, body.method, body.reference)

        async def effect(conn: Connection) -> tuple[int, BaseModel]:
            (outcome,) = await decide(conn, request, caller, [payout_id], decision)
            if isinstance(outcome, DomainError):
                raise outcome
            return 200, PayoutOut(**await get_payout(conn, caller.tenant, payout_id))

        return await once(request, db, effect, caller=caller, key=key, now=utc_now())

    async def decide_many(
        request: Request, caller: Principal, ids: Sequence[UUID], decision: Decision, key: str | None
    ) -> Response:
        async def effect(conn: Connection) -> tuple[int, BaseModel]:
            outcomes = await decide(conn, request, caller, ids, decision)
            return 200, results(outcomes, lambda payout_id: (200, str(payout_id)))

        return await once(request, db, effect, caller=caller, key=key, now=utc_now())

    @routes.post("/approve", response_model=Results)
    async def approve(request: Request, body: Ids, caller: Finance, key: Key = None) -> Response:
        """Approve up to 1,000 payouts, each on its own."""
        return await decide_many(request, caller, body.ids, Decision(PayoutStatus.APPROVED), key)

    @routes.post("/disburse", response_model=Results)
    async def disburse(request: Request, body: Disbursement, caller: Finance, key: Key = None) -> Response:
        """Record that up to 1,000 approved payouts were paid, each on its own."""
        decision = Decision(PayoutStatus.DISBURSED, method=body.method, reference=body.reference)
        return await decide_many(request, caller, body.ids, decision, key)

    return routes
