"""A tick of a session is one transaction of many accounts, whole or not at all; its reads answer what was written."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest

from candlewick.candles import CANDLE_SCHEMA, Series
from candlewick.errors import InvariantViolated, StaleCycle
from candlewick.monitoring.events import bar_id
from candlewick.monitoring.interventions import Intervention
from candlewick.monitoring.row_frames import pending_rows
from candlewick.monitoring.rows import AlertRow, Control, OutboxEvent, SessionRow, Transition
from candlewick.store.database import Database
from candlewick.store.ledger import CycleWrite, Ledger
from candlewick.store.migrations import MIGRATIONS
from candlewick.store.processes import this_process
from candlewick.store.session_writing import SessionWrite
from candlewick.store.sessions import SessionStore
from candlewick.store.tables import TABLES
from tests.ledger_rows import ANCHOR_MS, HOUR_MS, NOW, Trader, altered
from tests.old_ledger import write_version_1

ROOT = Path(__file__).resolve().parents[1]
SERIES = Series("sample", "A/USDT", "1h")
SESSION = SessionRow(
    session_id="s-1", name="desk", market="sample", timeframe="1h", state="RUNNING", process=this_process(), flow_run_id=None,
    started_at=NOW, ends_at=NOW + timedelta(hours=1), heartbeat_at=NOW, ended_at=None, reason=None,
    document={"symbols": [1, None]},
)  # fmt: skip
EVENT = OutboxEvent(
    event_id="fill-1", name="desk", sequence=1, kind="fill", account="desk.A", symbol="A/USDT", at=NOW, correlation_id="bar",
    causation_id=None, session_id="s-1", document={"price": "1.5"},
)  # fmt: skip
CONTROL = Control(
    control_id="c-1",
    name="desk",
    command="pause",
    symbol=None,
    argument=None,
    reason="lunch",
    requested_by="ann",
    requested_at=NOW,
)
ALERT = AlertRow(
    alert_id="a-1", name="desk", session_id="s-1", severity="warning", title="stale", body="BTC/USDT", key="stale BTC/USDT",
    raised_at=NOW, state="waiting", sent_at=None, repeats=0, error=None,
)  # fmt: skip
TRANSITION = Transition(
    session_id="s-1", sequence=1, subject="symbol", symbol="A/USDT", stage=None, before="CREATED", after="STARTING",
    reason="begins", actor="session", at=NOW,
)  # fmt: skip
INTERVENTION = Intervention(
    account="desk.A", symbol="A/USDT", opened_at_ms=ANCHOR_MS + HOUR_MS, action="BUY", replacement="HOLD", rule="cooldown",
    limit="5", value="2", reason="two bars after the last exit", session_id="s-1", correlation_id="bar",
)  # fmt: skip


@pytest.fixture(scope="module")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = Database(str(tmp_path_factory.mktemp("template") / "ledger.duckdb"))
    with database.write():
        return database.path


@pytest.fixture
def store(tmp_path: Path, empty_file: Path) -> SessionStore:
    path = tmp_path / "ledger.duckdb"
    path.write_bytes(empty_file.read_bytes())
    return SessionStore(Database(str(path)))


def traders(*names: str) -> list[Trader]:
    return [Trader(account=f"desk.{name}", symbols=(f"{name}/USDT",)) for name in names]


def cycles(these: list[Trader], bars: int = 1) -> tuple[CycleWrite, ...]:
    return tuple(trader.cycle(bars) for trader in these)


def written(**parts: object) -> SessionWrite:
    return SessionWrite(name="desk", at=NOW, **parts)  # type: ignore[arg-type]


def bars(*opened_at_ms: int, close: float = 1.0) -> pl.DataFrame:
    cells = {"opened_at": opened_at_ms, **dict.fromkeys(("open", "high", "low", "volume"), 1.0), "close": close}
    return pl.DataFrame(cells).select(pl.col(name).cast(kind) for name, kind in CANDLE_SCHEMA.items())


def contents(store: SessionStore) -> dict[str, list[tuple[object, ...]]]:
    with store.database.read() as connection:
        return {table: sorted(connection.execute(f"FROM {table}").fetchall(), key=repr) for table in TABLES}


def refused(store: SessionStore, write: SessionWrite, text: str, error: type[Exception] = InvariantViolated) -> None:
    before = contents(store)
    with pytest.raises(error, match=text):
        store.commit(write)
    assert contents(store) == before


def test_what_a_tick_writes_is_read_back_as_it_was(store: SessionStore) -> None:
    store.ask(CONTROL)
    applied = replace(CONTROL, session_id="s-1", applied_at=NOW, outcome="2 symbols paused")
    store.commit(
        written(
            cycles=cycles(traders("A", "B"), 3), interventions=(INTERVENTION,), outbox=(EVENT,), transitions=(TRANSITION,),
            alerts=(ALERT,), applied=(applied,), session=SESSION, risk={"day": {"equity": "1"}},
            candles=pending_rows([(SERIES, bars(ANCHOR_MS))]),
        )
    )  # fmt: skip
    assert store.session("s-1") == store.latest("desk") == SESSION
    assert store.interventions("desk.A") == (INTERVENTION,)
    assert store.interventions("desk.B") == ()
    assert store.events("desk") == store.undelivered("desk", "redis") == (EVENT,)
    assert store.transitions("s-1") == (TRANSITION,)
    assert store.alerts("desk") == (ALERT,)
    assert store.controls("desk") == (applied,)
    assert store.pending_controls("desk") == ()
    assert store.risk("desk") == {"day": {"equity": "1"}}
    assert store.pending_candles(SERIES).equals(bars(ANCHOR_MS))
    assert store.open_positions(["desk.A", "desk.B"])["account"].to_list() == ["desk.A", "desk.B"]
    loaded = Ledger(store.database).load_accounts(["desk.A", "desk.B", "nobody"])
    assert {name: one.interventions for name, one in loaded.items()} == {"desk.A": (INTERVENTION,), "desk.B": ()}
    assert loaded["desk.B"].checkpoint is not None
    assert loaded["desk.B"] != loaded["desk.A"]


def test_a_store_that_is_not_there_answers_nothing_and_asking_makes_none(tmp_path: Path) -> None:
    store = SessionStore(Database(str(tmp_path / "ledger.duckdb")))
    assert store.latest("desk") is None
    assert store.poll("desk", "s-1").controls == ()
    assert store.risk("desk") is None
    assert store.last_sequence("desk") == 0
    assert store.pending_candles(SERIES).equals(bars())
    assert store.equity(["desk.A"]).is_empty()
    assert store.open_positions([]).is_empty()
    assert not store.database.exists()


def test_many_accounts_in_one_commit_leave_what_one_commit_each_leaves(store: SessionStore, tmp_path: Path) -> None:
    alone = Ledger(Database(str(tmp_path / "alone.duckdb")))
    together, each = traders("A", "B", "C"), traders("A", "B", "C")
    for length in (2, 1, 3):
        store.commit(written(cycles=cycles(together, length)))
        for write in cycles(each, length):
            alone.commit_cycle(write)
    assert contents(store) == contents(SessionStore(alone.database))
    for trader in together:
        Ledger(store.database).check(trader.account)


def test_a_tick_leaves_the_positions_of_accounts_that_it_does_not_write(store: SessionStore) -> None:
    first, second = traders("A", "B")
    store.commit(written(cycles=cycles([first, second])))
    store.commit(written(cycles=cycles([first])))
    assert (first.held, list(second.held)) == ({}, ["B/USDT"])
    assert store.open_positions(["desk.A", "desk.B"])["symbol"].to_list() == ["B/USDT"]


BREAKS: list[tuple[str, str, object, str]] = [
    ("postings", "amount", Decimal(7), "postings balance"),
    ("equity", "equity", Decimal(7), "equity is cash plus positions"),
    ("orders", "signal_id", "nobody", "no order without its signal"),
    ("fills", "client_order_id", "nobody", "no fill without its order"),
    ("orders", "quantity", Decimal("0.4"), "no more is filled than was ordered"),
    ("positions", "quantity", Decimal("0.4"), "positions are what was posted"),
    ("fills", "sequence", 1, "sequence numbers are used once"),
    ("checkpoint", "watermark_at", ANCHOR_MS, "the watermark never moves back"),
    ("checkpoint", "version", 3, "one row of version 2"),
    ("checkpoint", "state", '{"account": {"cash": 5}, "positions": []}', "cash is what was posted"),
    ("fills", "account", "desk.A", "a row of account desk.A in a commit of account desk.B"),
]


@pytest.mark.parametrize(("table", "column", "value", "name"), BREAKS)
def test_one_accounts_broken_invariant_names_it_and_nothing_of_any_account_is_written(
    store: SessionStore, table: str, column: str, value: str, name: str
) -> None:
    these = traders("A", "B", "C")
    store.commit(written(cycles=cycles(these, 5)))
    first, second, third = cycles(these, 2)
    broken = written(cycles=(first, altered(second, table, column, value), third), outbox=(EVENT,), session=SESSION)
    refused(store, broken, f"desk.B.*{name}" if "a row of" not in name else name)


def test_one_stale_account_stops_the_tick_and_is_named(store: SessionStore) -> None:
    these = traders("A", "B")
    store.commit(written(cycles=cycles(these)))
    stale = cycles(these)
    Ledger(store.database).commit_cycle(stale[1])
    refused(store, written(cycles=stale, session=SESSION), "account desk.B: another cycle committed first", StaleCycle)


def test_an_account_may_not_be_in_a_commit_twice(store: SessionStore) -> None:
    (trader,) = traders("A")
    refused(store, written(cycles=(trader.cycle(1), trader.cycle(1))), "account desk.A: two cycles")


def test_a_process_that_is_killed_in_a_commit_leaves_all_of_it_or_nothing(store: SessionStore) -> None:
    """Killed where the transaction has written everything but not committed, and right after the commit."""
    script = """
