"""Set the commission of a tenant, a fleet or a payee from a day on; plans are added, never changed."""

from datetime import datetime
from uuid import UUID

from services.payouts.models import Plan
from shared import audit
from shared.db import Connection
from shared.errors import Conflict
from shared.ids import new_id
from shared.writes import write

SET = """
INSERT INTO commission_plans (tenant_id, plan_id, fleet_id, payee_id, commission_bp, delay_days, valid_from, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant_id, fleet_id, payee_id, valid_from) DO NOTHING
RETURNING plan_id
"""


class PlanExists(Conflict):
    """There is a plan for the same scope from the same day on."""

    code = "plan-exists"


async def set_commission(conn: Connection, plan: Plan, *, tenant_id: str, actor: audit.Actor, now: datetime) -> UUID:
    """Add `plan`; payments from its day on are shared by it, those accrued already stay. Raises PlanExists."""
    plan_id = await conn.fetchval(
        SET,
        tenant_id,
        new_id(),
        plan.fleet_id,
        plan.payee_id,
        plan.commission_bp,
        plan.delay_days,
        plan.valid_from,
        now,
    )
    if not isinstance(plan_id, UUID):
        raise PlanExists(f"There is a plan from {plan.valid_from} on already.", field="valid_from")
    after = {
        "fleet_id": plan.fleet_id,
        "payee_id": plan.payee_id,
        "commission_bp": plan.commission_bp,
        "delay_days": plan.delay_days,
        "valid_from": plan.valid_from,
    }
    await write(
        conn,
        audit.record(actor, "set-commission", [audit.Change(str(plan_id), None, after)], tenant_id=tenant_id, now=now),
    )
    return plan_id
