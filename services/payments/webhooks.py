"""The webhook edge: a small raw ASGI application, because a callback must be answered fast and FastAPI takes its time."""

from collections.abc import Callable
from datetime import datetime

from starlette.exceptions import HTTPException

from services.payments.callbacks import set_aside
from services.payments.gateway_accounts import Accounts
from services.payments.gateways import BadCallback, BadSignature
from services.payments.gateways.registry import GATEWAYS
from services.payments.models import Callback, Receipt
from services.payments.record_payments import Recorded
from shared.auth import Unauthorized
from shared.batch import Gather
from shared.clocks import utc_now
from shared.db import Database, is_transient
from shared.errors import DomainError, NotFound
from shared.http import Receive, Scope, Send, answer_json, read_body
from shared.ids import new_id
from shared.log import logger
from shared.problems import problem_response

log = logger(__name__)

PREFIX = "/api/v1/webhooks/"
ANSWERS = {result: b'{"result":"%b"}' % result.encode() for result in ("recorded", "duplicate", "stored")}


class NotACallback(DomainError):
    """The body is signed, but it is not an event that the gateway is known to send."""

    code = "not-a-callback"
    status = 400
    title = "Not a callback"


class CallbackRefused(Unauthorized):
    """Unknown account and bad signature are told apart by the log only."""

    code = "callback-refused"


class Webhooks:
    """`POST /api/v1/webhooks/{gateway}/{account_id}`."""

    def __init__(
        self,
        db: Database,
        accounts: Accounts,
        gather: Gather[Receipt, Recorded | DomainError],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._db = db
        self._accounts = accounts
        self._gather = gather
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one callback."""
        try:
            body = await read_body(receive)
            result = await self._take(scope, body)
        except DomainError as error:
            await problem_response(error, scope["takings.request_id"])(scope, receive, send)
            return
        await answer_json(send, 200, ANSWERS[result])

    async def _take(self, scope: Scope, body: bytes) -> str:
        gateway_name, _, account_id = scope["path"].removeprefix(PREFIX).partition("/")
        if gateway_name not in GATEWAYS:
            raise NotFound(f"There is no gateway {gateway_name!r}.")
        if scope["method"] != "POST":
            raise HTTPException(405, "Callbacks are posted.", headers={"Allow": "POST"})
        now = self._clock()
        gateway, account = GATEWAYS[gateway_name], await self._accounts.find(account_id, now=now)
        try:
            if account is None or account.gateway != gateway_name:
                raise BadSignature("unknown account")
            webhook_id = gateway.verify(dict(scope["headers"]), body, account.secrets, now=now)
        except BadSignature as error:
            log.warning("callback refused", account_id=account_id[:100], reason=str(error))
            raise CallbackRefused("The signature is not valid.") from error
        try:
            callback = Callback(new_id(), webhook_id, body, now)
            receipt = gateway.parse(callback, tenant_id=account.tenant_id, account_id=account_id)
        except BadCallback as error:
            raise NotACallback(str(error)) from error
        return await self._record(receipt, now)

    async def _record(self, receipt: Receipt, now: datetime) -> str:
        try:
            recorded = await self._gather.submit(receipt)
        except Exception as error:
            if is_transient(error):
                raise
            # The gateway has done its part: what it said is kept, and having no effect is our trouble.
            log.error("callback kept without effect", tenant_id=receipt.tenant_id, error=repr(error), exc_info=error)
            async with self._db.transaction(receipt.tenant_id) as conn:
                await set_aside(conn, receipt, error, now=now)
            return "stored"
        if isinstance(recorded, DomainError):
            raise recorded
        return recorded.result
