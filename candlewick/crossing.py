"""Where lines cross; for two simple moving averages by exact integer comparisons, compiled, without a frame and a division.

Averages are compared by D = slow * (sum of the last `fast` prices) - fast * (sum of the last `slow`), in integer grid units, so
that ties are ties. D equals fast * (slow - fast) * (mean of the newest `fast` - mean of the `slow - fast` before them); its
size is at most fast * (slow - fast) * (highest - lowest price). Only D has to fit 64 bits: sums and products may wrap on the way,
because addition and multiplication modulo 2^64 give the right D whatever wrapped before.

A cross is a bar on which the sign of D differs from the last sign that was not 0: averages that touch and part again on the same
side have not crossed. The first bar with a sign, `slow - 1`, cannot be one.
"""

import numpy as np

from candlewick.compiled import njit
from candlewick.indicators import LARGEST_GRID_UNITS, FloatArray, IntArray, SideArray, grid_scale

_LARGEST_DIFFERENCE = 2.0**63 - 1024  # a float64 below 2^63
_BLOCK_BARS = 4_096  # signs of a block stay in the first-level cache
_EIGHT_UPS = 0x0101010101010101  # eight int8 of 1, read as one int64


def fits(lowest_units: int, highest_units: int, fast: int, slow: int) -> bool:
    """Whether `sma_cross_rows` is exact for these windows on prices within these bounds (grid units).

    >>> fits(1, 10**12, 50, 200), fits(1, 10**13, 1000, 2000)
    (True, False)
    """
    return fast * (slow - fast) * (highest_units - lowest_units) < 2**63


@njit
def prefix_sums(units: IntArray) -> IntArray:
    """Sums of the first 0, 1, ... bars, int64, shape (bars + 1,), modulo 2^64. Shared by all parameter sets of a sweep."""
    sums = np.empty(units.size + 1, dtype=np.int64)
    total = 0
    sums[0] = 0
    for bar in range(units.size):
        total += units[bar]
        sums[bar + 1] = total
    return sums


@njit
def sma_cross_rows(prefix: IntArray, fast: int, slow: int, out_rows: IntArray, out_sides: SideArray) -> int:
    """Bars on which SMA(fast) crosses SMA(slow), into ``out_rows``, and 1 (above) or -1 (below) into ``out_sides``.

    ``prefix`` is `prefix_sums` of the closes in grid units, for which `fits` must hold; 1 <= fast < slow. The outputs need room
    for ``max(0, bars - slow)`` crosses; the answer is how many there are. Nothing else of the size of the history is touched.
    """
    known = prefix.size - slow
    newest, middle = prefix[slow:], prefix[slow - fast :]
    signs = np.zeros(_BLOCK_BARS, dtype=np.int8)
    words = signs.view(np.int64)
    count, last, same = 0, 0, 0
    for start in range(0, known, _BLOCK_BARS):
        size = min(_BLOCK_BARS, known - start)
        stop = start + size
        _sign_block(newest[start:stop], middle[start:stop], prefix[start:stop], fast, slow, signs)
        signs[size:] = 0  # says nothing, like a tie
        for word in range((size + 7) // 8):
            if words[word] == same:  # eight bars on the side that is known already
                continue
            for place in range(8 * word, 8 * word + 8):
                sign = signs[place]
                if sign != 0 and sign != last:
                    if last != 0:
                        out_rows[count] = start + place + slow - 1
                        out_sides[count] = sign
                        count += 1
                    last = int(sign)
                    same = _EIGHT_UPS if sign > 0 else -1
    return count


@njit
def _sign_block(newest: IntArray, middle: IntArray, oldest: IntArray, fast: int, slow: int, signs: SideArray) -> None:
    """Sign of D for a run of bars: no branch and no carried value, so that it becomes SIMD code."""
    rest = slow - fast
    for bar in range(newest.size):
        difference = rest * newest[bar] - slow * middle[bar] + fast * oldest[bar]
        signs[bar] = np.int8(difference > 0) - np.int8(difference < 0)


@njit
def closes_on_grid(closes: FloatArray) -> tuple[IntArray, bool]:
    """Float prices as whole units of the grid of `sma_cross_sign`, and whether every price was within its exact range."""
    units = np.empty(closes.size, dtype=np.int64)
    if closes.size == 0:
        return units, False
    scale = grid_scale(closes[0])
    lowest, highest = np.int64(2**63 - 1), np.int64(-(2**63))
    for bar in range(closes.size):
        unit = np.int64(np.rint(closes[bar] * scale))
        units[bar] = unit
        lowest, highest = min(lowest, unit), max(highest, unit)
    return units, bool(lowest > 0 and highest <= LARGEST_GRID_UNITS)


@njit
def sma_crosses(closes: FloatArray, fast: int, slow: int) -> tuple[IntArray, SideArray, bool]:
    """Bars on which SMA(fast) of float prices crosses SMA(slow), their sides, and whether every price was on the exact grid.

    One pass; prices are put on the grid of `sma_cross_sign` (12 digits for the first price) as they come and leave. If the last
    answer is False a price left the grid, or D 64 bits: the crosses are then to be taken from `sma_cross_sign`.
    """
    rows = np.empty(max(closes.size - slow, 0), dtype=np.int64)  # untouched memory costs nothing
    sides = np.empty(rows.size, dtype=np.int8)
    if closes.size < slow:
        return rows, sides, True
    scale = grid_scale(closes[0])
    largest = min(LARGEST_GRID_UNITS, _LARGEST_DIFFERENCE / (fast * slow))
    difference, count, last = np.int64(0), 0, 0
    for bar in range(closes.size):
        scaled = closes[bar] * scale
        if not scaled <= largest:
            return rows[:0].copy(), sides[:0].copy(), False
        newest = np.int64(np.rint(scaled))
        middle = np.int64(np.rint(closes[bar - fast] * scale)) if bar >= fast else 0
        oldest = np.int64(np.rint(closes[bar - slow] * scale)) if bar >= slow else 0
        difference += (slow - fast) * newest - slow * middle + fast * oldest
        sign = 1 if difference > 0 else -1
        if bar >= slow - 1 and sign != last and difference != 0:
            if last != 0:
                rows[count] = bar
                sides[count] = sign
                count += 1
            last = sign
    return rows[:count].copy(), sides[:count].copy(), True


@njit
def turns(signs: SideArray) -> SideArray:
    """1 or -1 where ``signs`` differs from the last sign that was not 0, else 0; never at the first bar that has a sign."""
    turned = np.zeros(signs.size, dtype=np.int8)
    last = 0
    for bar in range(signs.size):
        sign = signs[bar]
        if sign != 0:
            turned[bar] = sign if last != 0 and sign != last else 0
            last = int(sign)
    return turned
