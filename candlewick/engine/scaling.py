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
    return lowest, highest
