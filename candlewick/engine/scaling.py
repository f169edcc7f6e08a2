"""Floats to integers in one compiled pass."""

import numpy as np

from candlewick.compiled import njit

FloatColumn = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@njit
def scale_to_grid(values: FloatColumn, scale: float, units: Integers) -> tuple[int, int]:
    """Write ``rint(values * scale)`` into ``units``; both shape (n,). Answers the smallest and the largest of them.

    A number beyond 64 bits becomes the smallest there is. Smallest and largest are of integers, so that all is SIMD code.
    """
    lowest, highest = np.int64(2**63 - 1), np.int64(-(2**63))
    for place in range(values.size):
        unit = np.int64(np.rint(values[place] * scale))
        units[place] = unit
        lowest, highest = min(lowest, unit), max(highest, unit)
    return int(lowest), int(highest)


@njit
def scale_bars(
    opens: FloatColumn, highs: FloatColumn, lows: FloatColumn, closes: FloatColumn, scale: float, rows: Integers, prices: Integers
) -> tuple[int, int]:
    """The same for the four prices of bars (n,), into ``prices`` (grid rows, 4) at ``rows`` (n,), or from 0 on if empty."""
    lowest, highest = np.int64(2**63 - 1), np.int64(-(2**63))
    for place in range(opens.size):
        row = rows[place] if rows.size else place
        opened, high = np.int64(np.rint(opens[place] * scale)), np.int64(np.rint(highs[place] * scale))
        low, close = np.int64(np.rint(lows[place] * scale)), np.int64(np.rint(closes[place] * scale))
        prices[row, 0], prices[row, 1], prices[row, 2], prices[row, 3] = opened, high, low, close
        lowest = min(lowest, min(min(opened, high), min(low, close)))
        highest = max(highest, max(max(opened, high), max(low, close)))
    return int(lowest), int(highest)
