"""What a committed proposal means on the inside: orders placed, fills, refusals, as events with the ids of their bars."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from candlewick.cycle import Decided
from candlewick.journal_orders import entered_at
from candlewick.monitoring.events import (
    Event,
    OrderPlaced,
    SignalGenerated,
    SignalRejected,
    SignalValidated,
    TradeExecuted,
    TradeFailed,
    bar_id,
    event_id,
)
from candlewick.monitoring.interventions import Intervention
from candlewick.monitoring.signal_rules import RULES
from candlewick.strategies.contract import HOLD
from candlewick.timeframes import timeframe_ms


def ledger_events(decided: Decided, session_id: str, interventions: Iterable[Intervention] = ()) -> Iterator[Event]:
    """Orders first, as they were placed, then refusals, then fills in their sequence. ``interventions`` as they were applied."""
    account, orders = decided.start.account, decided.journal.orders
    length_ms = timeframe_ms(account.timeframe)
    known = set(decided.start.open_orders["client_order_id"].to_list())
    replaced = {(one.symbol, one.opened_at_ms): one for one in interventions}
    signalled = _signalled_ms(decided)

    for row in orders.iter_rows(named=True):
        order_id, symbol, at = row["client_order_id"], row["symbol"], row["decided_at"]
        opened_ms = signalled[order_id] - length_ms
        bar = bar_id(account.market, symbol, account.timeframe, opened_ms)
        shared = {"correlation_id": bar, "session_id": session_id, "symbol": symbol, "account": account.name}
        placed = event_id(OrderPlaced.kind, order_id)
        if order_id not in known:
            cause = _cause(account.name, symbol, opened_ms, replaced.get((symbol, opened_ms)))
            yield OrderPlaced(
                event_id=placed, causation_id=cause, at=at, client_order_id=order_id, side=row["side"], leg=row["leg"],
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
            correlation_id=bar_id(account.market, symbol, account.timeframe, signalled[order_id] - length_ms),
            causation_id=event_id(OrderPlaced.kind, order_id), at=row["bar_opened_at"], session_id=session_id, symbol=symbol,
            account=account.name, client_order_id=order_id, fill_id=row["fill_id"], side=row["side"], leg=row["leg"],
            price=row["price"], quantity=row["quantity"], notional=row["notional"], fee=row["fee"],
            realized_pnl=row["realized_pnl"],
        )  # fmt: skip


def _signalled_ms(decided: Decided) -> Mapping[str, int]:
    """Close of the bar whose signal each order follows from, in ms by order: a time stop's is that of the newest entry."""
    entered, found = entered_at(decided.start.account.symbols, decided.start.state), dict[str, int]()
    for frame in (decided.start.open_orders, decided.journal.orders):
        ordered = frame.select("client_order_id", "symbol", "leg", "filled_quantity", "decided_at").sort("decided_at")
        for order_id, symbol, leg, filled, at in ordered.iter_rows():
            at_ms = _ms(at)
            found[order_id] = entered.get(symbol, at_ms) if leg == "time_stop" else at_ms
            if leg == "entry" and filled:
                entered[symbol] = at_ms
    return found


def _cause(account: str, symbol: str, opened_ms: int, replaced: Intervention | None) -> str | None:
    """The event that led to an order: what was said to the signal at its bar; None where a limit acted and there was none."""
    generated = event_id(SignalGenerated.kind, account, symbol, opened_ms)
    if replaced is not None and replaced.rule in RULES:
        return event_id(SignalRejected.kind, generated, replaced.rule)
    if replaced is not None and replaced.action == HOLD:
        return None
    return event_id(SignalValidated.kind, generated)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
