"""Exact integer arithmetic: products of two 64-bit amounts divided by a third, without losing a digit."""

from candlewick.compiled import njit_small
from candlewick.engine.layout import RATE

_LARGEST_QUOTIENT = 9.0e18
_LARGEST_PRODUCT = 2.0**112
_LARGEST_DIVISOR = 2**61
_LARGEST_AMOUNT = 2**63 - 1


@njit_small
def divide_product(a: int, b: int, divisor: int) -> tuple[int, int]:
    """``floor(a * b / divisor)`` and the remainder, exactly, for a, b >= 0 and divisor > 0.

    A float estimate of the quotient is off by at most 2**-50 of itself; the remainder to that estimate fits in 64 bits
    even though the product does not (arithmetic wraps modulo 2**64), and corrects it. Raises OverflowError where the
    quotient leaves 64 bits, the product 112 or the divisor 61.
    """
    product = float(a) * float(b)
    estimate = product / float(divisor)
    if estimate > _LARGEST_QUOTIENT or product > _LARGEST_PRODUCT or divisor > _LARGEST_DIVISOR:
        raise OverflowError("an amount left the engine's range")
    quotient = int(estimate)
    remainder = a * b - quotient * divisor
    correction = remainder // divisor
    return quotient + correction, remainder - correction * divisor


@njit_small
def floor_product(a: int, b: int, divisor: int) -> int:
    """``a * b / divisor`` rounded down."""
    return divide_product(a, b, divisor)[0]


@njit_small
def ceil_product(a: int, b: int, divisor: int) -> int:
    """``a * b / divisor`` rounded up."""
    quotient, remainder = divide_product(a, b, divisor)
    return quotient + (1 if remainder > 0 else 0)


@njit_small
def round_product(a: int, b: int, divisor: int) -> int:
    """``a * b / divisor`` rounded half-even."""
    quotient, remainder = divide_product(a, b, divisor)
    rest = divisor - remainder
    if remainder > rest or (remainder == rest and quotient % 2 == 1):
        return quotient + 1
    return quotient


@njit_small
def sum_amounts(a: int, b: int) -> int:
    """``a + b``. Raises OverflowError where the sum of two positive amounts leaves 64 bits."""
    if a > 0 and b > _LARGEST_AMOUNT - a:  # asked before the sum: the compiler takes it for granted that a sum does not wrap
        raise OverflowError("an amount left the engine's range")
    return a + b


@njit_small
def notional_of(quantity: int, price: int, divisor: int) -> int:
    """Value in cash units, half-even."""
    return round_product(quantity, price, divisor)


@njit_small
def fee_of(notional: int, rate: int, quantum: int) -> int:
    """Fee in cash units, half-even to the quote currency's precision."""
    return round_product(notional, rate, RATE * quantum) * quantum


@njit_small
def taker_price(reference: int, side: int, rate: int, tick: int) -> int:
    """What a taker who buys (1) or sells (-1) gets: the reference and ``rate`` of it against him.

    Rounded to the tick against him, one tick at the least.
    """
    if side > 0:
        return up_to_tick(ceil_product(reference, RATE + rate, RATE), tick)
    return max(floor_product(reference, RATE - rate, RATE) // tick * tick, tick)


@njit_small
def up_to_tick(price: int, tick: int) -> int:
    """The tick at or above ``price``."""
    return -(-price // tick) * tick


@njit_small
def worse_tick(price: int, side: int, tick: int) -> int:
    """``price`` on the tick, rounded against one who buys (1) or sells (-1)."""
    return up_to_tick(price, tick) if side > 0 else price // tick * tick
