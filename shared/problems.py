"""RFC 9457 problem details: what every error of every service looks like."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from shared.auth import Unauthorized
from shared.db import is_transient
from shared.errors import DomainError, Unavailable
from shared.log import logger

log = logger(__name__)

PROBLEM = "application/problem+json"


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


_MEANINGS = {
    400: ("http-400", "The body cannot be read"),
    401: ("unauthorized", "No token, or none that is accepted"),
    403: ("forbidden", "The caller may not do this"),
    404: ("not-found", "No such thing for this caller"),
    409: ("conflict", "It contradicts what is there"),
    413: ("http-413", "The body is too large"),
    422: ("invalid", "A field is not valid"),
    500: ("http-500", "Something unexpected; the request id finds it in the log"),
    503: ("unavailable", "Try again after Retry-After"),
}
_REQUEST_ID = "0190f2c4-7a51-7c3e-9b7a-3f6f0e6d2a11"
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": meaning,
        "model": Problem,
        "content": {
            PROBLEM: {
                "example": {
                    "type": f"urn:takings:problem:{code}",
                    "title": meaning,
                    "status": status,
                    "request_id": _REQUEST_ID,
                }
            }
        },
    }
    for status, (code, meaning) in _MEANINGS.items()
}


def answer_errors(api: FastAPI) -> None:
    """Make `api` answer every error with its problem, and say so in its description."""
    described = api.openapi
    api.openapi = lambda: _with_problem_type(described())  # type: ignore[method-assign]
    for kind in (DomainError, RequestValidationError, HTTPException, Exception):
        api.add_exception_handler(kind, _answer_error)


def _with_problem_type(description: dict[str, Any]) -> dict[str, Any]:
    # FastAPI files every model under application/json; a problem has a media type of its own.
    for path in description["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                if int(status) >= 400 and "application/json" in content and PROBLEM in content:
                    content[PROBLEM].update(content.pop("application/json"))
    return description


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
    if isinstance(error, DomainError):
        return error.status, error.problem()
    if isinstance(error, RequestValidationError):
        fields = [{"field": _path(e["loc"]), "message": e["msg"]} for e in error.errors()]
        malformed = any(e["type"] == "json_invalid" for e in error.errors())
        status, title = (400, "The body is not JSON") if malformed else (422, "The request is not valid")
        return status, {**_generic(status, title), "errors": fields}
    if isinstance(error, HTTPException):
        return error.status_code, {
            **_generic(error.status_code, "The request was refused"),
            "detail": str(error.detail),
        }
    if is_transient(error):
        return 503, Unavailable(
            "The database does not answer. Whether this took effect is not known: send it again."
        ).problem()
    return 500, _generic(500, "Something went wrong here")


def _generic(status: int, title: str) -> dict[str, Any]:
    return {"type": f"urn:takings:problem:http-{status}", "title": title, "status": status}


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location if part != "body") or "body"
