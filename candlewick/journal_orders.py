"""Orders as the journal keeps them: opened, refused, moved, filled and cancelled by the engine's events, with the reason why."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import polars as pl

from candlewick.amounts import from_units, plain
from candlewick.engine.layout import CASH_DECIMALS, NEVER, Kind, Leg, Pending, Phase, Rule, Why
from candlewick.engine.state import EngineState
from candlewick.identity import signal_id
from candlewick.journal_events import RULE_NAMES, SIDE_NAMES, Event, EventReader, OrderKey, units_text
from candlewick.rows import ORDER_ROW, Value, frame
from candlewick.timeframes import format_utc

ORDER_KINDS = {
    Leg.EXIT: "market",
    Leg.STOP: "stop",
    Leg.TARGET_1: "limit",
    Leg.TARGET_2: "limit",
    Leg.LIQUIDATION: "liquidation",
    Leg.TIME_STOP: "market",
}
ENTRY_KINDS = {Pending.MARKET: "market", Pending.LIMIT: "limit", Pending.STOP: "stop"}
_PROTECTIONS = {
    Leg.STOP: "stop",
    Leg.TARGET_1: "first target",
    Leg.TARGET_2: "second target",
    Leg.LIQUIDATION: "liquidation price",
}
CANCELLED = {
    Why.POSITION_CLOSED: "the position is closed",
    Why.REPLACED: "a newer decision took its place",
    Why.BUDGET_SPENT: "what was left of its budget is below the exchange's minimum",
    Why.TOO_SMALL: "a part would be below the exchange's minimum: everything leaves at the first target",
    Why.NOT_REVERSED: "the position that it was to reverse could not be closed",
}
MOVED = {
    Why.TARGET_1: "to the entry after the first target",
    Why.TRAILED: "after the best price so far",
    Why.BREAK_EVEN: "to the entry, because the position had come far enough into profit",
}
REFUSAL_TEXTS = {
    Rule.MAX_DRAWDOWN: "{symbol}: drawdown {value} has reached the halt at {limit}",
    Rule.DAILY_LOSS_LIMIT: "{symbol}: the day's loss limit {limit} was reached (loss now {value})",
    Rule.COOLDOWN: "{symbol}: {value} bars after a stop; the cooldown is {limit} bars",
    Rule.MAX_OPEN_POSITIONS: "{symbol}: {value} positions are open or ordered; the limit is {limit}",
    Rule.INSUFFICIENT_CASH: "{symbol}: free cash {value} {quote} is below the smallest order {limit} {quote}",
    Rule.MIN_NOTIONAL: "{symbol}: notional {value} {quote} is below the exchange's minimum {limit} {quote}",
    Rule.MIN_QUANTITY: "{symbol}: quantity {value} is below the exchange's minimum {limit}",
    Rule.STOP_BEYOND_ENTRY: "{symbol}: the entry price {value} is at or beyond its stop {limit}",
    Rule.TARGET_BEYOND_ENTRY: "{symbol}: the entry price {value} is at or beyond its target {limit}",
    Rule.ATR_UNKNOWN: "{symbol}: the average true range that its stop or target hangs on needs {limit} bars; there are {value}",
    Rule.STOP_MISSING: "{symbol}: sizing by risk needs a stop on the losing side of the price; its distance is {value}",
    Rule.VOLATILITY_UNKNOWN: "{symbol}: sizing by inverse volatility needs a volatility, and there are too few bars for one",
    Rule.KELLY_NOT_POSITIVE: "{symbol}: Kelly's share is not above 0: closed trades came to {value} {quote}",
    Rule.WEIGHT_MISSING: "{symbol}: sizing by target weight needs a target_weight, and the signal states none",
}

Row = dict[str, Value]


@dataclass(slots=True)
class OrderBook:
    """Order rows by key: those that were open in the ledger, and those that events open. ``touched`` are to be written.

    ``entered``: when the newest entry of the position was decided, in ms by symbol. A time stop follows from that signal.
    """

    rows: dict[OrderKey, Row]
    entered: dict[str, int]
    touched: dict[OrderKey, None] = field(default_factory=dict)

    @staticmethod
    def of(open_orders: pl.DataFrame, entered: dict[str, int]) -> "OrderBook":
        """The book as the ledger has it: ``open_orders`` with the columns of ORDER_ROW, and bookkeeping or not."""
        # Times as integers, as in rows that are made here: one frame holds both.
        rows = open_orders.select(list(ORDER_ROW)).with_columns(pl.selectors.datetime().dt.epoch("ms"))
        return OrderBook({_key(row): row for row in rows.iter_rows(named=True)}, entered)

    def ids(self) -> dict[OrderKey, str]:
        """The ids of the rows there are."""
        return {key: str(row["client_order_id"]) for key, row in self.rows.items()}

    def frame(self) -> pl.DataFrame:
        """The rows that events have touched, in the order in which they first did."""
        return frame([self.rows[key] for key in self.touched], ORDER_ROW)

    def order(self, reader: EventReader, event: Event) -> Row:
        """The row of the event's order, opened now if there is none yet."""
        key = reader.order_key(event)
        self.touched[key] = None
        row = self.rows.get(key)
        if row is None:
            signalled_at = self.entered.get(key[0], key[1]) if event.leg == Leg.TIME_STOP else key[1]
            row = self.rows[key] = _opened(reader, event, key, signalled_at)
        return row

    def apply(self, reader: EventReader, event: Event) -> tuple[str, str] | None:
        """What the event does to its order, if it is about one. Answers a fill's id and reason."""
        if event.kind == Kind.ORDER:
            self.place(reader, event)
        elif event.kind == Kind.FILL:
            return self.fill(reader, event)
        elif event.kind == Kind.REFUSAL:
            self.refuse(reader, event)
        elif event.kind == Kind.CANCEL:
            self.cancel(reader, event)
        elif event.kind == Kind.EXPIRY:
            self.expire(reader, event)
        elif event.kind == Kind.STOP_MOVED:
            self.move_stop(reader, event)
        return None

    def refuse(self, reader: EventReader, event: Event) -> None:
        """The order is refused by a rule."""
        decimals = reader.rule_decimals(event)
        limit, value = from_units(event.rule_limit, decimals), from_units(event.rule_value, decimals)
        words = {"symbol": reader.symbol(event), "limit": plain(limit), "value": plain(value), "quote": reader.quote}
        self.order(reader, event).update(
            status="refused",
            closed_at=event.at,
            rule=RULE_NAMES[event.rule],
            rule_limit=limit,
            rule_value=value,
            reason=REFUSAL_TEXTS[Rule(event.rule)].format(**words),
        )

    def cancel(self, reader: EventReader, event: Event) -> None:
        """The order is over, unfilled or filled in part."""
        self.order(reader, event).update(status="cancelled", closed_at=event.at, reason=CANCELLED[Why(event.why)])

    def expire(self, reader: EventReader, event: Event) -> None:
        """The order's bars are over."""
        row = self.order(reader, event)
        reason = "not all of it was filled in time" if row["fills"] else "price did not come to it in time"
        row.update(status="expired", closed_at=event.at, reason=reason)

    def place(self, reader: EventReader, event: Event) -> None:
        """The order is opened, or stands for another quantity at another price than before."""
        key = reader.order_key(event)
        known = key in self.rows
        row = self.order(reader, event)
        if known:
            filled = row["filled_quantity"]
            assert isinstance(filled, Decimal)
            quantity = from_units(event.quantity, reader.quantity_decimals[event.symbol])
            row.update(quantity=quantity + filled, price=from_units(event.price, reader.price_decimals[event.symbol]))

    def move_stop(self, reader: EventReader, event: Event) -> None:
        """The stop has moved."""
        decimals = reader.price_decimals[event.symbol]
        reason = f"moved from {units_text(event.reference_price, decimals)} {MOVED[Why(event.why)]}"
        self.order(reader, event).update(price=from_units(event.price, decimals), reason=reason)

    def fill(self, reader: EventReader, event: Event) -> tuple[str, str]:
        """The order is filled, or a part of it. Answers the fill's id and reason."""
        reason = _fill_reason(reader, event)
        quantity = from_units(event.quantity, reader.quantity_decimals[event.symbol])
        row = self.order(reader, event)
        filled, fills = row["filled_quantity"], row["fills"]
        assert isinstance(filled, Decimal)
        assert isinstance(fills, int)
        row.update(filled_quantity=filled + quantity, fills=fills + 1, reason=reason)
        if event.leg == Leg.ENTRY:
            row["quantity"] = filled + quantity
            self.entered[str(row["symbol"])] = event.decided_at
        if not event.left:  # what was ordered may be more: a target has taken its part of the position since
            row.update(status="filled", closed_at=event.at, quantity=filled + quantity)
        if event.leg in (Leg.TARGET_1, Leg.TARGET_2):
            self._lower_stop(str(row["symbol"]), event.decided_at, quantity)
        return f"{row['client_order_id']}.{fills + 1}", reason

    def _lower_stop(self, symbol: str, decided_at: int, sold: Decimal) -> None:
        """The stop protects what a target leaves of the position; where that is nothing, it is cancelled next."""
        key = (symbol, decided_at, Leg.STOP.name.lower())
        stop = self.rows.get(key)
        if stop is not None and isinstance(stop["quantity"], Decimal) and stop["quantity"] > sold:
            stop["quantity"] -= sold
            self.touched[key] = None


