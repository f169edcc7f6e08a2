"""The desk's equity over time: the sum of its accounts, kept between looks so that each reads new rows only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from candlewick.monitoring.status import SessionStatus
from candlewick.store.desk_view import EQUITY_BARS, DeskView
from candlewick.timeframes import timeframe_ms

MOST_POINTS = 600


@dataclass(slots=True)
class EquityCurve:
    """``rows``: account, at, equity of the newest EQUITY_BARS bars; ``baseline``: equity by account before them."""

    rows: pl.DataFrame = field(default_factory=pl.DataFrame)
    baseline: dict[str, float] = field(default_factory=dict)

    def known(self) -> Mapping[str, datetime]:
        """By account, the time of its newest row; of an account without rows, nothing."""
        if not self.rows.height:
            return {}
        return dict(self.rows.group_by("account").agg(pl.col("at").max()).iter_rows())

    def add(self, view: DeskView, status: SessionStatus) -> None:
        """The rows of one look; accounts that the desk no longer has, and what is too old to be drawn, go."""
        accounts = {one.account for one in status.symbols}
        self.baseline = {name: value for name, value in (self.baseline | dict(view.baseline)).items() if name in accounts}
        parts = [part for part in (self.rows, view.equity) if part.height]
        rows = pl.concat(parts).filter(pl.col("account").is_in(list(accounts))) if parts else pl.DataFrame()
        start = oldest_drawn(status)
        self.rows = rows.filter(pl.col("at") > start) if rows.height and start is not None else rows

    def points(self) -> tuple[list[int], list[float]]:
        """Times in ms and the desk's equity in quote currency, MOST_POINTS at most; the newest is always among them."""
        if not self.rows.height:
            return [], []
        wide = self.rows.unique(["account", "at"], keep="last").pivot("account", index="at", values="equity").sort("at")
        columns = [name for name in wide.columns if name != "at"]
        # An account has its last equity until its next row, and before its first one what it had then.
        filled = wide.with_columns(
            pl.col(name).forward_fill().fill_null(self.baseline.get(name)).backward_fill() for name in columns
        )
        still = sum(value for name, value in self.baseline.items() if name not in columns)
        total = filled.select(pl.col("at").dt.epoch("ms"), (pl.sum_horizontal(columns) + still).round(8).alias("equity"))
        every = -(-total.height // MOST_POINTS)
        thin = total.reverse().gather_every(every).reverse()
        return thin["at"].to_list(), thin["equity"].to_list()


def oldest_drawn(status: SessionStatus | None) -> datetime | None:
    """When the drawn part of the equity begins; None before the first bar."""
    times = [one.last_bar_at for one in status.symbols if one.last_bar_at is not None] if status else []
    if status is None or not times:
        return None
    return max(times) - timedelta(milliseconds=EQUITY_BARS * timeframe_ms(status.timeframe))
