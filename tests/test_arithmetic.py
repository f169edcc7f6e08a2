"""The engine's integer arithmetic against Python's integers, over the whole range it states."""

from fractions import Fraction

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from candlewick.engine import arithmetic
from candlewick.engine.layout import RATE

untimed = settings(deadline=None)  # the first call of a function compiles it

INT64_MAX = 2**63 - 1
QUOTIENT_LIMIT = 9 * 10**18
PRODUCT_LIMIT = 2**112
DIVISOR_LIMIT = 2**61


def spread(largest: int) -> st.SearchStrategy[int]:
    """Integers of every length up to ``largest``, with as many short ones as long ones."""
    return st.integers(0, largest.bit_length()).flatmap(lambda bits: st.integers(0, min(2**bits - 1, largest)))


AMOUNTS = spread(INT64_MAX)
DIVISORS = spread(DIVISOR_LIMIT - 1).map(lambda number: number + 1)


def fits(a: int, b: int, divisor: int) -> bool:
    """Inside the stated range, with a margin for the float estimate that judges it."""
    margin = Fraction(2**49 - 1, 2**49)
    return a * b < PRODUCT_LIMIT * margin and Fraction(a * b, divisor) < QUOTIENT_LIMIT * margin


@untimed
@given(AMOUNTS, AMOUNTS, DIVISORS)
@example(INT64_MAX, 1, 1)
@example(2**56, 2**56 - 1, 2**50)
@example(2**56, 2**56 - 1, DIVISOR_LIMIT)
def test_a_product_is_divided_exactly_or_refused(a: int, b: int, divisor: int) -> None:
    if fits(a, b, divisor):
        assert arithmetic.divide_product(a, b, divisor) == divmod(a * b, divisor)
        return
    try:
        answer = arithmetic.divide_product(a, b, divisor)
    except OverflowError:
        return
    assert answer == divmod(a * b, divisor)


@untimed
@given(AMOUNTS, AMOUNTS, DIVISORS)
def test_quotients_round_down_up_and_half_even(a: int, b: int, divisor: int) -> None:
    assume(fits(a, b, divisor))
    exact = Fraction(a * b, divisor)
    assert arithmetic.floor_product(a, b, divisor) == exact.__floor__()
    assert arithmetic.ceil_product(a, b, divisor) == exact.__ceil__()
    assert arithmetic.round_product(a, b, divisor) == round(exact)


@untimed
@given(spread(2**50), st.integers(1, 2**40))
def test_a_half_goes_to_the_even_neighbour(quotient: int, half: int) -> None:
    assert arithmetic.round_product(2 * quotient + 1, half, 2 * half) == quotient + quotient % 2


@untimed
@given(st.integers(2**48, 2**49), st.integers(2**59, DIVISOR_LIMIT), st.integers(-3, 3))
def test_large_divisors_are_exact_around_a_whole_quotient(quotient: int, divisor: int, offset: int) -> None:
    a = divisor * quotient // 2**55 + offset
    assert arithmetic.divide_product(a, 2**55, divisor) == divmod(a * 2**55, divisor)


@untimed
@given(st.integers(2**40, INT64_MAX), st.integers(2**40, INT64_MAX), st.integers(1, DIVISOR_LIMIT))
def test_beyond_the_range_nothing_is_answered(a: int, b: int, divisor: int) -> None:
    margin = Fraction(2**49 + 1, 2**49)
    if a * b <= PRODUCT_LIMIT * margin:
        divisor = max(a * b // (QUOTIENT_LIMIT + QUOTIENT_LIMIT // 100), 1)
    assume(a * b > PRODUCT_LIMIT * margin or Fraction(a * b, divisor) > QUOTIENT_LIMIT * margin)
    with pytest.raises(OverflowError, match="range"):
        arithmetic.divide_product(a, b, divisor)


def test_a_divisor_beyond_61_bits_is_refused() -> None:
    with pytest.raises(OverflowError, match="range"):
        arithmetic.divide_product(1, 1, DIVISOR_LIMIT + 1)


def test_sums_that_leave_64_bits_are_refused() -> None:
    assert arithmetic.sum_amounts(INT64_MAX - 1, 1) == INT64_MAX
    with pytest.raises(OverflowError, match="range"):
        arithmetic.sum_amounts(INT64_MAX, 1)


@untimed
@given(spread(2**62), spread(2**60), st.sampled_from([10**8, 10**12, 10**16]))
def test_a_notional_is_quantity_times_price_half_even(quantity: int, price: int, divisor: int) -> None:
    assume(fits(quantity, price, divisor))
    assert arithmetic.notional_of(quantity, price, divisor) == round(Fraction(quantity * price, divisor))


@untimed
@given(spread(2**62), st.integers(0, RATE), st.sampled_from([10**places for places in range(9)]))
def test_a_fee_is_a_share_of_the_notional_half_even_to_the_quote_precision(notional: int, rate: int, quantum: int) -> None:
    assert arithmetic.fee_of(notional, rate, quantum) == round(Fraction(notional * rate, RATE * quantum)) * quantum


@untimed
@given(spread(2**60), st.integers(0, RATE), spread(2**40).map(lambda number: number + 1))
def test_slippage_moves_prices_against_the_trader_to_the_next_tick(reference: int, slippage: int, tick: int) -> None:
    assume(reference > 0)
    bought, sold = (arithmetic.taker_price(reference, side, slippage, tick) for side in (1, -1))
    assert bought == (Fraction(reference * (RATE + slippage), RATE * tick)).__ceil__() * tick
    assert sold == max((Fraction(reference * (RATE - slippage), RATE * tick)).__floor__() * tick, tick)
    assert bought >= reference
    assert sold <= reference or sold == tick


@untimed
@given(spread(2**60), spread(2**40).map(lambda number: number + 1))
def test_a_level_goes_to_the_tick_that_is_worse_for_who_trades_there(price: int, tick: int) -> None:
    assert arithmetic.worse_tick(price, 1, tick) == (Fraction(price, tick)).__ceil__() * tick
    assert arithmetic.worse_tick(price, -1, tick) == (Fraction(price, tick)).__floor__() * tick
