"""Bodies that cannot be read: no JSON in UTF-8, or objects that name a field twice; and why, in plain words."""

import json
from typing import Any


class RepeatedName(ValueError):
    """An object has two fields of the same name: readers differ in which they take, so nobody may act on either."""


def _refuse(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        names = [name for name, _ in pairs]
        raise RepeatedName(f"The field {max(names, key=names.count)[:100]!r} is there twice.")


# Numbers stay texts: nobody needs them here, and some are too long to be read. Made once, which halves its cost.
_decoder = json.JSONDecoder(object_pairs_hook=_refuse, parse_int=str, parse_float=str)


def refuse_repeated_names(body: bytes) -> None:
    """Raises RepeatedName; ValueError, RecursionError for what is not JSON in UTF-8 at all."""
    _decoder.decode(body.decode())


def why_unreadable(error: BaseException | None) -> str:
    """What is wrong with a body, for whoever has sent it; `error` is what reading it has raised."""
    match error:
        case RepeatedName():
            return str(error)
        case UnicodeDecodeError():
            return "It is not UTF-8."
        case json.JSONDecodeError():
            return f"It is not JSON from line {error.lineno}, column {error.colno} on."
        case RecursionError():
            return "Its lists and objects lie too deep in each other."
        case _:
            return "It is not JSON that can be read."
