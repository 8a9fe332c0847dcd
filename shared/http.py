"""The HTTP edge that all services share: limits, request ids, security headers, metrics, and raw routes before FastAPI."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from shared import telemetry
from shared.auth import Verifier
from shared.db import CALL_LIMIT_S
from shared.describe_api import complete_description, with_all_below
from shared.errors import Unavailable
from shared.field_errors import FieldsInvalid
from shared.ids import new_id
from shared.log import logger
from shared.problems import PROBLEMS, answer_errors, problem_response
from shared.readable_body import refuse_repeated_names, why_unreadable

log = logger(__name__)

Scope = MutableMapping[str, Any]
ASGIMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[ASGIMessage]]
Send = Callable[[ASGIMessage], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_LIMIT_BYTES = 2 * 1024 * 1024
BODY_TIME_LIMIT_S = 10.0
DRAIN_LIMIT_BYTES = 16 * 1024 * 1024
DRAIN_TIME_LIMIT_S = 2.0
LENGTH_DIGITS = 15  # of a Content-Length that is a number at all
JSON = re.compile(r"application/([a-z0-9.+-]+\+)?json\s*(;.*)?", re.IGNORECASE)
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]


class BodyTooLarge(HTTPException):
    """More bytes than the route takes."""

    def __init__(self) -> None:
        """Answers 413."""
        super().__init__(413, f"The body is larger than {BODY_LIMIT_BYTES} bytes.")


class BodyTooSlow(HTTPException):
    """The body did not arrive in time."""

    def __init__(self) -> None:
        """Answers 408."""
        super().__init__(408, f"The body did not arrive within {BODY_TIME_LIMIT_S:.0f} s.")


def create_api(name: str, *, summary: str, verifier: Verifier) -> FastAPI:
    """A FastAPI application with our errors, its description at /openapi.json and nothing else in it yet."""
    api = FastAPI(
        title=f"Takings {name}",
        summary=summary,
        version="1",
        responses=PROBLEMS,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
        generate_unique_id_function=_operation_id,
        dependencies=[Depends(_refuse_what_would_be_misread)],
    )
    api.state.verifier = verifier
    answer_errors(api)
    complete_description(api, service=name)
    return api


async def _refuse_what_would_be_misread(request: Request) -> None:
    route: APIRoute = request.scope["route"]
    if body := await request.body():
        if route.body_field is not None:
            _refuse_other_media(request.headers.get("content-type", ""))
        _refuse_ambiguous_body(body)
    if request.query_params and route.path.startswith("/api/"):  # probes and scrapers may add what they like
        _refuse_unread_parameters(request, route)


def _refuse_other_media(given: str) -> None:
    if not JSON.fullmatch(given):
        what = f"is {given[:100]!r}" if given else "is missing"
        raise HTTPException(415, f"The body is taken as JSON only, but its Content-Type {what}: send application/json.")


def _refuse_ambiguous_body(body: bytes) -> None:
    try:
        refuse_repeated_names(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, why_unreadable(error)) from error


def _refuse_unread_parameters(request: Request, route: APIRoute) -> None:
    # A misspelt filter would be left out without a word, and of one that is given twice the first would be.
    known = {param.alias for dependant in with_all_below(route.dependant) for param in dependant.query_params}
    given = Counter(name for name, _ in request.query_params.multi_items())
    wrong = {name: "is given more than once" if name in known else "is no parameter here"
             for name, times in given.items() if name not in known or times > 1}  # fmt: skip
    if wrong:
        raise FieldsInvalid([{"field": f"query.{name[:100]}", "message": wrong[name]} for name in sorted(wrong)])


def _operation_id(route: APIRoute) -> str:
    """Short and stable names for generated clients: `payouts_approve`."""
    tag = str(route.tags[0]) if route.tags else "api"
    return f"{tag} {route.name.strip('_')}".replace(" ", "_")


class Edge:
    """The outermost ASGI application: request id, limits, headers, metrics, and the raw webhook route before FastAPI."""

    def __init__(self, api: FastAPI, *, webhooks: ASGIApp | None = None) -> None:
        self._api = api
        self._webhooks = webhooks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        call = _Call(scope, receive, send)
        to_webhooks = self._webhooks is not None and scope["path"].startswith("/api/v1/webhooks/")
        app: Any = self._webhooks if to_webhooks else self._api
        with telemetry.span(f"{scope['method']} {'webhook' if to_webhooks else 'api'}", call.trace_headers()):
            try:
                async with asyncio.timeout(None) as call.limit:
                    await app(scope, call.receive, call.send)
            except Exception as error:
                if call.status == 0:
                    await problem_response(error, call.request_id)(scope, call.receive, call.send)
                elif not call.is_answered:  # the server hangs up, by which the caller knows that something is missing
                    log.error("answer broken off", status=call.status, error=repr(error), exc_info=error)
        call.measure("/api/v1/webhooks" if to_webhooks else None)


class _Call:
    """One request on its way in and out."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._left = BODY_LIMIT_BYTES
        self._started = time.perf_counter()
        self._deadline = self._started + BODY_TIME_LIMIT_S
        self._complete = False
        self.status = 0
        self.is_answered = False
        self.limit: asyncio.Timeout  # of what is done with the body once it is there
        headers = dict(scope["headers"])
        given = unquote(headers.get(b"x-request-id", b"").decode("latin-1"))
        self.request_id = given if REQUEST_ID.fullmatch(given) else str(new_id())
        scope["takings.request_id"] = self.request_id
        length = headers.get(b"content-length", b"0")
        self._too_long = not length.isdigit() or len(length) > LENGTH_DIGITS or int(length) > BODY_LIMIT_BYTES
        self._traceparent = headers.get(b"traceparent")
        structlog.contextvars.bind_contextvars(request_id=self.request_id)

    def trace_headers(self) -> dict[str, str] | None:
        return {"traceparent": self._traceparent.decode("latin-1")} if self._traceparent else None

    async def receive(self) -> ASGIMessage:
        if self._complete:
            return await self._receive()
        if self._too_long:
            raise BodyTooLarge
        try:
            async with asyncio.timeout(max(0.0, self._deadline - time.perf_counter())):
                message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise BodyTooLarge
        self._complete = not message.get("more_body", False)
        if self._complete:
            ends_at = asyncio.get_running_loop().time() + CALL_LIMIT_S
            self._scope["takings.ends_at"] = ends_at
            self.limit.reschedule(ends_at)
        return message

    async def send(self, message: ASGIMessage) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [*SECURITY_HEADERS, (b"x-request-id", self.request_id.encode())]
            if not self._complete and self.status in {408, 413}:
                own.append((b"connection", b"close"))  # what is still to come of the body is not read
            message["headers"] = [*message.get("headers", []), *own]
        elif self.status == 413 and not self._complete and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)
        self.is_answered = message["type"] == "http.response.body" and not message.get("more_body", False)

    async def _drain(self) -> None:
        # Who is cut off while sending does not see the answer, so what still comes is read for a while and thrown away.
        left = DRAIN_LIMIT_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_TIME_LIMIT_S):
                while left > 0:
                    message = await self._receive()
                    if not message.get("more_body", False):
                        return
                    left -= len(message["body"])

    def measure(self, route: str | None) -> None:
        label = route or getattr(self._scope.get("route"), "path", "unmatched")
        telemetry.REQUESTS.labels(label, self._scope["method"], str(self.status)).inc()
        telemetry.REQUEST_SECONDS.labels(label).observe(time.perf_counter() - self._started)


async def read_body(receive: Receive) -> bytes:
    """The whole body of a raw ASGI request, within the limits of `Edge`."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Unavailable("The caller has hung up.")
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


async def answer_json(send: Send, status: int, body: bytes) -> None:
    """Answer a raw ASGI request."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
