"""A market's regime, bar by bar: trend, range or high volatility, told so that it does not flutter.

Three measures, all of closed bars only: the ADX; the realised volatility against its usual level (its rolling median); the slope
of a moving average of the closes. Two switches with a band each say what a bar is:

* high volatility goes on at and above ``volatility_enter`` times the usual level, and off below ``volatility_leave`` times it;
* direction goes on at an ADX of ``trend_adx`` and more, and off below ``range_adx``; with direction, and a slope of ``slope_bps``
  or more either way, a bar says trend.

High volatility goes before trend, and what is neither is a range. The regime follows what the bars say once ``confirm_bars``
bars in a row have said the same. A bar's regime depends on that bar and those before it; later ones never change it.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from candlewick.candles import CANDLE_SCHEMA, opened_at_ms
from candlewick.metrics import DAYS_PER_YEAR
from candlewick.timeframes import DAY_MS

FloatArray = np.ndarray[tuple[int], np.dtype[np.float64]]
IntArray = np.ndarray[tuple[int], np.dtype[np.int64]]

# A regime's number in compiled code is its place here.
REGIMES = ("unknown", "range", "trend", "high_volatility")
REGIME_SCHEMA = {
    "opened_at": CANDLE_SCHEMA["opened_at"],
    "adx": pl.Float64(),
    "volatility": pl.Float64(),
    "slope_bps": pl.Float64(),
    "regime": pl.String(),
}
_NAMES = pl.Series("regime", REGIMES, dtype=pl.String)
TAIL_WARMUPS, TAIL_BLOCK_BARS = 3, 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeRules:
    """How a regime is told; bars, ADX points (0 to 100), basis points a bar, and multiples of the usual volatility.

    ``timeframe_ms`` is the length of a candle; it serves to annualise the volatility, and no regime depends on it.
    """

    timeframe_ms: int
    adx_bars: int
    trend_adx: float
    range_adx: float
    slope_bars: int
    slope_bps: float
    volatility_bars: int
    volatility_base_bars: int
    volatility_enter: float
    volatility_leave: float
    confirm_bars: int


def regime_warmup(rules: RegimeRules) -> int:
    """Leading bars whose regime is `unknown`: the longest of what ADX, slope and usual volatility need. No later bar's is."""
    return max(2 * rules.adx_bars - 1, rules.slope_bars, rules.volatility_bars + rules.volatility_base_bars - 1)


def regime_frame(candles: pl.DataFrame, rules: RegimeRules) -> pl.DataFrame:
    """REGIME_SCHEMA, a row a candle: ADX, annualised realised volatility (a fraction), slope, and the regime at the bar's close.

    ``candles`` is a validated frame. The slope is how far SMA(``slope_bars``) of the closes has moved since the bar before,
    in basis points. A measure is null while it warms up; the regime is `unknown` for the first ``regime_warmup`` bars. The first
    regime after that is what its bar says: there is none before that would have to be left.
    """
    from candlewick.indicators import sma
    from candlewick.indicators_bands import realised_volatility
    from candlewick.indicators_trend import adx
    from candlewick.monitoring.regime_fold import fold_regimes, rolling_median

    high, low, close = (candles[name].to_numpy().astype(np.float64, copy=False) for name in ("high", "low", "close"))
    strength, _, _ = adx(high, low, close, rules.adx_bars)
    volatility = realised_volatility(close, rules.volatility_bars, DAYS_PER_YEAR * DAY_MS / rules.timeframe_ms)
    usual = np.full(close.size, np.nan)
    usual[rules.volatility_bars :] = rolling_median(volatility[rules.volatility_bars :], rules.volatility_base_bars)
    slope = _slope_bps(sma(close, rules.slope_bars))
    codes = fold_regimes(
        strength, volatility, usual, np.abs(slope), regime_warmup(rules), rules.trend_adx, rules.range_adx, rules.slope_bps,
        rules.volatility_enter, rules.volatility_leave, rules.confirm_bars,
    )  # fmt: skip
    return _frame(candles, strength, volatility, slope, codes)


def regime_tail(candles: pl.DataFrame, rules: RegimeRules, block_bars: int = TAIL_BLOCK_BARS) -> pl.DataFrame:
    """As ``regime_frame``, of the newest candles only, so that a bar of a long history costs no more than one of a short one.

    The rows begin three warm-ups before the newest border (a multiple of ``block_bars`` bars since 1970), at the first candle
    where there are not so many, and their own warm-up is among them. So what the last row says depends on its bar and a
    bounded number of bars before it, not on where the candles began: a session that starts anew says the same as one that went
    on. Against ``regime_frame`` of the whole history the measures differ by rounding (the ADX never forgets quite), and a regime
    differs only where one of the two switches has stood inside its band since before the first row.
    """
    if candles.height == 0:
        return regime_frame(candles, rules)
    times = opened_at_ms(candles)
    block_ms = block_bars * rules.timeframe_ms
    border = int(np.searchsorted(times, int(times[-1]) // block_ms * block_ms))
    return regime_frame(candles.slice(max(border - TAIL_WARMUPS * regime_warmup(rules), 0)), rules)


def _slope_bps(average: FloatArray) -> FloatArray:
    """How much the average has moved since the bar before, in basis points of it there; NaN where either is not known."""
    slope = np.full(average.size, np.nan)
    slope[1:] = (average[1:] / average[:-1] - 1.0) * 10_000.0
    return slope


def _frame(
    candles: pl.DataFrame, strength: FloatArray, volatility: FloatArray, slope: FloatArray, codes: IntArray
) -> pl.DataFrame:
    measures = {"adx": strength, "volatility": volatility, "slope_bps": slope}
    columns = [pl.Series(name, values, dtype=pl.Float64, nan_to_null=True) for name, values in measures.items()]
    opened_at = candles["opened_at"].cast(REGIME_SCHEMA["opened_at"])
    return pl.DataFrame([opened_at, *columns, _NAMES.gather(pl.Series(codes))])
