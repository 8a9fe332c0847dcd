"""What is wrong with the fields of a request, in plain words: the same for a single call and for an item of a batch."""

from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

from shared.errors import Invalid

PLACES_SAID_BY_THEMSELVES = {"body", "[key]"}
# By the kind of pydantic's error, whose own texts name classes and Python's types.
WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "string_type": "must be a text",
    "string_too_short": "must not be shorter than {min_length}",
    "string_too_long": "must not be longer than {max_length}",
    "string_pattern_mismatch": "must match {pattern}",
    "string_unicode": "must be Unicode",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_from_float": "must be a whole number",
    "finite_number": "must be a whole number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "list_type": "must be a list",
    "too_long": "must not have more than {max_length}",
    "dict_type": "must be an object",
    "invalid_key": "must be a text",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "date_type": "must be a day such as 2026-03-01",
    "date_parsing": "must be a day such as 2026-03-01",
    "date_from_datetime_parsing": "must be a day such as 2026-03-01",
    "date_from_datetime_inexact": "must be a day such as 2026-03-01",
    "datetime_type": "must be an instant such as 2026-03-01T08:00:00+03:00",
    "datetime_parsing": "must be an instant such as 2026-03-01T08:00:00+03:00",
    "datetime_from_date_parsing": "must be an instant such as 2026-03-01T08:00:00+03:00",
    "datetime_object_invalid": "must be an instant such as 2026-03-01T08:00:00+03:00",
    "timezone_aware": "must have an offset, as in 2026-03-01T08:00:00+03:00",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
    "value_error": "{error}",  # our own words
}


class FieldsInvalid(Invalid):
    """Fields are missing, unknown, or not what they must be."""

    def __init__(self, errors: Sequence[dict[str, str]]) -> None:
        """`errors` has `field` and `message` of each; there is at least one."""
        first, others = errors[0], len(errors) - 1
        more = f" (and {others} more)" if others else ""
        super().__init__(f"{first['field']}: {first['message']}{more}", field=first["field"])
        self.errors = errors

    def problem(self) -> dict[str, Any]:
        """Names every field at fault."""
        return {**super().problem(), "errors": list(self.errors)}


def fields_invalid(errors: Sequence[ErrorDetails]) -> FieldsInvalid:
    """The refusal that says what pydantic has found."""
    return FieldsInvalid([{"field": _path(error["loc"]), "message": _message(error)} for error in errors])


def _path(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location if part not in PLACES_SAID_BY_THEMSELVES) or "body"


def _message(error: ErrorDetails) -> str:
    return WORDS.get(error["type"], "is not valid").format_map(error.get("ctx", {}))
