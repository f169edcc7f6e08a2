"""Open interest as exchanges tell it: rows like those of candles, so that they are walked over in the same way."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from candlewick.candles import CANDLE_SCHEMA
from candlewick.errors import MarketUnavailable
from candlewick.market.paging import CandleRows
from candlewick.market_data.schemas import OPEN_INTEREST_SCHEMA


def parse_open_interest(raw: object) -> CandleRows:
    """Rows of one answer of ccxt's structures: time, amount and value in the first three of a candle row's columns.

    Raises MarketUnavailable where the answer is not a list of those.
    """
    if not isinstance(raw, Sequence) or isinstance(raw, str | bytes):
        raise MarketUnavailable(f"answered with {type(raw).__name__} where a list of open interest was expected")
    table = np.full((len(raw), len(CANDLE_SCHEMA)), np.nan)
    for number, row in enumerate(raw):
        told = _told(row)
        if told is None:
            raise MarketUnavailable(f"answered with a row that is no open interest: {str(row)[:80]}")
        table[number, :3] = told
    return table


def _told(row: object) -> tuple[int, float, float] | None:
    if not isinstance(row, Mapping):
        return None
    time, amount, value = (row.get(name) for name in ("timestamp", "openInterestAmount", "openInterestValue"))
    if not isinstance(time, int) or not isinstance(amount, int | float | None) or not isinstance(value, int | float | None):
        return None
    if amount is None and value is None:
        return None
    return time, np.nan if amount is None else float(amount), np.nan if value is None else float(value)


def open_interest_frame(table: CandleRows, since_ms: int, until_ms: int) -> pl.DataFrame:
    """Rows of ``parse_open_interest`` with ``since_ms <= opened_at < until_ms``, in OPEN_INTEREST_SCHEMA; null where not told."""
    table = table[(table[:, 0] >= since_ms) & (table[:, 0] < until_ms)]
    frame = pl.DataFrame(
        {
            "opened_at": table[:, 0].astype(np.int64),
            "open_interest": np.ascontiguousarray(table[:, 1]),
            "open_interest_value": np.ascontiguousarray(table[:, 2]),
        }
    )
    return frame.cast(pl.Schema(OPEN_INTEREST_SCHEMA)).fill_nan(None)
