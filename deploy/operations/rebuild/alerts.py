"""Rebuild alerts."""

from collections.abc import Callable

from deploy.operations.rebuild.rebuilt import Rebuilt


async def rebuild_alerts(*, dry_run: bool, say: Callable[[str], None]) -> Rebuilt:
    """Not yet."""
    raise NotImplementedError(dry_run, say)
