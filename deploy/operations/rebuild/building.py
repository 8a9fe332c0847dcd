"""Fill the tables beside the live ones in passes over the event logs, the last one while writers wait; compare, and swap."""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from deploy.errors import StackError
from deploy.operations.rebuild.differences import differences_at, still_suspect, suspects_in
from deploy.operations.rebuild.event_log import EventLog, Page
from deploy.operations.rebuild.rebuilt import Rebuilt
from deploy.operations.rebuild.shadow import Shadow, analyze
from shared.events import Received
from shared.events.tenants import TenantConfigured
from shared.tenants import TenantCopy

FEW = 2_000  # rows of event logs; writers wait for no more than about this
PASSES_LIMIT = 20


class Building(ABC):
    """The tables beside the live ones while they are being filled; a read model says what an event does to them."""

    def __init__(self, beside: Shadow, logs: Sequence[EventLog]) -> None:
        """`logs` are read into the tables of `beside`."""
        self.events = 0  # those that had an effect, or should have had
        self.set_aside = 0
        self.beside = beside
        self._logs = logs
        self._tenants = TenantCopy(beside.db, wait_s=0)

    @abstractmethod
    async def apply(self, tenant_id: str, events: Sequence[Received]) -> int:
        """Let `events` of one tenant have their effect on the tables; how many it was to be had of now."""

    async def complete(self) -> None:
        """Add to the new tables what no event tells; before writers wait, and again meanwhile."""
        return

    async def complete_live(self) -> None:
        """Let the live tables have what is on its way to them, in the transaction for which writers wait."""
        return

    async def before_swap(self) -> None:
        """Write what the service's other tables need, in that transaction."""
        return

    async def pages(self) -> AsyncGenerator[Page]:
        """What no pass has applied."""
        for log in self._logs:
            async for page in log.pages():
                yield page

    async def catch_up(self, *, most: int | None = None) -> int:
        """Apply what no pass has applied, and stop when it is more than `most`.

        How many rows were read, and events applied that an earlier pass had left.
        """
        done = 0
        async with aclosing(self.pages()) as pages:
            async for page in pages:
                applied = 0
                if configured := [event for event in page.events if event.type == TenantConfigured.TYPE]:
                    await self._tenants.keep(configured)
                if others := [event for event in page.events if event.type != TenantConfigured.TYPE]:
                    applied = await self.apply(page.tenant_id, others)
                done += max(page.rows_read, applied)
                if most is not None and done > most:
                    break
        return done


async def build_and_swap(building: Building, *, dry_run: bool, force: bool, say: Callable[[str], None]) -> Rebuilt:
    """Fill, compare, and unless it is a dry run put the new tables in the place of the live ones. Raises StackError.

    New tables that lack rows of the live ones take their place only by `force`.
    """
    beside = building.beside
    await _catch_up_to_few(building, say)
    await building.complete()
    await analyze(beside)
    suspects = await suspects_in(beside.auditor, beside.tables)
    await _catch_up_to_few(building, say)
    suspects = await still_suspect(beside.auditor, beside.tables, suspects)
    for _ in range(PASSES_LIMIT):
        await _catch_up_to_few(building, say)
        async with beside.writers_stopped():
            stopped = time.monotonic()
            if await building.catch_up(most=FEW) > FEW:
                continue  # much was written while it waited for the lock
            await building.complete()
            await building.complete_live()
            differences = await differences_at(beside.owner, beside.tables, suspects)
            if not dry_run and (force or not differences.lacking):
                await building.before_swap()
                await beside.swap()
        waited_s = time.monotonic() - stopped
        return Rebuilt(beside.service, building.events, building.set_aside, differences, waited_s, beside.is_swapped)
    raise _too_fast(beside)


async def _catch_up_to_few(building: Building, say: Callable[[str], None]) -> None:
    for _ in range(PASSES_LIMIT):
        done = await building.catch_up()
        if done:  # most passes but the first find nothing new
            say(f"{building.beside.service}: {done:,} rows of the event logs read, {building.events:,} events so far")
        if done <= FEW:
            return
    raise _too_fast(building.beside)


def _too_fast(beside: Shadow) -> StackError:
    return StackError(f"events come faster than {beside.service} can be rebuilt: nothing was changed, try again later")
