"""An account's window: each symbol's candles since the anchor, as the lake has them, and what completes them."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from candlewick.candles import Series
from candlewick.lake import Lake
from candlewick.timeframes import floor_to_bar, timeframe_ms


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """What to ask a market for one series: bars that open from ``since_ms`` on and are closed at ``now_ms``.

    ``known_ms`` is the last bar the lake has before that. ``source`` is the market's fingerprint of a source that can
    change as a whole: then the lake's copy is replaced by it.
    """

    series: Series
    since_ms: int
    now_ms: int
    source: str | None = None
    known_ms: int | None = None

    @property
    def last_closed_ms(self) -> int:
        """Open time of the last bar that is closed at ``now_ms``."""
        return floor_to_bar(self.now_ms, self.series.timeframe) - timeframe_ms(self.series.timeframe)

    @property
    def forming_ms(self) -> int:
        """Open time of the bar that is forming at ``now_ms``."""
        return floor_to_bar(self.now_ms, self.series.timeframe)

    @property
    def is_complete(self) -> bool:
        """Whether the lake already holds the last closed bar, so that there is nothing to fetch but the forming one."""
        return self.since_ms > self.last_closed_ms


def plan_fetch(lake: Lake, series: Series, anchor_ms: int, now_ms: int, source: str | None) -> FetchPlan:
    """Ask from the bar after the lake's last one; from the anchor when the lake does not reach back to it.

    The lake remembers in the series' fingerprint from where on it has been asked for, so a listing date is asked for once;
    of a source that can change as a whole it remembers the source's fingerprint, and asks for everything when that differs.
    """
    told = lake.fingerprint(series)
    if source is not None:
        return FetchPlan(series, floor_to_bar(now_ms, series.timeframe) if told == source else 0, now_ms, source)
    span = lake.span(series)
    if span is None or (span[0] if told is None else int(told)) > anchor_ms:
        return FetchPlan(series, anchor_ms, now_ms)
    return FetchPlan(series, span[1] + timeframe_ms(series.timeframe), now_ms, known_ms=span[1])


def remember_covered(lake: Lake, plan: FetchPlan) -> None:
    """The lake has been asked for everything from the plan's start on."""
    told = lake.fingerprint(plan.series)
    if told is None or plan.since_ms < int(told):
        lake.set_fingerprint(plan.series, str(plan.since_ms))


def read_windows(lake: Lake, series: Mapping[str, Series], anchor_ms: int, now_ms: int) -> dict[str, pl.DataFrame]:
    """Closed candles of every symbol since the anchor, by symbol."""
    return {symbol: lake.read(key, anchor_ms, floor_to_bar(now_ms, key.timeframe)) for symbol, key in series.items()}
