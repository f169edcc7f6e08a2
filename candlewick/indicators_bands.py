"""Indicators of range and volume: Bollinger bands, Donchian channel, realised volatility, VWAP.

The rules of candlewick/indicators.py hold here too. Rolling sums are put together from sums of blocks of ``window`` bars, without
ever subtracting what has left: nothing cancels, nothing drifts, and the sum of a window of zeros is 0.
"""

import math

import numpy as np

from candlewick.compiled import njit
from candlewick.indicators import FloatArray, highest, lowest


@njit
def bollinger(closes: FloatArray, period: int, multiple: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Bollinger bands: upper, middle, lower, in quote currency. NaN for the first ``period - 1`` bars.

    The middle is the mean of the last ``period`` closes; the others lie ``multiple`` of their standard deviations (of the
    population: divided by ``period``) above and below. John Bollinger, Bollinger on Bollinger Bands (2001).
    """
    middle, squares = _moments(closes, period)
    distance = multiple * np.sqrt(squares / period)
    return middle + distance, middle, middle - distance


@njit
def donchian(highs: FloatArray, lows: FloatArray, window: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Donchian channel: the highest high, the mean of both, and the lowest low of the last ``window`` bars, this one included.

    NaN for the first ``window - 1`` bars. A breakout is a close beyond the channel of the bar before. Richard Donchian's
    four-week rule, as told in Commodities magazine (1960).
    """
    upper, _ = highest(highs, window)
    lower, _ = lowest(lows, window)
    return upper, (upper + lower) / 2.0, lower


@njit
def realised_volatility(closes: FloatArray, window: int, bars_per_year: float) -> FloatArray:
    """Standard deviation (of the sample: divided by ``window - 1``) of the last ``window`` log returns, a year's worth.

    A bar's is multiplied by the root of ``bars_per_year``, as if returns were independent; 1 leaves it per bar. A fraction of 1,
    not per cent. NaN for the first ``window`` bars; the window is at least 2. J. Hull, Options, Futures, and Other Derivatives,
    chapter on estimating volatilities.
    """
    if window < 2:
        raise ValueError("the window of a volatility must be at least 2 bars")
    volatility = np.full(closes.size, np.nan)
    returns = np.empty(max(closes.size - 1, 0))
    for bar in range(returns.size):
        returns[bar] = math.log(closes[bar + 1] / closes[bar])
    _, squares = _moments(returns, window)
    volatility[1:] = np.sqrt(squares * (bars_per_year / (window - 1)))
    return volatility


@njit
def anchored_vwap(highs: FloatArray, lows: FloatArray, closes: FloatArray, volumes: FloatArray, anchor_bar: int) -> FloatArray:
    """Volume-weighted mean of (high + low + close) / 3 from ``anchor_bar`` on, that bar included, in quote currency.

    NaN before the anchor and until volume has traded. A session's VWAP is one that is anchored at the session's first bar.
    """
    prices = np.full(closes.size, np.nan)
    value, volume = 0.0, 0.0
    for bar in range(max(anchor_bar, 0), closes.size):
        value += volumes[bar] * (highs[bar] + lows[bar] + closes[bar]) / 3.0
        volume += volumes[bar]
        if volume > 0.0:
            prices[bar] = value / volume
    return prices


@njit
def rolling_vwap(highs: FloatArray, lows: FloatArray, closes: FloatArray, volumes: FloatArray, window: int) -> FloatArray:
    """Volume-weighted mean of (high + low + close) / 3 over the last ``window`` bars, in quote currency.

    NaN for the first ``window - 1`` bars, and where nothing has traded in the window.
    """
    value = _window_sums(volumes * ((highs + lows + closes) / 3.0), window)
    volume = _window_sums(volumes, window)
    for bar in range(closes.size):
        value[bar] = value[bar] / volume[bar] if volume[bar] > 0.0 else np.nan
    return value


@njit
def _window_sums(values: FloatArray, window: int) -> FloatArray:
    """Sums of the last ``window`` values: the end of the block before, and this block so far. NaN for ``window - 1`` bars."""
    if window < 1:
        raise ValueError("a rolling window must be at least 1 bar")
    sums = np.full(values.size, np.nan)
    ends = np.zeros(min(window, values.size) + 1)  # sums of the last 0, 1, ... values of the block before
    head = 0.0
    for bar in range(values.size):
        place = bar % window
        if place == 0:
            head = 0.0
            for age in range(1, window + 1 if bar > 0 else 1):
                ends[age] = ends[age - 1] + values[bar - age]
        head += values[bar]
        if bar >= window - 1:
            sums[bar] = ends[window - 1 - place] + head
    return sums


@njit
def _moments(values: FloatArray, window: int) -> tuple[FloatArray, FloatArray]:
    """Mean, and sum of squared distances from it, of the last ``window`` values. NaN for the first ``window - 1`` bars.

    Within a block by Welford's recurrence, over two blocks by the rule of Chan, Golub and LeVeque, Algorithms for computing the
    sample variance (1983): no difference of large numbers, and exactly 0 where all values are equal.
    """
    if window < 1:
        raise ValueError("a rolling window must be at least 1 bar")
    means, squares = np.full(values.size, np.nan), np.full(values.size, np.nan)
    size = min(window, values.size) + 1
    end_mean, end_square = np.zeros(size), np.zeros(size)  # of the last 0, 1, ... values of the block before
    mean, square = 0.0, 0.0
    for bar in range(values.size):
        place = bar % window
        if place == 0:
            mean, square = 0.0, 0.0
            for age in range(1, window + 1 if bar > 0 else 1):
                end_mean[age], end_square[age] = _welford(end_mean[age - 1], end_square[age - 1], values[bar - age], age)
        mean, square = _welford(mean, square, values[bar], place + 1)
        if bar >= window - 1:
            older = window - 1 - place
            apart = end_mean[older] - mean
            means[bar] = mean + apart * older / window if older else mean
            squares[bar] = square + (end_square[older] + apart * apart * older * (place + 1) / window if older else 0.0)
    return means, squares


@njit
def _welford(mean: float, square: float, value: float, count: int) -> tuple[float, float]:
    """Mean and sum of squared distances with one more value, the ``count``-th. Welford, Technometrics 4 (1962)."""
    apart = value - mean
    mean += apart / count
    return mean, square + apart * (value - mean)
