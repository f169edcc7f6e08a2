"""The run store keeps backtests whole beside the accounts: begun, ended, found, compared, deleted; and survives kill -9."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from candlewick.backtest_rows import BacktestRun, KeptCheck
from candlewick.errors import AmbiguousRun, InvariantViolated, RunActive, UnknownRun, UsageError
from candlewick.instruments import Instrument
from candlewick.metrics import Measure
from candlewick.store.backtests import Backtests, Outcome
from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from candlewick.store.migrations import MIGRATIONS
from candlewick.store.processes import PATIENCE_ELSEWHERE, is_alive, this_process
from candlewick.trades import TRADE_SCHEMA
from tests.backtest_run_rows import BEGUN, BTC, HOUR, begun, ended, equity, fills, sets, trades, whole_outcome, windows
from tests.ledger_rows import Trader

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 120


@pytest.fixture
def store(tmp_path: Path) -> Backtests:
    return Backtests(Database(str(tmp_path / "ledger.duckdb"), PATIENCE_S))


def kept(store: Backtests, run_id: str, hour: int = 0, **cells: object) -> BacktestRun:
    """A run that began and succeeded, without rows."""
    run = begun(run_id, hour, **cells)
    store.begin(run)
    store.finish(ended(run))
    return ended(run)


def child(store: Backtests, code: str) -> "subprocess.Popen[str]":
    """Another process with the store as ``store``; it says a line when it has come to ``hold()``, and waits."""
    head = f"""
import sys
from candlewick.store.backtests import Backtests, Outcome
from candlewick.store.database import Database
from tests.backtest_run_rows import *
store = Backtests(Database({str(store.database.path)!r}, {PATIENCE_S}))
def hold():
    print("here", flush=True)
    sys.stdin.readline()