import os, signal, sys
from contextlib import contextmanager
from candlewick.store import sessions
from candlewick.store.database import Database
from tests.test_session_store import SESSION, cycles, traders, written
after = sys.argv[2] == "after"
class Dying(Database):
    @contextmanager
    def write(self):
        with super().write() as connection:
            yield connection
            if not after:
                os.kill(os.getpid(), signal.SIGKILL)
            connection.execute("COMMIT")
            os.kill(os.getpid(), signal.SIGKILL)
sessions.SessionStore(Dying(sys.argv[1])).commit(written(cycles=cycles(traders("A", "B")), session=SESSION))
"""
    for moment, accounts in (("before", []), ("after", ["desk.A", "desk.B"])):
        child = subprocess.run([sys.executable, "-c", script, str(store.database.path), moment], cwd=ROOT, check=False)
        assert child.returncode == -9
        with store.database.write() as connection:
            assert connection.execute("SELECT count(*) FROM sessions").fetchall() == [(1 if accounts else 0,)]
        assert list(Ledger(store.database).load_accounts(["desk.A", "desk.B"])) == accounts


def test_a_bar_its_signal_its_order_and_its_fills_share_one_id(store: SessionStore) -> None:
    Ledger(store.database).commit_cycle(Trader().cycle(3))
    rows = Ledger(store.database).export_rows("demo")
    for signal in rows["signals"].iter_rows(named=True):
        wanted = bar_id("sample", signal["symbol"], "1h", int(signal["bar_opened_at"].timestamp() * 1000))
        order = rows["orders"].row(by_predicate=pl.col("signal_id") == signal["signal_id"], named=True)
        fill = rows["fills"].row(by_predicate=pl.col("client_order_id") == order["client_order_id"], named=True)
        assert (signal["correlation_id"], order["correlation_id"], fill["correlation_id"]) == (wanted, wanted, wanted)


def test_an_order_of_an_earlier_cycle_gives_its_id_to_a_later_fill(store: SessionStore) -> None:
    whole = Trader().cycle(1)
    waiting = whole.orders.with_columns(status=pl.lit("open"))
    empty = pl.DataFrame()
    without = replace(Trader().cycle(0, run_id="run-1"), signals=whole.signals, orders=waiting)
    ledger = Ledger(store.database)
    ledger.commit_cycle(without)
    checkpoint = whole.checkpoint.with_columns(version=pl.lit(2, pl.Int64))
    rest = replace(
        whole, checkpoint=checkpoint, expected_version=1, run_id="run-2", account_row=empty, terms=empty, signals=empty
    )
    ledger.commit_cycle(replace(rest, runs=whole.runs.with_columns(run_id=pl.lit("run-2"))))
    fills = ledger.export_rows("demo")["fills"]
    assert fills["correlation_id"].to_list() == [bar_id("sample", "BTC/USDT", "1h", ANCHOR_MS - HOUR_MS)]


def test_a_ledger_of_schema_version_4_is_migrated_and_its_rows_get_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    write_version_1(path)
    with Database(str(path), migrations=MIGRATIONS[:4]).read() as connection:
        assert connection.execute("SELECT max(version) FROM schema_migrations").fetchall() == [(4,)]
    rows = Ledger(Database(str(path))).export_rows("demo")
    fills, orders = rows["fills"], rows["orders"]
    assert fills.height
    for fill in fills.iter_rows(named=True):
        order = orders.row(by_predicate=pl.col("client_order_id") == fill["client_order_id"], named=True)
        signal = rows["signals"].row(by_predicate=pl.col("signal_id") == order["signal_id"], named=True)
        opened_ms = int(signal["bar_opened_at"].timestamp() * 1000)
        assert fill["correlation_id"] == signal["correlation_id"] == bar_id("sample", fill["symbol"], "4h", opened_ms)
    assert rows["interventions"].is_empty()
    store = SessionStore(Database(str(path)))
    store.commit(written(session=SESSION))
    assert store.latest("desk") == SESSION


def test_an_intervention_is_of_a_bar_that_its_accounts_cycle_processes(store: SessionStore) -> None:
    (trader,) = traders("A")
    refused(store, written(interventions=(INTERVENTION,)), "account desk.A: an intervention without a cycle")
    late = replace(INTERVENTION, opened_at_ms=ANCHOR_MS + 3 * HOUR_MS)
    first = trader.cycle(3)
    text = r"account desk.A: the intervention at the bar A/USDT 2026-01-01 \d\d:00 is of no bar"
    refused(store, written(cycles=(first,), interventions=(late,)), text)
    store.commit(written(cycles=(first,), interventions=(INTERVENTION,)))
    early = replace(INTERVENTION, opened_at_ms=ANCHOR_MS)
    second = trader.cycle(2)
    refused(store, written(cycles=(second,), interventions=(early,)), text)
    other = replace(INTERVENTION, rule="regime")
    refused(
        store, written(cycles=(second,), interventions=(other,)), "interventions desk.A A/USDT .*: rule is cooldown and would"
    )
    store.commit(written(cycles=(second,), interventions=(INTERVENTION, late)))
    assert store.interventions("desk.A") == (INTERVENTION, late)


def test_the_outbox_counts_without_holes_and_takes_an_event_once(store: SessionStore) -> None:
    assert store.commit(written(outbox=(EVENT,))) == (EVENT,)
    assert store.commit(written(outbox=(EVENT,))) == ()
    second, third = (replace(EVENT, event_id=f"fill-{number}", sequence=number) for number in (2, 3))
    refused(store, written(outbox=(replace(EVENT, kind="stop.hit"),)), "outbox fill-1: kind is fill and would become stop.hit")
    told_again = replace(EVENT, sequence=2, session_id="s-2", document={"price": "1.50"})
    later = replace(third, sequence=9)
    other = replace(EVENT, event_id="other", name="other", sequence=7)
    new = store.commit(written(outbox=(later, replace(second, sequence=3), told_again, replace(later, sequence=10), other)))
    assert new == (second, replace(other, sequence=1), third)
    assert store.events("desk") == (EVENT, second, third)
    assert (store.last_sequence("desk"), store.last_sequence("other"), store.last_sequence("nobody")) == (3, 1, 0)


def test_an_event_waits_for_each_sink_and_goes_when_all_have_it(store: SessionStore) -> None:
    events = [replace(EVENT, event_id=f"fill-{number}", sequence=number) for number in range(1, 6)]
    store.commit(written(outbox=events, delivered={"redis": ["fill-1", "fill-2", "fill-4"]}))
    assert [one.sequence for one in store.undelivered("desk", "redis")] == [3, 5]
    assert len(store.undelivered("desk", "prefect", limit=4)) == 4
    later = NOW + timedelta(days=1)
    assert store.prune("desk", later) == 0
    assert store.prune("desk", NOW, ["redis"]) == 0
    assert store.prune("desk", later, ["redis"]) == 2
    store.commit(written(delivered={"redis": ["fill-3", "fill-5"]}))
    assert store.prune("desk", later, ["redis"]) == 2
    assert (len(store.events("desk")), store.last_sequence("desk")) == (1, 5)


def test_a_command_is_taken_once(store: SessionStore) -> None:
    store.ask(CONTROL)
    store.ask(CONTROL)
    with pytest.raises(InvariantViolated, match="controls c-1: command is pause and would become stop"):
        store.ask(replace(CONTROL, command="stop"))
    earlier = replace(CONTROL, control_id="c-0", requested_at=NOW - timedelta(seconds=1))
    store.ask(earlier)
    assert store.poll("desk", "s-1").controls == store.pending_controls("desk") == (earlier, CONTROL)
    applied = replace(CONTROL, session_id="s-1", applied_at=NOW, outcome="paused")
    store.commit(written(applied=(applied,)))
    assert store.pending_controls("desk") == (earlier,)
    refused(store, written(applied=(replace(applied, session_id="s-2"),)), "controls c-1: session_id is s-1 and would become s-2")
    refused(store, written(applied=(replace(applied, control_id="c-9"),)), "there is no control c-9")
    store.commit(written(applied=(applied,)))
    assert store.controls("desk", limit=1) == (applied,)


def test_a_session_sees_the_one_that_starts_after_it_while_that_lives(store: SessionStore) -> None:
    later = replace(SESSION, session_id="s-2", state="STARTING", started_at=NOW + timedelta(seconds=5))
    store.commit(written(session=SESSION))
    store.commit(written(session=replace(later, session_id="dead", process="here 1 2")))
    store.commit(written(session=replace(later, session_id="other", name="other")))
    store.commit(written(session=replace(later, session_id="old", started_at=NOW - timedelta(days=1))))
    assert store.poll("desk", "s-1").successor is None
    store.commit(written(session=later))
    assert store.poll("desk", "s-1").successor == later
    assert store.poll("desk", "s-2").successor is None
    assert store.latest("other") == replace(later, session_id="other", name="other")
    assert [one.session_id for one in store.sessions("desk", limit=2)] == ["s-2", "dead"]
    assert len(store.sessions()) == 5


def test_of_a_session_and_an_alert_only_what_became_of_them_changes(store: SessionStore) -> None:
    store.commit(written(session=SESSION, alerts=(ALERT,)))
    stopped = replace(SESSION, state="STOPPED", ended_at=NOW, reason="asked to")
    sent = replace(ALERT, state="sent", sent_at=NOW, repeats=3)
    store.commit(written(session=stopped, alerts=(sent,), risk={"a": 1}))
    store.commit(written(risk={"a": 2}))
    assert (store.session("s-1"), store.alerts("desk"), store.risk("desk")) == (stopped, (sent,), {"a": 2})
    refused(store, written(session=replace(SESSION, process="another 1 2")), "sessions s-1: process is")
    refused(store, written(alerts=(replace(ALERT, body="other"),)), "alerts a-1: body is BTC/USDT and would become other")


def test_bars_wait_for_the_lake_and_may_not_become_others(store: SessionStore) -> None:
    other = replace(SERIES, symbol="B/USDT")
    both = [(SERIES, bars(ANCHOR_MS, ANCHOR_MS + HOUR_MS)), (other, bars(ANCHOR_MS))]
    store.commit(written(candles=pending_rows(both)))
    store.commit(written(candles=pending_rows(both)))
    changed = pending_rows([(SERIES, bars(ANCHOR_MS, close=2.0))])
    refused(store, written(candles=changed), "pending_candles sample A/USDT 1h .*: close is 1.0 and would become 2.0")
    store.commit(written(flushed=((SERIES, ANCHOR_MS),)))
    assert store.pending_candles(SERIES).equals(bars(ANCHOR_MS + HOUR_MS))
    assert set(store.all_pending()) == {SERIES, other}
    store.commit(written(flushed=((SERIES, ANCHOR_MS + HOUR_MS), (other, ANCHOR_MS + HOUR_MS))))
    assert store.all_pending() == {}


def test_equity_is_summed_over_accounts_that_have_rows_at_different_times(store: SessionStore) -> None:
    first, second = traders("A", "B")
    store.commit(written(cycles=(first.cycle(3),)))
    store.commit(written(cycles=(second.cycle(5),)))
    rows = {name: Ledger(store.database).export_rows(f"desk.{name}")["equity"] for name in "AB"}
    summed = store.equity(["desk.A", "desk.B"])
    assert summed["at"].to_list() == rows["B"]["at"].to_list()
    for number, row in enumerate(summed.iter_rows(named=True)):
        last = rows["A"].row(min(number, 2), named=True), rows["B"].row(number, named=True)
        for name in ("equity", "cash", "position_value", "open_positions"):
            assert row[name] == last[0][name] + last[1][name], (number, name)
    since: Callable[[int], datetime] = lambda hours: datetime(2026, 1, 1, hours, tzinfo=UTC)  # noqa: E731
    assert store.equity(["desk.A"], since=since(2)).height == 2
    assert store.equity(["desk.A", "desk.B"], since=since(2)).equals(summed[1:])
    assert store.equity(["desk.A", "desk.B"], since=since(5)).equals(summed[4:])


def test_a_tick_that_fails_after_its_accounts_were_written_writes_none_of_them(store: SessionStore) -> None:
    taken = replace(CONTROL, session_id="s-1", applied_at=NOW, outcome="paused")
    last = written(cycles=cycles(traders("A", "B")), outbox=(EVENT,), session=SESSION, applied=(taken,))
    refused(store, last, "there is no control c-1")
    with duckdb.connect(str(store.database.path), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM accounts").fetchall() == [(0,)]
