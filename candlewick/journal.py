"""The journal: the engine's events become rows of the ledger, with the columns of candlewick/store/migrations.py.

Bookkeeping columns (`run_id`, `posted_at`, `recorded_at`) are not part of it: the store adds them as it writes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import polars as pl

from candlewick.amounts import amount_column, from_units, plain, to_units
from candlewick.engine.layout import CASH_DECIMALS, EVENT, Kind, Leg, Outcome, Phase, Rule
from candlewick.engine.state import EngineState
from candlewick.engine.terms import Records, Terms, price_decimals, quantity_decimals
from candlewick.identity import client_order_id, signal_id
from candlewick.rows import EVENT_ROW, FILL_ROW, ORDER_ROW, POSITION_ROW, POSTING_ROW, SIGNAL_ROW, TIME, Value, frame
from candlewick.timeframes import format_utc, timeframe_ms

_COUNTS = (Rule.COOLDOWN, Rule.MAX_OPEN_POSITIONS)
_CASH = (Rule.INSUFFICIENT_CASH, Rule.MIN_NOTIONAL)
_PRICES = (Rule.STOP_BEYOND_ENTRY, Rule.TARGET_BEYOND_ENTRY)
_ORDER_KIND = {Leg.ENTRY: "market", Leg.EXIT: "market", Leg.STOP: "stop", Leg.TARGET_1: "limit", Leg.TARGET_2: "limit"}
_EVENT_FIELDS = EVENT.names or ()


@dataclass(frozen=True, slots=True)
class Journal:
    """Rows by table, in the order of their sequence; without bookkeeping columns."""

    signals: pl.DataFrame
    orders: pl.DataFrame
    fills: pl.DataFrame
    postings: pl.DataFrame
    positions: pl.DataFrame
    equity: pl.DataFrame
    events: pl.DataFrame


@dataclass(slots=True)
class _Writer:
    """Collects rows while the events are read in order."""

    account: str
    strategy: str
    terms: Terms
    orders: dict[str, dict[str, Value]]
    touched: dict[str, None] = field(default_factory=dict)
    signals: list[dict[str, Value]] = field(default_factory=list)
    fills: list[dict[str, Value]] = field(default_factory=list)
    postings: list[dict[str, Value]] = field(default_factory=list)
    events: list[dict[str, Value]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Event:
    """One engine event with its amounts as exact decimals."""

    sequence: int
    kind: Kind
    at: int
    symbol: str | None
    base: str
    leg: Leg
    decided_at: int
    phase: Phase
    price: Decimal
    reference_price: Decimal
    quantity: Decimal
    notional: Decimal
    fee: Decimal
    realized: Decimal
    budget: Decimal
    rule: Rule
    rule_limit: Decimal
    rule_value: Decimal
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Segment:
    """What the engine did under one version of the terms; ``signals`` are the completed frames by symbol of that version."""

    strategy: str
    terms: Terms
    signals: Mapping[str, pl.DataFrame]
    events: Records
    equity: Records


def write_journal(account: str, segments: Sequence[Segment], state: EngineState, open_orders: pl.DataFrame) -> Journal:
    """Rows for what happened. ``segments`` in their order in time, ``state`` the state after the last.

    ``open_orders``: the ledger's order rows that were open before, which events may now close.
    """
    # Times as integers, as in rows that are made here: one frame holds both.
    waiting = open_orders.with_columns(pl.selectors.datetime().dt.epoch("ms"))
    orders = {str(row["client_order_id"]): row for row in waiting.iter_rows(named=True)}
    writer = _Writer(account, segments[0].strategy, segments[0].terms, orders)
    for segment in segments:
        writer.strategy, writer.terms = segment.strategy, segment.terms
        decided = _decided_signals(segment)
        for event in _decoded(segment.events, segment.terms):
            _HANDLERS[event.kind](writer, event)
            writer.events.append(_event_row(writer, event))
            if event.kind is Kind.SIGNAL:
                writer.signals.append(_signal_row(writer, event, decided))
    return Journal(
        signals=frame(writer.signals, SIGNAL_ROW),
        orders=frame([writer.orders[key] for key in writer.touched], ORDER_ROW),
        fills=frame(writer.fills, FILL_ROW),
        postings=frame(writer.postings, POSTING_ROW),
        positions=_position_rows(account, segments[-1].terms, state),
        equity=_equity_rows(account, np.concatenate([segment.equity for segment in segments])),
        events=frame(writer.events, EVENT_ROW),
    )


def opening_postings(account: str, quote: str, cash: Decimal, anchor_ms: int) -> pl.DataFrame:
    """The deposit that an account starts with: one balanced transaction."""
    transaction = f"{account}-deposit"
    legs = (("assets:cash", cash), ("equity:deposits", -cash))
    rows = [_posting(account, transaction, n, name, quote, amount, anchor_ms) for n, (name, amount) in enumerate(legs, 1)]
    return frame(rows, POSTING_ROW)


def _decoded(events: Records, terms: Terms) -> Iterable[_Event]:
    grids = [(i.symbol, i.base, price_decimals(i), quantity_decimals(i)) for i in terms.instruments]
    for values in events.tolist():
        raw = dict(zip(_EVENT_FIELDS, values, strict=True))
        whole_account = (None, "", CASH_DECIMALS, CASH_DECIMALS)
        symbol, base, prices, quantities = grids[raw["symbol"]] if raw["symbol"] >= 0 else whole_account
        rule = Rule(raw["rule"])
        unit = 0 if rule in _COUNTS else prices if rule in _PRICES else quantities if rule is Rule.MIN_QUANTITY else CASH_DECIMALS
        yield _Event(
            sequence=raw["sequence"],
            kind=Kind(raw["kind"]),
            at=raw["at"],
            symbol=symbol,
            base=base,
            leg=Leg(raw["leg"]),
            decided_at=raw["decided_at"],
            phase=Phase(raw["phase"]),
            price=from_units(raw["price"], prices),
            reference_price=from_units(raw["reference_price"], prices),
            quantity=from_units(raw["quantity"], quantities),
            notional=from_units(raw["notional"], CASH_DECIMALS),
            fee=from_units(raw["fee"], CASH_DECIMALS),
            realized=from_units(raw["realized"], CASH_DECIMALS),
            budget=from_units(raw["budget"], CASH_DECIMALS),
            rule=rule,
            rule_limit=from_units(raw["rule_limit"], unit),
            rule_value=from_units(raw["rule_value"], unit),
            outcome=Outcome(raw["outcome"]),
        )


def _order_id(writer: _Writer, event: _Event) -> str:
    return client_order_id(writer.account, writer.strategy, str(event.symbol), event.decided_at, event.leg.name.lower())


def _order(writer: _Writer, event: _Event) -> dict[str, Value]:
    """The order's row, opened now if the ledger does not have it yet."""
    key = _order_id(writer, event)
    writer.touched[key] = None
    if key not in writer.orders:
        writer.orders[key] = {
            "client_order_id": key,
            "account": writer.account,
            "symbol": event.symbol,
            "signal_id": signal_id(writer.account, str(event.symbol), event.decided_at),
            "sequence": event.sequence,
            "leg": event.leg.name.lower(),
            "side": "buy" if event.leg is Leg.ENTRY else "sell",
            "kind": _ORDER_KIND[event.leg],
            "decided_at": event.decided_at,
            "status": "open",
            "budget": event.budget if event.leg is Leg.ENTRY and event.budget else None,
            "quantity": event.quantity if event.quantity else None,
            "price": event.price if event.price else None,
        }
    return writer.orders[key]


