"""The one error of the local stack that its user sees."""


class StackError(Exception):
    """Something the operator can put right; the message is one line and says what."""