"""
    command = [sys.executable, "-c", head + code]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def until_it_holds(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"


def killed(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


# ------------------------------------------------------------------------------------------------- a run and its rows


def test_a_run_is_kept_with_everything_it_was_computed_from_and_everything_that_came_out(store: Backtests) -> None:
    grid = {"slow": [20, 40], "mode": ["a", "b"]}
    run = begun(kind="sweep", grid=grid, sets=3, objective="sharpe", detail_timeframe="1m", flow_run_id="f", parent_run_id="p")
    store.begin(run)
    running = store.find(run.run_id)
    assert running == replace(run, process=this_process())
    store.finish(ended(run), whole_outcome())
    assert store.find(run.run_id) == replace(ended(run), sets_done=3)
    assert store.find(run.run_id).figures == {
        "sharpe": Measure(Decimal("1.230")),
        "profit_factor": Measure(None, "no losing trade"),
    }


def test_every_kind_of_row_comes_back_as_it_was_given(store: Backtests) -> None:
    store.begin(begun())
    store.finish(ended(begun()), whole_outcome())
    assert store.trades("sweep-aa11").schema == pl.Schema(TRADE_SCHEMA)
    assert store.trades("sweep-aa11").equals(trades())
    assert store.equity("sweep-aa11").equals(equity())
    assert store.sets("sweep-aa11").equals(sets(range(3)))
    assert store.windows("sweep-aa11").equals(windows())
    found_fills = store.fills("sweep-aa11")
    assert found_fills.equals(fills().select(found_fills.columns))


def test_two_runs_keep_their_rows_apart(store: Backtests) -> None:
    for run_id, count in (("one", 2), ("two", 5)):
        store.begin(begun(run_id))
        store.finish(ended(begun(run_id)), Outcome(trades=trades(count), equity=equity(count)))
    assert (store.trades("one").height, store.trades("two").height) == (2, 5)
    assert (store.equity("one").height, store.equity("two").height) == (2, 5)


def test_instruments_span_and_digests_may_be_learned_after_the_beginning(store: Backtests) -> None:
    early = begun(instruments=(), candle_digests={}, since_at=None, until_at=None)
    store.begin(early)
    store.finish(ended(begun()))
    assert store.find("sweep-aa11").instruments == (BTC,)
    assert isinstance(store.find("sweep-aa11").instruments[0], Instrument)
    assert store.find("sweep-aa11").candle_digests == {"BTC/USDT": "d1"}


def test_an_end_that_tells_of_another_run_is_refused_whole(store: Backtests) -> None:
    store.begin(begun())
    with pytest.raises(InvariantViolated, match=r"strategy is sma_cross and would become rsi"):
        store.finish(ended(begun(strategy="rsi")), whole_outcome())
    assert store.find("sweep-aa11").status == "running"
    assert store.trades("sweep-aa11").height == 0


def test_rows_that_are_wrong_leave_the_run_as_it_was(store: Backtests) -> None:
    store.begin(begun())
    for outcome in (
        Outcome(trades=trades().with_columns(mystery=pl.lit(1))),
        Outcome(equity=pl.concat([equity(), equity(step=Decimal(2))])),
        Outcome(trades=trades(), sets=sets(range(2)).with_columns(parameters=pl.lit(None, pl.String))),
    ):
        with pytest.raises(InvariantViolated):
            store.finish(ended(begun()), outcome)
        assert store.find("sweep-aa11").status == "running"
        assert store.trades("sweep-aa11").height == 0


def test_a_run_that_is_over_stays_as_it_is_and_may_be_told_again(store: Backtests) -> None:
    kept(store, "sweep-aa11")
    store.finish(ended(begun(), completed_at=BEGUN + 9 * HOUR, durations_s={"fold": 9.0}))
    assert store.find("sweep-aa11") == ended(begun())
    with pytest.raises(InvariantViolated, match="status is success and would become failure"):
        store.finish(ended(begun(), status="failure"))
    with pytest.raises(InvariantViolated, match="figures is"):
        store.finish(ended(begun(), figures={}))
    with pytest.raises(InvariantViolated, match="that id is taken"):
        store.begin(begun())


def test_an_end_that_is_no_end_and_the_end_of_what_never_began_are_refused(store: Backtests) -> None:
    with pytest.raises(UsageError, match="cannot end as running"):
        store.finish(begun())
    with pytest.raises(UnknownRun, match="there is none yet"):
        store.finish(ended(begun()))


# ------------------------------------------------------------------------------------------------- sets by the chunk


def test_chunks_of_sets_are_counted_once_however_often_they_come(store: Backtests) -> None:
    store.begin(begun(kind="sweep", sets=6))
    assert store.add_sets("sweep-aa11", sets(range(3), chunk=0)) == 3
    assert store.add_sets("sweep-aa11", sets(range(3), chunk=0)) == 0
    assert store.add_sets("sweep-aa11", sets(range(1, 6)).with_columns(chunk=pl.lit(0, pl.Int32))) == 3
    assert store.add_sets("sweep-aa11", sets(range(0))) == 0
    assert store.find("sweep-aa11").sets_done == 6
    store.finish(ended(begun(kind="sweep", sets=6)), Outcome(sets=sets(range(6))))
    assert store.find("sweep-aa11").sets_done == 6
    assert store.sets("sweep-aa11")["number"].to_list() == list(range(6))


def test_a_set_that_comes_again_with_another_result_is_refused(store: Backtests) -> None:
    store.begin(begun(kind="sweep"))
    store.add_sets("sweep-aa11", sets(range(3)))
    with pytest.raises(InvariantViolated, match=r"backtest_sets sweep-aa11 1: objective is"):
        store.add_sets("sweep-aa11", sets(range(3)).with_columns(objective=pl.Series([0.0, 9.0, 2 / 7])))
    assert store.sets("sweep-aa11").equals(sets(range(3)))
    with pytest.raises(UnknownRun):
        store.add_sets("another", sets(range(3)))


def test_an_objective_that_is_not_finite_is_undefined(store: Backtests) -> None:
    store.begin(begun(kind="sweep"))
    numbers = pl.Series([float("nan"), float("inf"), None])
    store.add_sets("sweep-aa11", sets(range(3)).with_columns(objective=numbers))
    assert store.sets("sweep-aa11")["objective"].to_list() == [None, None, None]


# ------------------------------------------------------------------------------------------------- finding


def test_a_run_is_found_by_as_much_of_its_id_as_is_its_own(store: Backtests) -> None:
    for run_id in ("run-ab12", "run-ab34", "run-ab", "sweep-1"):
        kept(store, run_id)
    assert store.find("sw").run_id == "sweep-1"
    assert store.find("run-ab3").run_id == "run-ab34"
    assert store.find("run-ab").run_id == "run-ab", "a whole id is no beginning"
    assert store.trades("sw").height == 0
    with pytest.raises(AmbiguousRun, match=r"'run-a' is the beginning of 3 runs: run-ab, run-ab12, run-ab34. Write more"):
        store.find("run-a")


def test_an_unknown_run_is_refused_with_those_that_are_spelled_nearly_so(store: Backtests) -> None:
    with pytest.raises(UnknownRun, match="does not exist yet"):
        store.find("x")
    assert not store.database.exists()
    for run_id in ("run-ab12", "sweep-77"):
        kept(store, run_id)
    with pytest.raises(UnknownRun, match=r"there is no run 'run-ba12'; nearest are: run-ab12$"):
        store.find("run-ba12")
    for text in ("", "%", "zzz", "' OR 1=1 --"):
        with pytest.raises(UnknownRun, match="nearest are"):
            store.trades(text)


def test_runs_are_listed_newest_first_by_kind_strategy_and_parent(store: Backtests) -> None:
    assert store.list_runs() == ()
    assert store.latest() is None
    kept(store, "old", hour=0)
    kept(store, "walk", hour=1, kind="walk-forward", strategy="rsi")
    kept(store, "part", hour=2, parent_run_id="walk")
    kept(store, "new", hour=3, strategy="rsi")
    failed = begun("failed", hour=4)
    store.begin(failed)
    store.finish(ended(failed, status="failure", error="no candles"))
    names = lambda runs: [run.run_id for run in runs]  # noqa: E731
    assert names(store.list_runs()) == ["failed", "new", "walk", "old"]
    assert names(store.list_runs(limit=2)) == ["failed", "new"]
    assert names(store.list_runs(strategy="rsi")) == ["new", "walk"]
    assert names(store.list_runs(kind="walk-forward", strategy="rsi")) == ["walk"]
    assert names(store.list_runs(parent="walk")) == ["part"]
    assert names([store.latest(), store.latest("walk-forward"), store.latest(status="success")]) == ["failed", "walk", "new"]
    assert store.latest("sweep") is None
    assert store.latest(status="interrupted") is None


# ------------------------------------------------------------------------------------------------- deleting


def rows_left(store: Backtests) -> dict[str, int]:
    tables = ("backtests", "backtest_trades", "backtest_fills", "backtest_equity", "backtest_sets", "backtest_windows")
    with store.database.read() as connection:
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in tables}


def test_a_deleted_run_takes_its_rows_and_its_parts_with_it(store: Backtests) -> None:
    for run_id, parent in (("walk", None), ("part", "walk"), ("part-of-part", "part"), ("other", None)):
        run = begun(run_id, parent_run_id=parent)
        store.begin(run)
        store.finish(ended(run), whole_outcome())
    assert {run.run_id for run in store.delete("wal")} == {"walk", "part", "part-of-part"}
    assert rows_left(store) == {
        "backtests": 1,
        "backtest_trades": 3,
        "backtest_fills": 2,
        "backtest_equity": 5,
        "backtest_sets": 3,
        "backtest_windows": 2,
    }
    assert store.trades("other").height == 3


def test_pruning_keeps_the_newest_and_what_is_still_computed(store: Backtests) -> None:
    assert store.prune(3) == ()
    store.begin(begun("computed", hour=0))
    for hour in range(1, 5):
        kept(store, f"run-{hour}", hour=hour)
    kept(store, "part", hour=0, parent_run_id="run-1")
    assert [run.run_id for run in store.prune(2)] == ["run-2", "run-1", "part"]
    assert [run.run_id for run in store.list_runs()] == ["run-4", "run-3", "computed"]
    assert [run.report for run in store.prune(0)] == ["reports/run.html"] * 2
    with pytest.raises(UsageError, match="cannot keep -1"):
        store.prune(-1)
    with pytest.raises(RunActive, match="run computed is still computed by process"):
        store.delete("computed")


# ------------------------------------------------------------------------------------------------- checks


def check(**cells: object) -> KeptCheck:
    facts = {"strategy": "my:Mine", "parameters": {"slow": 2, "fast": 1}, "code_version": "c1", "strategy_version": "s1"}
    facts |= {"market": "sample", "timeframe": "1h", "verdict": "peeks", "document": {"bar": 7}, "checked_at": BEGUN}
    return KeptCheck(**{**facts, **cells})


def test_a_check_is_remembered_for_exactly_this_strategy_parameters_and_code(store: Backtests) -> None:
    assert store.find_check("my:Mine", {}, "c1", "s1") is None
    store.keep_check(check())
    assert store.find_check("my:Mine", {"fast": 1, "slow": 2}, "c1", "s1") == check(parameters={"fast": 1, "slow": 2})
    for other in (
        ("my:Other", {"fast": 1, "slow": 2}, "c1", "s1"),
        ("my:Mine", {"fast": 1, "slow": 3}, "c1", "s1"),
        ("my:Mine", {"fast": 1, "slow": 2}, "c2", "s1"),
        ("my:Mine", {"fast": 1, "slow": 2}, "c1", "s2"),
    ):
        assert store.find_check(*other) is None
    later = check(verdict="clean", market="files:x", checked_at=BEGUN + HOUR)
    store.keep_check(later)
    assert store.find_check("my:Mine", {"slow": 2, "fast": 1}, "c1", "s1") == replace(later, parameters={"fast": 1, "slow": 2})


# ------------------------------------------------------------------------------------------------- processes


def test_a_run_whose_process_was_killed_is_interrupted_keeps_its_sets_and_may_be_resumed(store: Backtests) -> None:
    process = child(store, 'store.begin(begun(kind="sweep", sets=9)); store.add_sets("sweep-aa11", sets(range(4))); hold()')
    until_it_holds(process)
    assert store.find("sweep-aa11").status == "running"
    for action in (store.resume, store.delete):
        with pytest.raises(RunActive, match=f" {process.pid} "):
            action("sweep-aa11")
    killed(process)
    found = store.find("sweep-aa11")
    assert (found.status, found.sets_done) == ("interrupted", 4)
    assert "ended without a word" in str(found.error)
    assert store.list_runs()[0].status == "interrupted"
    assert store.latest(status="interrupted") == found
    resumed = store.resume("sweep")
    assert (resumed.status, resumed.error, resumed.sets_done) == ("running", None, 4)
    assert store.find("sweep-aa11") == resumed
    assert store.add_sets("sweep-aa11", sets(range(9))) == 5
    store.finish(ended(resumed))
    assert (store.find("sweep-aa11").status, store.find("sweep-aa11").sets_done) == ("success", 9)
    with pytest.raises(UsageError, match="nothing to resume"):
        store.resume("sweep-aa11")


def test_a_run_that_a_user_stopped_may_be_resumed_too(store: Backtests) -> None:
    store.begin(begun())
    store.finish(ended(begun(), status="interrupted", error="stopped by Ctrl-C"), Outcome(sets=sets(range(2))))
    assert store.find("sweep-aa11").error == "stopped by Ctrl-C"
    resumed = store.resume("sweep-aa11")
    store.finish(ended(resumed), Outcome(trades=trades()))
    assert (store.find("sweep-aa11").status, store.find("sweep-aa11").sets_done) == ("success", 2)


@pytest.mark.parametrize("moment", ["BEGIN", "COMMIT"])
def test_kill_9_while_a_run_ends_leaves_all_of_its_end_or_nothing(store: Backtests, moment: str) -> None:
    store.begin(begun())
    code = f"""
