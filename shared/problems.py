"""RFC 9457 problem details: what every error of every service looks like."""

from typing import Any

from asyncpg import LockNotAvailableError
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from shared.auth import Unauthorized
from shared.db import is_transient
from shared.errors import Conflict, DomainError, Forbidden, NotFound, Unavailable
from shared.field_errors import FieldsInvalid, fields_invalid
from shared.log import logger
from shared.readable_body import why_unreadable

log = logger(__name__)

PROBLEM = "application/problem+json"
NOT_KNOWN = (
    "The database does not answer. Whether this took effect is not known: send it again with the same Idempotency-Key, "
    "transaction or id; what has none of these may count twice, so look first."
)


class FieldError(BaseModel):
    """One field at fault."""

    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str | None = None
    errors: list[FieldError] | None = None
    request_id: str | None = None


def answer_errors(api: FastAPI) -> None:
    """Make `api` answer every error with its problem."""
    for kind in (DomainError, RequestValidationError, HTTPException, Exception):
        api.add_exception_handler(kind, _answer_error)


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    return problem_response(error, request.scope.get("takings.request_id", ""))


def problem_response(error: Exception, request_id: str) -> JSONResponse:
    """The answer to `error`: its problem details, never more than the caller should know."""
    status, body = _problem(error)
    headers = {}
    if status == 503:
        headers["retry-after"] = str(getattr(error, "retry_after_s", Unavailable.retry_after_s))
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)  # Allow of a 405
    if status >= 500:
        log.error("request failed", status=status, error=repr(error), exc_info=error if status == 500 else None)
    return JSONResponse({**body, "request_id": request_id}, status, headers, media_type=PROBLEM)


def _problem(error: Exception) -> tuple[int, dict[str, Any]]:
    if isinstance(error, RequestValidationError):
        error = _what_is_wrong(error)
    if isinstance(error, DomainError):
        return error.status, error.problem()
    if isinstance(error, HTTPException):
        reason = error.detail
        if isinstance(error.__cause__, ValueError | RecursionError):  # FastAPI's of a body says nothing
            reason = why_unreadable(error.__cause__)
        return error.status_code, {**_generic(error.status_code, "The request was refused"), "detail": reason}
    if isinstance(error, LockNotAvailableError):
        return 503, Unavailable("Somebody else is at work on the same: nothing was done, send it again.").problem()
    if is_transient(error):
        return 503, Unavailable(NOT_KNOWN).problem()
    return 500, _generic(500, "Something went wrong here")


def _what_is_wrong(error: RequestValidationError) -> Exception:
    if any(each["type"] == "json_invalid" for each in error.errors()):
        return HTTPException(400, why_unreadable(error.__cause__))
    return fields_invalid(error.errors())


def _generic(status: int, title: str) -> dict[str, Any]:
    return {"type": f"urn:takings:problem:http-{status}", "title": title, "status": status}


# What is answered with each status, and what it means. Of 404 and 409 each case has a type of its own.
_EXAMPLES: dict[str, Exception] = {
    "The body cannot be read": HTTPException(400, "It is not JSON from line 1, column 2 on."),
    "No token, or none that is accepted": Unauthorized("A bearer token is needed."),
    "The caller may not do this": Forbidden("This needs one of the roles: admin, finance."),
    "No such thing for this caller": NotFound(""),
    "It contradicts what is there": Conflict(""),
    "The body is too large": HTTPException(413, "The body is larger than 2097152 bytes."),
    "The body is not said to be JSON": HTTPException(
        415, "The body is taken as JSON only, but its Content-Type is missing: send application/json."
    ),
    "A field is not valid": FieldsInvalid([{"field": "amount", "message": "must be a whole number"}]),
    "Something unexpected; the request id finds it in the log": Exception(),
    "Try again after Retry-After": Unavailable(NOT_KNOWN),
}
_REQUEST_ID = "0190f2c4-7a51-7c3e-9b7a-3f6f0e6d2a11"


def _described(meaning: str, error: Exception) -> tuple[int, dict[str, Any]]:
    status, body = _problem(error)
    example = {} if status in {404, 409} else {"example": {**body, "request_id": _REQUEST_ID}}
    return status, {"description": meaning, "model": Problem, "content": {PROBLEM: example}}


PROBLEMS: dict[int | str, dict[str, Any]] = dict(_described(meaning, error) for meaning, error in _EXAMPLES.items())
