"""Walking through a market's pages of candles, from a time to now. Pure: it is given each page and says what to ask next."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from candlewick.candles import CANDLE_SCHEMA, CandlePage, FormingBar
from candlewick.errors import MarketUnavailable, UsageError
from candlewick.timeframes import format_utc, timeframe_ms

CandleRow = tuple[int, float, float, float, float, float]
"""Open time in milliseconds, open, high, low, close (quote currency), volume (base currency); NaN where not a number."""


def parse_rows(raw: object) -> list[CandleRow]:
    """Rows of one answer, in the order received. A value that is missing becomes NaN, for validation to judge.

    Raises MarketUnavailable where the answer is not a list of rows with an open time and five values.
    """
    if not isinstance(raw, Sequence) or isinstance(raw, str | bytes):
        raise MarketUnavailable(f"answered with {type(raw).__name__} where a list of candles was expected")
    return [_parse_row(row) for row in raw]


def _parse_row(row: object) -> CandleRow:
    if not isinstance(row, Sequence) or isinstance(row, str | bytes) or len(row) < 6 or not isinstance(row[0], int | float):
        raise MarketUnavailable(f"answered with a row that is no candle: {str(row)[:80]}")
    try:
        opened_at_ms = int(row[0])
        open_, high, low, close, volume = (float("nan") if value is None else float(value) for value in row[1:6])
    except (TypeError, ValueError, OverflowError):
        raise MarketUnavailable(f"answered with a row that is no candle: {str(row)[:80]}") from None
    return opened_at_ms, open_, high, low, close, volume


@dataclass(slots=True)
class PageWalk:
    """The state of one walk over ``since_ms <= opened_at``, closed at ``now_ms``, in answers of at most ``page_limit`` rows.

    Ask for ``limit`` rows from ``cursor_ms`` on, hand the answer to ``take``, until ``done``. Every ``take`` moves the cursor
    forward or ends the walk or raises, so it ends whatever the exchange does. Stopping early is always safe: the rows
    are then a beginning of the span, and the next walk continues after them.
    """

    timeframe: str
    since_ms: int
    now_ms: int
    page_limit: int
    cursor_ms: int = field(init=False)
    done: bool = field(init=False, default=False)
    rows: list[CandleRow] = field(init=False, default_factory=list)
    forming: CandleRow | None = field(init=False, default=None)
    length_ms: int = field(init=False)
    _probing: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.length_ms = timeframe_ms(self.timeframe)
        self.cursor_ms = self.since_ms
        self.done = self.cursor_ms > self.now_ms

    @property
    def limit(self) -> int:
        """Rows to ask for: those up to and with the forming bar and one to spare, at most a page."""
        due = (self.now_ms - self.cursor_ms) // self.length_ms + 1
        return min(self.page_limit, due + 1)

    def take(self, answer: Sequence[CandleRow]) -> None:
        """Take one answer to (``cursor_ms``, ``limit``).

        Raises MarketUnavailable (candles are due and it repeats old ones), UsageError (the exchange keeps none that old).
        """
        asked = self.limit
        if self._probing:
            self._end_probe(answer)
            return
        if not answer:
            # Some exchanges answer a window of time and not "from here on": an outage longer than a page is an empty page.
            self._move(self.cursor_ms + asked * self.length_ms)
            return
        fresh = [row for row in answer if row[0] >= self.cursor_ms]
        if not fresh:
            self._refuse_repeat(answer)
            return
        closed = [row for row in fresh if row[0] + self.length_ms <= self.now_ms]
        forming = [row for row in fresh if row[0] <= self.now_ms < row[0] + self.length_ms]
        self.rows.extend(closed)
        self.forming = forming[-1] if forming else None
        if len(closed) < len(fresh):
            self._end_or_probe(answer, asked)
            return
        self._move(max(row[0] for row in closed) + self.length_ms)
        # A short page that reaches the last closed bar: the market shows no forming bar, asking again brings nothing.
        self.done = self.done or (self._only_forming_left() and len(answer) < asked)

    def page(self) -> CandlePage:
        """What was walked over: closed rows as received, and the forming bar once it has traded.

        Before a bar's first trade Binance shows the previous close as its open, with volume zero; that is not an open.
        """
        # Milliseconds are exact in a float64 for 285,000 years.
        table = np.array(self.rows, dtype=np.float64).reshape(-1, len(CANDLE_SCHEMA))
        candles = pl.from_numpy(table, schema=list(CANDLE_SCHEMA), orient="row")
        candles = candles.with_columns(pl.col("opened_at").cast(pl.Int64).cast(CANDLE_SCHEMA["opened_at"]))
        traded = self.forming is not None and self.forming[5] > 0
        return CandlePage(candles, FormingBar(self.forming[0], self.forming[1]) if self.forming and traded else None)

    def _only_forming_left(self) -> bool:
        return self.cursor_ms + self.length_ms > self.now_ms

    def _move(self, cursor_ms: int) -> None:
        self.cursor_ms = cursor_ms
        self.done = cursor_ms > self.now_ms

    def _refuse_repeat(self, answer: Sequence[CandleRow]) -> None:
        if self._only_forming_left():
            self.done = True
            return
        first, last = min(row[0] for row in answer), max(row[0] for row in answer)
        raise MarketUnavailable(
            f"was asked for candles from {format_utc(self.cursor_ms)} UTC on and repeated "
            f"{len(answer)} old ones ({format_utc(first)} to {format_utc(last)})"
        )

    def _end_or_probe(self, answer: Sequence[CandleRow], asked: int) -> None:
        # Kraken answers any question with its latest 720 candles, and what lies before them is not "no trades happened".
        # A full answer that reaches now and starts late looks like that: one more question, from a later time, tells.
        first = min(row[0] for row in answer)
        if len(answer) >= asked and first - self.cursor_ms >= self.length_ms and first + self.length_ms <= self.now_ms:
            self._probing = True
            self.cursor_ms = first + self.length_ms
        else:
            self.done = True

    def _end_probe(self, answer: Sequence[CandleRow]) -> None:
        first = min((row[0] for row in answer), default=self.cursor_ms)
        if first < self.cursor_ms:
            raise UsageError(
                f"was asked for candles from {format_utc(self.since_ms)} UTC on and keeps only the latest {len(answer)}, "
                f"from {format_utc(first)} UTC on: start later or use a longer timeframe"
            )
        self.done = True
