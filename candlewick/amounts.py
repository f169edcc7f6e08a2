"""Amounts: the one conversion between the engine's integers and DECIMAL.

The engine counts in units of a fixed decimal grid (int64, one unit is 10^-decimals); the ledger keeps DECIMAL(38,18).
Every step here is exact, except the rounding that `to_units` is asked for by name.
"""

from decimal import Context, Decimal

import numpy as np
import polars as pl
import pyarrow as pa

from candlewick.errors import EngineOverflow, UsageError

AMOUNT_PRECISION = 38
AMOUNT_DECIMALS = 18
INT64_MAX = 2**63 - 1
# Wide enough for any int64 on any grid, so that nothing but `rounding` ever rounds.
_EXACT = Context(prec=120, Emax=999_999, Emin=-999_999)

Units = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
"""int64, shape (rows,)."""
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]
"""bool, shape (rows,)."""


def to_units(amount: Decimal, decimals: int, rounding: str) -> int:
    """``amount`` in units of 10^-decimals. ``rounding`` is one of the decimal module's modes, such as ROUND_HALF_EVEN.

    Raises UsageError for NaN and infinity, EngineOverflow where the result leaves the 64-bit grid.
    """
    if not amount.is_finite():
        raise UsageError(f"{amount} is not an amount")
    if amount.adjusted() + decimals > 20:
        raise EngineOverflow(_overflow(amount, decimals))
    units = int(amount.scaleb(decimals, _EXACT).to_integral_value(rounding, _EXACT))
    if abs(units) > INT64_MAX:
        raise EngineOverflow(_overflow(amount, decimals))
    return units


def from_units(units: int, decimals: int) -> Decimal:
    """The exact amount of ``units`` of 10^-decimals.

    >>> from_units(-1_250_000, 6)
    Decimal('-1.250000')
    """
    return Decimal(int(units)).scaleb(-decimals, _EXACT)


def plain(amount: Decimal) -> str:
    """An amount as text without exponent and trailing zeros, as documents and reports print it.

    >>> plain(Decimal("1200.500000000000000000")), plain(Decimal("-0.000"))
    ('1200.5', '0')
    """
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def amount_column(units: Units, decimals: int | Units, valid: Flags | None = None) -> pl.Series:
    """int64 units of 10^-decimals as pl.Decimal(38, 18), exactly; null where ``valid`` is False.

    ``decimals`` is 0..18, one for the column or one a row (symbols of one account may have different grids).
    Raises UsageError for decimals outside 0..18.
    """
    places = np.broadcast_to(np.asarray(decimals, dtype=np.int64), units.shape)
    if places.size and (places.min() < 0 or places.max() > AMOUNT_DECIMALS):
        raise UsageError(f"decimals {places.min()}..{places.max()} are outside 0..{AMOUNT_DECIMALS}")
    factors = np.array([10**exponent for exponent in range(AMOUNT_DECIMALS + 1)], dtype=np.uint64)[AMOUNT_DECIMALS - places]
    words = _product_128(np.asarray(units, dtype=np.int64), factors)
    kind = pa.decimal128(AMOUNT_PRECISION, AMOUNT_DECIMALS)
    bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    array = pa.Array.from_buffers(kind, len(units), [bitmap, pa.py_buffer(words)])
    return pl.Series(array, dtype=pl.Decimal(AMOUNT_PRECISION, AMOUNT_DECIMALS))


def _product_128(units: Units, factors: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> bytes:
    """units × factors (below 2^60) as little-endian 128-bit two's complement, by school multiplication in 32-bit limbs."""
    low_half, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    negative = units < 0
    raw = units.astype("<i8").view(np.uint64)
    size = np.where(negative, ~raw + np.uint64(1), raw)
    a_low, a_high, b_low, b_high = size & low_half, size >> shift, factors & low_half, factors >> shift
    low = a_low * b_low
    middle = a_high * b_low + (low >> shift)
    cross = a_low * b_high + (middle & low_half)
    words = np.empty((len(units), 2), dtype="<u8")
    words[:, 0] = (cross << shift) | (low & low_half)
    words[:, 1] = a_high * b_high + (middle >> shift) + (cross >> shift)
    inverted = ~words[negative]
    inverted[:, 0] += np.uint64(1)
    inverted[:, 1] += (inverted[:, 0] == 0).astype(np.uint64)
    words[negative] = inverted
    return words.tobytes()


def _overflow(amount: Decimal, decimals: int) -> str:
    limit = from_units(INT64_MAX, decimals)
    return f"amount {amount} is beyond ±{limit:f}, the most the engine's 64-bit grid of {decimals} decimals can hold"
