"""The commands of a session against a store in which one runs: this test's process says that it is the session's."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from candlewick.cli import run_command
from candlewick.monitoring.rows import AlertRow, OutboxEvent
from candlewick.monitoring.status import SessionStatus
from candlewick.store.database import Database
from candlewick.store.processes import this_process
from candlewick.store.session_writing import SessionWrite
from candlewick.store.sessions import SessionStore
from flows.monitoring import app
from tests.session_samples import session_row, troubled_desk

ROOT = Path(__file__).resolve().parents[1]


class FakeSession:
    """The store's side of a session: its row, and its answers to commands."""

    def __init__(self, directory: Path) -> None:
        self.store = SessionStore(Database(str(directory / "data" / "ledger.duckdb")))

    def beat(self, **changes: object) -> SessionStatus:
        """Write the row of a session of this process that is well but for its symbols; ``changes`` are of its status."""
        now = datetime.now(UTC)
        times = {"started_at": now - timedelta(minutes=42), "ends_at": now + timedelta(minutes=18), "heartbeat_at": now}
        status = troubled_desk(**({"process": this_process(), "bus_connected": None, **times, "clock_at": now} | changes))
        self.store.commit(SessionWrite(name=status.name, at=now, session=session_row(status)))
        return status

    def answer(self, outcome: str) -> int:
        """Take every command that waits; how many."""
        now = datetime.now(UTC)
        done = [replace(one, session_id="s", applied_at=now, outcome=outcome) for one in self.store.pending_controls("desk")]
        if done:
            self.store.commit(SessionWrite(name="desk", at=now, applied=done))
        return len(done)

    @contextmanager
    def answering(self, outcome: str) -> Iterator[None]:
        """Somebody who answers the next command."""

        def wait_and_answer() -> None:
            while not over.is_set() and not self.answer(outcome):
                time.sleep(0.05)

        over = threading.Event()
        thread = threading.Thread(target=wait_and_answer)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return FakeSession(tmp_path)


def command(*words: str) -> int:
    return run_command(app, list(words))


