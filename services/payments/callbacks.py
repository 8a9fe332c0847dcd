"""Callbacks whose effect failed: kept alone, answered, and tried again until they have it."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from services.payments.gateways.registry import GATEWAYS
from services.payments.models import Callback, Receipt
from shared import telemetry
from shared.db import HELD_UP, Connection, Database, is_transient
from shared.log import logger

log = logger(__name__)

SET_ASIDE = """
INSERT INTO callbacks (tenant_id, callback_id, account_id, webhook_id, body, received_at, attempts, retry_at, error)
VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8)
"""
DUE = """
SELECT tenant_id, callback_id, account_id FROM callbacks
WHERE handled_at IS NULL AND retry_at <= $1 ORDER BY retry_at LIMIT 100
"""
ONE = """
SELECT c.callback_id, c.account_id, c.webhook_id, c.body, c.received_at, a.gateway
FROM callbacks AS c JOIN gateway_accounts AS a USING (tenant_id, account_id)
WHERE c.tenant_id = $1 AND c.callback_id = $2 AND c.handled_at IS NULL
"""
FAILED_AGAIN = """
UPDATE callbacks SET attempts = attempts + 1, error = $3,
                     retry_at = $4::timestamptz + least(attempts, 60) * interval '5 seconds'
WHERE tenant_id = $1 AND callback_id = $2 AND handled_at IS NULL
"""
UNHANDLED = """
SELECT count(*) AS waiting, coalesce(extract(epoch FROM $1 - min(received_at)), 0)::float8 AS oldest_s
FROM callbacks WHERE handled_at IS NULL
"""
FIRST_RETRY_AFTER = timedelta(seconds=2)

Record = Callable[[Receipt], Awaitable[object]]


async def set_aside(conn: Connection, receipt: Receipt, error: Exception, *, now: datetime) -> None:
    """Keep the raw callback of a receipt that could not be recorded; it is tried again by the sweep."""
    callback = receipt.callback
    if callback is None:
        raise ValueError("only a gateway's receipt has a callback to keep")
    await conn.execute(
        SET_ASIDE,
        receipt.tenant_id,
        callback.callback_id,
        receipt.account_id,
        callback.webhook_id,
        callback.body,
        callback.received_at,
        now + FIRST_RETRY_AFTER,
        repr(error),
    )


async def retry_due(db: Database, system_db: Database, record: Record, *, now: datetime) -> int:
    """Try the callbacks that are due once more through `record`; how many there were."""
    async with system_db.transaction() as conn:
        due = await conn.fetch(DUE, now)
    for row in due:
        await _retry(db, row["tenant_id"], row["callback_id"], record, now)
    return len(due)


async def _retry(db: Database, tenant_id: str, callback_id: object, record: Record, now: datetime) -> None:
    async with db.transaction(tenant_id) as conn:
        row = await conn.fetchrow(ONE, tenant_id, callback_id)
    if row is None:
        return
    try:
        callback = Callback(row["callback_id"], row["webhook_id"], row["body"], row["received_at"], is_stored=True)
        await record(GATEWAYS[row["gateway"]].parse(callback, tenant_id=tenant_id, account_id=row["account_id"]))
    except Exception as error:
        if is_transient(error) and not isinstance(error, HELD_UP):  # a held row must not stop those due behind it
            raise
        log.warning(
            "callback still not applicable", tenant_id=tenant_id, callback_id=str(callback_id), error=repr(error)
        )
        async with db.transaction(tenant_id) as conn:
            await conn.execute(FAILED_AGAIN, tenant_id, callback_id, repr(error), now)


async def measure_unhandled(system_db: Database, *, now: datetime) -> None:
    """Set the metrics of callbacks whose effect is missing."""
    async with system_db.transaction() as conn:
        row = await conn.fetchrow(UNHANDLED, now)
    if row is not None:
        telemetry.UNHANDLED_CALLBACKS.set(row["waiting"])
        telemetry.UNHANDLED_AGE.set(row["oldest_s"])
