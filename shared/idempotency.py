"""`Idempotency-Key`: the first answer again, byte for byte, stored in the transaction of the effect it reports."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

from fastapi import Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from shared.auth import Principal
from shared.db import LOCK_LIMIT_MS, Connection, Database
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

RULES = f"""
Chosen by the caller for one request, and kept for {KEEP_FOR_DAYS} days. The same request under the same key has no second
effect: it gets the first answer again, byte for byte, a refusal (4xx) too. Another path or body under a used key is 422
`idempotency-key-reused`. A body that is not valid, 401, 403 and 5xx
leave the key unused. Keys of different callers are different keys.
"""
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description=" ".join(RULES.split()),
        json_schema_extra={"minLength": 1, "maxLength": KEY_LIMIT, "pattern": "^[!-~]+$"},
    ),
]
Effect = Callable[[Connection], Awaitable[tuple[int, BaseModel]]]


class KeyReused(Invalid):
    """The key was used before, for a different request."""

    code = "idempotency-key-reused"


async def once(
    request: Request,
    db: Database,
    effect: Effect,
    *,
    caller: Principal,
    key: str | None,
    now: datetime,
    part: int = 0,
) -> Response:
    """Run `effect` in a transaction and answer with its status and body; once per caller and key, however often asked.

    A request that has its effect in several parts, each with an answer of its own, numbers them.

    Of two at once, the second waits for the first one's commit and gets its answer. A refusal by the domain is an answer
    too; an unexpected error, a lost database or a row that somebody holds is not, and leaves the key unused. Raises
    KeyReused, Invalid.
    """
    if key is None:

        async def just_once(conn: Connection) -> Response:
            return _response(*await effect(conn))

        return await db.run(just_once, caller.tenant, lock_limit_ms=LOCK_LIMIT_MS)
    if not KEY.fullmatch(key):
        raise Invalid(f"An Idempotency-Key is 1 to {KEY_LIMIT} visible ASCII characters.", field="Idempotency-Key")
    # Two callers who choose the same key must never get each other's answers: much depends on who asks.
    # Nor does anybody choose the key of a part: it has a space in it.
    place = (caller.tenant, _who(caller), f"{key} {part}" if part else key)
    asked = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + await request.body()).digest()

    async def first_or_again(conn: Connection) -> Response:
        if await conn.fetchval(CLAIM, *place, asked, now) is None:
            return await _first_answer(conn, place, asked)
        answer = await _run(conn, effect, request)
        await conn.execute(KEEP_ANSWER, *place, answer.status_code, bytes(answer.body))
        return answer

    return await db.run(first_or_again, caller.tenant, lock_limit_ms=LOCK_LIMIT_MS)


def _who(caller: Principal) -> str:
    # Of two names with a space between them, none in the first one: nobody else's two names read the same.
    if caller.driver_id is None:
        return f"{caller.subject} "
    return " ".join(name.replace("%", "%25").replace(" ", "%20") for name in (caller.subject, caller.driver_id))


async def _run(conn: Connection, effect: Effect, request: Request) -> Response:
    await conn.execute("SAVEPOINT effect")  # a refusal undoes the effect and keeps the key
    try:
        status, body = await effect(conn)
    except DomainError as error:
        if error.status >= 500 or error.status == 403:  # both may change by themselves
            raise
        await conn.execute("ROLLBACK TO SAVEPOINT effect")
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
