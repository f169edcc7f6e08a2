"""Indicators: compiled folds over one market's columns, oldest first. Trend and bands have modules of their own beside this one.

Every input is a float64 array of finite values, shape (bars,); every output has the same length. Bar t of an output depends on
bars 0..t only, so an indicator of a prefix is the prefix of the indicator, bit for bit. Until there is enough history an
indicator is NaN (an index is -1); each function says how long that is. A period below 1 raises ValueError.

The lengths of warm-ups and the seeds are TA-Lib's (https://ta-lib.org), against which the tests compare.
"""

import math

import numpy as np

from candlewick.compiled import njit

FloatArray = np.ndarray[tuple[int], np.dtype[np.float64]]
IntArray = np.ndarray[tuple[int], np.dtype[np.int64]]
SideArray = np.ndarray[tuple[int], np.dtype[np.int8]]

# Prices of up to this many grid units are put on the grid without error (a float64 has 15.95 digits), and the sum of 9,000 fits.
LARGEST_GRID_UNITS = 1e15
_FIRST_PRICE_DIGITS = 11


@njit
def _add(total: float, lost: float, value: float) -> tuple[float, float]:
    """Knuth's two-sum: the rounded total, and what rounding has lost so far."""
    rounded = total + value
    part = rounded - total
    return rounded, lost + ((total - (rounded - part)) + (value - part))


@njit
def sma(values: FloatArray, period: int) -> FloatArray:
    """Simple moving average: the mean of the last ``period`` values. NaN for the first ``period - 1`` bars.

    The running sum carries its rounding error along, so it does not drift however long the history is.
    """
    if period < 1:
        raise ValueError("the period of an average must be at least 1 bar")
    averages = np.full(values.size, np.nan)
    total, lost = 0.0, 0.0
    for bar in range(values.size):
        total, lost = _add(total, lost, values[bar])
        if bar >= period:
            total, lost = _add(total, lost, -values[bar - period])
        if bar >= period - 1:
            averages[bar] = (total + lost) / period
    return averages


@njit
def sma_cross_sign(values: FloatArray, fast: int, slow: int) -> IntArray:
    """Sign of SMA(fast) - SMA(slow): -1, 0 or 1, decided exactly; 0 for the first ``max(fast, slow) - 1`` bars.

    Prices come in ticks, so equal averages are real events, and floats would call them crosses at random. The sums are therefore
    taken in integers, on a decimal grid of 12 digits for the first price, and compared as fractions. From a bar on whose price
    is some 1,000 times the first or more, the grid is exceeded and the float averages are compared.
    """
    if fast < 1 or slow < 1 or max(fast, slow) > 9_000:
        raise ValueError("the periods of crossing averages must be within 1 to 9000 bars")
    signs = np.zeros(values.size, dtype=np.int64)
    if values.size == 0:
        return signs
    scale = grid_scale(values[0])
    units = np.zeros(values.size, dtype=np.int64)
    fast_mean, slow_mean = sma(values, fast), sma(values, slow)
    exact, fast_sum, slow_sum = True, 0, 0
    for bar in range(values.size):
        exact = exact and values[bar] * scale <= LARGEST_GRID_UNITS
        if exact:
            units[bar] = np.int64(np.rint(values[bar] * scale))
        fast_sum += units[bar] - (units[bar - fast] if bar >= fast else 0)
        slow_sum += units[bar] - (units[bar - slow] if bar >= slow else 0)
        if bar < max(fast, slow) - 1:
            continue
        if exact:
            signs[bar] = _compare_fractions(fast_sum, fast, slow_sum, slow)
        else:
            signs[bar] = int(fast_mean[bar] > slow_mean[bar]) - int(fast_mean[bar] < slow_mean[bar])
    return signs


@njit
def grid_scale(first_price: float) -> float:
    """Units per 1 of quote currency of the decimal grid on which the first price has 12 digits."""
    return 10.0 ** (_FIRST_PRICE_DIGITS - math.floor(math.log10(first_price)))


@njit
def _compare_fractions(a: int, b: int, c: int, d: int) -> int:
    """Sign of a/b - c/d for positive b and d, without the products that could leave 64 bits."""
    left, right = a // b, c // d
    if left == right:
        left, right = (a - left * b) * d, (c - right * d) * b
    return int(left > right) - int(left < right)


@njit
def ema(values: FloatArray, period: int) -> FloatArray:
    """Exponential moving average with weight 2 / (period + 1), seeded with the SMA. NaN for the first ``period - 1`` bars."""
    if period < 1:
        raise ValueError("the period of an average must be at least 1 bar")
    averages = np.full(values.size, np.nan)
    if values.size < period:
        return averages
    weight = 2.0 / (period + 1)
    average = values[:period].sum() / period
    averages[period - 1] = average
    for bar in range(period, values.size):
        average += weight * (values[bar] - average)
        averages[bar] = average
    return averages


