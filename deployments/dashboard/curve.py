"""The desk's equity over time: the sum of its accounts, kept between looks so that each reads new rows only."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from candlewick.monitoring.status import SessionStatus
from candlewick.store.desk_view import EQUITY_BARS, DeskView
from candlewick.timeframes import timeframe_ms

MOST_POINTS = 600
_DECIMALS = 6
Points = tuple[list[int], list[float]]


@dataclass(slots=True)
class EquityCurve:
    """``rows``: account, at, equity of the newest EQUITY_BARS bars; ``baseline``: equity by account before its first row;
    ``seen``: by account, the time up to which its equity is known.
    """

    rows: pl.DataFrame = field(default_factory=pl.DataFrame)
    baseline: dict[str, float] = field(default_factory=dict)
    seen: dict[str, datetime] = field(default_factory=dict)
    points: Points = field(default_factory=lambda: ([], []))
    """Times in ms and the desk's equity in quote currency, MOST_POINTS at most; the newest is always among them."""

    def add(self, view: DeskView, status: SessionStatus, asked_from: datetime | None) -> None:
        """The rows of one look, which asked for those after ``asked_from`` where nothing was known yet."""
        accounts = {one.account for one in status.symbols}
        if self.seen.keys() - accounts:
            self.rows, self.baseline, self.seen = pl.DataFrame(), {}, {}  # another desk: the next look asks for all of it
            self.points = ([], [])
            return
        if asked_from is not None:
            self.baseline |= view.baseline
            self.seen |= dict.fromkeys(view.baseline, asked_from)
        if view.equity.height:
            self.rows = pl.concat([part for part in (self.rows, view.equity) if part.height])
            self.seen |= _last_times(view.equity)
            self._forget(oldest_drawn(status))
        if view.equity.height or view.baseline:
            self.points = self._points()

    def _forget(self, start: datetime | None) -> None:
        """What is too old to be drawn goes into the baseline."""
        if start is None:
            return
        old = self.rows.filter(pl.col("at") <= start)
        if old.height:
            self.baseline |= _last_equity(old)
            self.rows = self.rows.filter(pl.col("at") > start)

    def _points(self) -> Points:
        """The sum of what each account was worth last is the running sum of what each one changed by."""
        if not self.rows.height:
            return [], []
        before = pl.col("account").replace_strict(self.baseline, default=None, return_dtype=pl.Float64)
        ordered = self.rows.sort("account", "at").with_columns(
            pl.col("equity").shift(1).over("account").fill_null(before).fill_null(pl.col("equity")).alias("before")
        )
        known = pl.Series("account", list(self.baseline), dtype=pl.String)
        # An account whose equity before its first row is not known counts with that row from the start.
        unknown = ordered.filter(~pl.col("account").is_in(known.implode())).group_by("account").agg(pl.col("equity").first())
        start = sum(self.baseline.values()) + float(unknown["equity"].sum())
        changes = ordered.group_by("at").agg((pl.col("equity") - pl.col("before")).sum().alias("change")).sort("at")
        total = changes.select(pl.col("at").dt.epoch("ms"), (pl.col("change").cum_sum() + start).round(_DECIMALS).alias("equity"))
        every = -(-total.height // MOST_POINTS)
        thin = total.reverse().gather_every(every).reverse()
        return thin["at"].to_list(), thin["equity"].to_list()


def _last_times(rows: pl.DataFrame) -> dict[str, datetime]:
    """By account, the time of its newest row."""
    return dict(rows.group_by("account").agg(pl.col("at").max()).iter_rows())


def _last_equity(rows: pl.DataFrame) -> dict[str, float]:
    """By account, the equity of its newest row."""
    return dict(rows.group_by("account").agg(pl.col("equity").sort_by("at").last()).iter_rows())


def oldest_drawn(status: SessionStatus | None) -> datetime | None:
    """When the drawn part of the equity begins; None before the first bar."""
    times = [one.last_bar_at for one in status.symbols if one.last_bar_at is not None] if status else []
    if status is None or not times:
        return None
    return max(times) - timedelta(milliseconds=EQUITY_BARS * timeframe_ms(status.timeframe))
