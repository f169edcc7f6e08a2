"""Prices that cannot be: spikes that come back at once, and prices far from another source's.

Size alone is no evidence: markets crash. A spike is a price (open, high, low or close of a bar) away from both the close before
and the open after the bar, so that the move came back within the bar. It is told where it is CheckLimits.spike_z times the usual
range and ``spike_move`` at least, and the bar traded no more than usual (``rush_factor``): where a price really ran through the
book, volume came with it.

Against another source the log ratio of prices is measured from its own level (the median of LEVEL_BARS closes, so a premium is
none) in scales of the robust z (1.4826 times the median distance from that level over SCALE_BARS; Iglewicz and Hoaglin, 1993).
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from candlewick.candles import PRICE_COLUMNS, opened_at_ms
from candlewick.quality.limits import CheckContext, CheckLimits
from candlewick.quality.runs import Bools, Floats, Run, Times, places_of, plural, run_findings
from candlewick.timeframes import format_utc
from candlewick.validation import Finding, Severity

LEVEL_BARS = 49
SCALE_BARS = 197
LEAST_SCALE = 0.0002
"""Two basis points: the rounding of a price is no measure of a market."""
_MAD_TO_SIGMA = 1.4826
_LEAST_BARS = 10


def check_outliers(bars: pl.DataFrame, context: CheckContext, same_exchange: frozenset[str]) -> list[Finding]:
    """`outlier` in sound ``bars`` (sorted, one a time). A bar that several rules tell is told once, by the first."""
    if bars.height < _LEAST_BARS:
        return []
    rush = _rush(bars, context.limits)
    told = np.zeros(bars.height, np.bool_)
    findings: list[Finding] = []
    for name in sorted(context.others, key=lambda name: (name not in same_exchange, name)):
        findings += _beside(bars, name, name in same_exchange, context, rush, told)
    return [*findings, *_spikes(bars, context, rush, told)]


def _rolling_median(values: Floats, window: int) -> Floats:
    """Centred, with the window cut at the ends; NaN where fewer than _LEAST_BARS are known; shape (n,)."""
    series = pl.Series(values).fill_nan(None)
    medians: Floats = series.rolling_median(window, center=True, min_samples=_LEAST_BARS).fill_null(float("nan")).to_numpy()
    return medians


def _rush(bars: pl.DataFrame, limits: CheckLimits) -> Floats:
    """Each bar's volume over the usual one around it; infinite where nothing is usual."""
    volume = bars["volume"].to_numpy()
    usual = np.nan_to_num(_rolling_median(volume, limits.window_bars))
    rush: Floats = np.divide(volume, usual, out=np.full(volume.size, np.inf), where=usual > 0)
    return rush


def _spikes(bars: pl.DataFrame, context: CheckContext, rush: Floats, told: Bools) -> list[Finding]:
    limits = context.limits
    logs = {name: np.log(bars[name].to_numpy()) for name in PRICE_COLUMNS}
    usual = _rolling_median(logs["high"] - logs["low"], limits.window_bars)
    before = np.append(np.nan, logs["close"][:-1])
    after = np.append(logs["open"][1:], logs["close"][-1])  # Of the last bar nobody knows yet whether its close comes back.
    away = {name: np.fmin(np.abs(log - before), np.abs(log - after)) for name, log in logs.items()}
    move = np.maximum.reduce(list(away.values()))
    spikes = (move >= limits.spike_move) & (move >= limits.spike_z * usual) & (rush < limits.rush_factor) & ~told
    times, closes, opens = opened_at_ms(bars), bars["close"], bars["open"]

    def evidence(row: int) -> str:
        column = max(PRICE_COLUMNS, key=lambda name: away[name][row])
        beside = [f"{closes[row - 1]} before"] if row else []
        beside += [f"{opens[row + 1]} after"] if row + 1 < times.size else []
        return f"{column} {bars[column][row]} beside {' and '.join(beside)}, back within the bar, with no rush of volume"

    return _findings(np.flatnonzero(spikes), bars, context, "warning", evidence)


def _beside(bars: pl.DataFrame, name: str, same: bool, context: CheckContext, rush: Floats, told: Bools) -> list[Finding]:
    """Prices that another source tells otherwise; marks the bars in ``told``."""
    limits, other = context.limits, context.others[name]
    places, there = places_of(opened_at_ms(bars), opened_at_ms(other))
    ours = np.flatnonzero(there)
    if ours.size < _LEAST_BARS:
        return []
    theirs = places[ours]
    ratios = {
        column: np.log(bars[column].to_numpy()[ours]) - np.log(other[column].to_numpy()[theirs]) for column in PRICE_COLUMNS
    }
    level = _rolling_median(ratios["close"], LEVEL_BARS)
    scale = _MAD_TO_SIGMA * _rolling_median(np.abs(ratios["close"] - level), SCALE_BARS)
    away = {column: np.abs(ratio - level) for column, ratio in ratios.items()}
    move = np.maximum.reduce(list(away.values()))
    least = limits.same_exchange_move if same else limits.other_exchange_move
    wrong = (move >= least) & (move >= limits.other_z * np.maximum(scale, LEAST_SCALE)) & ~told[ours]
    place_of_row = dict(zip(ours[wrong].tolist(), np.flatnonzero(wrong).tolist(), strict=True))

    def evidence(row: int) -> str:
        at = place_of_row[row]
        column = max(PRICE_COLUMNS, key=lambda one: away[one][at])
        value = other[column][int(theirs[at])]
        busy = "" if same else f", with {'a' if rush[row] >= limits.rush_factor else 'no'} rush of volume"
        return f"{column} {bars[column][row]} where {name} has {value}{busy}"

    told[ours[wrong]] = True
    if same:
        return _findings(ours[wrong], bars, context, "error", evidence)
    ran = rush[ours] >= limits.rush_factor
    calm, busy = ours[wrong & ~ran], ours[wrong & ran]
    return [*_findings(calm, bars, context, "warning", evidence), *_findings(busy, bars, context, "info", evidence)]


def _findings(
    rows: Times, bars: pl.DataFrame, context: CheckContext, severity: Severity, evidence: Callable[[int], str]
) -> list[Finding]:
    def text(run: Run) -> str:
        return f"{plural(run.bars)}; {format_utc(run.start_ms)}: {evidence(int(rows[run.first]))}"

    return run_findings("outlier", severity, opened_at_ms(bars)[rows], context.length_ms, text)