import os
import candlewick.store.backtests as module
from contextlib import contextmanager
whole = Database.write
@contextmanager
def dying(self):
    with whole(self) as connection:
        yield connection
        if {moment!r} == "BEGIN":
            os.kill(os.getpid(), 9)
    os.kill(os.getpid(), 9)
Database.write = dying
store.finish(ended(begun()), whole_outcome())
"""
    process = child(store, code)
    assert process.wait(PATIENCE_S) == -9
    process.communicate()
    is_whole = moment == "COMMIT"
    assert store.find("sweep-aa11").status == ("success" if is_whole else "running")
    assert [store.trades("sweep-aa11").height, store.equity("sweep-aa11").height] == ([3, 5] if is_whole else [0, 0])
    store.finish(ended(begun()), whole_outcome())
    assert store.find("sweep-aa11") == replace(ended(begun()), sets_done=3)
    assert store.trades("sweep-aa11").height == 3


def test_processes_that_end_at_once_and_a_paper_cycle_between_them_all_find_their_rows(store: Backtests) -> None:
    ledger, trader = Ledger(store.database), Trader()
    ledger.commit_cycle(trader.cycle(2))
    code = 'run = begun("{0}"); store.begin(run); hold(); store.finish(ended(run), whole_outcome())'
    processes = [child(store, code.format(f"run-{number}")) for number in range(3)]
    for process in processes:
        until_it_holds(process)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ledger.commit_cycle(trader.cycle(2))
    assert [process.wait(PATIENCE_S) for process in processes] == [0, 0, 0]
    for process in processes:
        process.communicate()
    ledger.check("demo")
    for number in range(3):
        assert store.find(f"run-{number}").status == "success"
        assert store.equity(f"run-{number}").equals(equity())


def test_a_process_is_alive_while_it_runs_and_another_one_of_its_number_is_not_it() -> None:
    host, pid, start = this_process().split(" ")
    assert pid == str(os.getpid())
    assert is_alive(this_process(), BEGUN, BEGUN + timedelta(days=400))
    assert not is_alive(f"{host} {pid} {int(start) - 1}", BEGUN, BEGUN)
    assert not is_alive(None, BEGUN, BEGUN)
    assert is_alive(f"elsewhere {pid} {start}", BEGUN, BEGUN + PATIENCE_ELSEWHERE / 2)
    assert not is_alive(f"elsewhere {pid} {start}", BEGUN, BEGUN + PATIENCE_ELSEWHERE)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        stat = Path(f"/proc/{other.pid}/stat").read_text()
        name = f"{host} {other.pid} {stat[stat.rindex(')') + 2 :].split()[19]}"
        assert is_alive(name, BEGUN, BEGUN)
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(name, BEGUN, BEGUN), "dead, though nobody has asked for its end yet"
    assert not is_alive(name, BEGUN, BEGUN)


# ------------------------------------------------------------------------------------------------- older ledgers


def first_ledger(path: Path, orders: tuple[tuple[str, str], ...]) -> None:
    """A ledger as the first version of the schema left it: one account's orders, a fill and a position."""
    with Database(str(path), migrations=MIGRATIONS[:1]).write() as connection:
        for name, status in orders:
            values = [
                name,
                "demo",
                "BTC/USDT",
                f"s-{name}",
                1,
                "entry",
                "buy",
                "market",
                BEGUN,
                None,
                Decimal("0.5"),
                None,
                status,
            ]
            connection.execute(f"INSERT INTO orders VALUES ({', '.join('?' * 19)})", [*values, None, None, None, None, None, "r"])
        amounts = [Decimal(1)] * 5
        texts = ["f-1", "demo", "BTC/USDT", "filled", 2, "entry", "buy", BEGUN, "open", *amounts, None, "open", "r", BEGUN]
        connection.execute(f"INSERT INTO fills VALUES ({', '.join('?' * 18)})", texts)
        position = ["demo", "BTC/USDT", Decimal(1), Decimal(1), Decimal(1), None, None, None, Decimal(1), BEGUN]
        connection.execute(f"INSERT INTO positions VALUES ({', '.join('?' * 10)})", position)


