"""Walking through a market's pages of funding payments. Pure: it is given each page and says what to ask next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from candlewick.errors import MarketUnavailable
from candlewick.funding import HOUR_TOLERANCE_MS, RAW_FUNDING_SCHEMA

FundingRow = tuple[int, float]
"""The exchange's time stamp in milliseconds, and the rate; NaN where it is not a number."""


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

    Ask for payments from ``cursor_ms`` on, hand the answer to ``take``, until ``done``. Every ``take`` moves the cursor forward
    or ends the walk. A page need not be full: exchanges give fewer rows than they are asked for.
    """

    since_ms: int
    until_ms: int
    cursor_ms: int = field(init=False)
    done: bool = field(init=False)
    rows: list[FundingRow] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.cursor_ms = max(0, self.since_ms - HOUR_TOLERANCE_MS)
        self.done = self.since_ms >= self.until_ms

    def take(self, answer: Sequence[FundingRow]) -> None:
        """Take one answer. No payment from the cursor on, or one past the end, ends the walk."""
        fresh = [row for row in answer if row[0] >= self.cursor_ms]
        end_ms = self.until_ms + HOUR_TOLERANCE_MS
        self.rows.extend(row for row in fresh if row[0] < end_ms)
        self.cursor_ms = max((row[0] for row in fresh), default=self.cursor_ms) + 1
        self.done = not fresh or self.cursor_ms >= end_ms

    def funding(self) -> pl.DataFrame:
        """What was walked over, in RAW_FUNDING_SCHEMA."""
        table = np.array(self.rows, dtype=np.float64).reshape(-1, 2)
        noted_at = pl.Series(table[:, 0].astype(np.int64)).cast(RAW_FUNDING_SCHEMA["noted_at"])
        return pl.DataFrame({"noted_at": noted_at, "rate": table[:, 1]}, schema=dict(RAW_FUNDING_SCHEMA))
