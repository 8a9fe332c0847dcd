"""Domain errors: raised beside the rule they state, turned into problem details by the HTTP edge."""

from typing import Any, ClassVar


class DomainError(Exception):
    """A refusal that the caller can understand and act on; `code` is stable and becomes the problem's type."""

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The request was refused"

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        """`detail` says what is wrong in one sentence; `field` names the part of the request at fault."""
        super().__init__(detail)
        self.detail = detail
        self.field = field

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 problem details of this error."""
        body: dict[str, Any] = {
            "type": f"urn:takings:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.field is not None:
            body["errors"] = [{"field": self.field, "message": self.detail}]
        return body


class NotFound(DomainError):
    """No such thing in this tenant, or none that the caller may see."""

    code = "not-found"
    status = 404
    title = "Not found"


class Invalid(DomainError):
    """The request is well formed but means nothing that can be done."""

    code = "invalid"
    status = 422
    title = "The request is not valid"


class Conflict(DomainError):
    """The request contradicts what is already there."""

    code = "conflict"
    status = 409
    title = "Conflict"


class Forbidden(DomainError):
    """The caller is known but may not do this."""

    code = "forbidden"
    status = 403
    title = "Forbidden"


class Unavailable(DomainError):
    """Nothing is wrong with the request; it can be sent again after `retry_after_s`."""

    code = "unavailable"
    status = 503
    title = "Temporarily unavailable"
    retry_after_s: ClassVar[int] = 1
