"""Floats on the engine's decimal grids: the nearest integer, which is the written decimal for up to 15 digits."""

from collections.abc import Sequence

import numpy as np

from candlewick.errors import EngineOverflow

Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
FloatColumn = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
_LARGEST_PRICE = 2.0**60


def price_units(prices: FloatColumn, decimals: int, symbol: str) -> Integers:
    """Float prices on the instrument's grid. Raises EngineOverflow."""
    scaled = prices * 10.0**decimals
    if scaled.size and float(np.max(scaled)) > _LARGEST_PRICE:
        raise _too_large(symbol, float(np.max(prices)), decimals)
    return np.rint(scaled).astype(np.int64)


def column_units(prices: FloatColumn, decimals: int, symbol: str) -> Integers:
    """The same as ``price_units`` for a long column, in one compiled pass. Raises EngineOverflow."""
    from candlewick.engine.scaling import scale_to_grid  # numba: see engine/run.py

    units = np.empty(len(prices), dtype=np.int64)
    lowest, highest = scale_to_grid(prices, 10.0**decimals, units)
    if len(units) and (lowest < 0 or highest > _LARGEST_PRICE):
        raise _too_large(symbol, float(np.max(prices)), decimals)
    return units


def bar_units(columns: Sequence[FloatColumn], decimals: int, symbol: str, rows: Integers | None, prices: Integers) -> None:
    """Open, high, low and close columns into ``prices`` (grid rows, 4), at ``rows`` or (None) in all. Raises EngineOverflow."""
    from candlewick.engine.scaling import scale_bars  # numba: see engine/run.py

    opens, highs, lows, closes = columns
    places = np.zeros(0, dtype=np.int64) if rows is None else rows
    lowest, highest = scale_bars(opens, highs, lows, closes, 10.0**decimals, places, prices)
    if len(opens) and (lowest < 0 or highest > _LARGEST_PRICE):
        raise _too_large(symbol, float(np.max(highs)), decimals)


def _too_large(symbol: str, price: float, decimals: int) -> EngineOverflow:
    return EngineOverflow(f"{symbol}: price {price} does not fit the engine's grid of {decimals} decimals")