def elsewhere(*words: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    arguments = [sys.executable, "-m", "flows.monitoring", *words]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def dead_process() -> str:
    """What a process called itself that is no more."""
    child = subprocess.run(
        [sys.executable, "-c", "from candlewick.store.processes import this_process; print(this_process())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return child.stdout.strip()


# From another process


def test_another_process_sees_the_session_pauses_a_symbol_and_is_told_what_was_done(session: FakeSession) -> None:
    session.beat()
    seen = elsewhere("status", "--json")
    document = json.loads(seen.communicate(timeout=60)[0])
    assert (seen.returncode, document["verdict"], document["healthy_symbols"]) == (3, "alive", 5)
    with session.answering("paused BTC/USDT"):
        asked = elsewhere("pause", "--symbol", "BTC/USDT", "--reason", "earnings today")
        out, _ = asked.communicate(timeout=60)
    assert (asked.returncode, out) == (0, "pause BTC/USDT: paused BTC/USDT\n")
    (control,) = session.store.controls("desk")
    assert (control.command, control.symbol, control.reason) == ("pause", "BTC/USDT", "earnings today")
    assert "@" in control.requested_by


def test_watching_shows_the_status_again_until_ctrl_c(session: FakeSession) -> None:
    session.beat(symbols=troubled_desk().symbols[:2])
    watching = elsewhere("status", "--watch")
    assert watching.stdout is not None
    seen = 0
    for line in watching.stdout:
        seen += line.startswith("RUNNING  desk desk: 2 of 2 symbols healthy")
        if seen == 2:
            break
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=60)
    assert watching.returncode == 0


# Status


def test_a_session_of_which_all_is_well_ends_with_0(session: FakeSession, capsys: pytest.CaptureFixture[str]) -> None:
    session.beat(symbols=troubled_desk().symbols[:3])
    assert command("status") == 0
    assert "RUNNING  desk desk: 3 of 3 symbols healthy" in capsys.readouterr().out


def test_after_kill_9_the_status_says_that_the_session_crashed(session: FakeSession, capsys: pytest.CaptureFixture[str]) -> None:
    session.beat(process=dead_process())
    assert command("status") == 1
    out = capsys.readouterr().out
    assert out.startswith("CRASHED  desk desk")
    assert "is gone. Start the next one with `python -m flows.monitoring start --account desk`; nothing is lost" in out
    assert command("status", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["health"], document["is_healthy"]) == ("crashed", "failure", False)


def test_a_session_without_a_heartbeat_is_not_believed(session: FakeSession, capsys: pytest.CaptureFixture[str]) -> None:
    session.beat(heartbeat_at=datetime.now(UTC) - timedelta(minutes=1))
    assert command("status") == 1
    assert capsys.readouterr().out.startswith("SILENT  desk desk")


def test_a_session_that_is_starting_has_no_status_yet(session: FakeSession, capsys: pytest.CaptureFixture[str]) -> None:
    status = troubled_desk(process=this_process(), heartbeat_at=datetime.now(UTC))
    row = session_row(status, "STARTING", document={})
    session.store.commit(SessionWrite(name="desk", at=datetime.now(UTC), session=row))
    assert command("status") == 3
    assert "STARTING  desk desk: session session-20260131T114842-1f2e3d4c has not said anything yet" in capsys.readouterr().out
    assert command("status", "--json") == 3
    assert json.loads(capsys.readouterr().out)["state"] == "STARTING"


def test_while_one_session_hands_over_its_status_is_shown(session: FakeSession, capsys: pytest.CaptureFixture[str]) -> None:
    running = session.beat()
    now = datetime.now(UTC)
    later = {"session_id": "next", "process": this_process(), "started_at": now, "heartbeat_at": now}
    row = session_row(troubled_desk(**later), "STARTING", document={})
    session.store.commit(SessionWrite(name="desk", at=now, session=row))
    assert command("status", "--json") == 3
    assert json.loads(capsys.readouterr().out)["session_id"] == running.session_id


def stand_aside(session: FakeSession, number: int, at: datetime) -> None:
    """Another session was started, found that the desk is taken, and ended."""
    told = {"session_id": f"aside-{number}", "process": this_process(), "started_at": at, "heartbeat_at": at}
    row = session_row(troubled_desk(**told), "STOPPED", document={}, ended_at=at, reason="another one watches the desk")
    session.store.commit(SessionWrite(name="desk", at=at, session=row))


def test_sessions_that_stood_aside_do_not_hide_the_one_that_works(
    session: FakeSession, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    for number in range(8):
        stand_aside(session, number, now - timedelta(minutes=number + 1))
    running = session.beat()
    assert command("status", "--json") == 3
    assert json.loads(capsys.readouterr().out)["session_id"] == running.session_id
    with session.answering("paused: all symbols"):
        assert command("pause") == 0


def test_a_session_that_stood_aside_does_not_hide_a_crash(session: FakeSession, capsys: pytest.CaptureFixture[str]) -> None:
    stand_aside(session, 1, datetime.now(UTC) - timedelta(minutes=1))
    session.beat(process=dead_process())
    assert command("status") == 1
    assert capsys.readouterr().out.startswith("CRASHED  desk desk")


def test_without_a_session_status_says_how_to_start_one_and_makes_no_file(
    session: FakeSession, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("status") == 1
    assert (
        "desk desk has no session. Start one with `python -m flows.monitoring start --account desk`." in capsys.readouterr().out
    )
    assert command("status", "--json") == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "none"
    assert not session.store.database.exists()
    session.beat()
    assert command("status", "--account", "other") == 1
    assert "desk other has no session (desks with sessions: desk)" in capsys.readouterr().out


# Control


def asked(session: FakeSession, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The error of a command that is refused; nothing was written."""
    assert command(*words) == 2
    assert session.store.controls("desk") == ()
    return capsys.readouterr().err


def test_a_command_is_refused_where_no_session_is_alive(session: FakeSession, capsys: pytest.CaptureFixture[str]) -> None:
    assert "pause: desk desk has no session. Start one with `python -m flows" in asked(session, capsys, "pause")
    assert not session.store.database.exists()
    session.beat(process=dead_process())
    assert "stop: nobody would do it; session session-20260131T114842-1f2e3d4c crashed" in asked(session, capsys, "stop")


def test_a_symbol_or_limit_that_is_not_there_is_refused_and_those_there_are_named(
    session: FakeSession, capsys: pytest.CaptureFixture[str]
) -> None:
    session.beat()
    said = asked(session, capsys, "restart", "--symbol", "NOPE")
    assert "desk desk does not watch NOPE; it watches BTC/USDT, ETH/USDT" in said
    assert "there are daily_loss_share, kill_switch, max_drawdown_share" in asked(session, capsys, "lift", "nope")
    assert "--symbol" in asked(session, capsys, "restart")
    assert "Must be >= 0" in asked(session, capsys, "pause", "--wait", "-1")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("resume",), ("resume", None, None)),
        (("stop", "--reason", "maintenance"), ("stop", None, None)),
        (("restart", "--symbol", "DOGE/USDT"), ("restart", "DOGE/USDT", None)),
        (("kill",), ("kill", None, None)),
        (("lift", "max_drawdown_share"), ("lift", None, "max_drawdown_share")),
        (("lift", "kill_switch"), ("lift", None, "kill_switch")),
    ],
)
def test_every_command_travels_as_a_row(session: FakeSession, words: tuple[str, ...], told: tuple[str | None, ...]) -> None:
    session.beat()
    assert command(*words, "--wait", "0") == 3
    (control,) = session.store.controls("desk")
    assert (control.command, control.symbol, control.argument) == told
    assert control.reason == (words[2] if words[0] == "stop" else None)


def test_what_the_session_refuses_ends_with_1(session: FakeSession, capsys: pytest.CaptureFixture[str]) -> None:
    session.beat()
    with session.answering("refused: nothing is broken"):
        assert command("lift", "daily_loss_share", "--json") == 1
    assert json.loads(capsys.readouterr().out)["outcome"] == "refused: nothing is broken"


def test_a_command_that_is_not_answered_in_time_says_where_to_look(
    session: FakeSession, capsys: pytest.CaptureFixture[str]
) -> None:
    session.beat()
    assert command("pause", "--wait", "0") == 3
    assert "asked, and not answered within 0 s; `python -m flows.monitoring controls` shows" in capsys.readouterr().out
    assert command("controls") == 0
    assert "waits" in capsys.readouterr().out


# Lists


def test_the_lists_show_sessions_commands_alerts_and_events(session: FakeSession, capsys: pytest.CaptureFixture[str]) -> None:
    for name, empty in {
        "sessions": "desk desk has no session",
        "controls": "no command",
        "alerts": "no alert",
        "events": "no event",
    }.items():
        assert command(name) == 0
        assert capsys.readouterr().out.startswith(empty)
    session.beat()
    fill_the_lists(session)
    shown = {}
    for name in ("sessions", "controls", "alerts", "events"):
        assert command(name) == 0
        shown[name] = capsys.readouterr().out
        assert command(name, "--json") == 0
        assert len(json.loads(capsys.readouterr().out)) == (2 if name == "events" else 1)
    assert "RUNNING" in shown["sessions"]
    assert "pause SOL/USDT" in shown["controls"]
    assert "paused SOL/USDT" in shown["controls"]
    assert "daily loss limit" in shown["alerts"]
    assert "side BUY, quantity 0.5, price 75780.1" in shown["events"]
    assert command("events", "--since", "1", "--json") == 0
    assert [one["sequence"] for one in json.loads(capsys.readouterr().out)] == [2]


def fill_the_lists(session: FakeSession) -> None:
    """One command that was done, one alert, two events."""
    assert command("pause", "--symbol", "SOL/USDT", "--wait", "0") == 3
    session.answer("paused SOL/USDT")
    now = datetime.now(UTC)
    alert = AlertRow(
        alert_id="alert-1",
        name="desk",
        session_id="s",
        severity="critical",
        title="daily loss limit",
        body="lost 3.00%, limit 2.00%",
        key="risk.daily_loss",
        raised_at=now,
        state="sent",
        sent_at=now,
        repeats=0,
        error=None,
    )
    events = [
        OutboxEvent(
            event_id=f"fill-{number}",
            name="desk",
            sequence=number,
            kind="fill",
            account="desk.BTC-USDT",
            symbol="BTC/USDT",
            at=now,
            correlation_id="binance:BTC/USDT:1m:2026-01-31T12:29Z",
            causation_id=None,
            session_id="s",
            document={"side": "BUY", "quantity": "0.5", "price": "75780.1"},
        )
        for number in (1, 2)
    ]
    session.store.commit(SessionWrite(name="desk", at=now, alerts=[alert], outbox=events))
