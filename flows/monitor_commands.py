"""Looking at a desk's session and telling it what to do, from any process that reaches the store. Prefect is not needed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from candlewick.cli import EXIT_CODES, FAILURE, PARTIAL, SUCCESS, JsonFlag
from candlewick.errors import UsageError
from candlewick.json_text import to_json
from candlewick.monitoring.asking import REFUSED, Seen, ask_session, current_session, look_at, no_session_text, wait_for_outcome
from candlewick.monitoring.liveness import health
from candlewick.monitoring.rows import AlertRow, Command, Control, OutboxEvent
from candlewick.monitoring.status_text import render_status, status_json
from candlewick.settings import Settings, load_settings
from candlewick.store.database import Database
from candlewick.store.sessions import SessionStore
from candlewick.tables import Row, print_rows

_WATCH_S = 2.0
_ANSWER_POLL_S = 0.5
_NEWEST_EVENTS = 50
_SESSION_COLUMNS = {
    "session_id": "Session", "state": "State", "started": "Started (UTC)", "ended": "Ended (UTC)", "bars": "Bars",
    "fills": "Fills", "errors": "Errors", "reason": "Reason",
}  # fmt: skip
_CONTROL_COLUMNS = {
    "requested": "Asked (UTC)", "command": "Command", "who": "By", "reason": "Reason", "applied": "Done (UTC)",
    "outcome": "Outcome",
}  # fmt: skip
_ALERT_COLUMNS = {
    "raised": "Raised (UTC)", "severity": "Severity", "title": "Alert", "body": "What", "state": "State", "repeats": "Repeats",
    "error": "Error",
}  # fmt: skip
_EVENT_COLUMNS = {
    "sequence": "Number", "at": "At (UTC)", "kind": "Event", "account": "Account", "symbol": "Symbol", "what": "What",
    "correlation_id": "From the bar",
}  # fmt: skip
_TOLD = ("side", "leg", "status", "quantity", "budget", "price", "realized_pnl", "rule", "limit", "value", "action", "reason")

Desk = Annotated[str | None, Parameter(name="--account", help="Name of the desk. [monitoring.account]")]
Reason = Annotated[str | None, Parameter(help="Why; it is kept with the command.")]
Wait = Annotated[
    float, Parameter(help="How long to wait for the session to say what it did, in seconds.", validator=Number(gte=0))
]
Limit = Annotated[int, Parameter(help="How many rows at the most, the newest.", validator=Number(gte=1))]


def add_monitor_commands(app: App) -> None:
    """Give ``app`` all commands of this module."""
    app.command(show_status, name="status")
    app.command(pause)
    app.command(resume)
    app.command(stop)
    app.command(restart)
    app.command(kill)
    app.command(lift)
    app.command(list_sessions, name="sessions")
    app.command(list_alerts, name="alerts")
    app.command(list_controls, name="controls")
    app.command(list_events, name="events")


class _Chosen:
    """A desk of the store that the settings name."""

    def __init__(self, account: str | None) -> None:
        settings: Settings = load_settings()
        self.name = account or settings.monitoring.account
        self.store = SessionStore(Database(settings.store.url, settings.store.lock_timeout_s))
        self._heartbeat_s = settings.monitoring.heartbeat_s

    def session(self) -> Seen | None:
        """The desk's session as it is now."""
        return current_session(self.store, self.name, self._heartbeat_s, datetime.now(UTC))

    def look_at_all(self, limit: int) -> list[Seen]:
        """The newest sessions, newest first."""
        now = datetime.now(UTC)
        return [look_at(row, self._heartbeat_s, now) for row in self.store.sessions(self.name, limit)]

    def ask(self, command: Command, symbol: str | None, argument: str | None, reason: str | None) -> Control:
        """Leave a command for the desk's session."""
        now = datetime.now(UTC)
        return ask_session(self.store, self.name, command, self._heartbeat_s, now, symbol, argument, reason)


# ------------------------------------------------------------------------------------------------- status


def show_status(
    *,
    account: Desk = None,
    watch: Annotated[bool, Parameter(help="Show it again every two seconds, until Ctrl-C.")] = False,
    json: JsonFlag = False,
) -> int:
    """How the desk's session is: 0 all is well, 3 some of it is not, 1 it does not trade, crashed, or is not there."""
    if watch and json:
        raise UsageError("--watch is for people and --json for programs: give one of them")
    chosen = _Chosen(account)
    if watch:
        return _watch(chosen, Console())
    seen = chosen.session()
    if json:
        print(to_json(_document(chosen, seen), indent=2))
    else:
        Console().print(_picture(chosen, seen))
    return _exit_code(seen)


def _watch(chosen: _Chosen, console: Console) -> int:
    """Until Ctrl-C: in place on a terminal, one after the other elsewhere. Ends as the last look says."""
    seen = chosen.session()
    try:
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                if console.is_terminal:
                    live.update(_picture(chosen, seen), refresh=True)
                else:
                    console.print(_picture(chosen, seen))
                time.sleep(_WATCH_S)
                seen = chosen.session()
    except KeyboardInterrupt:
        return _exit_code(seen)


