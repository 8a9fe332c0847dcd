"""Money: integer minor units of an ISO 4217 currency, and the only two places where money is rounded."""

from collections.abc import Sequence
from functools import lru_cache

from iso4217 import Currency

WHOLE_BP = 10_000  # basis points in the whole
LIMIT = 10**15  # no single amount is larger; sums of many still fit PostgreSQL's bigint


class UnknownCurrency(ValueError):
    """The code is not an ISO 4217 currency that amounts can be written in."""


@lru_cache(maxsize=512)
def exponent(currency: str) -> int:
    """Digits after the point of `currency` (KES 2, JPY 0, KWD 3). Raises UnknownCurrency."""
    try:
        digits = Currency(currency).exponent
    except ValueError:
        digits = None
    if digits is None:  # metals and test codes have no minor unit
        raise UnknownCurrency(f"{currency!r} is not an ISO 4217 currency")
    return digits


def format_amount(amount: int, currency: str) -> str:
    """`amount` (minor units) for people: "KES 1,250.00", "JPY 500". Raises UnknownCurrency."""
    return f"{currency} {format_number(amount, currency)}"


def format_number(amount: int, currency: str) -> str:
    """As `format_amount`, without the currency: "1,250.00"."""
    digits = exponent(currency)
    whole, rest = divmod(abs(amount), 10**digits)
    point = f".{rest:0{digits}d}" if digits else ""
    return f"{'-' if amount < 0 else ''}{whole:,}{point}"


def commission(amount: int, rate_bp: int) -> int:
    """The commission on `amount` (minor units, >= 0) at `rate_bp` basis points, rounded half up; the payee gets the rest."""
    if amount < 0 or not 0 <= rate_bp <= WHOLE_BP:
        raise ValueError(f"no commission of {rate_bp} bp on {amount}")
    return (2 * amount * rate_bp + WHOLE_BP) // (2 * WHOLE_BP)


def split(amount: int, shares_bp: Sequence[int]) -> list[int]:
    """Split `amount` (minor units, >= 0) by `shares_bp` (sums to 10,000) by largest remainder; the parts sum to `amount`.

    Equal remainders go to the earlier share, so that the same input always gives the same parts.
    """
    if amount < 0 or any(share < 0 for share in shares_bp) or sum(shares_bp) != WHOLE_BP:
        raise ValueError(f"{amount} cannot be split by {list(shares_bp)}")
    parts = [amount * share // WHOLE_BP for share in shares_bp]
    by_remainder = sorted(range(len(parts)), key=lambda i: (-(amount * shares_bp[i] % WHOLE_BP), i))
    for i in by_remainder[: amount - sum(parts)]:
        parts[i] += 1
    return parts


def equal_shares(count: int) -> list[int]:
    """`count` shares in basis points, as equal as whole basis points allow, summing to 10,000."""
    share, rest = divmod(WHOLE_BP, count)
    return [share + (i < rest) for i in range(count)]
