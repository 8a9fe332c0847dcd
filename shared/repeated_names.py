"""JSON objects that name a field twice: readers differ in which of the two they take, so nobody may act on either."""

import json
from typing import Any


class RepeatedName(ValueError):
    """An object has two fields of the same name."""


def _refuse(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        names = [name for name, _ in pairs]
        raise RepeatedName(f"The field {max(names, key=names.count)[:100]!r} is there twice.")


# Numbers stay texts: nobody needs them here, and some are too long to be read. Made once, which halves its cost.
_decoder = json.JSONDecoder(object_pairs_hook=_refuse, parse_int=str, parse_float=str)


def refuse_repeated_names(body: bytes) -> None:
    """Raises RepeatedName; ValueError, RecursionError for what is not JSON in UTF-8 at all."""
    _decoder.decode(body.decode())