@njit
def wma(values: FloatArray, period: int) -> FloatArray:
    """Linearly weighted moving average: weight ``period`` for this bar, one less for each bar before, over the weights' sum.

    NaN for the first ``period - 1`` bars. Both running sums are taken anew every ``period`` bars, so they do not drift.
    """
    if period < 1:
        raise ValueError("the period of an average must be at least 1 bar")
    averages = np.full(values.size, np.nan)
    weights = period * (period + 1) / 2.0
    total, weighted = 0.0, 0.0
    for bar in range(period - 1, values.size):
        if (bar + 1) % period == 0:
            total, weighted = 0.0, 0.0
            for age in range(period):
                total += values[bar - age]
                weighted += (period - age) * values[bar - age]
        else:
            weighted += period * values[bar] - total
            total += values[bar] - values[bar - period]
        averages[bar] = weighted / weights
    return averages


@njit
def rsi(closes: FloatArray, period: int) -> FloatArray:
    """Relative strength index, 0 to 100. NaN for the first ``period`` bars.

    J. Welles Wilder, New Concepts in Technical Trading Systems (1978): the first averages of gains and losses are plain means,
    later ones smoothed by 1 / period. Without any movement it is 50: neither side is stronger (TA-Lib says 0).
    """
    if period < 1:
        raise ValueError("the period of the relative strength index must be at least 1 bar")
    strengths = np.full(closes.size, np.nan)
    gain, loss = 0.0, 0.0
    for bar in range(1, closes.size):
        change = closes[bar] - closes[bar - 1]
        if bar <= period:
            gain += max(change, 0.0) / period
            loss += max(-change, 0.0) / period
        else:
            gain = (gain * (period - 1) + max(change, 0.0)) / period
            loss = (loss * (period - 1) + max(-change, 0.0)) / period
        if bar >= period:
            strengths[bar] = 100.0 * gain / (gain + loss) if gain + loss > 0.0 else 50.0
    return strengths


@njit
def atr(highs: FloatArray, lows: FloatArray, closes: FloatArray, period: int) -> FloatArray:
    """Average true range, in quote currency. NaN for the first ``period`` bars.

    J. Welles Wilder, New Concepts in Technical Trading Systems (1978): the true range is the largest of high - low and the
    distances of high and low from the previous close; the first average is a plain mean, later ones are smoothed by 1 / period.
    """
    if period < 1:
        raise ValueError("the period of the average true range must be at least 1 bar")
    ranges = np.full(closes.size, np.nan)
    average = 0.0
    for bar in range(1, closes.size):
        before = closes[bar - 1]
        true_range = max(highs[bar], before) - min(lows[bar], before)
        average = average + true_range / period if bar <= period else (average * (period - 1) + true_range) / period
        if bar >= period:
            ranges[bar] = average
    return ranges


@njit
def highest(values: FloatArray, window: int) -> tuple[FloatArray, IntArray]:
    """The highest of the last ``window`` values, this bar included, and its bar (the newest of equals).

    NaN and -1 for the first ``window - 1`` bars.
    """
    return _extreme(values, window, 1.0)


@njit
def lowest(values: FloatArray, window: int) -> tuple[FloatArray, IntArray]:
    """The lowest of the last ``window`` values, this bar included, and its bar (the newest of equals).

    NaN and -1 for the first ``window - 1`` bars.
    """
    return _extreme(values, window, -1.0)


@njit
def _extreme(values: FloatArray, window: int, sign: float) -> tuple[FloatArray, IntArray]:
    """One pass with a queue of candidates whose values fall: the front is the extreme of the window."""
    if window < 1:
        raise ValueError("a rolling window must be at least 1 bar")
    extremes = np.full(values.size, np.nan)
    bars = np.full(values.size, -1, dtype=np.int64)
    queue = np.empty(values.size, dtype=np.int64)
    front, back = 0, 0
    for bar in range(values.size):
        while back > front and sign * values[queue[back - 1]] <= sign * values[bar]:
            back -= 1
        queue[back] = bar
        back += 1
        if queue[front] <= bar - window:
            front += 1
        if bar >= window - 1:
            bars[bar] = queue[front]
            extremes[bar] = values[queue[front]]
    return extremes, bars


@njit
def swing_highs(highs: FloatArray, strength: int) -> IntArray:
    """As of each bar, the bar of the newest confirmed swing high; -1 before the first.

    A swing high is above the ``strength`` bars before it and not below the ``strength`` bars after it. It is known, and shown,
    only at the close of the last of these: bar t confirms bar t - strength.
    """
    return _swings(highs, strength, 1.0)


@njit
def swing_lows(lows: FloatArray, strength: int) -> IntArray:
    """As of each bar, the bar of the newest confirmed swing low; -1 before the first. The mirror of ``swing_highs``."""
    return _swings(lows, strength, -1.0)


@njit
def _swings(values: FloatArray, strength: int, sign: float) -> IntArray:
    if strength < 1:
        raise ValueError("a swing needs at least 1 bar on either side")
    newest = np.full(values.size, -1, dtype=np.int64)
    known = -1
    for bar in range(2 * strength, values.size):
        pivot = bar - strength
        stands_out = True
        for distance in range(1, strength + 1):
            before, after = sign * values[pivot - distance], sign * values[pivot + distance]
            stands_out = stands_out and sign * values[pivot] > before and sign * values[pivot] >= after
        if stands_out:
            known = pivot
        newest[bar] = known
    return newest
