"""What happened last on a desk, in sentences: fills and refusals, risk, moves of states, alerts, rejections, commands."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from candlewick.json_text import Json
from candlewick.monitoring.interventions import Intervention
from candlewick.monitoring.rows import AlertRow, Control, OutboxEvent, Transition
from candlewick.store.desk_view import DeskView
from candlewick.timeframes import timeframe_ms, utc

MOST = 60
Tone = Literal["gain", "loss", "warn", "info"]
# A stop or target that is cancelled only goes with its position.
_CAME_TO_NOTHING = {("refused", leg) for leg in ("entry", "exit")} | {(fate, "entry") for fate in ("expired", "cancelled")}


@dataclass(frozen=True, slots=True)
class Happening:
    """``text`` as it is: whoever shows it escapes it. ``id`` is the same for the same happening at every look."""

    id: str
    at: datetime
    tone: Tone
    symbol: str | None
    text: str


def happenings(view: DeskView) -> list[Happening]:
    """The newest MOST of all kinds."""
    bar = timedelta(milliseconds=timeframe_ms(view.session.timeframe)) if view.session else timedelta()
    found = [
        *_of_outbox(view.outbox),
        *(_of_transition(one) for one in view.transitions),
        *(_of_alert(one) for one in view.alerts),
        *(_of_intervention(one, bar) for one in view.interventions),
        *(_of_control(one) for one in view.controls),
    ]
    return sorted(found, key=lambda one: one.at, reverse=True)[:MOST]


def _of_outbox(events: Iterable[OutboxEvent]) -> Iterator[Happening]:
    """Fills, orders that came to nothing, and risk; what merely accompanies them (placed, filled, position) is left out."""
    for event in events:
        told = event.document
        if event.kind == "fill":
            tone, text = _fill(told)
        elif event.kind == "order.changed" and (told.get("status"), told.get("leg")) in _CAME_TO_NOTHING:
            tone, text = "warn", f"{_words(told, 'leg')} order {told['status']}{_because(_text(told, 'reason'))}"
        elif event.kind == "risk.breached":
            limit = f"{_text(told, 'value')} is beyond {_text(told, 'limit')}"
            tone, text = "loss", f"risk limit {_words(told, 'rule')} broken: {limit}, {_words(told, 'action')}"
        elif event.kind == "risk.lifted":
            tone, text = "info", f"risk limit {_words(told, 'rule')} lifted{_because(_text(told, 'reason'))}"
        else:
            continue
        yield Happening(f"o {event.event_id}", event.at, tone, event.symbol, text)


def _fill(told: Mapping[str, Json]) -> tuple[Tone, str]:
    result = told.get("realized_pnl")
    pnl = None if result is None else Decimal(str(result))
    tone: Tone = "info" if pnl is None else "gain" if pnl > 0 else "loss"
    earned = "" if pnl is None else f", result {pnl:+,.2f}"
    text = f"{_words(told, 'leg')}: {_text(told, 'side').lower()} {_text(told, 'quantity')} at {_text(told, 'price')}{earned}"
    return tone, text + _because(_text(told, "reason"))


def _of_transition(one: Transition) -> Happening:
    what = "session" if one.subject == "session" else one.stage or "symbol"
    tone: Tone = "loss" if one.after == "ERROR" else "warn" if one.after in ("PAUSED", "RECOVERING") else "info"
    text = f"{what} {one.before.lower()} → {one.after.lower()}{_because(one.reason)}"
    return Happening(f"t {one.session_id} {one.sequence}", one.at, tone, one.symbol, f"{text}, by {one.actor}")


def _of_alert(one: AlertRow) -> Happening:
    tone: Tone = "loss" if one.severity == "critical" else "warn" if one.severity == "warning" else "info"
    fate = {"failed": ", could not be sent", "waiting": ", not sent yet"}.get(one.state, "")
    return Happening(f"a {one.alert_id} {one.state}", one.raised_at, tone, None, f"alert: {one.title}{fate}. {one.body}")


def _of_intervention(one: Intervention, bar: timedelta) -> Happening:
    key = f"i {one.account} {one.symbol} {one.opened_at_ms}"
    became = "rejected" if one.replacement == "HOLD" else "became an exit"
    measured = f" ({one.value} against {one.limit})" if one.limit is not None and one.value is not None else ""
    text = f"{one.action} {became} by {one.rule.replace('_', ' ')}{measured}{_because(one.reason)}"
    return Happening(key, utc(one.opened_at_ms) + bar, "warn", one.symbol, text)


def _of_control(one: Control) -> Happening:
    asked = f"{one.command} {one.argument or ''}".strip()
    fate = f" → {one.outcome}" if one.outcome else ""
    text = f"{asked} asked for by {one.requested_by}{_because(one.reason)}{fate}"
    return Happening(f"c {one.control_id} {one.outcome is None}", one.requested_at, "info", one.symbol, text)


def _text(told: Mapping[str, Json], name: str) -> str:
    found = told.get(name)
    return "" if found is None else str(found)


def _words(told: Mapping[str, Json], name: str) -> str:
    return _text(told, name).replace("_", " ")


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""
