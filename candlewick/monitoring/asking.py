"""Commands to a session that runs in another process: refused where nobody would read them, else left in the store."""

import getpass
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from candlewick.errors import NoSession, UnknownRule, UnknownSymbol
from candlewick.monitoring.liveness import Liveness, liveness, look_at_process, read_status, start_command
from candlewick.monitoring.rows import Command, Control, SessionRow
from candlewick.monitoring.status import SessionStatus
from candlewick.store.sessions import SessionStore

KILL_SWITCH = "kill_switch"
REFUSED = "refused"
"""What the outcome of a control begins with that the session did not carry out."""
_BEGINNING = ("CREATED", "STARTING")
_LOOKED_AT = 5


@dataclass(frozen=True, slots=True)
class Seen:
    """A session as another process sees it. ``status`` is None before its first heartbeat."""

    row: SessionRow
    status: SessionStatus | None
    alive: Liveness


def look_at(row: SessionRow, heartbeat_s: float, now: datetime) -> Seen:
    """A session's status, and whether it lives. ``heartbeat_s`` is believed until the session has said its own.

    Raises StatusUnreadable.
    """
    status = read_status(row)
    beat_s = heartbeat_s if status is None else status.heartbeat_s
    return Seen(row, status, liveness(row, beat_s, look_at_process(row, now), now))


def current_session(store: SessionStore, name: str, heartbeat_s: float, now: datetime) -> Seen | None:
    """The desk's session that works, else the one that gave a sign of life last; None where there was none.

    While one hands over to the next, that is still the first of them; one that stood aside for another does not hide it.
    Raises StatusUnreadable, LedgerError.
    """
    seen = [look_at(row, heartbeat_s, now) for row in store.seen_last(name, _LOOKED_AT)]
    working = [one for one in seen if one.alive.takes_commands and one.row.state not in _BEGINNING]
    return next(iter(working or seen), None)


def no_session_text(store: SessionStore, name: str) -> str:
    """That the desk has no session, which desks have one, and how to start one. Raises LedgerError."""
    others = sorted({row.name for row in store.sessions()} - {name})
    known = f" (desks with sessions: {', '.join(others)})" if others else ""
    return f"desk {name} has no session{known}. Start one with `{start_command(name)}`"


def ask_session(
    store: SessionStore,
    name: str,
    command: Command,
    heartbeat_s: float,
    now: datetime,
    symbol: str | None = None,
    argument: str | None = None,
    reason: str | None = None,
) -> Control:
    """Leave a command for the desk's session. ``argument`` is the rule of a `lift`.

    Raises NoSession where none is alive, UnknownSymbol, UnknownRule: then nothing was written. Raises LedgerError.
    """
    seen = current_session(store, name, heartbeat_s, now)
    if seen is None:
        raise NoSession(f"{command}: {no_session_text(store, name)}. Nothing was written")
    if not seen.alive.takes_commands:
        raise NoSession(
            f"{command}: nobody would do it; session {seen.row.session_id} {seen.alive.sentence}. Nothing was written"
        )
    if seen.status is not None:
        _refuse_strangers(seen.status, symbol, argument)
    control = Control(
        control_id=f"{command}-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}",
        name=name,
        command=command,
        symbol=symbol,
        argument=argument,
        reason=reason,
        requested_by=requester(),
        requested_at=now,
    )
    store.ask(control)
    return control


def wait_for_outcome(store: SessionStore, control: Control, tries: int, pause: Callable[[], None], newest: int = 50) -> Control:
    """The control with what the session did with it; as it was where the session said nothing in ``tries`` looks.

    ``pause`` is called after every look without an answer. Raises LedgerError.
    """
    for _ in range(tries):
        found = next((one for one in store.controls(control.name, newest) if one.control_id == control.control_id), control)
        if found.outcome is not None:
            return found
        pause()
    return control


def requester() -> str:
    """`user@host`; the user's number where it has no name, as in many containers."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _refuse_strangers(status: SessionStatus, symbol: str | None, rule: str | None) -> None:
    symbols = [one.symbol for one in status.symbols]
    if symbol is not None and symbol not in symbols:
        raise UnknownSymbol(f"desk {status.name} does not watch {symbol}; it watches {_listed(symbols)}. Nothing was written")
    rules = sorted({one.rule for one in status.risk} | {KILL_SWITCH})
    if rule is not None and rule not in rules:
        raise UnknownRule(f"{rule!r} is no limit of desk {status.name}; there are {_listed(rules)}. Nothing was written")


def _listed(names: Sequence[str], most: int = 20) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
