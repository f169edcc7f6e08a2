"""The engine's events one by one: tuples of integers, the names and grids that belong to them, and their documents."""

import json
from dataclasses import dataclass, field
from typing import NamedTuple

from candlewick.engine.layout import CASH_DECIMALS, NEVER, Kind, Leg, Outcome, Phase, Rule
from candlewick.engine.terms import Terms, price_decimals, quantity_decimals
from candlewick.identity import client_order_id, signal_id

_COUNTED = frozenset({Rule.COOLDOWN, Rule.MAX_OPEN_POSITIONS, Rule.ATR_UNKNOWN, Rule.VOLATILITY_UNKNOWN, Rule.WEIGHT_MISSING})
_RATE_DECIMALS = 8  # of layout.RATE
_PRICED = frozenset({Rule.STOP_BEYOND_ENTRY, Rule.TARGET_BEYOND_ENTRY, Rule.STOP_MISSING})

KIND_NAMES = {kind.value: kind.name.lower() for kind in Kind}
LEG_NAMES = {leg.value: leg.name.lower() for leg in Leg}
PHASE_NAMES = {phase.value: phase.name.lower() for phase in Phase}
RULE_NAMES = {rule.value: rule.name.lower() for rule in Rule}
SIDE_NAMES = {1: "buy", -1: "sell"}
POSITION_SIDE_NAMES = {1: "long", -1: "short"}
OUTCOME_NAMES = {outcome.value: outcome.name.lower() for outcome in Outcome}


class Event(NamedTuple):
    """One record of the engine with the fields of layout.EVENT in their order; enumerations and amounts are its integers."""

    sequence: int
    kind: int
    leg: int
    phase: int
    side: int
    position_side: int
    entry_type: int
    rule: int
    outcome: int
    symbol: int
    why: int
    at: int
    decided_at: int
    price: int
    reference_price: int
    quantity: int
    left: int
    notional: int
    settled: int
    fee: int
    realized: int
    budget: int
    expires_at: int
    rule_limit: int
    rule_value: int


OrderKey = tuple[str, int, str]
"""Symbol, time of the decision in ms, leg: what an order is, whatever strategy the account has by the time it fills."""


@dataclass(slots=True)
class EventReader:
    """What an event means under one version of the terms. Ids are kept, because an order is met several times."""

    account: str
    strategy: str
    terms: Terms
    order_ids: dict[OrderKey, str] = field(default_factory=dict)
    price_decimals: tuple[int, ...] = ()
    quantity_decimals: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.price_decimals = tuple(price_decimals(instrument) for instrument in self.terms.instruments)
        self.quantity_decimals = tuple(quantity_decimals(instrument) for instrument in self.terms.instruments)

    @property
    def quote(self) -> str:
        """The account's quote currency."""
        return self.terms.instruments[0].quote

    def symbol(self, event: Event) -> str:
        """The symbol an event is about; events of the account as a whole have none and are never asked."""
        return self.terms.instruments[event.symbol].symbol

    def order_key(self, event: Event) -> OrderKey:
        """The order that an event is about."""
        return self.symbol(event), event.decided_at, LEG_NAMES[event.leg]

    def order_id(self, key: OrderKey) -> str:
        """The order's id: that of its row, or that of an order decided under these terms."""
        known = self.order_ids.get(key)
        if known is None:
            symbol, decided_at_ms, leg = key
            known = self.order_ids[key] = client_order_id(self.account, self.strategy, symbol, decided_at_ms, leg)
        return known

    def rule_decimals(self, event: Event) -> int:
        """Decimals of an event's limit and value, which are counts, prices, quantities, cash or shares."""
        if event.rule in _COUNTED:
            return 0
        if event.rule in _PRICED:
            return self.price_decimals[event.symbol]
        return self.quantity_decimals[event.symbol] if event.rule == Rule.MIN_QUANTITY else CASH_DECIMALS

    def document(self, event: Event) -> str:
        """The event's details as JSON text: ids, amounts as plain decimals, and the rule that acted."""
        document: dict[str, str] = {}
        if event.leg != Leg.NONE:
            document["client_order_id"] = self.order_id(self.order_key(event))
        if event.kind == Kind.SIGNAL:
            document["signal_id"] = signal_id(self.account, self.symbol(event), event.decided_at)
            document["outcome"] = OUTCOME_NAMES[event.outcome]
        if event.symbol != NEVER:
            document |= self._amounts(event)
        if event.kind == Kind.FUNDING:
            document["funding"] = units_text(event.settled, CASH_DECIMALS)
            document["rate"] = units_text(event.rule_value, _RATE_DECIMALS)
        if event.rule:
            decimals = self.rule_decimals(event)
            document["rule"] = RULE_NAMES[event.rule]
            document["limit"] = units_text(event.rule_limit, decimals)
            document["value"] = units_text(event.rule_value, decimals)
        return json.dumps(document)

    def _amounts(self, event: Event) -> dict[str, str]:
        prices, quantities = self.price_decimals[event.symbol], self.quantity_decimals[event.symbol]
        amounts = (
            ("price", event.price, prices),
            ("reference_price", event.reference_price, prices),
            ("quantity", event.quantity, quantities),
            ("notional", event.notional, CASH_DECIMALS),
            ("fee", event.fee, CASH_DECIMALS),
            ("budget", event.budget, CASH_DECIMALS),
        )
        return {name: units_text(units, decimals) for name, units, decimals in amounts if units}


def units_text(units: int, decimals: int) -> str:
    """Units of 10^-decimals as a plain decimal: what `plain(from_units(units, decimals))` says, without the Decimal.

    >>> units_text(1_250_000, 6), units_text(-5, 1), units_text(700, 0)
    ('1.25', '-0.5', '700')
    """
    whole, rest = divmod(abs(units), 10**decimals)
    text = f"{whole}.{rest:0{decimals}d}".rstrip("0") if rest else str(whole)
    return f"-{text}" if units < 0 else text