def _picture(chosen: _Chosen, seen: Seen | None) -> RenderableType:
    if seen is None:
        return Text(f"{no_session_text(chosen.store, chosen.name)}.")
    if seen.status is None:
        return Text(f"{seen.row.state}  desk {chosen.name}: {_before_heartbeat(seen)}.")
    return render_status(seen.status, datetime.now(UTC), seen.alive)


def _document(chosen: _Chosen, seen: Seen | None) -> Row:
    if seen is not None and seen.status is not None:
        return status_json(seen.status, seen.alive)
    message = no_session_text(chosen.store, chosen.name) if seen is None else _before_heartbeat(seen)
    known = {} if seen is None else {"session_id": seen.row.session_id, "state": seen.row.state, "process": seen.row.process}
    verdict = "none" if seen is None else seen.alive.verdict
    well = "partial" if _exit_code(seen) == PARTIAL else "failure"
    return {"verdict": verdict, "message": message, "health": well, "is_healthy": False, "name": chosen.name, **known}


def _before_heartbeat(seen: Seen) -> str:
    return f"session {seen.row.session_id} {seen.alive.sentence or 'has not said anything yet'}"


def _exit_code(seen: Seen | None) -> int:
    if seen is None:
        return FAILURE
    if seen.status is None:
        return PARTIAL if seen.alive.verdict == "alive" else FAILURE
    return EXIT_CODES[health(seen.status, seen.alive)]


# ------------------------------------------------------------------------------------------------- control


def pause(
    *,
    symbol: Annotated[str | None, Parameter(help="Only this symbol. [all]")] = None,
    reason: Reason = None,
    account: Desk = None,
    wait: Wait = 10,
    json: JsonFlag = False,
) -> int:
    """Enter nothing new until `resume`; bars, stops, targets and exits go on."""
    return _ask(_Chosen(account), "pause", wait, json, symbol=symbol, reason=reason)


def resume(
    *,
    symbol: Annotated[str | None, Parameter(help="Only this symbol. [all]")] = None,
    reason: Reason = None,
    account: Desk = None,
    wait: Wait = 10,
    json: JsonFlag = False,
) -> int:
    """Take back what `pause` did. What is paused for another reason (market closed, stale data) stays so."""
    return _ask(_Chosen(account), "resume", wait, json, symbol=symbol, reason=reason)


def stop(*, reason: Reason = None, account: Desk = None, wait: Wait = 10, json: JsonFlag = False) -> int:
    """End the session after its next commit. Positions stay; the next session goes on from there."""
    return _ask(_Chosen(account), "stop", wait, json, reason=reason)


def restart(
    *,
    symbol: Annotated[str, Parameter(help="The symbol.")],
    reason: Reason = None,
    account: Desk = None,
    wait: Wait = 10,
    json: JsonFlag = False,
) -> int:
    """Begin anew with a symbol: all its stages, and out of quarantine."""
    return _ask(_Chosen(account), "restart", wait, json, symbol=symbol, reason=reason)


def kill(*, reason: Reason = None, account: Desk = None, wait: Wait = 10, json: JsonFlag = False) -> int:
    """The kill switch: do desk_risk.kill_switch_action (flatten, unless set) now, until `lift kill_switch`."""
    return _ask(_Chosen(account), "kill", wait, json, reason=reason)


def lift(
    rule: Annotated[str, Parameter(help="The limit, as `status` names it, or kill_switch.")],
    /,
    *,
    reason: Reason = None,
    account: Desk = None,
    wait: Wait = 10,
    json: JsonFlag = False,
) -> int:
    """Let a broken global limit, or the kill switch, no longer hold anything back."""
    return _ask(_Chosen(account), "lift", wait, json, argument=rule, reason=reason)


def _ask(
    chosen: _Chosen,
    command: Command,
    wait_s: float,
    as_json: bool,
    *,
    symbol: str | None = None,
    argument: str | None = None,
    reason: str | None = None,
) -> int:
    """0: done; 1: the session refused, or died meanwhile; 3: it has not answered yet."""
    asked = chosen.ask(command, symbol, argument, reason)
    tries = round(wait_s / _ANSWER_POLL_S) + 1
    control = wait_for_outcome(chosen.store, asked, tries, _pauses(tries))
    silent = "" if control.outcome is not None else _unanswered(chosen, wait_s)
    if as_json:
        print(to_json(control, indent=2))
    else:
        print(f"{_command_text(control)}: {control.outcome or silent}")
    if control.outcome is not None:
        return FAILURE if control.outcome.startswith(REFUSED) else SUCCESS
    seen = chosen.session()
    return PARTIAL if seen is not None and seen.alive.takes_commands else FAILURE


def _pauses(tries: int) -> Callable[[], None]:
    """What waits between looks, and not after the last one."""
    left = iter(range(tries - 1))

    def pause_between() -> None:
        if next(left, None) is not None:
            time.sleep(_ANSWER_POLL_S)

    return pause_between


