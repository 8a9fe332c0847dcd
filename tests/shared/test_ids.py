"""Ids lie in the order of time; a derived one is the same whoever makes it."""

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122

from shared.ids import derived_id, least_id, new_id

NOW = datetime(2026, 3, 1, 8, 0, 0, 123_456, tzinfo=UTC)


def test_a_derived_id_is_the_same_for_the_same_names_and_instant_only():
    made = derived_id(NOW, "rule", "payment")
    assert made == derived_id(NOW, "rule", "payment")
    others = {
        derived_id(NOW, "rule", "another"),
        derived_id(NOW, "rulep", "ayment"),
        derived_id(NOW, "payment", "rule"),
        derived_id(NOW + timedelta(milliseconds=1), "rule", "payment"),
    }
    assert made not in others
    assert len(others) == 4
    assert (made.version, made.variant) == (8, RFC_4122)


def test_ids_are_in_the_order_of_time():
    later = NOW + timedelta(milliseconds=1)
    assert least_id(NOW) < derived_id(NOW, "z") < least_id(later) < derived_id(later, "a")
    before, made = datetime.now(UTC), new_id()
    assert least_id(before) < made < least_id(datetime.now(UTC) + timedelta(milliseconds=1))