def entered_at(symbols: Sequence[str], before: EngineState | None) -> dict[str, int]:
    """When the newest entry of each open position was decided, in ms by symbol; ``before``: None for an account's first state."""
    if before is None:
        return {}
    held = zip(symbols, before.positions, strict=True)
    return {symbol: int(position["decided_at"]) for symbol, position in held if position["quantity"]}


def _key(row: dict[str, str | int | Decimal | datetime | None]) -> OrderKey:
    return str(row["symbol"]), int(str(row["decided_at"])), str(row["leg"])


def _opened(reader: EventReader, event: Event, key: OrderKey, signalled_at: int) -> Row:
    symbol, decided_at, leg = key
    quantities, prices = reader.quantity_decimals[event.symbol], reader.price_decimals[event.symbol]
    return {
        "client_order_id": reader.order_id(key),
        "account": reader.account,
        "symbol": symbol,
        "signal_id": signal_id(reader.account, symbol, signalled_at),
        "sequence": event.sequence,
        "leg": leg,
        "side": SIDE_NAMES[event.side],
        "kind": ENTRY_KINDS.get(Pending(event.entry_type), "market") if event.leg == Leg.ENTRY else ORDER_KINDS[Leg(event.leg)],
        "decided_at": decided_at,
        "status": "open",
        "budget": from_units(event.budget, CASH_DECIMALS) if event.budget else None,
        "quantity": from_units(event.quantity, quantities) if event.quantity else None,
        "price": from_units(event.price, prices) if event.price else None,
        "filled_quantity": Decimal(0),
        "fills": 0,
        "expires_at": event.expires_at if event.expires_at != NEVER else None,
    }


