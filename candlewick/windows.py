"""An account's window: each symbol's candles since the anchor, as the lake has them, and what completes them."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from candlewick.candles import Series, opened_at_ms
from candlewick.lake import Lake
from candlewick.market_data.coverage import Span
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
    """Ask from the first time on that the lake's coverage lacks, not before the anchor: a hole in the middle is filled, a
    listing date is asked for once. Of a source that can change as a whole the lake remembers the source's fingerprint, and asks
    for everything when that differs. Raises LakeError.
    """
    forming_ms = floor_to_bar(now_ms, series.timeframe)
    if source is not None:
        return FetchPlan(series, forming_ms if lake.fingerprint(series) == source else 0, now_ms, source)
    span = lake.span(series)
    if span is None or anchor_ms >= forming_ms:  # What coverage says of a series without a file is not relied on: was it lost?
        return FetchPlan(series, anchor_ms, now_ms)
    missing = lake.coverage(series).missing(Span(anchor_ms, forming_ms))
    # A span that ends inside of a bar cannot have answered that bar.
    since_ms = max(anchor_ms, floor_to_bar(missing[0].since_ms, series.timeframe)) if missing else forming_ms
    return FetchPlan(series, since_ms, now_ms, known_ms=_last_before(lake, series, span, anchor_ms, since_ms))


def remember_covered(lake: Lake, plan: FetchPlan, candles: pl.DataFrame) -> None:
    """The market was asked from the plan's start on, and answered as far as the last of these candles. Raises LakeError."""
    if candles.height:
        answered_ms = int(opened_at_ms(candles)[-1]) + timeframe_ms(plan.series.timeframe)
        if answered_ms > plan.since_ms:
            lake.cover(plan.series, Span(plan.since_ms, answered_ms))


def _last_before(lake: Lake, series: Series, span: tuple[int, int], anchor_ms: int, time_ms: int) -> int | None:
    """Open time of the last bar from the anchor on that opens before a time."""
    if span[1] < time_ms:
        return span[1] if span[1] >= anchor_ms else None
    before = opened_at_ms(lake.read(series, anchor_ms, max(anchor_ms, time_ms)))
    return int(before[-1]) if before.size else None


def read_windows(lake: Lake, series: Mapping[str, Series], anchor_ms: int, now_ms: int) -> dict[str, pl.DataFrame]:
    """Closed candles of every symbol since the anchor, by symbol."""
    return {symbol: lake.read(key, anchor_ms, floor_to_bar(now_ms, key.timeframe)) for symbol, key in series.items()}
