"""Gateways that follow the Standard Webhooks specification (https://www.standardwebhooks.com), version 1 signatures.

The specification's own library reads the clock itself; here time is passed in, so the check is ours. Tests hold it against
that library and the specification's vectors.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets as random
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from services.payments.gateways import BadCallback, BadSignature
from services.payments.models import Callback, PaymentStatus, Receipt
from shared.fields import ImplausibleInstant, plausible
from shared.money import LIMIT, UnknownCurrency, exponent
from shared.readable_body import refuse_repeated_names, why_unreadable

TOLERANCE_S = 300
SECRET_BYTES = 32
SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of every secret, not one
SIGNATURES_LIMIT = 20

TYPE = re.compile(r"`([a-z |]+)`")  # as msgspec writes it
TYPES = {"int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false", "array": "a list",
         "object": "an object", "datetime": "an instant"}  # fmt: skip

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
LongText = Annotated[str, msgspec.Meta(max_length=1_000, pattern=r"^[^\x00]*\Z")]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class Payer(msgspec.Struct, frozen=True):
    """Who paid; stays in this service."""

    name: LongText | None = None
    phone: LongText | None = None


class Failure(msgspec.Struct, frozen=True):
    """Why nothing was paid."""

    code: LongText | None = None
    message: LongText | None = None


class Data(msgspec.Struct, frozen=True):
    """One transaction; amounts in minor units."""

    transaction_id: Text
    amount: Annotated[int, msgspec.Meta(gt=0, le=LIMIT)]
    currency: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}\Z")]
    method: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_-]{1,32}\Z")]
    paid_at: Instant
    request_id: Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z")] | None = None
    fee: Annotated[int, msgspec.Meta(ge=0, le=LIMIT)] | None = None
    payer: Payer | None = None
    failure: Failure | None = None


class StandardCallback(msgspec.Struct, frozen=True):
    """The body of a delivery."""

    type: Literal["payment.completed", "payment.failed", "payment.pending"]
    timestamp: Instant
    data: Data


_decode = msgspec.json.Decoder(StandardCallback).decode


class StandardGateway:
    """The contract of `Gateway` for Standard Webhooks."""

    def verify(self, headers: Mapping[bytes, bytes], body: bytes, secrets: Sequence[str], *, now: datetime) -> str:
        """The webhook-id. Raises BadSignature for a missing, stale (300 s both ways) or wrong signature."""
        webhook_id, sent_at = headers.get(b"webhook-id", b""), headers.get(b"webhook-timestamp", b"")
        given = headers.get(b"webhook-signature", b"").split()[:SIGNATURES_LIMIT]
        if not webhook_id or not sent_at.isdigit() or len(sent_at) > 12:
            raise BadSignature("headers are missing")
        if abs(now.timestamp() - int(sent_at)) > TOLERANCE_S:
            raise BadSignature("the timestamp is out of tolerance")
        signed = b"%b.%b.%b" % (webhook_id, sent_at, body)
        for secret in secrets:
            expected = b"v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256))
            if any([hmac.compare_digest(expected, signature) for signature in given]):  # noqa: C419 - constant time
                return webhook_id.decode("latin-1")
        raise BadSignature("no signature matches")

    def parse(self, callback: Callback, *, tenant_id: str, account_id: str) -> Receipt:
        """The receipt in the body of `callback`. Raises BadCallback."""
        try:
            body = _decode(callback.body)
            refuse_repeated_names(callback.body)
            exponent(body.data.currency)
            paid_at = plausible(body.data.paid_at)
        except msgspec.ValidationError as error:
            raise BadCallback(_in_words(str(error))) from error
        except (UnknownCurrency, ImplausibleInstant) as error:
            raise BadCallback(str(error)) from error
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise BadCallback(why_unreadable(error)) from error
        data, payer, failure = body.data, body.data.payer or Payer(), body.data.failure or Failure()
        return Receipt(
            tenant_id=tenant_id,
            account_id=account_id,
            transaction_id=data.transaction_id,
            status=PaymentStatus(body.type.removeprefix("payment.")),
            amount=data.amount,
            currency=data.currency,
            method=data.method,
            paid_at=paid_at,
            request_id=data.request_id or None,  # gateways also say "" and null for what they do not know
            fee=data.fee or 0,
            payer_name=payer.name or None,
            payer_phone=payer.phone or None,
            failure_code=failure.code or None,
            failure_text=failure.message or None,
            callback=callback,
        )

    def new_secret(self) -> str:
        """32 random bytes in the specification's text form."""
        return SECRET_PREFIX + base64.b64encode(random.token_bytes(SECRET_BYTES)).decode()


def _in_words(fault: str) -> str:
    """What the decoder has found, "Expected `int`, got `str` - at `$.data.amount`", for who has never heard of it."""
    what, _, where = fault.partition(" - at `$")
    what = TYPE.sub(lambda found: " or ".join(TYPES.get(kind, kind) for kind in found[1].split(" | ")), what)
    return f"{where.strip('.`') or 'body'}: {what}"


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    except binascii.Error as error:
        raise BadSignature("the account's secret is not usable") from error
