"""What global risk remembers between two bars: the day's first equity, the peak, limits that are broken, the kill switch.

Everything here is a function of its arguments: a session that died before its commit asks again and is told the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError

from candlewick.errors import LedgerUnreadable, UsageError
from candlewick.json_text import Json, plain
from candlewick.monitoring.exposure import EXACT, Groups
from candlewick.timeframes import MINUTE_MS, utc

Consequence = Literal["pause", "flatten", "block_entries"]
Lift = Literal["manual", "next_day", "when_below"]
KILL_SWITCH = "kill_switch"
DAILY_LOSS = "daily_loss_share"
DRAWDOWN = "max_drawdown_share"
_NOTHING = Decimal(0)
_SHARE_PLACES = Decimal("1e-18")  # as the ledger keeps shares


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskRules:
    """The limits of a desk; None switches one off. Named as in the section `desk_risk` of the settings, as the rules are."""

    time_zone: str = "UTC"
    daily_loss_share: Decimal | None = None
    max_drawdown_share: Decimal | None = None
    max_positions: int | None = None
    max_gross_share: Decimal | None = None
    max_net_share: Decimal | None = None
    max_symbol_share: Decimal | None = None
    groups: Groups = field(default_factory=dict)
    max_group_share: Decimal | None = None
    max_orders_per_minute: int | None = None
    daily_loss_action: Consequence = "block_entries"
    drawdown_action: Consequence = "flatten"
    kill_switch_action: Consequence = "flatten"
    daily_loss_lift: Lift = "next_day"
    drawdown_lift: Lift = "manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A limit that is broken, or the kill switch that is on. It keeps the action and the lift that were set when it came.

    ``limit`` and ``value`` as text with units; of the kill switch, ``value`` is the reason that was given.
    """

    rule: str
    limit: str
    value: str
    action: Consequence
    lift: Lift
    breached_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskState:
    """``day`` is a date in the desk's time zone; equities in quote currency, None before the first assessment.

    ``breaches`` by rule; ``recent_orders``: market time (ms) of the entry orders of the last
    minute by client_order_id, kept where their number is limited.
    """

    day: date | None = None
    day_start_equity: Decimal | None = None
    peak_equity: Decimal | None = None
    last_equity: Decimal | None = None
    breaches: Mapping[str, Breach] = field(default_factory=dict)
    recent_orders: Mapping[str, int] = field(default_factory=dict)

    @property
    def killed(self) -> Breach | None:
        """The kill switch, where it is on."""
        return self.breaches.get(KILL_SWITCH)

    @property
    def broken(self) -> tuple[Breach, ...]:
        """The breaches, the gravest first, however they were stored: an entry is refused for the same one every time."""
        return tuple(self.breaches[rule] for rule in (KILL_SWITCH, DRAWDOWN, DAILY_LOSS) if rule in self.breaches)

    def acts(self, action: Consequence) -> bool:
        """Whether a breach has that action."""
        return any(breach.action == action for breach in self.broken)

    def to_document(self) -> dict[str, Json]:
        """JSON-ready; decimals as text, times as ISO 8601 in UTC."""
        document = plain(self)
        assert isinstance(document, dict)
        return document

    @staticmethod
    def from_document(document: Mapping[str, Json]) -> "RiskState":
        """The inverse of ``to_document``. Raises LedgerUnreadable for a document that is none of a risk state."""
        try:
            return _STATE.validate_python(document)
        except ValidationError as problem:
            raise LedgerUnreadable(f"the desk's risk state cannot be read: {problem}") from None


_STATE = TypeAdapter(RiskState)


def kill(state: RiskState, rules: RiskRules, reason: str, at: datetime) -> RiskState:
    """Pull the kill switch at an aware time; nothing changes where it is on."""
    if state.killed is not None:
        return state
    breach = Breach(
        rule=KILL_SWITCH,
        limit="off",
        value=f"on: {reason}",
        action=rules.kill_switch_action,
        lift="manual",
        breached_at=at.astimezone(UTC),
    )
    return replace(state, breaches={**state.breaches, KILL_SWITCH: breach})


def lift(state: RiskState, rule: str) -> RiskState:
    """End a breach by hand, whatever its setting: a drawdown counts from the last equity on, and so does a day's loss.

    Raises UsageError where ``rule`` is not broken.
    """
    if rule not in state.breaches:
        broken = ", ".join(state.breaches) or "none"
        raise UsageError(f"rule {rule!r} is not broken, so there is nothing to lift; broken now: {broken}")
    return without(state, rule, state.last_equity)


def without(state: RiskState, rule: str, equity: Decimal | None) -> RiskState:
    """The state without that breach; what it was measured from is ``equity`` now, so that it does not come back at once."""
    left = replace(state, breaches={name: breach for name, breach in state.breaches.items() if name != rule})
    if rule == DRAWDOWN:
        return replace(left, peak_equity=equity)
    return replace(left, day_start_equity=equity) if rule == DAILY_LOSS else left


def followed(state: RiskState, equity: Decimal, zone: str, at_ms: int) -> RiskState:
    """The state after a close: the day begun anew where midnight has passed, the peak, and the last equity.

    The first equity of a day is the last one of the day before, else the first that is seen. A day that is over does not
    come back with a late bar.
    """
    day = day_of(utc(at_ms), zone)
    begins = state.day is None or day > state.day
    peak = equity if state.peak_equity is None else max(state.peak_equity, equity)
    start = (equity if state.last_equity is None else state.last_equity) if begins else state.day_start_equity
    return replace(
        state,
        day=day if begins else state.day,
        day_start_equity=start,
        peak_equity=peak,
        last_equity=equity,
        recent_orders={order: time for order, time in state.recent_orders.items() if time > at_ms - MINUTE_MS},
    )


def day_of(close: datetime, zone: str) -> date:
    """The desk's day of a close. A close at midnight is the last of its day, as a bar belongs to the day it opens in."""
    return (close - timedelta(milliseconds=1)).astimezone(ZoneInfo(zone)).date()


def lost(state: RiskState, rule: str, equity: Decimal) -> tuple[Decimal, Decimal]:
    """Loss (0 and more) and what it is a share of, for DAILY_LOSS and DRAWDOWN: the day's first equity, the highest equity."""
    reference = (state.day_start_equity if rule == DAILY_LOSS else state.peak_equity) or _NOTHING
    return max(EXACT.subtract(reference, equity), _NOTHING), reference


def drawdown_share(state: RiskState, equity: Decimal) -> Decimal:
    """Loss since the highest equity as a share of it, to 18 decimals; 0 where that was not above 0."""
    loss, peak = lost(state, DRAWDOWN, equity)
    return EXACT.divide(loss, peak).quantize(_SHARE_PLACES, context=EXACT) if peak > 0 else _NOTHING


def day_pnl(state: RiskState, equity: Decimal) -> Decimal:
    """Profit or loss since the day's first equity, in quote currency."""
    return _NOTHING if state.day_start_equity is None else EXACT.subtract(equity, state.day_start_equity)
