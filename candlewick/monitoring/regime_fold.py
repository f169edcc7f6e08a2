"""The compiled part of regimes.py: the usual level of a measure, and the fold that tells regimes."""

import numpy as np

from candlewick.compiled import njit
from candlewick.indicators import FloatArray, IntArray

# Places in regimes.REGIMES.
_RANGE, _TREND, _HIGH_VOLATILITY = 1, 2, 3


@njit
def rolling_median(values: FloatArray, window: int) -> FloatArray:
    """Median of the last ``window`` values (the mean of the middle two where their number is even), NaN before.

    ``values`` are finite. The window is kept in order; a new value goes in and the oldest out by two binary searches, so nothing
    drifts: the median of a prefix is the prefix of the medians, bit for bit.
    """
    if window < 1:
        raise ValueError("a rolling window must be at least 1 bar")
    medians = np.full(values.size, np.nan)
    ordered = np.empty(min(window, values.size))
    count = 0
    for bar in range(values.size):
        value = values[bar]
        if bar < window:
            gap = count
            count += 1
        else:
            gap = np.searchsorted(ordered, values[bar - window])
        while gap > 0 and ordered[gap - 1] > value:
            ordered[gap] = ordered[gap - 1]
            gap -= 1
        while gap < count - 1 and ordered[gap + 1] < value:
            ordered[gap] = ordered[gap + 1]
            gap += 1
        ordered[gap] = value
        if count == window:
            medians[bar] = (ordered[(window - 1) // 2] + ordered[window // 2]) / 2.0
    return medians


@njit
def fold_regimes(
    strength: FloatArray,
    volatility: FloatArray,
    usual: FloatArray,
    steepness: FloatArray,
    warmup: int,
    trend_adx: float,
    range_adx: float,
    least_slope: float,
    enter: float,
    leave: float,
    confirm_bars: int,
) -> IntArray:
    """Place in REGIMES of each bar's regime, int64, shape (bars,); rules and words as in regimes.py, ``steepness`` = |slope|.

    From bar ``warmup`` on all four measures are numbers. Where the usual volatility is 0 (a market that mostly stands still),
    any volatility at all is a high one.
    """
    codes = np.zeros(strength.size, dtype=np.int64)
    is_high, has_direction = False, False
    regime, said, times = 0, 0, 0
    for bar in range(warmup, strength.size):
        level = leave if is_high else enter
        is_high = volatility[bar] > 0.0 and volatility[bar] >= level * usual[bar]
        has_direction = strength[bar] >= (range_adx if has_direction else trend_adx)
        calm = _TREND if has_direction and steepness[bar] >= least_slope else _RANGE
        says = _HIGH_VOLATILITY if is_high else calm
        times = times + 1 if says == said else 1
        said = says
        if times >= confirm_bars or bar == warmup:
            regime = says
        codes[bar] = regime
    return codes