def _quote(writer: _Writer) -> str:
    return writer.terms.instruments[0].quote


def _write_order(writer: _Writer, event: _Event) -> None:
    _order(writer, event)


def _write_refusal(writer: _Writer, event: _Event) -> None:
    limit, value = plain(event.rule_limit), plain(event.rule_value)
    _order(writer, event).update(
        status="refused",
        closed_at=event.at,
        rule=event.rule.name.lower(),
        rule_limit=event.rule_limit,
        rule_value=event.rule_value,
        reason=_REFUSALS[event.rule].format(symbol=event.symbol, limit=limit, value=value, quote=_quote(writer)),
    )


def _write_cancel(writer: _Writer, event: _Event) -> None:
    reason = "a sell signal came before the fill" if event.leg is Leg.ENTRY else "the position is closed"
    _order(writer, event).update(status="cancelled", closed_at=event.at, reason=reason)


def _write_stop_move(writer: _Writer, event: _Event) -> None:
    reason = f"moved from {plain(event.reference_price)} to the entry after the first target"
    _order(writer, event).update(price=event.price, reason=reason)


def _write_fill(writer: _Writer, event: _Event) -> None:
    reason = _fill_reason(writer, event)
    order = _order(writer, event)
    order.update(status="filled", closed_at=event.at, quantity=event.quantity, reason=reason)
    fill_id = f"{order['client_order_id']}.1"
    buying = event.leg is Leg.ENTRY
    writer.fills.append(
        {
            "fill_id": fill_id,
            "account": writer.account,
            "symbol": event.symbol,
            "client_order_id": order["client_order_id"],
            "sequence": event.sequence,
            "leg": event.leg.name.lower(),
            "side": "buy" if buying else "sell",
            "bar_opened_at": event.at,
            "phase": event.phase.name.lower(),
            "reference_price": event.reference_price,
            "price": event.price,
            "quantity": event.quantity,
            "notional": event.notional,
            "fee": event.fee,
            "realized_pnl": None if buying else event.realized,
            "reason": reason,
        }
    )
    quote = _quote(writer)
    sign = 1 if buying else -1
    legs = (
        ("assets:position", event.base, sign * event.quantity),
        ("market", event.base, -sign * event.quantity),
        ("assets:cash", quote, -sign * event.notional - event.fee),
        ("market", quote, sign * event.notional),
        ("expenses:fees", quote, event.fee),
    )
    writer.postings.extend(
        _posting(writer.account, fill_id, n, name, asset, amount, event.at) for n, (name, asset, amount) in enumerate(legs, 1)
    )


