"""Bars in which two sources of one market cannot both be right. A disagreement is a run of such bars:

- ``beyond``: the close is ``bar_bps`` and more away, whatever the days around it.
- ``outlier``: the close is away from the level of the bars around it (the median log ratio of LEVEL_BARS), by ``outlier_bps``
  and by ``outlier_z`` times the scale (1.4826 times the median distance from that level over SCALE_BARS: the robust z of
  Iglewicz and Hoaglin, 1993, with the median absolute deviation taken over a moving window).
- ``wick``: high or low is ``wick_bps`` away from that level, and ``outlier_z`` times the same scale.
- ``not_identical``: the sources tell the same feed (SAME_FEED_SHARE of all bars have identical prices), and this bar differs.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from candlewick.candles import PRICE_COLUMNS, opened_at_ms
from candlewick.quality.thresholds import Thresholds
from candlewick.timeframes import format_utc

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]
Cause = Literal["beyond", "outlier", "wick", "not_identical"]

BPS = 10_000.0
OTHER = "_other"
"""What the other source's columns end with in a frame of common bars."""
LEVEL_BARS = 49
"""Bars, half of them on either side, whose median difference is the level that an outlier is measured from: a premium that
stays for days is no outlier. Two days of hours."""
SCALE_BARS = 197
"""Bars whose median distance from the level is the scale of the robust z: calm weeks are judged by calm weeks."""
LEAST_SCALE_BPS = 2.0
"""The scale is never taken for less: the rounding of a price is no measure of a market."""
SAME_FEED_SHARE = 0.99
"""From this share of bars with identical prices on, both sources tell the same feed: every bar that differs counts."""
_MAD_TO_SIGMA = 1.4826
_MOST_VOLUMES_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A run of bars that both sources cannot be right about; the values are those of its largest difference."""

    cause: Cause
    since_ms: int
    until_ms: int
    bars: int
    at_ms: int
    column: str
    ours: float
    other: float
    difference_bps: float
    z: float | None


def find_disagreements(
    bars: pl.DataFrame, prices_equal: Bools, identical: Bools, length_ms: int, limits: Thresholds
) -> tuple[Disagreement, ...]:
    """The disagreements of common bars (both sources' candle columns, `difference_bps` and `level_bps` of the close), in order.

    ``prices_equal`` and ``identical`` say of each bar whether its prices, and its volume too, are the same. ``bars`` has rows.
    """
    if prices_equal.mean() >= SAME_FEED_SHARE:
        return _not_identical(bars, prices_equal, identical, length_ms)
    close, scale = _away_from_level(bars, "close"), _scale_bps(bars)
    z = close / scale
    beyond = np.abs(bars["difference_bps"].to_numpy()) >= limits.bar_bps
    outlier = (np.abs(close) >= limits.outlier_bps) & (np.abs(z) >= limits.outlier_z)
    wicks = {
        name: (np.abs(away) >= limits.wick_bps) & (np.abs(away) >= limits.outlier_z * scale)
        for name, away in ((name, _away_from_level(bars, name)) for name in ("high", "low"))
    }
    marked = beyond | outlier
    found: list[Disagreement] = []
    for first, end in _marked_runs(bars, marked | wicks["high"] | wicks["low"], length_ms):
        rows = slice(first, end)
        column = "close" if marked[rows].any() else "high" if wicks["high"][rows].any() else "low"
        cause: Cause = "wick" if column != "close" else "outlier" if outlier[rows].any() else "beyond"
        chosen = wicks[column] if cause == "wick" else outlier if cause == "outlier" else beyond
        found.append(_disagreement(bars, (first, end), column, chosen, cause, z, length_ms))
    return tuple(found)


def disagreement_text(one: Disagreement, label: str) -> str:
    """The evidence: both values, the difference and what makes it one. ``label`` is what the other source is called."""
    z = "" if one.z is None else f", robust z {one.z:.1f}"
    runs = f"; {one.bars} bars in a row" if one.bars > 1 else ""
    return (
        f"{one.column} {one.ours:.10g} here, {one.other:.10g} at {label}, bar {format_utc(one.at_ms)}: "
        f"{one.difference_bps:+,.1f} bps ({one.cause.replace('_', ' ')}{z}){runs}"
    )


def _not_identical(bars: pl.DataFrame, prices_equal: Bools, identical: Bools, length_ms: int) -> tuple[Disagreement, ...]:
    """Bars of the same feed that differ: in a price, or in the volume alone where that is not so of most bars."""
    volumes = identical | (identical.mean() < _MOST_VOLUMES_SHARE)
    found: list[Disagreement] = []
    for first, end in _marked_runs(bars, ~(prices_equal & volumes), length_ms):
        differs = ~prices_equal[first:end]
        columns = PRICE_COLUMNS if differs.any() else ("volume",)
        column = max(columns, key=lambda name: float(np.abs(_difference_bps(bars[first:end], name)).max()))
        chosen = ~(prices_equal if differs.any() else identical)
        found.append(_disagreement(bars, (first, end), column, chosen, "not_identical", None, length_ms))
    return tuple(found)


def _disagreement(
    bars: pl.DataFrame, run: tuple[int, int], column: str, chosen: Bools, cause: Cause, z: Floats | None, length_ms: int
) -> Disagreement:
    part, rows = bars[run[0] : run[1]], chosen[run[0] : run[1]]
    away = _difference_bps(part, column)
    worst = int(np.where(rows, np.abs(away), -1.0).argmax())
    times = opened_at_ms(part)
    return Disagreement(
        cause=cause,
        since_ms=int(times[0]),
        until_ms=int(times[-1]) + length_ms,
        bars=part.height,
        at_ms=int(times[worst]),
        column=column,
        ours=float(part[column][worst]),
        other=float(part[f"{column}{OTHER}"][worst]),
        difference_bps=float(away[worst]),
        z=float(z[run[0] + worst]) if z is not None and cause == "outlier" else None,
    )


def _difference_bps(bars: pl.DataFrame, column: str) -> Floats:
    ours, other = _values(bars, column), _values(bars, f"{column}{OTHER}")
    if column != "volume":
        return (ours / other - 1) * BPS
    # A volume may be 0 on one side: then it is all of it that differs.
    largest = np.maximum(np.maximum(ours, other), np.finfo(np.float64).tiny)
    return (ours - other) / largest * BPS


def _away_from_level(bars: pl.DataFrame, column: str) -> Floats:
    """Distance of a price's log ratio from the level of the closes around it, in bps."""
    ratio = np.log(_values(bars, column) / _values(bars, f"{column}{OTHER}"))
    return ratio * BPS - _values(bars, "level_bps")


def _values(bars: pl.DataFrame, column: str) -> Floats:
    values: Floats = bars[column].to_numpy()
    return values


def _scale_bps(bars: pl.DataFrame) -> Floats:
    """The robust standard deviation of the closes' distance from their level, around each bar."""
    away = pl.Series(np.abs(_away_from_level(bars, "close")))
    spread = away.rolling_median(SCALE_BARS, center=True, min_samples=1).to_numpy()
    return np.maximum(_MAD_TO_SIGMA * spread, LEAST_SCALE_BPS)


def _marked_runs(bars: pl.DataFrame, marked: Bools, length_ms: int) -> list[tuple[int, int]]:
    """Runs of marked rows as (first, end); a hole in the time ends a run."""
    rows = np.flatnonzero(marked)
    if not len(rows):
        return []
    times = opened_at_ms(bars)
    follows = (np.diff(rows) == 1) & (np.diff(times[rows]) == length_ms)
    starts = np.concatenate(([0], np.flatnonzero(~follows) + 1))
    ends = np.append(starts[1:], len(rows))
    return [(int(rows[first]), int(rows[end - 1]) + 1) for first, end in zip(starts, ends, strict=True)]
