"""Money is rounded in two places only: the commission half up, shares by largest remainder, and nothing is ever lost."""

from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.money import LIMIT, WHOLE_BP, UnknownCurrency, commission, equal_shares, exponent, format_amount, split

amounts = st.integers(0, LIMIT)


@st.composite
def shares(draw):
    """1 to 30 shares that sum to 10,000, zeros among them."""
    cuts = sorted(draw(st.lists(st.integers(0, WHOLE_BP), max_size=29)))
    edges = [0, *cuts, WHOLE_BP]
    return [high - low for low, high in pairwise(edges)]


@given(amounts, shares())
def test_split_parts_sum_to_the_whole_and_lie_within_one_unit_of_the_exact_share(amount, shares_bp):
    parts = split(amount, shares_bp)
    assert sum(parts) == amount
    assert all(isinstance(part, int) for part in parts)
    for part, share in zip(parts, shares_bp, strict=True):
        assert abs(part - Fraction(amount * share, WHOLE_BP)) < 1


@given(amounts, shares())
def test_split_gives_the_odd_units_to_the_largest_remainders_then_to_the_earlier(amount, shares_bp):
    exact = [Fraction(amount * share, WHOLE_BP) for share in shares_bp]
    floors = [value.numerator // value.denominator for value in exact]
    order = sorted(range(len(exact)), key=lambda i: (floors[i] - exact[i], i))
    expected = list(floors)
    for i in order[: amount - sum(floors)]:
        expected[i] += 1
    assert split(amount, shares_bp) == expected
    assert split(amount, tuple(shares_bp)) == expected


@pytest.mark.parametrize(
    ("amount", "shares_bp", "parts"),
    [
        (0, [5000, 5000], [0, 0]),
        (1, [5000, 5000], [1, 0]),
        (100, [3333, 3333, 3334], [33, 33, 34]),
        (10, [3334, 3333, 3333], [4, 3, 3]),
        (7, [10_000], [7]),
        (5, [0, 10_000, 0], [0, 5, 0]),
    ],
)
def test_split_examples(amount, shares_bp, parts):
    assert split(amount, shares_bp) == parts


@pytest.mark.parametrize(
    ("amount", "shares_bp"), [(-1, [10_000]), (10, [9_999]), (10, [10_001]), (10, [10_001, -1]), (10, [])]
)
def test_split_refuses_what_is_no_whole(amount, shares_bp):
    with pytest.raises(ValueError, match="cannot be split"):
        split(amount, shares_bp)


@given(amounts, st.integers(0, WHOLE_BP))
def test_commission_is_rounded_half_up_exactly(amount, rate_bp):
    with localcontext() as exact:
        exact.prec = 60
        wanted = (Decimal(amount) * rate_bp / WHOLE_BP).quantize(Decimal(1), ROUND_HALF_UP)
    assert commission(amount, rate_bp) == int(wanted)
    assert 0 <= commission(amount, rate_bp) <= amount


@pytest.mark.parametrize(
    ("amount", "rate_bp", "taken"),
    [(5, 1000, 1), (4, 1000, 0), (15, 1000, 2), (25, 1000, 3), (1, 5000, 1), (999, 0, 0), (999, 10_000, 999)],
)
def test_commission_examples(amount, rate_bp, taken):
    assert commission(amount, rate_bp) == taken


@pytest.mark.parametrize(("amount", "rate_bp"), [(-1, 1000), (100, -1), (100, 10_001)])
def test_commission_has_bounds(amount, rate_bp):
    with pytest.raises(ValueError, match="no commission"):
        commission(amount, rate_bp)


@given(st.integers(1, 100))
def test_equal_shares_are_equal_to_a_basis_point(count):
    made = equal_shares(count)
    assert (len(made), sum(made)) == (count, WHOLE_BP)
    assert max(made) - min(made) <= 1
    assert made == sorted(made, reverse=True)


@pytest.mark.parametrize(("currency", "digits"), [("KES", 2), ("USD", 2), ("JPY", 0), ("KWD", 3)])
def test_exponents(currency, digits):
    assert exponent(currency) == digits


@pytest.mark.parametrize("currency", ["ABC", "", "kes", "KE", "KESS", "XAU", "XTS", "XXX", "K\0S"])
def test_unknown_currencies_are_refused_every_time(currency):
    for _ in range(2):
        with pytest.raises(UnknownCurrency):
            exponent(currency)


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (125_000, "KES", "KES 1,250.00"),
        (500, "JPY", "JPY 500"),
        (1, "KWD", "KWD 0.001"),
        (-5, "USD", "USD -0.05"),
        (-123_456_789, "USD", "USD -1,234,567.89"),
    ],
)
def test_amounts_for_people(amount, currency, text):
    assert format_amount(amount, currency) == text