@pytest.mark.parametrize("door", ["read", "write"])
def test_a_ledger_of_the_first_version_keeps_its_rows_and_gains_what_they_meant(tmp_path: Path, door: str) -> None:
    path = tmp_path / "ledger.duckdb"
    first_ledger(path, (("filled", "filled"), ("waiting", "open"), ("refused", "refused")))
    database = Database(str(path))
    with database.read() if door == "read" else database.write() as connection:
        query = "SELECT client_order_id, quantity, filled_quantity, fills, expires_at FROM orders ORDER BY 1"
        orders = connection.execute(query).fetchall()
        half, none = Decimal("0.5"), Decimal(0)
        assert orders == [("filled", half, half, 1, None), ("refused", half, none, 0, None), ("waiting", half, none, 0, None)]
        assert connection.execute("SELECT fill_id, price, position_side FROM fills").fetchall() == [("f-1", Decimal(1), "long")]
        levels = "side, margin, liquidation_price, trailing_stop"
        position = connection.execute(f"SELECT quantity, {levels} FROM positions").fetchall()
        assert position == [(Decimal(1), "long", None, None, None)]
        assert [row[0] for row in connection.execute("SELECT version FROM schema_migrations ORDER BY 1").fetchall()] == [
            1,
            2,
            3,
            4,
            5,
        ]
    store = Backtests(database)
    assert store.list_runs() == ()
    kept(store, "run-1")
    assert store.find("run-1") == ended(begun("run-1"))


def test_kill_9_right_after_the_migration_leaves_a_ledger_that_replays(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    first_ledger(path, (("filled", "filled"),))
    code = f"""
import os
from candlewick.store.database import Database
with Database({str(path)!r}).write() as connection:
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -9
    with Database(str(path)).read() as connection:
        assert connection.execute("SELECT filled_quantity, fills FROM orders").fetchall() == [(Decimal("0.5"), 1)]
        assert connection.execute("SELECT max(version) FROM schema_migrations").fetchall() == [(len(MIGRATIONS),)]
