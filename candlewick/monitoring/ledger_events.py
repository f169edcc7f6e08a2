"""What a committed proposal means on the inside: orders placed, fills, refusals, as events with the ids of their bars."""

from collections.abc import Iterator
from datetime import datetime

import polars as pl

from candlewick.cycle import Decided
from candlewick.monitoring.events import Event, OrderPlaced, SignalGenerated, TradeExecuted, TradeFailed, bar_id, event_id
from candlewick.timeframes import timeframe_ms


def ledger_events(decided: Decided, session_id: str) -> Iterator[Event]:
    """Orders first, as they were placed, then refusals, then fills in their sequence."""
    account, orders = decided.start.account, decided.journal.orders
    length_ms = timeframe_ms(account.timeframe)
    known = set(decided.start.open_orders["client_order_id"].to_list())
    decided_at = {
        str(row["client_order_id"]): row["decided_at"]
        for row in pl.concat([decided.start.open_orders.select(orders.columns), orders]).iter_rows(named=True)
    }

    def correlation(symbol: str, at: datetime) -> str:
        return bar_id(account.market, symbol, account.timeframe, round(at.timestamp() * 1000) - length_ms)

    for row in orders.iter_rows(named=True):
        order_id, symbol, at = row["client_order_id"], row["symbol"], row["decided_at"]
        shared = {"correlation_id": correlation(symbol, at), "session_id": session_id, "symbol": symbol, "account": account.name}
        placed = event_id(OrderPlaced.kind, order_id)
        if order_id not in known:
            signal = event_id(SignalGenerated.kind, account.name, symbol, round(at.timestamp() * 1000) - length_ms)
            yield OrderPlaced(
                event_id=placed, causation_id=signal, at=at, client_order_id=order_id, side=row["side"], leg=row["leg"],
                order_kind=row["kind"], budget=row["budget"], quantity=row["quantity"], **shared,
            )  # fmt: skip
        if row["status"] == "refused":
            yield TradeFailed(
                event_id=event_id(TradeFailed.kind, order_id), causation_id=placed, at=row["closed_at"] or at,
                client_order_id=order_id, error=row["reason"] or "refused", rule=row["rule"], limit=_text(row["rule_limit"]),
                value=_text(row["rule_value"]), **shared,
            )  # fmt: skip
    for row in decided.journal.fills.iter_rows(named=True):
        order_id, symbol = row["client_order_id"], row["symbol"]
        yield TradeExecuted(
            event_id=event_id(TradeExecuted.kind, row["fill_id"]),
            correlation_id=correlation(symbol, decided_at[order_id]),
            causation_id=event_id(OrderPlaced.kind, order_id), at=row["bar_opened_at"], session_id=session_id, symbol=symbol,
            account=account.name, client_order_id=order_id, fill_id=row["fill_id"], side=row["side"], leg=row["leg"],
            price=row["price"], quantity=row["quantity"], notional=row["notional"], fee=row["fee"],
            realized_pnl=row["realized_pnl"],
        )  # fmt: skip


def _text(value: object) -> str | None:
    return None if value is None else str(value)