def _fill_reason(writer: _Writer, event: _Event) -> str:
    reference, decided = plain(event.reference_price), format_utc(event.decided_at)
    slippage = f", slippage {plain(writer.terms.rules.slippage_bps)} bps" if event.leg in (Leg.ENTRY, Leg.EXIT, Leg.STOP) else ""
    if event.leg is Leg.ENTRY:
        return f"buy signal of {decided}: filled at the next open {reference}{slippage}"
    if event.leg is Leg.EXIT:
        return f"sell signal of {decided}: filled at the next open {reference}{slippage}"
    name = {Leg.STOP: "stop", Leg.TARGET_1: "first target", Leg.TARGET_2: "second target"}[event.leg]
    if event.phase is Phase.OPEN:
        return f"the bar opened at {reference}, beyond the {name}: filled at the open{slippage}"
    return f"price touched the {name} {reference}{slippage}"


def _write_nothing(writer: _Writer, event: _Event) -> None:
    """Signals and limits of the account are rows of their own."""


_HANDLERS = {
    Kind.SIGNAL: _write_nothing,
    Kind.ORDER: _write_order,
    Kind.REFUSAL: _write_refusal,
    Kind.FILL: _write_fill,
    Kind.CANCEL: _write_cancel,
    Kind.STOP_MOVED: _write_stop_move,
    Kind.HALT: _write_nothing,
    Kind.LOSS_LIMIT: _write_nothing,
}

_REFUSALS = {
    Rule.MAX_DRAWDOWN: "{symbol}: drawdown {value} has reached the halt at {limit}",
    Rule.DAILY_LOSS_LIMIT: "{symbol}: the day's loss limit {limit} was reached (loss now {value})",
    Rule.COOLDOWN: "{symbol}: {value} bars after a stop; the cooldown is {limit} bars",
    Rule.MAX_OPEN_POSITIONS: "{symbol}: {value} positions are open or ordered; the limit is {limit}",
    Rule.INSUFFICIENT_CASH: "{symbol}: free cash {value} {quote} is below the smallest order {limit} {quote}",
    Rule.MIN_NOTIONAL: "{symbol}: notional {value} {quote} is below the exchange's minimum {limit} {quote}",
    Rule.MIN_QUANTITY: "{symbol}: quantity {value} is below the exchange's minimum {limit}",
    Rule.STOP_BEYOND_ENTRY: "{symbol}: the entry price {value} is at or below its stop {limit}",
    Rule.TARGET_BEYOND_ENTRY: "{symbol}: the entry price {value} is at or above its target {limit}",
}


def _event_row(writer: _Writer, event: _Event) -> dict[str, Value]:
    document: dict[str, str] = {}
    if event.leg is not Leg.NONE:
        document["client_order_id"] = _order_id(writer, event)
    if event.kind is Kind.SIGNAL:
        document["signal_id"] = signal_id(writer.account, str(event.symbol), event.decided_at)
        document["outcome"] = event.outcome.name.lower()
    for name in ("price", "reference_price", "quantity", "notional", "fee", "budget"):
        amount: Decimal = getattr(event, name)
        if amount:
            document[name] = plain(amount)
    if event.rule is not Rule.NONE:
        document |= {"rule": event.rule.name.lower(), "limit": plain(event.rule_limit), "value": plain(event.rule_value)}
    return {
        "account": writer.account,
        "sequence": event.sequence,
        "at": event.at,
        "kind": event.kind.name.lower(),
        "symbol": event.symbol,
        "document": json.dumps(document),
    }


