"""What the local stack's user sees when something is wrong."""

from collections.abc import Iterator


class StackError(Exception):
    """Something the operator can put right; the message is one line and says what."""

    exit_status = 1


class WrongUse(StackError):
    """The command was given what it cannot work with; nothing was started."""

    exit_status = 2


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group of groups, first ones first; one that is no group is its own leaf."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