def _unanswered(chosen: _Chosen, wait_s: float) -> str:
    seen = chosen.session()
    if seen is None or not seen.alive.takes_commands:
        return f"asked, and not answered: the session {seen.alive.sentence if seen else 'is gone'}"
    return f"asked, and not answered within {wait_s:g} s; `python -m flows.monitoring controls` shows what becomes of it"


def _command_text(control: Control) -> str:
    return " ".join(filter(None, (control.command, control.symbol, control.argument)))


# ------------------------------------------------------------------------------------------------- lists


def list_sessions(*, account: Desk = None, limit: Limit = 20, json: JsonFlag = False) -> int:
    """The desk's sessions, newest first."""
    chosen = _Chosen(account)
    found = chosen.look_at_all(limit)
    rows: Sequence[Row] = [_plain_session(one) for one in found] if json else [_session_row(one) for one in found]
    print_rows(rows, _SESSION_COLUMNS, json, empty=f"{no_session_text(chosen.store, chosen.name)}." if not found else "")
    return SUCCESS


def _plain_session(seen: Seen) -> Row:
    row = seen.row
    return {
        "session_id": row.session_id, "name": row.name, "market": row.market, "timeframe": row.timeframe, "state": row.state,
        "verdict": seen.alive.verdict, "process": row.process, "flow_run_id": row.flow_run_id, "started_at": row.started_at,
        "ends_at": row.ends_at, "heartbeat_at": row.heartbeat_at, "ended_at": row.ended_at, "reason": row.reason,
    }  # fmt: skip


def _session_row(seen: Seen) -> Row:
    row, status = seen.row, seen.status
    crashed = seen.alive.verdict in ("crashed", "silent")
    return {
        "session_id": row.session_id,
        "state": seen.alive.verdict.upper() if crashed else row.state,
        "started": _time(row.started_at),
        "ended": _time(row.ended_at),
        "bars": None if status is None else status.bars,
        "fills": None if status is None else status.fills,
        "errors": None if status is None else status.errors,
        "reason": f"no heartbeat since {_time(row.heartbeat_at)}" if crashed else row.reason,
    }


def list_controls(*, account: Desk = None, limit: Limit = 50, json: JsonFlag = False) -> int:
    """Commands to the desk's sessions, newest first: who asked for what, when and why, and what was done."""
    chosen = _Chosen(account)
    found = chosen.store.controls(chosen.name, limit)
    print_rows([_plain_row(one) if json else _control_row(one) for one in found], _CONTROL_COLUMNS, json, empty="no command yet")
    return SUCCESS


def _control_row(control: Control) -> Row:
    return {
        "requested": _time(control.requested_at),
        "command": _command_text(control),
        "who": control.requested_by,
        "reason": control.reason,
        "applied": _time(control.applied_at),
        "outcome": control.outcome or "waits",
    }


def list_alerts(*, account: Desk = None, limit: Limit = 50, json: JsonFlag = False) -> int:
    """The desk's alerts, newest first, and whether they were sent."""
    chosen = _Chosen(account)
    found = chosen.store.alerts(chosen.name, limit)
    print_rows([_plain_row(one) if json else _alert_row(one) for one in found], _ALERT_COLUMNS, json, empty="no alert yet")
    return SUCCESS


def _alert_row(alert: AlertRow) -> Row:
    return {
        "raised": _time(alert.raised_at),
        "severity": alert.severity,
        "title": alert.title,
        "body": alert.body,
        "state": alert.state,
        "repeats": alert.repeats,
        "error": alert.error,
    }


def list_events(
    *,
    since: Annotated[int | None, Parameter(help="Events after this number. [the newest 50]", validator=Number(gte=0))] = None,
    account: Desk = None,
    limit: Annotated[int, Parameter(help="How many at the most, from there on.", validator=Number(gte=1))] = 200,
    json: JsonFlag = False,
) -> int:
    """What the desk tells other programs (orders, fills, positions, limits), by number, oldest first."""
    chosen = _Chosen(account)
    first = max(0, chosen.store.last_sequence(chosen.name) - _NEWEST_EVENTS) if since is None else since
    found = chosen.store.events(chosen.name, first, limit)
    print_rows([_plain_row(one) if json else _event_row(one) for one in found], _EVENT_COLUMNS, json, empty="no event there")
    return SUCCESS


def _event_row(event: OutboxEvent) -> Row:
    told = (f"{key} {event.document[key]}" for key in _TOLD if event.document.get(key) is not None)
    return {
        "sequence": event.sequence,
        "at": _time(event.at),
        "kind": event.kind,
        "account": event.account,
        "symbol": event.symbol,
        "what": ", ".join(told),
        "correlation_id": event.correlation_id,
    }


def _plain_row(row: Control | AlertRow | OutboxEvent) -> Row:
    return {field.name: getattr(row, field.name) for field in fields(row)}


def _time(at: datetime | None) -> str | None:
    return None if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
