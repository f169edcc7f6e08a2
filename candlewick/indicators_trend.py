"""Indicators of trend: MACD, directional movement, SuperTrend. The rules of candlewick/indicators.py hold here too."""

import numpy as np

from candlewick.compiled import njit
from candlewick.indicators import FloatArray, SideArray, atr, ema


@njit
def macd(closes: FloatArray, fast: int, slow: int, signal: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Moving average convergence / divergence: line = EMA(fast) - EMA(slow), its EMA(signal), and line - signal (the histogram).

    In quote currency. All three are NaN for the first ``slow + signal - 2`` bars. Gerald Appel, Technical Analysis: Power Tools
    for Active Investors (2005); as in TA-Lib both averages are seeded at bar ``slow - 1``, so the fast one from the last ``fast``
    bars up to there, and the signal is seeded with the mean of the first ``signal`` values of the line.
    """
    if not 1 <= fast < slow or signal < 1:
        raise ValueError("the periods of the MACD must be at least 1 bar, and fast below slow")
    line, average, histogram = np.full(closes.size, np.nan), np.full(closes.size, np.nan), np.full(closes.size, np.nan)
    first = slow + signal - 2
    if closes.size <= first:
        return line, average, histogram
    short, long = ema(closes[slow - fast :], fast), ema(closes, slow)
    for bar in range(slow - 1, closes.size):
        line[bar] = short[bar - slow + fast] - long[bar]
    smooth = ema(line[slow - 1 :], signal)
    for bar in range(first, closes.size):
        average[bar] = smooth[bar - slow + 1]
        histogram[bar] = line[bar] - average[bar]
    line[:first] = np.nan
    return line, average, histogram


@njit
def adx(highs: FloatArray, lows: FloatArray, closes: FloatArray, period: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Average directional index and the directional indicators: ADX, +DI, -DI, each 0 to 100.

    +DI and -DI are NaN for the first ``period`` bars, ADX for the first ``2 * period - 1``; the period is at least 2. J. Welles
    Wilder, New Concepts in Technical Trading Systems (1978), seeded as in TA-Lib: sums of ``period - 1`` bars that then lose 1 /
    period and gain the new bar's; the first ADX is the mean of ``period`` values of DX = 100 |+DI - -DI| / (+DI + -DI). A bar
    without any movement has indicators of 0 and leaves the ADX as it is.
    """
    if period < 2:
        raise ValueError("the period of the directional index must be at least 2 bars")
    index, plus, minus = np.full(closes.size, np.nan), np.full(closes.size, np.nan), np.full(closes.size, np.nan)
    up, down, span, average = 0.0, 0.0, 0.0, 0.0
    for bar in range(1, closes.size):
        rise, fall = highs[bar] - highs[bar - 1], lows[bar - 1] - lows[bar]
        kept = 1.0 if bar < period else (period - 1.0) / period
        up = up * kept + (rise if rise > max(fall, 0.0) else 0.0)
        down = down * kept + (fall if fall > max(rise, 0.0) else 0.0)
        span = span * kept + max(highs[bar], closes[bar - 1]) - min(lows[bar], closes[bar - 1])
        if bar < period:
            continue
        plus[bar] = 100.0 * up / span if span > 0.0 else 0.0
        minus[bar] = 100.0 * down / span if span > 0.0 else 0.0
        if plus[bar] + minus[bar] > 0.0:
            strength = 100.0 * abs(plus[bar] - minus[bar]) / (plus[bar] + minus[bar])
            average = average + strength / period if bar < 2 * period else (average * (period - 1) + strength) / period
        if bar >= 2 * period - 1:
            index[bar] = average
    return index, plus, minus


@njit
def supertrend(
    highs: FloatArray, lows: FloatArray, closes: FloatArray, period: int, multiple: float
) -> tuple[FloatArray, SideArray]:
    """SuperTrend: the trailing line in quote currency, and the direction, int8: 1 up (line below), -1 down (line above).

    NaN and 0 for the first ``period`` bars. Olivier Seban's indicator, as in Pine Script's ta.supertrend, with the ATR of this
    module's sister: bands at (high + low) / 2 -+ ``multiple`` x ATR(period); the lower one never falls while the close before
    stayed at or above it, the upper one never rises while it stayed at or below. The direction is down at the first bar that has
    one, turns up on a close above the upper band and down on a close below the lower one.
    """
    if multiple <= 0.0:
        raise ValueError("the multiple of the SuperTrend must be above 0")
    ranges = atr(highs, lows, closes, period)
    line, direction = np.full(closes.size, np.nan), np.zeros(closes.size, dtype=np.int8)
    upper, lower, side = np.inf, -np.inf, -1
    for bar in range(period, closes.size):
        middle, distance = (highs[bar] + lows[bar]) / 2.0, multiple * ranges[bar]
        before = closes[bar - 1]
        upper = middle + distance if before > upper else min(middle + distance, upper)
        lower = middle - distance if before < lower else max(middle - distance, lower)
        if side < 0 and closes[bar] > upper:
            side = 1
        elif side > 0 and closes[bar] < lower:
            side = -1
        direction[bar] = side
        line[bar] = lower if side > 0 else upper
    return line, direction
