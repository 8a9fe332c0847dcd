"""What two databases must agree on, compared by digests, so that only what differs ever leaves them.

The snapshots are opened downstream first (alerts, reporting, payouts, payments): whatever a reader has applied, the snapshot
of its source shows. So a row that only the reader has is a fault, and one that the source has told and the reader has not
applied is a fault once it is older than a minute.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

from deploy.operations.check.findings import Fault, Outcome, difference
from shared.db import Connection

TENANTS = "SELECT tenant_id FROM tenants ORDER BY tenant_id"
DUE = "SELECT now() - interval '1 minute'"


class Side(NamedTuple):
    """Rows of one database: `rows` returns bucket, key, content (a JSON object as text), told_at of the tenant $1."""

    service: str
    rows: str

    @property
    def digest(self) -> str:
        """Per bucket how many rows there are, and a sum over all that is in them."""
        return f"""
        SELECT bucket, count(*) AS rows, sum(hashtextextended(key || content, 0)::numeric) AS hashes
        FROM ({self.rows}) AS side GROUP BY bucket
        """  # noqa: S608 - of constants

    @property
    def bucket(self) -> str:
        """The rows of the bucket $2."""
        return f"SELECT key, content, told_at FROM ({self.rows}) AS side WHERE bucket = $2"  # noqa: S608 - of constants


class Comparison(NamedTuple):
    """`told` by its sources, `kept` by a reader in the table `table_name`."""

    name: str
    holds: str
    table_name: str
    told: Sequence[Side]
    kept: Side


Digest = dict[str, tuple[int, int]]


async def compare(comparison: Comparison, snapshots: Mapping[str, Connection]) -> Outcome:
    """Compare both sides, tenant by tenant; `snapshots` by service."""
    outcome = Outcome(comparison.kept.service, comparison.name, comparison.holds)
    return await outcome.collect(_faults(comparison, snapshots), snapshots.values())


async def _faults(comparison: Comparison, snapshots: Mapping[str, Connection]) -> AsyncIterator[Fault]:
    sides = (*comparison.told, comparison.kept)
    tenants = {row["tenant_id"] for side in sides for row in await snapshots[side.service].fetch(TENANTS)}
    for tenant_id in sorted(tenants):
        told = await _digest(comparison.told, snapshots, tenant_id)
        kept = await _digest([comparison.kept], snapshots, tenant_id)
        for bucket in sorted(bucket for bucket in {*told, *kept} if told.get(bucket) != kept.get(bucket)):
            async for fault in _faults_in(comparison, snapshots, tenant_id, bucket):
                yield fault


async def _digest(sides: Sequence[Side], snapshots: Mapping[str, Connection], tenant_id: str) -> Digest:
    sums: Digest = {}
    for side in sides:
        for row in await snapshots[side.service].fetch(side.digest, tenant_id):
            rows, hashes = sums.get(row["bucket"], (0, 0))
            sums[row["bucket"]] = (rows + row["rows"], hashes + int(row["hashes"]))
    return sums


async def _faults_in(
    comparison: Comparison, snapshots: Mapping[str, Connection], tenant_id: str, bucket: str
) -> AsyncIterator[Fault]:
    told = {}
    for side in comparison.told:
        conn = snapshots[side.service]
        due = await conn.fetchval(DUE)
        for row in await conn.fetch(side.bucket, tenant_id, bucket):
            told[row["key"]] = (row["content"], row["told_at"] <= due)
    kept = {
        row["key"]: row["content"]
        for row in await snapshots[comparison.kept.service].fetch(comparison.kept.bucket, tenant_id, bucket)
    }
    for key in sorted({*told, *kept}):
        should, is_due = told.get(key, (None, True))
        if kept.get(key) != should and is_due:
            yield Fault(tenant_id, comparison.table_name, key, difference(kept.get(key), should))