def _decided_signals(segment: Segment) -> dict[tuple[str, int], dict[str, float | str | None]]:
    """The strategy's own rows of those bars whose signal the engine acted on, by (symbol, decided at)."""
    length_ms = timeframe_ms(segment.terms.timeframe)
    acted = segment.events[segment.events["kind"] == int(Kind.SIGNAL)]
    found: dict[tuple[str, int], dict[str, float | str | None]] = {}
    for number, symbol in enumerate(segment.terms.symbols):
        opened = acted["at"][acted["symbol"] == number] - length_ms
        rows = segment.signals[symbol].filter(pl.col("opened_at").dt.epoch("ms").is_in(pl.Series(opened).implode()))
        times = rows["opened_at"].dt.epoch("ms").to_list()
        found |= {(symbol, time + length_ms): row for time, row in zip(times, rows.iter_rows(named=True), strict=True)}
    return found


def _signal_row(
    writer: _Writer, event: _Event, decided: Mapping[tuple[str, int], dict[str, float | str | None]]
) -> dict[str, Value]:
    symbol = str(event.symbol)
    said = decided[symbol, event.decided_at]
    amounts = {name: _to_amount(said[name]) for name in ("entry", "stop_loss", "take_profit_1", "take_profit_2", "target_weight")}
    return {
        "signal_id": signal_id(writer.account, symbol, event.decided_at),
        "account": writer.account,
        "symbol": symbol,
        "bar_opened_at": event.decided_at - timeframe_ms(writer.terms.timeframe),
        "decided_at": event.decided_at,
        "action": str(said["action"]),
        **amounts,
        "reason": None if said["reason"] is None else str(said["reason"]),
        "outcome": event.outcome.name.lower(),
    }


def _to_amount(value: float | str | None) -> Decimal | None:
    """A strategy's float as a decimal of 8 places, which is what the engine reads of it."""
    if value is None:
        return None
    return from_units(to_units(Decimal(repr(float(value))), CASH_DECIMALS, ROUND_HALF_EVEN), CASH_DECIMALS)


def _posting(account: str, transaction: str, number: int, name: str, asset: str, amount: Decimal, at: int) -> dict[str, Value]:
    return {
        "posting_id": f"{transaction}-{number}",
        "account": account,
        "transaction_id": transaction,
        "ledger_account": name,
        "asset": asset,
        "amount": amount,
        "market_at": at,
    }


def _position_rows(account: str, terms: Terms, state: EngineState) -> pl.DataFrame:
    rows: list[dict[str, Value]] = []
    for instrument, position in zip(terms.instruments, state.positions, strict=True):
        if position["quantity"] == 0:
            continue
        prices, quantities = price_decimals(instrument), quantity_decimals(instrument)
        names = ("entry_price", "last_price", "stop", "target_1", "target_2")
        level = {name: from_units(int(position[name]), prices) for name in names}
        rows.append(
            {
                "account": account,
                "symbol": instrument.symbol,
                "quantity": from_units(int(position["quantity"]), quantities),
                "entry_price": level["entry_price"],
                "cost": from_units(int(position["cost"]), CASH_DECIMALS),
                "stop_loss": level["stop"] or None,
                "take_profit_1": level["target_1"] or None,
                "take_profit_2": level["target_2"] or None,
                "last_price": level["last_price"],
                "opened_at": int(position["opened_at"]),
            }
        )
    return frame(rows, POSITION_ROW)


def _equity_rows(account: str, equity: Records) -> pl.DataFrame:
    amounts = {name: amount_column(equity[name], CASH_DECIMALS) for name in ("equity", "cash", "position_value")}
    return pl.DataFrame(
        {
            "account": pl.Series([account], dtype=pl.String).new_from_index(0, len(equity)),
            "at": pl.Series(equity["at"]).cast(pl.Datetime("ms", "UTC")).cast(TIME),
            **amounts,
            "drawdown_share": amount_column(equity["drawdown"], CASH_DECIMALS),
            "open_positions": equity["open_positions"].astype(np.int32),
        }
    )
