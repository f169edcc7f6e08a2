"""Columns of the kinds that are not candles (those have CANDLE_SCHEMA) and not funding (FUNDING_SCHEMA), as they travel."""

from collections.abc import Mapping

import polars as pl

OPEN_INTEREST_SCHEMA: Mapping[str, pl.DataType] = {
    "opened_at": pl.Datetime("ms", "UTC"),
    "open_interest": pl.Float64(),
    "open_interest_value": pl.Float64(),
}
"""When it was noted, on the timeframe's grid; how much is open, in base currency or contracts as the exchange counts; and in
quote currency (null: not told)."""

TRADES_SCHEMA: Mapping[str, pl.DataType] = {
    "traded_at": pl.Datetime("ms", "UTC"),
    "trade_id": pl.String(),
    "price": pl.Float64(),
    "amount": pl.Float64(),
    "side": pl.String(),
}
"""A trade: when, the exchange's id of it (one symbol has no id twice), price in quote currency, amount in base currency, and
the taker's side, `buy` or `sell` (null: not told)."""


def empty_open_interest() -> pl.DataFrame:
    """A frame with no rows."""
    return pl.DataFrame(schema=dict(OPEN_INTEREST_SCHEMA))


def empty_trades() -> pl.DataFrame:
    """A frame with no rows."""
    return pl.DataFrame(schema=dict(TRADES_SCHEMA))
