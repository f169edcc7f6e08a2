"""Walking through a market's pages of funding payments. Pure: it is given each page and says what to ask next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from candlewick.errors import MarketUnavailable, UsageError
from candlewick.funding import HOUR_TOLERANCE_MS, RAW_FUNDING_SCHEMA
from candlewick.timeframes import DAY_MS, format_utc

FundingRow = tuple[int, float]
"""The exchange's time stamp in milliseconds, and the rate; NaN where it is not a number."""

# No perpetual pays less often than daily: a first payment later than this after the start is a listing, or a page cut short.
_LATE_MS = DAY_MS + HOUR_TOLERANCE_MS


def parse_funding_rows(raw: object) -> list[FundingRow]:
    """Rows of one answer: ccxt's structures with ``timestamp`` and ``fundingRate``.

    Raises MarketUnavailable where the answer is not a list of those.
    """
    if not isinstance(raw, Sequence) or isinstance(raw, str | bytes):
        raise MarketUnavailable(f"answered with {type(raw).__name__} where a list of funding rates was expected")
    return [_parse_row(row) for row in raw]


def _parse_row(row: object) -> FundingRow:
    noted_at, rate = (row.get("timestamp"), row.get("fundingRate")) if isinstance(row, Mapping) else (None, None)
    if not isinstance(noted_at, int) or not isinstance(rate, int | float | None):
        raise MarketUnavailable(f"answered with a row that is no funding rate: {str(row)[:80]}")
    return noted_at, float("nan") if rate is None else float(rate)


@dataclass(slots=True)
class FundingWalk:
    """The state of one walk over the payments due in ``since_ms <= t < until_ms``, a little wider, since time stamps jitter.

    Ask for payments from ``cursor_ms`` on (and up to ``ask_until_ms``, where that is not None), hand the answer to ``take``,
    until ``done``. Every ``take`` moves on or ends the walk. A page need not be full: exchanges give fewer rows than asked for.

    An exchange may list its newest payments first and so leave out those after ``since_ms``. Unless ``is_onwards`` says that it
    does not, a head that is missing is asked for by its end, page by page backwards.
    """

    since_ms: int
    until_ms: int
    page_limit: int = 100
    is_onwards: bool = False
    cursor_ms: int = field(init=False)
    ask_until_ms: int | None = field(init=False, default=None)
    done: bool = field(init=False)
    rows: list[FundingRow] = field(init=False, default_factory=list)
    _answers: int = field(init=False, default=0)
    _could_be_cut: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.cursor_ms = self._start_ms
        self.done = self.since_ms >= self.until_ms

    @property
    def _start_ms(self) -> int:
        return max(0, self.since_ms - HOUR_TOLERANCE_MS)

    def take(self, answer: Sequence[FundingRow]) -> None:
        """Take one answer. Raises UsageError where the exchange tells its newest payments only, and older ones are due."""
        if self.ask_until_ms is None:
            self._take_onwards(answer)
        else:
            self._take_backwards(answer)

    def _take_onwards(self, answer: Sequence[FundingRow]) -> None:
        """No payment from the cursor on, or one past the end, ends the way forward."""
        fresh = [row for row in answer if row[0] >= self.cursor_ms]
        end_ms = self.until_ms + HOUR_TOLERANCE_MS
        self._answers += bool(fresh)
        self._could_be_cut = self._answers == 1 and (self._could_be_cut or len(answer) >= self.page_limit)
        self.rows.extend(row for row in fresh if row[0] < end_ms)
        self.cursor_ms = max((row[0] for row in fresh), default=self.cursor_ms) + 1
        if not fresh or self.cursor_ms >= end_ms:
            first_ms = min((row[0] for row in [*self.rows, *fresh]), default=self._start_ms)
            self._ask_before(first_ms)

    def _ask_before(self, first_ms: int) -> None:
        self.done = self.is_onwards or first_ms <= self.since_ms + HOUR_TOLERANCE_MS
        if not self.done:
            self.cursor_ms, self.ask_until_ms = self._start_ms, first_ms - 1

    def _take_backwards(self, answer: Sequence[FundingRow]) -> None:
        assert self.ask_until_ms is not None, "no head is missing"
        fresh = [row for row in answer if self._start_ms <= row[0] <= self.ask_until_ms]
        if fresh:
            end_ms = self.until_ms + HOUR_TOLERANCE_MS
            self.rows.extend(row for row in fresh if row[0] < end_ms)
            self._ask_before(min(row[0] for row in fresh))
        elif answer and self._could_be_cut and self.ask_until_ms > self.since_ms + _LATE_MS:
            raise UsageError(
                f"was asked for funding from {format_utc(self.since_ms)} UTC on and tells only its newest {len(answer)} "
                f"payments, from {format_utc(self.ask_until_ms + 1)} UTC on: start later"
            )
        else:
            self.done = True

    def funding(self) -> pl.DataFrame:
        """What was walked over, in RAW_FUNDING_SCHEMA."""
        table = np.array(self.rows, dtype=np.float64).reshape(-1, 2)
        noted_at = pl.Series(table[:, 0].astype(np.int64)).cast(RAW_FUNDING_SCHEMA["noted_at"])
        return pl.DataFrame({"noted_at": noted_at, "rate": table[:, 1]}, schema=dict(RAW_FUNDING_SCHEMA))
