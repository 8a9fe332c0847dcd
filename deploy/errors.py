"""What the local stack's user sees when something is wrong."""


class StackError(Exception):
    """Something the operator can put right; the message is one line and says what."""

    exit_status = 1


class WrongUse(StackError):
    """The command was given what it cannot work with; nothing was started."""

    exit_status = 2
