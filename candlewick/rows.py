"""Rows of the ledger's tables as frames: column names and types as in candlewick/store/migrations.py, without bookkeeping."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

import polars as pl

TEXT, NUMBER, TIME, AMOUNT = pl.String(), pl.Int64(), pl.Datetime("us", "UTC"), pl.Decimal(38, 18)

Schema = Mapping[str, pl.DataType]
Value = str | int | Decimal | None
"""A cell before it is typed; times are int milliseconds since 1970 UTC."""

SIGNAL_ROW: Schema = {
    "signal_id": TEXT,
    "account": TEXT,
    "symbol": TEXT,
    "bar_opened_at": TIME,
    "decided_at": TIME,
    "action": TEXT,
    "entry": AMOUNT,
    "stop_loss": AMOUNT,
    "take_profit_1": AMOUNT,
    "take_profit_2": AMOUNT,
    "target_weight": AMOUNT,
    "reason": TEXT,
    "outcome": TEXT,
}
ORDER_ROW: Schema = {
    "client_order_id": TEXT,
    "account": TEXT,
    "symbol": TEXT,
    "signal_id": TEXT,
    "sequence": NUMBER,
    "leg": TEXT,
    "side": TEXT,
    "kind": TEXT,
    "decided_at": TIME,
    "budget": AMOUNT,
    "quantity": AMOUNT,
    "price": AMOUNT,
    "status": TEXT,
    "closed_at": TIME,
    "rule": TEXT,
    "rule_limit": AMOUNT,
    "rule_value": AMOUNT,
    "reason": TEXT,
    "filled_quantity": AMOUNT,
    "fills": pl.Int32(),
    "expires_at": TIME,
}
FILL_ROW: Schema = {
    "fill_id": TEXT,
    "account": TEXT,
    "symbol": TEXT,
    "client_order_id": TEXT,
    "sequence": NUMBER,
    "leg": TEXT,
    "side": TEXT,
    "bar_opened_at": TIME,
    "phase": TEXT,
    "reference_price": AMOUNT,
    "price": AMOUNT,
    "quantity": AMOUNT,
    "notional": AMOUNT,
    "fee": AMOUNT,
    "realized_pnl": AMOUNT,
    "reason": TEXT,
    "position_side": TEXT,
}
POSTING_ROW: Schema = {
    "posting_id": TEXT,
    "account": TEXT,
    "transaction_id": TEXT,
    "ledger_account": TEXT,
    "asset": TEXT,
    "amount": AMOUNT,
    "market_at": TIME,
}
POSITION_ROW: Schema = {
    "account": TEXT,
    "symbol": TEXT,
    "quantity": AMOUNT,
    "entry_price": AMOUNT,
    "cost": AMOUNT,
    "stop_loss": AMOUNT,
    "take_profit_1": AMOUNT,
    "take_profit_2": AMOUNT,
    "last_price": AMOUNT,
    "opened_at": TIME,
    "side": TEXT,
    "margin": AMOUNT,
    "liquidation_price": AMOUNT,
    "trailing_stop": AMOUNT,
}
EQUITY_ROW: Schema = {
    "account": TEXT,
    "at": TIME,
    "equity": AMOUNT,
    "cash": AMOUNT,
    "position_value": AMOUNT,
    "drawdown_share": AMOUNT,
    "open_positions": pl.Int32(),
}
EVENT_ROW: Schema = {"account": TEXT, "sequence": NUMBER, "at": TIME, "kind": TEXT, "symbol": TEXT, "document": TEXT}
ACCOUNT_ROW: Schema = {
    "account": TEXT,
    "market": TEXT,
    "timeframe": TEXT,
    "symbols": TEXT,
    "quote": TEXT,
    "initial_cash": AMOUNT,
    "anchor_at": TIME,
}
TERMS_ROW: Schema = {
    "account": TEXT,
    "version": pl.Int32(),
    "effective_from": TIME,
    "strategy": TEXT,
    "parameters": TEXT,
    "rules": TEXT,
    "instruments": TEXT,
    "lifts_halt": pl.Boolean(),
}
RUN_ROW: Schema = {
    "run_id": TEXT,
    "account": TEXT,
    "flow_run_id": TEXT,
    "correlation_id": TEXT,
    "status": TEXT,
    "error": TEXT,
    "started_at": TIME,
    "completed_at": TIME,
    "watermark_before": TIME,
    "watermark_at": TIME,
    "bars": NUMBER,
    "code_version": TEXT,
    "candle_digests": TEXT,
    "durations_s": TEXT,
    "notices": TEXT,
}
CHECKPOINT_ROW: Schema = {
    "account": TEXT,
    "version": NUMBER,
    "watermark_at": TIME,
    "seen": TEXT,
    "state": TEXT,
    "candle_digests": TEXT,
}


def frame(rows: Sequence[Mapping[str, Value]], schema: Schema) -> pl.DataFrame:
    """Rows as a frame of that schema; a column that a row leaves out is null. Times are int milliseconds, or datetimes."""
    return pl.DataFrame([_column(name, kind, [row.get(name) for row in rows]) for name, kind in schema.items()])


def _column(name: str, kind: pl.DataType, values: list[Value]) -> pl.Series:
    if kind == TIME and not any(isinstance(value, str) for value in values):
        known = next((value for value in values if value is not None), 0)
        if isinstance(known, int):
            return pl.Series(name, values, dtype=pl.Int64).cast(pl.Datetime("ms", "UTC")).cast(TIME)
    return pl.Series(name, values, dtype=kind)
