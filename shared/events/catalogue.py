"""Which service publishes which events: the one list that descriptions and tests go through."""

from shared.events import Event, payments, payouts, tenants

PUBLISHED_BY: dict[str, tuple[type[Event], ...]] = {
    "payments": (*payments.EVENTS, *tenants.EVENTS),
    "payouts": payouts.EVENTS,
}
ALL_EVENTS: tuple[type[Event], ...] = tuple(event for events in PUBLISHED_BY.values() for event in events)
