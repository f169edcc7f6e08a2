"""What the reports draw: one account as frames, read in one transaction. Columns as in candlewick/store/migrations.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import polars as pl

from candlewick.metrics import AMOUNT
from candlewick.trades import PAYMENT_SCHEMA, funding_payments

_STOP_MOVE_SCHEMA: Mapping[str, pl.DataType] = {
    "client_order_id": pl.String(),
    "at": pl.Datetime("us", "UTC"),
    "price": AMOUNT,
    "reference_price": AMOUNT,
}


def _no_payments() -> pl.DataFrame:
    return pl.DataFrame(schema={**PAYMENT_SCHEMA, "sequence": pl.Int64()})


def _no_stop_moves() -> pl.DataFrame:
    return pl.DataFrame(schema=dict(_STOP_MOVE_SCHEMA))


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account with all its rows. Amount columns are pl.Decimal, times pl.Datetime("us", "UTC").

    ``symbols`` in the account's order; ``candles`` by symbol in CANDLE_SCHEMA, from the anchor to the watermark. ``funding`` as
    `trades.funding_payments` answers it, ``stop_moves`` as `stop_moves` does, both of the account's events.
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
    funding: pl.DataFrame = field(default_factory=_no_payments)
    stop_moves: pl.DataFrame = field(default_factory=_no_stop_moves)


def stop_moves(events: pl.DataFrame) -> pl.DataFrame:
    """The moves of stops among a ledger's events (EVENT_ROW): from ``reference_price`` to ``price``, in their order."""
    told = {name: pl.col("document").str.json_path_match(f"$.{name}") for name in _STOP_MOVE_SCHEMA if name != "at"}
    moved = events.filter(pl.col("kind") == "stop_moved").sort("sequence").select("at", **told)
    return moved.select(pl.col(name).cast(kind) for name, kind in _STOP_MOVE_SCHEMA.items())


def told_by_events(events: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The fields of a view that its events fill."""
    return {"funding": funding_payments(events), "stop_moves": stop_moves(events)}
