"""The external events of a tick: what a book's cycle did, told to other programs after the ledger has it.

They are told from the engine's own events, one by one, with the same steps as the journal: so a cycle over three bars tells
what three cycles over one bar each tell, and the same happening has the same id after a crash. An id is made of the ledger's
ids and of what has changed; never of the session, the run, a clock or the outbox's sequence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from candlewick.amounts import from_units, plain
from candlewick.cycle import Decided
from candlewick.engine.layout import Leg
from candlewick.engine.terms import quantity_decimals
from candlewick.journal_events import POSITION_SIDE_NAMES, Event, EventReader, OrderKey
from candlewick.journal_orders import OrderBook, Row, entered_at
from candlewick.json_text import Json, iso_utc
from candlewick.monitoring.events import RiskLimitBreached, RiskLimitLifted, document, event_id
from candlewick.monitoring.rows import OutboxEvent
from candlewick.timeframes import timeframe_ms, utc

EXTERNAL_KINDS: Mapping[str, str] = {
    "order.placed": "An order is in the ledger; every order begins with this, also one that a rule refuses at once.",
    "order.changed": "An order's status, filled quantity, quantity or price is another one: filled, cancelled, refused, expired, "
    "filled in part, or moved.",
    "fill": "An order was filled, or a part of it, with price, quantity, fee and realised result.",
    "position.opened": "A fill has opened a position.",
    "position.modified": "A fill has made a position larger or smaller.",
    "position.closed": "A fill has closed a position.",
    "stop.hit": "A protective or trailing stop was reached; told once an order, with its first fill.",
    "risk.breached": "A limit over all symbols of the desk is broken; `action` says what follows.",
    "risk.lifted": "A breach is over, by the settings or by hand.",
}
Correlation = Callable[[str, int], str]
"""(symbol, open time of a bar in ms) → the bar's id (`events.bar_id`)."""
_ORDER_AMOUNTS = ("budget", "quantity", "price", "filled_quantity")
_FILL_AMOUNTS = ("reference_price", "price", "quantity", "notional", "fee", "realized_pnl")
_Told = tuple[object, object, object, object]


@dataclass(slots=True)
class _Teller:
    """``book`` as the ledger had it before, moved on event by event; ``told``: what the outside knows of every order by now.

    ``held``: signed quantity by symbol; ``fills``: rows of the journal by fill id; ``signalled``: close of the bar whose signal
    an order follows from, in ms.
    """

    name: str
    session_id: str
    account: str
    bar_ms: int
    correlation: Correlation
    book: OrderBook
    held: dict[str, Decimal]
    fills: Mapping[str, Row]
    sequence: int
    told: dict[OrderKey, _Told] = field(default_factory=dict)
    signalled: dict[OrderKey, int] = field(default_factory=dict)
    events: list[OutboxEvent] = field(default_factory=list)

    def read(self, reader: EventReader, event: Event) -> None:
        """Tell what one event of the engine did."""
        self.book.touched.clear()
        filled = self.book.apply(reader, event)
        keys = list(self.book.touched)
        for key in keys:
            self._place(key, event)
        cause = self._fill(reader.order_key(event), event, filled[0]) if filled else None
        for key in keys:
            self._change(key, event, cause)
        if filled and cause:
            self._position(reader.order_key(event), event, self.fills[filled[0]], cause)

    def known(self, key: OrderKey) -> None:
        """An order that was told before."""
        self.told[key] = _state(self.book.rows[key])
        self.signalled[key] = self._signalled_at(key)

    def _signalled_at(self, key: OrderKey) -> int:
        symbol, decided_at, leg = key
        return self.book.entered.get(symbol, decided_at) if leg == Leg.TIME_STOP.name.lower() else decided_at

    def _place(self, key: OrderKey, event: Event) -> None:
        if key in self.told:
            return
        self.signalled[key] = self._signalled_at(key)
        row = self.book.rows[key]
        began: Row = {**row, "status": "open", "filled_quantity": Decimal(0), "closed_at": None, "rule": None, "reason": None}
        self.told[key] = _state(began)
        self._tell("order.placed", key, event.at, str(row["signal_id"]), _order_document(began), str(row["client_order_id"]))

    def _fill(self, key: OrderKey, event: Event, fill_id: str) -> str:
        row = self.fills[fill_id]
        names = ("fill_id", "client_order_id", "leg", "side", "position_side", "phase")
        told = {**{name: _text(row[name]) for name in names}, "bar_opened_at": iso_utc(utc(event.at))}
        told |= {name: _amount(row[name]) for name in _FILL_AMOUNTS} | {"reason": _text(row["reason"])}
        return self._tell("fill", key, event.at, _placed_id(self.book.rows[key]), told, fill_id)

    def _change(self, key: OrderKey, event: Event, cause: str | None) -> None:
        row = self.book.rows[key]
        state = _state(row)
        if state == self.told[key]:
            return
        self.told[key] = state
        what = ["-" if part is None else str(part) for part in (row["status"], *map(_amount, state[1:]))]
        parts = (str(row["client_order_id"]), *what, str(event.at))
        self._tell("order.changed", key, event.at, cause or _placed_id(row), _order_document(row), *parts)

    def _position(self, key: OrderKey, event: Event, fill: Row, cause: str) -> None:
        """The position before and after a fill; a reversal is two fills, and so a position closed and one opened."""
        symbol, before, quantity = key[0], self.held.get(key[0], Decimal(0)), fill["quantity"]
        assert isinstance(quantity, Decimal)
        after = before + quantity * event.side
        self.held[symbol] = after
        kind = "position.closed" if not after else "position.modified" if before else "position.opened"
        told: dict[str, Json] = {
            "fill_id": _text(fill["fill_id"]),
            "leg": _text(fill["leg"]),
            "side": POSITION_SIDE_NAMES[event.position_side],
            "quantity_before": plain(abs(before)),
            "quantity": plain(abs(after)),
            **{name: _amount(fill[name]) for name in ("price", "fee", "realized_pnl")},
        }
        self._tell(kind, key, event.at, cause, told, str(fill["fill_id"]))
        if event.leg == Leg.STOP and str(fill["fill_id"]).endswith(".1"):
            names = ("fill_id", "client_order_id", "position_side", "reason")
            amounts = ("reference_price", "price", "quantity", "realized_pnl")
            stopped = {name: _text(fill[name]) for name in names} | {name: _amount(fill[name]) for name in amounts}
            self._tell("stop.hit", key, event.at, cause, stopped, str(fill["client_order_id"]))

    def _tell(self, kind: str, key: OrderKey, at_ms: int, causation_id: str, told: Mapping[str, Json], *parts: str) -> str:
        symbol = key[0]
        event = OutboxEvent(
            event_id=event_id(kind, *parts),
            name=self.name,
            sequence=self.sequence + len(self.events),
            kind=kind,
            account=self.account,
            symbol=symbol,
            at=utc(at_ms),
            correlation_id=self.correlation(symbol, self.signalled[key] - self.bar_ms),
            causation_id=causation_id,
            session_id=self.session_id,
            document=told,
        )
        self.events.append(event)
        return event.event_id


