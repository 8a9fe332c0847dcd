"""What the route modules of every service need: the actor, the time that is left, batches whose items stand on their own."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from shared.audit import Actor
from shared.auth import Principal
from shared.errors import DomainError
from shared.field_errors import FieldsInvalid, fields_invalid
from shared.fields import ItemResult, Results

SAME_AGAIN: dict[str, Any] = {"description": "It was there already, the same"}
Model = TypeVar("Model")
Outcome = TypeVar("Outcome")


def ends_at_of(request: Request) -> float:
    """When this call is ended, by the clock of the loop."""
    ends_at: float = request.scope["takings.ends_at"]
    return ends_at


def actor(request: Request, caller: Principal) -> Actor:
    """Who asks, and in which request."""
    return Actor(caller.subject, request.scope.get("takings.request_id"))


def parse_items(items: Sequence[Any], adapter: TypeAdapter[Model]) -> list[Model | FieldsInvalid]:
    """Each item parsed on its own, or what is wrong with it: what the single call would have answered."""
    parsed: list[Model | FieldsInvalid] = []
    for item in items:
        try:
            parsed.append(adapter.validate_python(item))
        except ValidationError as error:
            parsed.append(fields_invalid(error.errors(include_url=False, include_input=False)))
    return parsed


def results(outcomes: Sequence[Outcome | DomainError], describe: Callable[[Outcome], tuple[int, str]]) -> Results:
    """One result per outcome; `describe` gives status and id of what was not refused."""
    answer = []
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, DomainError):
            answer.append(ItemResult(index=index, status=outcome.status, problem=outcome.problem()))
        else:
            status, item_id = describe(outcome)
            answer.append(ItemResult(index=index, status=status, id=item_id))
    return Results(results=answer)


def weave(parsed: Sequence[Any], outcomes: Sequence[Outcome]) -> list[Outcome | FieldsInvalid]:
    """Put the outcomes of the items that could be parsed back among the refusals of those that could not."""
    rest = iter(outcomes)
    return [item if isinstance(item, FieldsInvalid) else next(rest) for item in parsed]
