"""What happens in a session, as typed, frozen events: they join the stages of every symbol's pipeline.

Every event carries who caused it. `correlation_id` is the id of the bar that the story began with (``bar_id``): the candle, what
was computed of it, the signal, the order and every fill of that order share it, here, in the ledger, in logs, in Prefect's
events and on the external bus. `causation_id` is the event that led to this one. `event_id` is a function of what happened, so
that the same happening, told again after a crash, has the same id.
"""

import hashlib
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, Literal

from candlewick.timeframes import utc

Stage = Literal["data", "indicators", "strategy", "execution"]
STAGES: tuple[Stage, ...] = ("data", "indicators", "strategy", "execution")
State = Literal["CREATED", "STARTING", "RUNNING", "PAUSED", "STOPPING", "STOPPED", "ERROR", "RECOVERING"]
Regime = Literal["unknown", "trend", "range", "high_volatility"]
Severity = Literal["info", "warning", "critical"]


def bar_id(market: str, symbol: str, timeframe: str, opened_at_ms: int) -> str:
    """The correlation id of everything that follows from one bar, such as `binance:BTC/USDT:1m:2026-01-31T12:30Z`."""
    return f"{market}:{symbol}:{timeframe}:{utc(opened_at_ms):%Y-%m-%dT%H:%MZ}"


def event_id(kind: str, *parts: str | int) -> str:
    """The id of a happening: its kind, and 16 hex digits of what tells it from all others of its kind."""
    text = "\x1f".join(str(part) for part in parts)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """``at`` is the market's time of what happened (the close of a bar, the session's clock otherwise), UTC and aware."""

    kind: ClassVar[str] = "event"

    event_id: str
    correlation_id: str
    causation_id: str | None
    at: datetime
    session_id: str
    symbol: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCandle(Event):
    """Closed bars of a symbol have come: ``bars`` of them (1 when live, more after a pause), the last opened at ``opened_at``."""

    kind: ClassVar[str] = "candle.new"

    opened_at: datetime
    close: float
    bars: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFetchFailed(Event):
    """A symbol's candles did not come, or were refused. ``attempt`` counts from 1 since the last good answer."""

    kind: ClassVar[str] = "data.failed"

    error: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataStale(Event):
    """A symbol's last bar is older than it may be while its market is open. ``age_s`` and ``limit_s`` in seconds."""

    kind: ClassVar[str] = "data.stale"

    age_s: float
    limit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IndicatorsUpdated(Event):
    """What the session's own indicators say at the last bar; None while they warm up. ``volatility``: annualised, a fraction."""

    kind: ClassVar[str] = "indicators.updated"

    opened_at: datetime
    adx: float | None
    volatility: float | None
    slope_bps: float | None
    regime: Regime


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeChanged(Event):
    """The regime at a bar is another one than at the bar before."""

    kind: ClassVar[str] = "regime.changed"

    opened_at: datetime
    before: Regime
    after: Regime


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalGenerated(Event):
    """The strategy decided something else than HOLD at a bar's close. ``action``: BUY, SELL or EXIT."""

    kind: ClassVar[str] = "signal.generated"

    opened_at: datetime
    action: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalValidated(Event):
    """No rule is against the signal."""

    kind: ClassVar[str] = "signal.validated"

    opened_at: datetime
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRejected(Event):
    """A rule is against the signal: what it acts on, its limit, and the value that is beyond it."""

    kind: ClassVar[str] = "signal.rejected"

    opened_at: datetime
    action: str
    rule: str
    limit: str | None
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlaced(Event):
    """An order is in the ledger. ``budget`` in quote currency for an entry, ``quantity`` in base currency for an exit."""

    kind: ClassVar[str] = "order.placed"

    account: str
    client_order_id: str
    side: str
    leg: str
    order_kind: str
    budget: Decimal | None
    quantity: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeExecuted(Event):
    """A fill is in the ledger. ``price``, ``notional`` and ``fee`` in quote currency, ``quantity`` in base currency."""

    kind: ClassVar[str] = "trade.executed"

    account: str
    client_order_id: str
    fill_id: str
    side: str
    leg: str
    price: Decimal
    quantity: Decimal
    notional: Decimal
    fee: Decimal
    realized_pnl: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeFailed(Event):
    """An order was refused (``rule``, ``limit``, ``value`` say why), or the step itself failed (then only ``error``)."""

    kind: ClassVar[str] = "trade.failed"

    account: str
    client_order_id: str | None
    error: str
    rule: str | None = None
    limit: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(Event):
    """A session, a symbol or a stage of a symbol has moved from one state to another."""

    kind: ClassVar[str] = "state.changed"

    subject: Literal["session", "symbol", "stage"]
    stage: Stage | None
    before: State
    after: State
    reason: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFailed(Event):
    """A handler of a stage raised. The other stages and symbols go on."""

    kind: ClassVar[str] = "stage.failed"

    stage: Stage
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimitBreached(Event):
    """A global limit is broken. ``action`` is what follows by the settings: pause, flatten or block_entries."""

    kind: ClassVar[str] = "risk.breached"

    rule: str
    limit: str
    value: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimitLifted(Event):
    """A breach is over: by the settings (`next_day`, `when_below`) or by hand."""

    kind: ClassVar[str] = "risk.lifted"

    rule: str
    reason: str
    actor: str


def document(event: Event) -> dict[str, str | int | float | bool | None]:
    """The event JSON-ready: its kind and every field; times as ISO 8601 with Z, decimals as text."""
    found: dict[str, str | int | float | bool | None] = {"kind": event.kind}
    for field in fields(event):
        value = getattr(event, field.name)
        if isinstance(value, datetime):
            value = value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        found[field.name] = format(value.normalize(), "f") if isinstance(value, Decimal) else value
    return found
