"""Commands to a session, as it takes them out of the store: pause, resume, stop, restart, kill, lift."""

from dataclasses import replace
from datetime import UTC, datetime

from candlewick.errors import UsageError
from candlewick.monitoring.desk_risk import lift_by_hand, pull_kill_switch
from candlewick.monitoring.outbox import risk_event
from candlewick.monitoring.rows import Control
from candlewick.monitoring.watched import PauseCause
from flows.monitor_opening import reload
from flows.monitor_session import Session

# What nobody took because the session before died is not done by the next one, unless it makes things safer.
_STILL_MEANT = ("kill", "pause")
_STALE = "stale data"


async def obey(session: Session, control: Control) -> None:
    """Do what a command says; what was done, or why not, goes into its row with the next commit."""
    try:
        outcome = await _obey(session, control)
    except UsageError as refused:
        outcome = f"refused: {refused}"
    session.show_soon()
    session.unwritten.applied.append(
        replace(control, session_id=session.session_id, applied_at=datetime.now(UTC), outcome=outcome)
    )


async def _obey(session: Session, control: Control) -> str:
    if control.requested_at < session.started_at and control.command not in _STILL_MEANT:
        raise UsageError(f"it was asked for at {control.requested_at:%H:%M:%S} UTC, before this session began; ask again")
    reason = control.reason or f"{control.command} by {control.requested_by}"
    symbols = tuple(session.desk.watched) if control.symbol is None else (control.symbol,)
    unknown = [symbol for symbol in symbols if symbol not in session.desk.watched]
    if unknown:
        raise UsageError(f"{unknown[0]} is not watched; there are {', '.join(session.desk.watched)}")
    if control.command == "stop":
        session.stop_reason = reason, control.requested_by
        return "the session stops"
    if control.command == "kill":
        return _kill(session, reason)
    if control.command == "lift":
        return _lift(session, control.argument or "", reason, control.requested_by)
    if control.command == "restart":
        return await _restart(session, symbols, reason, control.requested_by)
    return _pause_or_resume(session, control, symbols, reason)


def _pause_or_resume(session: Session, control: Control, symbols: tuple[str, ...], reason: str) -> str:
    desk = session.desk
    if control.command == "pause":
        before = {symbol: desk.watched[symbol].paused_by for symbol in symbols}
        # What the automation of stale data pauses goes on by itself when data come, as what the session itself pauses does.
        cause: PauseCause = "stale" if reason.startswith(_STALE) else "operator"
        done = [symbol for symbol in symbols if desk.pause(symbol, cause, reason, control.requested_by)]
        verb = "paused"
        rest = (
            f"; {_some([s for s in symbols if s not in done])} paused already: {before[symbols[0]]}"
            if len(done) < len(symbols)
            else ""
        )
    else:
        done = [symbol for symbol in symbols if desk.resume(symbol, "operator", reason, control.requested_by)]
        verb = "resumed"
        left = [
            f"{symbol} stays paused: {desk.watched[symbol].paused_by}" for symbol in symbols if desk.watched[symbol].paused_by
        ]
        rest = f"; {'; '.join(left[:3])}" if left else ""
    _show_in_session(session, reason, control.requested_by)
    return f"{verb}: {_some(done)}{rest}" if done else f"nothing to do{rest}"


def _show_in_session(session: Session, reason: str, actor: str) -> None:
    """The session is paused while all of its symbols are."""
    desk = session.desk
    all_paused = all("operator" in one.paused for one in desk.watched.values())
    machine = desk.states.session
    if all_paused and machine.state == "RUNNING":
        machine.move("PAUSED", reason, actor, desk.now)
    elif not all_paused and machine.state == "PAUSED":
        machine.move("RUNNING", reason, actor, desk.now)


async def _restart(session: Session, symbols: tuple[str, ...], reason: str, actor: str) -> str:
    for symbol in symbols:
        session.desk.restart(symbol, reason, actor)
        await reload(session, symbol)
    return f"restarted: {_some(list(symbols))}"


def _kill(session: Session, reason: str) -> str:
    event = pull_kill_switch(session.desk, reason)
    if event is None:
        return "the kill switch is pulled already"
    session.desk.bus.publish(event)
    session.unwritten.outbox.append(risk_event(session.name, event, 1))
    return f"the kill switch is pulled: {event.action} until `lift kill_switch`"


def _lift(session: Session, rule: str, reason: str, actor: str) -> str:
    event = lift_by_hand(session.desk, rule, reason, actor)
    session.desk.bus.publish(event)
    session.unwritten.outbox.append(risk_event(session.name, event, 1))
    return f"lifted: {rule}"


def _some(symbols: list[str]) -> str:
    most = 5
    return ", ".join(symbols[:most]) + (f" and {len(symbols) - most} more" if len(symbols) > most else "") or "none"