def outbox_events(name: str, session_id: str, decided: Decided, correlation: Correlation, sequence: int) -> list[OutboxEvent]:
    """What a book's cycle did, in its order. ``sequence`` is the first event's; ``correlation`` as Correlation says.

    Caused by: an order by its signal, a fill by its order's `order.placed`, everything else of a fill by that fill, any other
    change of an order by its `order.placed`. The correlation is the bar at whose close the order was decided; of a time stop's
    order, the bar of the entry's signal.
    """
    segments, account = decided.advanced.segments, decided.start.account
    if not any(len(segment.events) for segment in segments):
        return []
    start = decided.start.state
    teller = _Teller(
        name=name,
        session_id=session_id,
        account=account.name,
        bar_ms=timeframe_ms(account.timeframe),
        correlation=correlation,
        book=OrderBook.of(decided.start.open_orders, entered_at(segments[0].terms.symbols, start)),
        held={
            instrument.symbol: from_units(int(one["quantity"]) * int(one["side"]), quantity_decimals(instrument))
            for instrument, one in zip(segments[0].terms.instruments, start.positions, strict=True)
        },
        fills={str(row["fill_id"]): row for row in decided.journal.fills.iter_rows(named=True)},
        sequence=sequence,
    )
    for key in teller.book.rows:
        teller.known(key)
    for segment in segments:
        reader = EventReader(account.name, segment.strategy, segment.terms, teller.book.ids())
        for values in segment.events.tolist():
            teller.read(reader, Event._make(values))
    return teller.events


def risk_event(name: str, event: RiskLimitBreached | RiskLimitLifted, sequence: int, account: str | None = None) -> OutboxEvent:
    """A breach of a global limit, or its end, for the outside: with the id of the event inside."""
    inside = ("kind", "event_id", "correlation_id", "causation_id", "at", "session_id", "symbol")
    return OutboxEvent(
        event_id=event.event_id,
        name=name,
        sequence=sequence,
        kind=event.kind,
        account=account,
        symbol=event.symbol,
        at=event.at,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        session_id=event.session_id,
        document={key: value for key, value in document(event).items() if key not in inside},
    )


def _state(row: Row) -> _Told:
    return row["status"], row["filled_quantity"], row["quantity"], row["price"]


def _placed_id(row: Row) -> str:
    return event_id("order.placed", str(row["client_order_id"]))


def _order_document(row: Row) -> dict[str, Json]:
    names = ("client_order_id", "signal_id", "leg", "side", "kind", "status")
    times = ("decided_at", "expires_at", "closed_at")
    told = {name: _text(row[name]) for name in names} | {name: _amount(row[name]) for name in _ORDER_AMOUNTS}
    told |= {name: _time(row.get(name)) for name in times}
    if row.get("rule") is not None:
        told |= {"rule": _text(row["rule"]), "limit": _amount(row["rule_limit"]), "value": _amount(row["rule_value"])}
    return told | {"reason": _text(row.get("reason"))}


def _text(value: object) -> Json:
    return None if value is None else str(value)


def _amount(value: object) -> str | None:
    return plain(value) if isinstance(value, Decimal) else None


def _time(value: object) -> Json:
    return iso_utc(utc(value)) if isinstance(value, int) else None
