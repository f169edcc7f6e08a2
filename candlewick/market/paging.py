"""Walking through a market's pages of candles, from a time to an end. Pure: it is given each page and says what to ask next."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from candlewick.candles import CANDLE_SCHEMA, CandlePage, FormingBar
from candlewick.errors import CandlesNotKept, MarketUnavailable
from candlewick.timeframes import floor_to_bar, format_utc, timeframe_ms

CandleRows = npt.NDArray[np.float64]
"""Shape (rows, 6): open time in milliseconds (exact in a float64 for 285,000 years), open, high, low, close (quote currency),
volume (base currency); NaN where a value is missing."""

Answers = Literal["onwards", "window", "latest", "unknown"]


@dataclass(frozen=True, slots=True)
class PageManners:
    """How an exchange answers a question for ``limit`` candles from a time on, both ends in open times.

    ``answers``: ``onwards`` gives the first candles there are from that time on, wherever they are; ``window`` those of the next
    ``limit`` buckets of time, which may be none; ``latest`` always its newest ``page_limit`` ones with the forming bar, whatever
    is asked; ``unknown`` any of the three. ``newest_first``: the rows of a page come in falling order of time.
    """

    page_limit: int
    answers: Answers = "unknown"
    newest_first: bool = False


def parse_rows(raw: object) -> CandleRows:
    """Rows of one answer, in the order received. A value that is missing becomes NaN, for validation to judge.

    Raises MarketUnavailable where the answer is not a list of rows with an open time and five values.
    """
    if not isinstance(raw, Sequence) or isinstance(raw, str | bytes):
        raise MarketUnavailable(f"answered with {type(raw).__name__} where a list of candles was expected")
    try:
        rows = np.array(raw, dtype=np.float64).reshape(len(raw), -1)
    except (TypeError, ValueError, OverflowError):
        rows = np.empty((len(raw), 0))
    if not raw:
        return np.empty((0, len(CANDLE_SCHEMA)))
    if rows.shape[1] != len(CANDLE_SCHEMA) or not np.isfinite(rows[:, 0]).all():
        raise MarketUnavailable(f"answered with a row that is no candle: {str(_strange_row(raw))[:80]}")
    return rows


def _strange_row(rows: Sequence[object]) -> object:
    """The first row that is no list of an open time and five numbers."""
    for row in rows:
        if not isinstance(row, Sequence) or isinstance(row, str | bytes) or len(row) != len(CANDLE_SCHEMA):
            return row
        if not isinstance(row[0], int | float) or not all(isinstance(value, int | float | None) for value in row):
            return row
    return rows[0]


@dataclass(slots=True)
class PageWalk:
    """The state of one walk over ``since_ms <= opened_at``, closed at ``now_ms``, in pages of an exchange with such ``manners``.

    Ask for ``limit`` rows from ``cursor_ms`` on, hand the answer to ``take``, until ``done``. An empty answer is believed when
    it comes twice; every other ``take`` moves the cursor forward or ends the walk or raises, so it ends whatever the exchange
    does. Stopping early is always safe: the rows are then a beginning of the span, and the next walk continues after them.

    ``now_ms`` on the border of two bars, such as the end of a chunk: nothing of the next bar has traded by then, and the
    forming bar is not asked for. So n full pages of candles cost n questions.
    """

    timeframe: str
    since_ms: int
    now_ms: int
    manners: PageManners
    cursor_ms: int = field(init=False)
    done: bool = field(init=False, default=False)
    forming: FormingBar | None = field(init=False, default=None)
    length_ms: int = field(init=False)
    _pages: list[CandleRows] = field(init=False, default_factory=list)
    _shows_forming: bool = field(init=False)
    _was_empty: bool = field(init=False, default=False)
    _probing: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.length_ms = timeframe_ms(self.timeframe)
        self._shows_forming = floor_to_bar(self.now_ms, self.timeframe) != self.now_ms
        self._move(self.since_ms)

    @property
    def limit(self) -> int:
        """Rows to ask for: the closed ones; where a bar is forming that one and one to spare, too; at most a page."""
        closed = (self.now_ms - self.cursor_ms) // self.length_ms
        return min(self.manners.page_limit, closed + 2 if self._shows_forming else closed)

    @property
    def question(self) -> tuple[int, int]:
        """From which open time on, and how many rows at the most."""
        return self.cursor_ms, self.limit

    @property
    def first_ms(self) -> int | None:
        """Open time of the first closed row so far; None where there is none, or it is not certain that none is before it."""
        times = [float(page[:, 0].min()) for page in self._pages if len(page)]
        return None if self._probing or not times else int(min(times))

    @property
    def window_end_ms(self) -> int:
        """Open time of the first bar after those that are asked for."""
        return self.cursor_ms + self.limit * self.length_ms

    def take(self, answer: CandleRows) -> None:
        """Take one answer to (``cursor_ms``, ``limit``).

        Raises MarketUnavailable (candles are due and it repeats old ones), CandlesNotKept (the exchange has none that old).
        """
        if self._probing:
            self._end_probe(answer)
        elif not len(answer):
            self._take_nothing()
        elif self.manners.answers == "latest":
            self._take_latest(answer)
        elif self.manners.answers == "window":
            self._take_window(self._in_order(answer))
        else:
            self._take_onwards(self._in_order(answer))

    def table(self) -> CandleRows:
        """The closed rows as received."""
        return np.concatenate(self._pages) if self._pages else np.empty((0, len(CANDLE_SCHEMA)))

    def page(self) -> CandlePage:
        """What was walked over: closed candles as received, and the forming bar once it has traded."""
        table = self.table()
        columns = {name: np.ascontiguousarray(table[:, at]) for at, name in enumerate(CANDLE_SCHEMA)}
        candles = pl.DataFrame(columns | {"opened_at": columns["opened_at"].astype(np.int64)})
        return CandlePage(candles.cast({"opened_at": CANDLE_SCHEMA["opened_at"]}), self.forming)

    def _in_order(self, answer: CandleRows) -> CandleRows:
        """Oldest first, without sorting: a row out of place stays out of place, for validation to see."""
        newest_first = self.manners.newest_first
        if self.manners.answers == "unknown" and len(answer) > 1:
            newest_first = bool((np.diff(answer[:, 0]) < 0).all())
        return answer[::-1] if newest_first else answer

    def _keep(self, rows: CandleRows) -> int:
        """Keep the closed rows and see the forming one; how many are closed.

        Before a bar's first trade Binance shows the previous close as its open, with volume zero; that is not an open.
        """
        closed = rows[:, 0] + self.length_ms <= self.now_ms
        forming = rows[(rows[:, 0] <= self.now_ms) & ~closed] if self._shows_forming else rows[:0]
        if len(forming):
            opened_at_ms, open_, volume = int(forming[-1, 0]), float(forming[-1, 1]), forming[-1, 5]
            self.forming = FormingBar(opened_at_ms, open_) if volume > 0 else None
        self._pages.append(rows[closed])
        return int(closed.sum())

    def _take_nothing(self) -> None:
        """Asked again first: a hiccup must not be taken for a market without trades. The second time it is the answer."""
        if not self._was_empty:
            self._was_empty = True
        elif self.manners.answers in ("onwards", "latest"):
            self.done = True
        else:
            self._move(self.window_end_ms)

    def _take_window(self, answer: CandleRows) -> None:
        end_ms = self.window_end_ms
        fresh = answer[(answer[:, 0] >= self.cursor_ms) & (answer[:, 0] < end_ms)]
        if not len(fresh):
            self._refuse_repeat(answer)
            return
        self._keep(fresh)
        self._move(end_ms)

    def _take_onwards(self, answer: CandleRows) -> None:
        asked, end_ms = self.limit, self.window_end_ms
        fresh = answer[answer[:, 0] >= self.cursor_ms]
        if not len(fresh):
            self._refuse_repeat(answer)
            return
        if self._keep(fresh) < len(fresh):
            self._end_or_probe(answer, asked)
            return
        self._move(int(fresh[:, 0].max()) + self.length_ms)
        # A short page that reaches the last closed bar: the market shows no forming bar, asking again brings nothing.
        self.done = self.done or (self._only_forming_left() and len(answer) < asked and end_ms > self.now_ms)

    def _take_latest(self, answer: CandleRows) -> None:
        """All there is, in one answer. It always ends with the forming bar; one that does not reach there is an old one."""
        first_ms, last_ms = int(answer[:, 0].min()), int(answer[:, 0].max())
        if last_ms + 2 * self.length_ms <= self.now_ms:
            self._refuse_repeat(answer)
        if len(answer) >= self.manners.page_limit and first_ms > self.cursor_ms:
            raise self._not_kept(len(answer), first_ms)
        self._keep(answer[answer[:, 0] >= self.cursor_ms])
        self.done = True

    def _only_forming_left(self) -> bool:
        return self.cursor_ms + self.length_ms > self.now_ms

    def _move(self, cursor_ms: int) -> None:
        self.cursor_ms, self._was_empty = cursor_ms, False
        self.done = cursor_ms > self.now_ms if self._shows_forming else self._only_forming_left()

    def _refuse_repeat(self, answer: CandleRows) -> None:
        if self._only_forming_left():
            self.done = True
            return
        first, last = int(answer[:, 0].min()), int(answer[:, 0].max())
        raise MarketUnavailable(
            f"was asked for candles from {format_utc(self.cursor_ms)} UTC on and repeated "
            f"{len(answer)} old ones ({format_utc(first)} to {format_utc(last)})"
        )

    def _end_or_probe(self, answer: CandleRows, asked: int) -> None:
        # An exchange that answers any question with its latest candles: what lies before them is not "no trades happened".
        # A full answer that reaches the end and starts late looks like that: one more question, from a later time, tells.
        first = int(answer[:, 0].min())
        late = len(answer) >= asked and first - self.cursor_ms >= self.length_ms and first + self.length_ms <= self.now_ms
        if late and self.manners.answers == "unknown":
            self._probing = True
            self.cursor_ms = first + self.length_ms
        else:
            self.done = True

    def _end_probe(self, answer: CandleRows) -> None:
        first = int(answer[:, 0].min()) if len(answer) else self.cursor_ms
        if first < self.cursor_ms:
            raise self._not_kept(len(answer), first)
        self.done = True

    def _not_kept(self, kept: int, first_ms: int) -> CandlesNotKept:
        return CandlesNotKept(
            f"was asked for candles from {format_utc(self.since_ms)} UTC on and keeps only the newest {kept} candles of "
            f"{self.timeframe}, from {format_utc(first_ms)} UTC on: start later, use a longer timeframe, or collect trades",
            first_ms,
        )
