"""The desk's limits while it is watched: what a breach does besides refusing entries, commands about it, and what is remembered.

What is remembered (the risk state and the pauses that a person or a limit made) is written with every commit, so that neither a
hand-over nor a kill forgets a breach, a kill switch or a pause.
"""

from collections.abc import Mapping

from candlewick.errors import LedgerUnreadable
from candlewick.json_text import Json
from candlewick.monitoring.deciding import Outcome
from candlewick.monitoring.desk import SESSION, Desk
from candlewick.monitoring.events import RiskLimitBreached, RiskLimitLifted, event_id
from candlewick.monitoring.risk_state import Breach, RiskState, kill, lift
from candlewick.monitoring.signal_rules import Pause
from candlewick.monitoring.watched import PauseCause
from candlewick.timeframes import utc

RiskEvent = RiskLimitBreached | RiskLimitLifted
_KEPT: tuple[PauseCause, ...] = ("operator", "risk")


def take_on(desk: Desk, outcome: Outcome) -> list[RiskEvent]:
    """The proposals are in the ledger, so what was assessed with them holds; the events of what is newly broken or lifted."""
    events: list[RiskEvent] = [breached_event(desk, breach) for breach in new_breaches(desk, outcome)]
    events += [lifted_event(desk, breach, f"lifted as set: {breach.lift}", SESSION) for breach in new_lifts(desk, outcome)]
    desk.risk = outcome.assessment.state
    pause_as_limits_say(desk)
    return events


def new_breaches(desk: Desk, outcome: Outcome) -> tuple[Breach, ...]:
    """What is broken now. Where accounts are written one by one, it is told with the first of them."""
    return tuple(one for one in outcome.assessment.breached if desk.risk.breaches.get(one.rule) != one)


def new_lifts(desk: Desk, outcome: Outcome) -> tuple[Breach, ...]:
    """What is lifted now, in the same way."""
    return tuple(one for one in outcome.assessment.lifted if desk.risk.breaches.get(one.rule) == one)


def pause_as_limits_say(desk: Desk) -> None:
    """Every symbol is paused while a breach says so, and goes on when none does."""
    breach = next((one for one in desk.risk.broken if one.action == "pause"), None)
    for symbol in desk.watched:
        if breach is not None:
            desk.pause(symbol, "risk", f"{breach.rule}: {breach.value} against {breach.limit}", SESSION)
        else:
            desk.resume(symbol, "risk", "no limit is broken any more", SESSION)


def pull_kill_switch(desk: Desk, reason: str) -> RiskLimitBreached | None:
    """None where it is pulled already."""
    if desk.risk.killed is not None:
        return None
    desk.risk = kill(desk.risk, desk.rules.risk, reason, utc(desk.clock_ms))
    pause_as_limits_say(desk)
    assert desk.risk.killed is not None
    return breached_event(desk, desk.risk.killed)


def lift_by_hand(desk: Desk, rule: str, reason: str, actor: str) -> RiskLimitLifted:
    """Raises UsageError where the rule is not broken."""
    breach = desk.risk.breaches.get(rule)
    desk.risk = lift(desk.risk, rule)
    pause_as_limits_say(desk)
    assert breach is not None
    return lifted_event(desk, breach, reason, actor)


def breached_event(desk: Desk, breach: Breach) -> RiskLimitBreached:
    """The event of a breach; the same breach has the same id in every session."""
    at_ms = round(breach.breached_at.timestamp() * 1000)
    return RiskLimitBreached(
        event_id=event_id(RiskLimitBreached.kind, desk.name, breach.rule, at_ms),
        correlation_id=f"{desk.name}:{breach.rule}:{at_ms}",
        causation_id=None,
        at=breach.breached_at,
        session_id=desk.session_id,
        rule=breach.rule,
        limit=breach.limit,
        value=breach.value,
        action=breach.action,
    )


def lifted_event(desk: Desk, breach: Breach, reason: str, actor: str) -> RiskLimitLifted:
    """The event of a breach's end."""
    caused = breached_event(desk, breach)
    return RiskLimitLifted(
        event_id=event_id(RiskLimitLifted.kind, caused.event_id), correlation_id=caused.correlation_id,
        causation_id=caused.event_id, at=utc(desk.clock_ms), session_id=desk.session_id, rule=breach.rule, reason=reason,
        actor=actor,
    )  # fmt: skip


def remembered(desk: Desk, risk: RiskState) -> dict[str, Json]:
    """What the next session has to know, JSON-ready."""
    paused: list[Json] = [
        {
            "symbol": one.symbol,
            "cause": cause,
            "reason": one.paused[cause],
            "since_ms": _since_ms(desk, one.symbol, one.paused[cause]),
        }
        for one in desk.watched.values()
        for cause in _KEPT
        if cause in one.paused
    ]
    ended: list[Json] = [
        {"symbol": one.symbol, "since_ms": one.since_ms, "until_ms": one.until_ms, "reason": one.reason}
        for one in desk.pauses
        if one.until_ms is not None
    ]
    return {"risk": risk.to_document(), "paused": paused, "ended": ended}


def remember(desk: Desk, document: Mapping[str, Json] | None) -> None:
    """Take on what the session before has left. Raises LedgerUnreadable."""
    if document is None:
        return
    risk, paused, ended = document.get("risk"), document.get("paused"), document.get("ended", [])
    if not isinstance(risk, dict) or not isinstance(paused, list) or not isinstance(ended, list):
        raise LedgerUnreadable(f"what is remembered of desk {desk.name} has no risk state or no pauses")
    desk.risk = RiskState.from_document(risk)
    for found in paused:
        assert isinstance(found, dict)
        one = desk.watched.get(str(found["symbol"]))
        cause = next((known for known in _KEPT if known == found["cause"]), None)
        if one is not None and cause is not None:
            one.paused[cause] = str(found["reason"])
            desk.pauses.append(
                Pause(symbol=one.symbol, since_ms=int(str(found["since_ms"])), until_ms=None, reason=str(found["reason"]))
            )
    for found in ended:
        assert isinstance(found, dict)
        if str(found["symbol"]) in desk.watched:
            since_ms, until_ms = int(str(found["since_ms"])), int(str(found["until_ms"]))
            desk.pauses.append(
                Pause(symbol=str(found["symbol"]), since_ms=since_ms, until_ms=until_ms, reason=str(found["reason"]))
            )
    pause_as_limits_say(desk)


def _since_ms(desk: Desk, symbol: str, reason: str) -> int:
    found = [
        pause.since_ms for pause in desk.pauses if (pause.symbol, pause.reason) == (symbol, reason) and pause.until_ms is None
    ]
    return min(found, default=desk.clock_ms)
