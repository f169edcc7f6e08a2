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
_MOST_PLACES = 5_000
"""More places than this are looked at by one pass over all bars."""


def check_outliers(bars: pl.DataFrame, context: CheckContext, same_exchange: frozenset[str]) -> list[Finding]:
    """`outlier` in sound ``bars`` (sorted, one a time). A bar that several rules tell is told once, by the first."""
    if bars.height < _LEAST_BARS:
        return []
    told = np.zeros(bars.height, np.bool_)
    findings: list[Finding] = []
    for name in sorted(context.others, key=lambda name: (name not in same_exchange, name)):
        findings += _beside(bars, name, name in same_exchange, context, told)
    return [*findings, *_spikes(bars, context, told)]


def _rolling_median(values: Floats, window: int) -> Floats:
    """Centred, with the window cut at the ends; NaN where fewer than _LEAST_BARS are known; shape (n,)."""
    series = pl.Series(values).fill_nan(None)
    medians: Floats = series.rolling_median(window, center=True, min_samples=_LEAST_BARS).fill_null(float("nan")).to_numpy()
    return medians


def _median_around(values: Floats, rows: Times, window: int) -> Floats:
    """As ``_rolling_median``, at some places alone: shape of ``rows``."""
    if rows.size > _MOST_PLACES:
        return _rolling_median(values, window)[rows]
    around = rows[:, None] + np.arange(-(window // 2), window // 2 + 1)
    inside = (around >= 0) & (around < values.size)
    near = np.where(inside, values[np.clip(around, 0, values.size - 1)], np.nan)
    medians: Floats = np.nanmedian(near, axis=1) if rows.size else np.zeros(0)
    return medians


def _is_rush(bars: pl.DataFrame, rows: Times, limits: CheckLimits) -> Bools:
    """Whether the bars at ``rows`` traded much more than is usual around them."""
    volume = bars["volume"].to_numpy()
    rush: Bools = volume[rows] >= limits.rush_factor * _median_around(volume, rows, limits.window_bars)
    return rush


def _spikes(bars: pl.DataFrame, context: CheckContext, told: Bools) -> list[Finding]:
    limits = context.limits
    logs = {name: np.log(bars[name].to_numpy()) for name in PRICE_COLUMNS}
    before = np.append(np.nan, logs["close"][:-1])
    after = np.append(logs["open"][1:], logs["close"][-1])  # Of the last bar nobody knows yet whether its close comes back.
    away = {name: np.fmin(np.abs(log - before), np.abs(log - after)) for name, log in logs.items()}
    move = np.maximum.reduce(list(away.values()))
    large = np.flatnonzero((move >= limits.spike_move) & ~told)
    usual = _median_around(logs["high"] - logs["low"], large, limits.window_bars)
    spikes = large[(move[large] >= limits.spike_z * usual) & ~_is_rush(bars, large, limits)]
    times, closes, opens = opened_at_ms(bars), bars["close"], bars["open"]

    def evidence(row: int) -> str:
        column = max(PRICE_COLUMNS, key=lambda name: away[name][row])
        beside = [f"{closes[row - 1]} before"] if row else []
        beside += [f"{opens[row + 1]} after"] if row + 1 < times.size else []
        return f"{column} {bars[column][row]} beside {' and '.join(beside)}, back within the bar, with no rush of volume"

    return _findings(spikes, bars, context, "warning", evidence)


def _beside(bars: pl.DataFrame, name: str, same: bool, context: CheckContext, told: Bools) -> list[Finding]:
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
        return f"{column} {bars[column][row]} where {name} has {value}"

    told[ours[wrong]] = True
    if same:
        return _findings(ours[wrong], bars, context, "error", evidence)
    rush = _is_rush(bars, ours[wrong], limits)
    calm, busy = ours[wrong][~rush], ours[wrong][rush]
    return [
        *_findings(calm, bars, context, "warning", lambda row: f"{evidence(row)}, with no rush of volume"),
        *_findings(busy, bars, context, "info", lambda row: f"{evidence(row)}, with a rush of volume"),
    ]


def _findings(
    rows: Times, bars: pl.DataFrame, context: CheckContext, severity: Severity, evidence: Callable[[int], str]
) -> list[Finding]:
    def text(run: Run) -> str:
        return f"{plural(run.bars)}; {format_utc(run.start_ms)}: {evidence(int(rows[run.first]))}"

    return run_findings("outlier", severity, opened_at_ms(bars)[rows], context.length_ms, text)
