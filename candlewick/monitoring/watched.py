"""One watched symbol: its window of candles, what its stages made of it, and what waits for its next bar."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

import polars as pl

from candlewick.candles import CANDLE_SCHEMA, FormingBar, RawPage, Series, empty_candles, opened_at_ms
from candlewick.monitoring.events import Regime
from candlewick.monitoring.interventions import Intervention
from candlewick.timeframes import timeframe_ms
from candlewick.validation import Finding

PauseCause = Literal["operator", "stale", "market_closed", "risk"]


@dataclass(slots=True)
class Watched:
    """``window``: closed candles from the account's anchor on, those not in the lake yet among them (``pending``, their rows).

    ``fresh``: bars at the window's end that no stage has seen. ``ready``: the strategy has decided them, execution may follow.
    ``is_cut``: execution has stopped at an earlier bar than the last, so what the rules said of later ones has to be asked again.
    ``signals`` by version of the terms; ``rejections`` of the bars that are not committed yet. ``asked_ms``: the market's time
    when bars were asked for last; ``misses`` answers in a row without a new bar. ``told``: what was said to signals that are not
    committed yet, the rule or None by bar, so that the same is not told again when they are decided again.
    """

    symbol: str
    account: str
    series: Series
    window: pl.DataFrame = field(default_factory=empty_candles)
    forming: FormingBar | None = None
    pending: int = 0
    unkept: list[RawPage] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    fresh: int = 0
    ready: bool = False
    is_cut: bool = False
    signals: dict[int, pl.DataFrame] = field(default_factory=dict)
    rejections: list[Intervention] = field(default_factory=list)
    told: dict[int, str | None] = field(default_factory=dict)
    regime: Regime = "unknown"
    regimes: pl.DataFrame = field(default_factory=pl.DataFrame)
    paused: dict[PauseCause, str] = field(default_factory=dict)
    attempts: int = 0
    asked_ms: int = 0
    misses: int = 0
    spread_bps: Decimal | None = None
    bars: int = 0
    errors: int = 0
    last_error: str | None = None
    signal: str | None = None
    signal_at: datetime | None = None
    signal_verdict: str | None = None
    processed_at: datetime | None = None

    @property
    def length_ms(self) -> int:
        """Length of a bar in ms."""
        return timeframe_ms(self.series.timeframe)

    @property
    def last_ms(self) -> int | None:
        """Open time of the last bar of the window."""
        return int(opened_at_ms(self.window)[-1]) if self.window.height else None

    def next_ms(self, anchor_ms: int) -> int:
        """Open time from which on bars are missing."""
        last_ms = self.last_ms
        return anchor_ms if last_ms is None else last_ms + self.length_ms

    def add(self, candles: pl.DataFrame, pages: tuple[RawPage, ...], forming: FormingBar | None) -> int:
        """Put validated bars that open after the last one at the window's end; the number of them."""
        last_ms = self.last_ms
        new = candles if last_ms is None else candles.filter(pl.col("opened_at").dt.epoch("ms") > last_ms)
        self.forming = forming
        if new.height:
            self.window = pl.concat([self.window, new.select(list(CANDLE_SCHEMA))]).rechunk()
            self.pending += new.height
            self.fresh += new.height
            self.unkept += pages
            self.ready = False
        return new.height

    def unkept_fresh(self) -> pl.DataFrame:
        """Fresh bars that the lake does not have: the store keeps them until it does."""
        rows = min(self.fresh, self.pending)
        return self.window.tail(rows) if rows else self.window.clear()

    def to_keep(self) -> pl.DataFrame:
        """Bars that the store has and the lake does not: those that are fresh are not in the store yet."""
        rows = self.window.tail(self.pending) if self.pending else self.window.clear()
        return rows.head(max(0, self.pending - self.fresh))

    def committed(self, at: datetime, watermark_ms: int | None, *, is_cut: bool = False) -> None:
        """What was fresh is in the store, and the account has moved up to ``watermark_ms``, which may be before the last bar.

        ``is_cut``: execution stopped at an earlier bar on purpose; the bars after it are still to be executed.
        """
        before, self.fresh = self.fresh, self._after(watermark_ms) if is_cut else 0
        self.ready = self.is_cut = self.ready and self.fresh > 0
        self.bars += before - self.fresh
        self.rejections = [one for one in self.rejections if watermark_ms is None or one.opened_at_ms > watermark_ms]
        self.told = {opened_ms: rule for opened_ms, rule in self.told.items() if watermark_ms is None or opened_ms > watermark_ms}
        self.processed_at = at

    def _after(self, watermark_ms: int | None) -> int:
        """Bars after the watermark, of those that are fresh."""
        if watermark_ms is None:
            return self.fresh
        times = opened_at_ms(self.window)
        return min(self.fresh, len(times) - int(times.searchsorted(watermark_ms, side="right")))

    @property
    def paused_by(self) -> str | None:
        """Why it is paused, the gravest reason first; None where it is not."""
        order: tuple[PauseCause, ...] = ("risk", "operator", "stale", "market_closed")
        return next((self.paused[cause] for cause in order if cause in self.paused), None)


def windows_of(symbols: tuple[str, ...], watched: Mapping[str, Watched]) -> dict[str, pl.DataFrame]:
    """The windows of an account's symbols, in its order."""
    return {symbol: watched[symbol].window for symbol in symbols}
