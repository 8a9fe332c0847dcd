"""`Idempotency-Key`: the first answer again, byte for byte, stored in the transaction of the effect it reports."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

from fastapi import Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from shared import tenants
from shared.auth import Principal
from shared.db import Connection, Database
from shared.errors import DomainError, Invalid
from shared.problems import PROBLEM

KEEP_FOR_DAYS = 2
KEY_LIMIT = 200
CLAIM = """
INSERT INTO idempotency_keys (tenant_id, caller, key, request_hash, created_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, caller, key) DO NOTHING RETURNING key
"""
FIRST_ANSWER = """
SELECT request_hash, status, body FROM idempotency_keys WHERE tenant_id = $1 AND caller = $2 AND key = $3
"""
KEEP_ANSWER = """
UPDATE idempotency_keys SET status = $4, body = $5 WHERE tenant_id = $1 AND caller = $2 AND key = $3
"""
FORGET = """
DELETE FROM idempotency_keys WHERE (tenant_id, caller, key) IN (
    SELECT tenant_id, caller, key FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT 5000
)
"""
KEY = re.compile(rf"[\x21-\x7e]{{1,{KEY_LIMIT}}}")

Key = Annotated[str | None, Header(alias="Idempotency-Key", description="Same key and body: the first answer again.")]
Effect = Callable[[Connection], Awaitable[tuple[int, BaseModel]]]


class KeyReused(Invalid):
    """The key was used before, for a different request."""

    code = "idempotency-key-reused"


async def once(
    request: Request, db: Database, effect: Effect, *, caller: Principal, key: str | None, now: datetime
) -> Response:
    """Run `effect` in a transaction and answer with its status and body; once per caller and key, however often asked.

    Of two at once, the second waits for the first one's commit and gets its answer. A refusal by the domain is an answer
    too; an unexpected error or a lost database is not, and leaves the key unused. Raises KeyReused, Invalid, Forbidden for a
    tenant that is not known.
    """
    if key is None:

        async def just_once(conn: Connection) -> Response:
            await tenants.find(conn, caller.tenant)
            return _response(*await effect(conn))

        return await db.run(just_once, caller.tenant)
    if not KEY.fullmatch(key):
        raise Invalid(f"An Idempotency-Key is 1 to {KEY_LIMIT} visible ASCII characters.", field="Idempotency-Key")
    # Two callers who choose the same key must never get each other's answers: much depends on who asks.
    place = (caller.tenant, f"{caller.subject} {caller.driver_id or ''}", key)
    asked = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + await request.body()).digest()

    async def first_or_again(conn: Connection) -> Response:
        await tenants.find(conn, caller.tenant)  # here: that it is not known yet must not be kept as an answer
        if await conn.fetchval(CLAIM, *place, asked, now) is None:
            return await _first_answer(conn, place, asked)
        answer = await _run(conn, effect, request)
        await conn.execute(KEEP_ANSWER, *place, answer.status_code, bytes(answer.body))
        return answer

    return await db.run(first_or_again, caller.tenant)


async def _run(conn: Connection, effect: Effect, request: Request) -> Response:
    try:
        async with conn.transaction():  # a savepoint: a refusal undoes the effect and keeps the key
            status, body = await effect(conn)
    except DomainError as error:
        if error.status >= 500 or error.status == 403:  # both may change by themselves
            raise
        problem = {**error.problem(), "request_id": request.scope.get("takings.request_id", "")}
        return JSONResponse(problem, error.status, media_type=PROBLEM)
    return _response(status, body)


def _response(status: int, body: BaseModel) -> Response:
    return Response(body.model_dump_json(), status, media_type="application/json")


async def _first_answer(conn: Connection, place: tuple[str, str, str], asked: bytes) -> Response:
    row = await conn.fetchrow(FIRST_ANSWER, *place)
    if row is None or row["request_hash"] != asked:
        raise KeyReused("This Idempotency-Key was used for another request.", field="Idempotency-Key")
    media_type = "application/json" if row["status"] < 400 else PROBLEM
    return Response(row["body"], row["status"], media_type=media_type)
