"""Floats to integers in one compiled pass."""

import numpy as np

from candlewick.compiled import njit

FloatColumn = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@njit
def scale_to_grid(values: FloatColumn, scale: float, largest: float, units: Integers) -> bool:
    """Write ``rint(values * scale)`` into ``units``; both shape (n,). Answers whether all were within ``largest``."""
    top = 0.0
    for place in range(values.size):
        scaled = values[place] * scale
        top = max(top, scaled)
        units[place] = np.int64(np.rint(scaled))
    return top <= largest
