"""An account's window: each symbol's candles since the anchor, as the lake has them, and what completes them."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from candlewick.candles import Series
from candlewick.lake import Lake
from candlewick.timeframes import floor_to_bar, timeframe_ms


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """What to ask a market for one series: bars that open from ``since_ms`` on and are closed at ``now_ms``."""

    series: Series
    since_ms: int
    now_ms: int

    @property
    def last_closed_ms(self) -> int:
        """Open time of the last bar that is closed at ``now_ms``."""
        return floor_to_bar(self.now_ms, self.series.timeframe) - timeframe_ms(self.series.timeframe)


def plan_fetch(lake: Lake, series: Series, anchor_ms: int, now_ms: int) -> FetchPlan:
    """Ask from the bar after the lake's last one; from the anchor when the lake does not reach back to it.

    The lake remembers in the series' fingerprint from where on it has been asked for, so a listing date is asked for once.
    """
    span = lake.span(series)
    since_ms = anchor_ms
    if span is not None and covered_since(lake, series, span[0]) <= anchor_ms:
        since_ms = span[1] + timeframe_ms(series.timeframe)
    return FetchPlan(series, since_ms, now_ms)


def covered_since(lake: Lake, series: Series, first_ms: int) -> int:
    """Time from which on the lake holds all there was when it was asked for."""
    told = lake.fingerprint(series)
    return int(told) if told is not None else first_ms


def remember_covered(lake: Lake, plan: FetchPlan) -> None:
    """The lake has been asked for everything from the plan's start on."""
    told = lake.fingerprint(plan.series)
    if told is None or plan.since_ms < int(told):
        lake.set_fingerprint(plan.series, str(plan.since_ms))


def is_complete(plan: FetchPlan) -> bool:
    """Whether the lake already holds the last closed bar, so that there is nothing to fetch but the forming one."""
    return plan.since_ms > plan.last_closed_ms


def read_windows(lake: Lake, series: Mapping[str, Series], anchor_ms: int, now_ms: int) -> dict[str, pl.DataFrame]:
    """Closed candles of every symbol since the anchor, by symbol."""
    return {symbol: lake.read(key, anchor_ms, floor_to_bar(now_ms, key.timeframe)) for symbol, key in series.items()}
