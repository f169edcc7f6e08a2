"""Whether a session that the store knows still lives, told from outside: by its process, and by its heartbeat."""

import socket
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import ValidationError

from candlewick.errors import StatusUnreadable
from candlewick.monitoring.rows import SessionRow
from candlewick.monitoring.status import SessionStatus
from candlewick.results import Status
from candlewick.store.processes import is_alive

MISSED_HEARTBEATS = 3
"""A session that is silent for so many heartbeats is not believed to work any more."""
Verdict = Literal["alive", "silent", "crashed", "ended"]


@dataclass(frozen=True, slots=True)
class Liveness:
    """``verdict``: alive; silent (its process is there, its heartbeat is not); crashed; or ended, as it should.

    ``sentence`` says so for people, with what to do next; empty where the session is alive.
    """

    verdict: Verdict
    sentence: str = ""

    @property
    def takes_commands(self) -> bool:
        """Whether somebody may still read what is asked of the session."""
        return self.verdict in ("alive", "silent")


ALIVE = Liveness("alive")


def start_command(name: str) -> str:
    """What starts the desk's next session."""
    return f"python -m flows.monitoring start --account {name}"


def read_status(row: SessionRow) -> SessionStatus | None:
    """The status in a session's row, with the row's state; None before the first heartbeat. Raises StatusUnreadable."""
    if not row.document:
        return None
    try:
        status = SessionStatus.model_validate(dict(row.document))
    except ValidationError as error:
        first = error.errors()[0]
        raise StatusUnreadable(
            f"the status of session {row.session_id} cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}; "
            "another version of Candlewick wrote it: use the one that runs the session"
        ) from error
    return status.model_copy(update={"state": row.state})


def look_at_process(row: SessionRow, now: datetime) -> bool | None:
    """Whether the session's process lives; None where it is one of another machine, which nobody here can look at."""
    here = row.process.split(" ")[0] == socket.gethostname()
    return is_alive(row.process, row.started_at, now) if here else None


def liveness(row: SessionRow, heartbeat_s: float, process_alive: bool | None, now: datetime) -> Liveness:
    """What ``now`` is to be believed of a session. ``process_alive`` as ``look_at_process``; ``heartbeat_s``: how often the
    session writes its status, in seconds."""
    beat, next_one = f"{row.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC", start_command(row.name)
    if row.ended_at is not None or row.state == "STOPPED":
        ended, why = row.ended_at or row.heartbeat_at, row.reason or "no reason was given"
        return Liveness("ended", f"ended at {ended:%Y-%m-%d %H:%M:%S} UTC ({why}). Start the next one with `{next_one}`")
    silent_s, limit_s = (now - row.heartbeat_at).total_seconds(), MISSED_HEARTBEATS * heartbeat_s
    lost = f"Start the next one with `{next_one}`; nothing is lost: it goes on after the last committed bar"
    if process_alive is False:
        return Liveness("crashed", f"crashed: no heartbeat since {beat}, process {process_text(row.process)} is gone. {lost}")
    if silent_s <= limit_s:
        return ALIVE
    late = f"no heartbeat since {beat}, {silent_s:,.0f} s ago (limit {limit_s:g} s)"
    if process_alive is None:
        where = f"process {process_text(row.process)} cannot be looked at from here"
        return Liveness("crashed", f"crashed: {late}; {where}. Make sure that it is gone. {lost}")
    return Liveness(
        "silent",
        f"silent: {late}, but process {process_text(row.process)} is still there: it is stuck, or waits for the store. "
        f"Where it stays so, end it. {lost}",
    )


def health(status: SessionStatus, alive: Liveness) -> Status:
    """How well the session is, as commands end: success (all is well), partial (some of it is), failure (it does not trade)."""
    if alive.verdict != "alive" or status.state in ("ERROR", "STOPPED"):
        return "failure"
    if status.is_healthy:
        return "success"
    begun = status.state in ("RUNNING", "PAUSED")
    return "failure" if begun and status.symbols and not status.healthy_symbols else "partial"


def process_text(process: str) -> str:
    """`4711 on trader-1` for what `this_process` of candlewick/store/processes.py said."""
    host, _, rest = process.partition(" ")
    return f"{rest.split(' ')[0]} on {host}" if rest else process
