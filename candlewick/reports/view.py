"""What the reports draw: one account as frames, read in one transaction. Columns as in candlewick/store/migrations.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import polars as pl


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account with all its rows. Amount columns are pl.Decimal, times pl.Datetime("us", "UTC").

    ``symbols`` in the account's order; ``candles`` by symbol in CANDLE_SCHEMA, from the anchor to the watermark.
    """

    account: str
    market: str
    timeframe: str
    symbols: tuple[str, ...]
    quote: str
    initial_cash: Decimal
    anchor_at: datetime
    watermark_at: datetime | None
    strategy: str
    parameters: Mapping[str, str | int | float | bool]
    signals: pl.DataFrame
    orders: pl.DataFrame
    fills: pl.DataFrame
    positions: pl.DataFrame
    equity: pl.DataFrame
    runs: pl.DataFrame
    candles: Mapping[str, pl.DataFrame]