def _fill_reason(reader: EventReader, event: Event) -> str:
    prices = reader.price_decimals[event.symbol]
    reference = units_text(event.reference_price, prices)
    rules = reader.terms.rules
    spread = f", half of a spread of {plain(rules.spread_bps)} bps" if rules.spread_bps else ""
    taken = f", slippage {plain(rules.slippage_bps)} bps{spread}"
    part = f"; {units_text(event.left, reader.quantity_decimals[event.symbol])} are left for later bars" if event.left else ""
    if event.leg == Leg.TIME_STOP:
        return f"time stop of {format_utc(event.decided_at)}: filled at the next open {reference}{taken}{part}"
    if event.leg == Leg.EXIT:
        return f"{_signal_of(event)} signal of {format_utc(event.decided_at)}: filled at the next open {reference}{taken}{part}"
    if event.leg == Leg.ENTRY:
        return f"{_entry_text(event, reference, taken, spread)}{part}"
    name = _PROTECTIONS[Leg(event.leg)]
    cost = taken if event.leg in (Leg.STOP, Leg.LIQUIDATION) else spread
    if event.phase == Phase.OPEN:
        return f"the bar opened at {reference}, at or beyond the {name}: filled at the open{cost}{part}"
    return f"price touched the {name} {reference}{cost}{part}"


def _signal_of(event: Event) -> str:
    return SIDE_NAMES[event.side]


def _entry_text(event: Event, reference: str, taken: str, spread: str) -> str:
    signal = f"{_signal_of(event)} signal of {format_utc(event.decided_at)}"
    if event.entry_type == Pending.LIMIT:
        where = "filled at the open" if event.phase == Phase.OPEN else "price came to the limit"
        return f"{signal}: {where} {reference}{spread}"
    if event.entry_type == Pending.STOP:
        where = "the bar opened beyond the stop entry, filled at" if event.phase == Phase.OPEN else "price came to the stop entry"
        return f"{signal}: {where} {reference}{taken}"
    return f"{signal}: filled at the next open {reference}{taken}"
