"""Payouts asked for: by the payee, or by finance for many payees at once."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from services.payouts.api.payouts import PayoutOut
from services.payouts.queries import get_payout
from services.payouts.request_payouts import Ask, Requested, request_payouts
from shared import tenants
from shared.auth import Allow, Principal, Role
from shared.clocks import utc_now
from shared.db import Connection, Database
from shared.errors import DomainError, Forbidden, Unavailable
from shared.fields import Amount, Body, Currency, Id
from shared.idempotency import Key, once
from shared.problems import problem_response
from shared.routes import actor, ends_at_of

SLICE = 100  # payees a transaction: with thousands of earnings each, more would take longer than a call may
TO_TELL_S = 0.5  # before the call is ended: what has been requested is still to be told
Finance = Annotated[Principal, Depends(Allow(Role.FINANCE, Role.ADMIN))]


class PayoutRequest(Body):
    """A driver's wish: all that is available, or an amount up to it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"amount": 50000, "currency": "KES"}]})

    amount: Amount | None = None
    currency: Currency | None = None


class PayoutRequests(Body):
    """Finance asks for many payees at once: all that is available to each."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"payee_ids": ["driver-1", "driver-2"]}]})

    payee_ids: Annotated[list[Id], Field(max_length=1_000)]
    currency: Currency | None = None


class RequestResult(BaseModel):
    """What became of one payee's payout."""

    index: int
    status: int
    payee_id: str
    id: UUID | None = None
    amount: int | None = None
    problem: dict[str, object] | None = None


class RequestResults(BaseModel):
    """One result per payee, in the order given."""

    results: list[RequestResult]


def _result(index: int, ask: Ask, outcome: Requested | DomainError) -> RequestResult:
    if isinstance(outcome, DomainError):
        return RequestResult(index=index, status=outcome.status, payee_id=ask.payee_id, problem=outcome.problem())
    return RequestResult(index=index, status=201, payee_id=ask.payee_id, id=outcome.payout_id, amount=outcome.amount)


def _refused(asks: Sequence[Ask], start: int, problem: dict[str, Any]) -> list[RequestResult]:
    """The same for all of `asks`, the first of whom stands at `start`."""
    return [
        RequestResult(index=index, status=problem["status"], payee_id=ask.payee_id, problem=problem)
        for index, ask in enumerate(asks, start)
    ]


def _untried(everyone: Sequence[Ask], start: int) -> list[RequestResult]:
    """Whoever stands from `start` on, for whom there was no time any more, or no luck before."""
    refusal = Unavailable(
        "Those before this one took all the time there is, or failed: nothing was done, send it again."
    )
    return _refused(everyone[start:], start, refusal.problem())


def router(db: Database) -> APIRouter:
    """The routes that request payouts."""
    routes = APIRouter(prefix="/api/v1/payouts", tags=["payouts"])

    async def request_(
        conn: Connection, request: Request, caller: Principal, asks: Sequence[Ask], currency: str | None
    ) -> Sequence[Requested | DomainError]:
        tenant = await tenants.find(conn, caller.tenant)
        return await request_payouts(
            conn, asks, tenant_id=tenant.tenant_id, currency=currency or tenant.currency,
            actor=actor(request, caller), now=utc_now(),
        )  # fmt: skip

    @routes.post("/request", status_code=201, response_model=PayoutOut)
    async def request_own(
        request: Request,
        body: PayoutRequest,
        caller: Annotated[Principal, Depends(Allow(Role.DRIVER))],
        key: Key = None,
    ) -> Response:
        """A driver asks for their own money; 409 with the reason when there is none."""
        payee_id = caller.driver_id
        if payee_id is None:
            raise Forbidden("This token names no driver.")

        async def effect(conn: Connection) -> tuple[int, BaseModel]:
            (outcome,) = await request_(conn, request, caller, [Ask(payee_id, body.amount)], body.currency)
            if isinstance(outcome, DomainError):
                raise outcome
            return 201, PayoutOut(**await get_payout(conn, caller.tenant, outcome.payout_id))

        return await once(request, db, effect, caller=caller, key=key, now=utc_now())

    @routes.post("/request-batch", response_model=RequestResults)
    async def request_many(request: Request, body: PayoutRequests, caller: Finance, key: Key = None) -> Response:
        """Request a payout of all that is available for each payee, each on its own.

        They are requested a hundred at a time. Where a later hundred fails, what was requested before stays and is
        answered; whoever was not reached has the status 503. Sent again under the same key, only those are tried anew.
        """
        everyone = [Ask(payee_id) for payee_id in body.payee_ids]
        clock, ends_at = asyncio.get_running_loop().time, ends_at_of(request) - TO_TELL_S
        merged = RequestResults(results=[])
        for start in range(0, len(everyone), SLICE):
            asks = everyone[start : start + SLICE]
            if start and clock() >= ends_at:
                merged.results += _untried(everyone, start)
                break

            async def effect(conn: Connection, asks: Sequence[Ask] = asks, start: int = start) -> tuple[int, BaseModel]:
                outcomes = await request_(conn, request, caller, asks, body.currency)
                pairs = enumerate(zip(asks, outcomes, strict=True), start)
                return 200, RequestResults(results=[_result(i, ask, outcome) for i, (ask, outcome) in pairs])

            try:
                async with asyncio.timeout_at(ends_at):
                    answer = await once(request, db, effect, caller=caller, key=key, now=utc_now(), part=start)
            except Exception as error:
                if start == 0:
                    raise
                # Whatever it is: money is locked in the payouts that there are, and without their ids nobody finds them.
                answer = problem_response(error, request.scope.get("takings.request_id", ""))
            if answer.status_code == 200:
                merged.results += RequestResults.model_validate_json(bytes(answer.body)).results
            elif start == 0:
                return answer
            else:
                merged.results += _refused(asks, start, msgspec.json.decode(bytes(answer.body)))
                merged.results += _untried(everyone, start + SLICE)
                break
        return Response(merged.model_dump_json(), media_type="application/json")

    return routes
