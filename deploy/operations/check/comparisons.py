"""What two databases must agree on, compared by digests, so that only what differs ever leaves them.

The snapshots are opened downstream first (alerts, reporting, payouts, payments): whatever a reader has applied, the snapshot
of its source shows. So a row that only the reader has is a fault, and one that the source has told and the reader has not
applied is a fault once it is older than a minute.

A tenant's rows are read twice at most: for the digests, and where these differ until enough is named.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

import asyncpg

from deploy.operations.check.findings import PAGE, TENANTS, Fault, Outcome, difference
from shared.db import Connection

DUE = "SELECT now() - interval '1 minute'"


class Side(NamedTuple):
    """Rows of one database: `rows` returns bucket, key, content (a JSON object as text), told_at of the tenant $1."""

    service: str
    rows: str

    @property
    def digest(self) -> str:
        """Per bucket how many rows there are, and a sum over all that is in them."""
        return f"""
        SELECT coalesce(bucket, '') AS bucket, count(*) AS rows,
               sum(hashtextextended(coalesce(key, '') || content, 0)::numeric) AS hashes
        FROM ({self.rows}) AS side GROUP BY 1
        """  # noqa: S608 - of constants

    @property
    def in_buckets(self) -> str:
        """The rows of the buckets $2, in the order in which Python sorts their keys."""
        return f"""
        SELECT coalesce(key, '') AS key, content, told_at FROM ({self.rows}) AS side
        WHERE coalesce(bucket, '') = ANY ($2) ORDER BY coalesce(key, '') COLLATE "C"
        """  # noqa: S608 - of constants


class Comparison(NamedTuple):
    """`told` by its sources, `kept` by a reader in the table `table_name`."""

    name: str
    holds: str
    table_name: str
    told: Sequence[Side]
    kept: Side


Digest = dict[str, tuple[int, int]]
Rows = AsyncIterator[asyncpg.Record]


async def compare(comparison: Comparison, snapshots: Mapping[str, Connection]) -> Outcome:
    """Compare both sides, tenant by tenant; `snapshots` by service."""
    outcome = Outcome(comparison.kept.service, comparison.name, comparison.holds)
    return await outcome.collect(_faults(comparison, snapshots), snapshots.values(), is_counted=False)


async def _faults(comparison: Comparison, snapshots: Mapping[str, Connection]) -> AsyncIterator[Fault]:
    sides = (*comparison.told, comparison.kept)
    tenants = {row["tenant_id"] for side in sides for row in await snapshots[side.service].fetch(TENANTS)}
    for tenant_id in sorted(tenants):
        told = await _digest(comparison.told, snapshots, tenant_id)
        kept = await _digest([comparison.kept], snapshots, tenant_id)
        if buckets := [bucket for bucket in {*told, *kept} if told.get(bucket) != kept.get(bucket)]:
            async for fault in _faults_in(comparison, snapshots, tenant_id, buckets):
                yield fault


async def _digest(sides: Sequence[Side], snapshots: Mapping[str, Connection], tenant_id: str) -> Digest:
    sums: Digest = {}
    for side in sides:
        for row in await snapshots[side.service].fetch(side.digest, tenant_id):
            rows, hashes = sums.get(row["bucket"], (0, 0))
            sums[row["bucket"]] = (rows + row["rows"], hashes + int(row["hashes"]))
    return sums


async def _faults_in(
    comparison: Comparison, snapshots: Mapping[str, Connection], tenant_id: str, buckets: Sequence[str]
) -> AsyncIterator[Fault]:
    due = {side.service: await snapshots[side.service].fetchval(DUE) for side in comparison.told}
    sides = (*comparison.told, comparison.kept)
    rows = [aiter(snapshots[side.service].cursor(side.in_buckets, tenant_id, buckets, prefetch=PAGE)) for side in sides]
    async for key, (*told, kept) in _by_key(rows):
        is_due, should = True, None
        for side, row in zip(comparison.told, told, strict=True):
            if row is not None:
                is_due, should = row["told_at"] <= due[side.service], row["content"]
        has = None if kept is None else kept["content"]
        if has != should and is_due:
            yield Fault(tenant_id, comparison.table_name, key, difference(has, should))


async def _by_key(streams: Sequence[Rows]) -> AsyncIterator[tuple[str, list[asyncpg.Record | None]]]:
    """Of streams that are sorted by key: each key, and the row that each stream has of it."""
    heads = [await anext(stream, None) for stream in streams]
    while keys := [head["key"] for head in heads if head is not None]:
        key = min(keys)
        rows: list[asyncpg.Record | None] = [None] * len(streams)
        for number, stream in enumerate(streams):
            while (head := heads[number]) is not None and head["key"] == key:
                rows[number], heads[number] = head, await anext(stream, None)
        yield key, rows
