"""The ledger takes one proved transaction a cycle, and gives whole accounts back."""

import copy
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from candlewick.errors import InvariantViolated, StaleCycle, UnknownAccount
from candlewick.rows import ORDER_ROW, SIGNAL_ROW, frame
from candlewick.store.database import Database
from candlewick.store.ledger import CycleWrite, Ledger
from candlewick.store.lock import HeldLock, Holder
from candlewick.store.migrations import MIGRATIONS
from candlewick.store.queries import EXPORTED
from candlewick.store.reference import DESCRIPTIONS, ledger_reference
from candlewick.store.tables import TABLES
from tests.ledger_rows import ANCHOR_MS, HOUR_MS, NOW, Trader, altered

ROOT = Path(__file__).resolve().parents[1]
NO_ROWS = pl.DataFrame()


def copied(file: Path, target: Path) -> Ledger:
    return Ledger(Database(str(shutil.copy(file, target))))


@pytest.fixture(scope="module")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with all tables and no rows; copying it is quicker than making one for every test."""
    database = Database(str(tmp_path_factory.mktemp("template") / "ledger.duckdb"))
    with database.write():
        return database.path


@pytest.fixture(scope="module")
def traded_file(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with the first four bars of the demo account."""
    path = tmp_path_factory.mktemp("traded") / "ledger.duckdb"
    shutil.copy(empty_file, path)
    Ledger(Database(str(path))).commit_cycle(Trader().cycle(4))
    return path


@pytest.fixture
def ledger(tmp_path: Path, empty_file: Path) -> Ledger:
    return copied(empty_file, tmp_path / "ledger.duckdb")


@pytest.fixture
def no_ledger(tmp_path: Path) -> Ledger:
    return Ledger(Database(str(tmp_path / "data" / "ledger.duckdb")))


def contents(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    with ledger.database.read() as connection:
        return {table: sorted(connection.execute(f"FROM {table}").fetchall(), key=repr) for table in TABLES}


def refused(ledger: Ledger, write: CycleWrite, *texts: str) -> None:
    """The commit is refused saying all of ``texts``, and the ledger is what it was."""
    before = contents(ledger)
    with pytest.raises(InvariantViolated) as raised:
        ledger.commit_cycle(write)
    for text in texts:
        assert text in str(raised.value)
    assert contents(ledger) == before


def traded(ledger: Ledger, bars: int = 5) -> Trader:
    trader = Trader()
    ledger.commit_cycle(trader.cycle(bars))
    return trader


def test_a_cycle_is_written_whole_and_read_back_as_it_was(ledger: Ledger) -> None:
    write = Trader().cycle(6)
    report = ledger.commit_cycle(write)
    assert report.version == 1
    assert report.written["orders"] == 6
    assert report.written["postings"] == 6 * 5 + 2
    rows = ledger.export_rows("demo")
    for table in ("signals", "orders", "fills", "postings", "positions", "equity", "events", "terms", "runs"):
        content = rows[table].select(*TABLES[table].content)
        given_rows = write.frames()[table].select(*TABLES[table].content)
        assert content.sort(TABLES[table].key).equals(given_rows.sort(TABLES[table].key)), table
    assert rows["fills"]["run_id"].unique().to_list() == ["demo-run-1"]
    assert rows["fills"]["posted_at"].unique().to_list() == [NOW]
    ledger.check("demo")


def test_one_cycle_and_many_leave_the_same_ledger(tmp_path: Path, empty_file: Path) -> None:
    once, often = (copied(empty_file, tmp_path / f"{name}.duckdb") for name in ("once", "often"))
    once.commit_cycle(Trader().cycle(7))
    trader = Trader()
    for _ in range(7):
        often.commit_cycle(trader.cycle(1))
    one, many = once.export_rows("demo"), often.export_rows("demo")
    for table in ("signals", "orders", "fills", "postings", "positions", "equity", "events"):
        content = list(TABLES[table].content)
        assert one[table].select(content).equals(many[table].select(content)), table
    often.check("demo")


def test_a_ledger_that_is_not_there_has_no_accounts_and_asking_makes_none(no_ledger: Ledger) -> None:
    assert no_ledger.load_account("demo") is None
    assert no_ledger.list_accounts().height == 0
    with pytest.raises(UnknownAccount, match="does not exist yet"):
        no_ledger.export_rows("demo")
    assert not no_ledger.database.exists()
    no_ledger.commit_cycle(Trader().cycle(1))
    no_ledger.check("demo")


def test_an_account_is_loaded_with_terms_checkpoint_and_open_orders(ledger: Ledger) -> None:
    traded(ledger)
    loaded = ledger.load_account("demo")
    assert loaded is not None
    assert loaded.account.symbols == ("BTC/USDT", "ETH/USDT")
    assert loaded.account.anchor_ms == ANCHOR_MS
    assert loaded.account.current.parameters == {"fast": 3}
    assert loaded.checkpoint is not None
    assert (loaded.checkpoint.version, loaded.checkpoint.watermark_ms) == (1, ANCHOR_MS + 4 * HOUR_MS)
    assert loaded.checkpoint.candle_digests == {"BTC/USDT": "abc"}
    assert loaded.open_orders.height == 0
    assert dict(loaded.open_orders.schema) == dict(ORDER_ROW)
    assert ledger.load_account("other") is None


def test_a_cycle_that_started_from_an_older_checkpoint_changes_nothing(ledger: Ledger) -> None:
    trader = traded(ledger)
    rival = copy.deepcopy(trader)
    ledger.commit_cycle(trader.cycle(1))
    before = contents(ledger)
    for late in (rival.cycle(2, run_id="late"), Trader().cycle(5)):
        with pytest.raises(StaleCycle, match="another cycle committed first"):
            ledger.commit_cycle(late)
    assert contents(ledger) == before


def test_a_cycle_of_an_account_that_is_not_there_is_stale(ledger: Ledger) -> None:
    trader = Trader()
    trader.cycle(1)
    with pytest.raises(StaleCycle, match="checkpoint none"):
        ledger.commit_cycle(trader.cycle(1))


def again(trader: Trader, first: CycleWrite) -> CycleWrite:
    """The next cycle, which brings all rows of an earlier one once more."""
    following = copy.deepcopy(trader).cycle(0)
    tables = ("signals", "orders", "fills", "postings", "equity", "events")
    return replace(
        following, **{table: first.frames()[table] for table in tables}, account_row=first.account_row, terms=first.terms
    )


def test_rows_that_come_again_are_not_written_twice(ledger: Ledger) -> None:
    trader = Trader()
    first = trader.cycle(5)
    ledger.commit_cycle(first)
    before = ledger.export_rows("demo")
    report = ledger.commit_cycle(again(trader, first))
    assert {name for name, count in report.written.items() if count} == {"runs", "positions"}
    after = ledger.export_rows("demo")
    for table in set(EXPORTED) - {"runs"}:
        assert after[table].equals(before[table]), table


CHANGES = [
    ("accounts", "initial_cash", Decimal(5)),
    ("terms", "parameters", '{"fast": 4}'),
    ("signals", "outcome", "refused"),
    ("orders", "signal_id", "another"),
    ("orders", "budget", Decimal("1.5")),
    ("orders", "status", "open"),
    ("orders", "quantity", Decimal(9)),
    ("orders", "reason", "I thought better of it"),
    ("fills", "price", Decimal("100.00000001")),
    ("fills", "realized_pnl", Decimal(1)),
    ("postings", "amount", Decimal(1)),
    ("equity", "drawdown_share", Decimal("0.1")),
    ("events", "document", '{"a": 1}'),
    ("events", "symbol", None),
]


@pytest.mark.parametrize(("table", "column", "value"), CHANGES)
def test_the_same_id_with_other_content_is_refused_naming_both(ledger: Ledger, table: str, column: str, value: str) -> None:
    trader = Trader()
    first = trader.cycle(5)
    ledger.commit_cycle(first)
    shown = f"{value:f}" if isinstance(value, Decimal) else str(value)
    refused(ledger, altered(again(trader, first), table, column, value), table, f"{column} is ", f"would become {shown}")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_cell_of_what_was_written_is_refused_and_any_subset_of_it_is_nothing_new(
    tmp_path: Path, traded_file: Path, data: st.DataObject
) -> None:
    ledger = copied(traded_file, tmp_path / "ledger.duckdb")
    trader = Trader()
    first = trader.cycle(4)
    before = contents(ledger)
    table = data.draw(st.sampled_from(["signals", "orders", "fills", "postings", "equity", "events"]))
    fixed = [name for name in TABLES[table].content if name not in TABLES[table].key and name != "account"]
    column = data.draw(st.sampled_from(fixed))
    rows = first.frames()[table]
    row = data.draw(st.integers(0, rows.height - 1))
    kind = rows.schema[column]
    values = {pl.String: "other", pl.Int64: 99, pl.Int32: 99, pl.Datetime: ANCHOR_MS - 1}
    value = next((new for known, new in values.items() if isinstance(kind, known)), Decimal("123.000000000000000001"))
    value = '"other"' if column == "document" else value
    changed = altered(again(trader, first), table, column, value, row)
    with pytest.raises(InvariantViolated, match=f"{table} .*{column} is"):
        ledger.commit_cycle(changed)
    assert contents(ledger) == before
    subset = again(trader, first)
    chosen = data.draw(st.lists(st.integers(0, rows.height - 1), max_size=6))
    ledger.commit_cycle(replace(subset, **{table: rows[chosen]}))
    after = contents(ledger)
    assert {name for name in TABLES if after[name] != before[name]} == {"runs", "checkpoints"}


def order_write(trader: Trader, **cells: object) -> CycleWrite:
    """A cycle of no bars with one order that waits, and its signal."""
    common = {"account": "demo", "symbol": "BTC/USDT", "decided_at": ANCHOR_MS + trader.bar * HOUR_MS}
    signal = {**common, "signal_id": "s-1", "bar_opened_at": ANCHOR_MS, "action": "BUY", "outcome": "entry_ordered"}
    order = {**common, "client_order_id": "cw-1", "signal_id": "s-1", "sequence": 1000, "leg": "entry", "side": "buy"}
    order |= {"kind": "market", "budget": Decimal(100), "status": "open", **cells}
    return replace(trader.cycle(0), signals=frame([signal], SIGNAL_ROW), orders=frame([order], ORDER_ROW))


def test_an_open_order_may_close_and_a_closed_one_never_changes(ledger: Ledger) -> None:
    trader = traded(ledger, bars=4)
    ledger.commit_cycle(order_write(trader))
    loaded = ledger.load_account("demo")
    assert loaded is not None
    assert loaded.open_orders["client_order_id"].to_list() == ["cw-1"]
    refused(ledger, order_write(copy.deepcopy(trader), budget=Decimal(101)), "orders cw-1: budget is 100 and would become 101")
    report = ledger.commit_cycle(order_write(trader, price=Decimal(90), quantity=Decimal(1)))
    assert report.written["orders"] == 1
    ledger.commit_cycle(order_write(trader, price=Decimal(90), quantity=Decimal(1), status="cancelled", reason="sell first"))
    row = ledger.export_rows("demo")["orders"].filter(pl.col("client_order_id") == "cw-1").to_dicts()[0]
    assert (row["status"], row["reason"], row["price"]) == ("cancelled", "sell first", Decimal(90))
    assert row["run_id"] == "demo-run-2", "the run that decided the order stays its run"
    for cells in ({"status": "open"}, {"status": "filled"}, {"status": "cancelled", "price": Decimal(91)}):
        refused(ledger, order_write(copy.deepcopy(trader), **cells), "orders cw-1", "would become")


BREAKS = [
    ("postings", "amount", Decimal(7), "postings balance"),
    ("equity", "equity", Decimal(7), "equity is cash plus positions"),
    ("orders", "signal_id", "nobody", "no order without its signal"),
    ("fills", "client_order_id", "nobody", "no fill without its order"),
    ("orders", "quantity", Decimal("0.4"), "no more is filled than was ordered"),
    ("positions", "quantity", Decimal("0.4"), "positions are what was posted"),
    ("orders", "sequence", 1, "sequence numbers are used once"),
    ("fills", "sequence", 1, "sequence numbers are used once"),
    ("checkpoint", "watermark_at", ANCHOR_MS, "the watermark never moves back"),
    ("checkpoint", "watermark_at", None, "the watermark never moves back"),
    ("checkpoint", "version", 3, "one row of version 2"),
    ("checkpoint", "state", '{"account": {"cash": 5}, "positions": []}', "cash is what was posted"),
    ("checkpoint", "state", "{}", "a checkpoint states its cash"),
    ("fills", "account", "other", "a row of account other in a commit of account demo"),
]


@pytest.mark.parametrize(("table", "column", "value", "name"), BREAKS)
def test_a_cycle_that_breaks_an_invariant_is_rolled_back(ledger: Ledger, table: str, column: str, value: str, name: str) -> None:
    trader = traded(ledger)
    refused(ledger, altered(trader.cycle(2), table, column, value), name)
    with ledger.database.read() as connection:
        assert connection.execute("SELECT version FROM checkpoints").fetchall() == [(1,)]


def test_cash_may_not_differ_between_postings_equity_and_checkpoint(ledger: Ledger) -> None:
    trader = traded(ledger)
    write = trader.cycle(1)
    row = write.equity.with_columns(pl.col("cash") + 1, pl.col("equity") + 1)
    refused(ledger, replace(write, equity=row), "equity rows have the cash of the checkpoint")
    without_fill = replace(write, fills=NO_ROWS, postings=NO_ROWS)
    refused(ledger, without_fill, "is broken")


def test_cash_below_zero_is_refused(ledger: Ledger) -> None:
    poor = Trader(cash=Decimal(10))
    with pytest.raises(InvariantViolated, match="cash is never negative"):
        ledger.commit_cycle(poor.cycle(1))


def test_positions_may_not_vanish_without_a_posting(ledger: Ledger) -> None:
    trader = traded(ledger, bars=1)
    assert trader.held
    refused(ledger, replace(trader.cycle(0), positions=NO_ROWS), "positions are what was posted", "BTC")


def test_a_fill_in_the_forming_bar_comes_after_the_last_equity_row(ledger: Ledger) -> None:
    trader = traded(ledger)
    ahead = copy.deepcopy(trader).cycle(1)
    watermark = frame([{"watermark_at": ANCHOR_MS + 4 * HOUR_MS}], {"watermark_at": pl.Datetime("us", "UTC")})
    early = replace(ahead, equity=NO_ROWS, checkpoint=ahead.checkpoint.with_columns(watermark["watermark_at"]))
    ledger.commit_cycle(early)
    ledger.check("demo")
    trader.cycle(1)
    later = trader.cycle(0)
    ledger.commit_cycle(replace(later, equity=ahead.equity))
    ledger.check("demo")


def test_frames_with_wrong_columns_are_refused_by_name(ledger: Ledger) -> None:
    trader = traded(ledger)
    write = trader.cycle(1)
    refused(ledger, replace(write, fills=write.fills.drop("fee")), "rows for fills", "missing columns ['fee']")
    refused(ledger, replace(write, fills=write.fills.with_columns(x=1)), "rows for fills", "unknown columns ['x']")
    refused(ledger, replace(write, fills=write.fills.with_columns(fee=pl.lit("much"))), "rows for fills")
    twice = pl.concat([write.fills, write.fills.with_columns(fee=pl.lit(Decimal(9)))])
    refused(ledger, replace(write, fills=twice), "fills cw-demo", "fee is 0.1 and would become 9")


def test_a_failed_cycle_leaves_a_run_and_nothing_else(ledger: Ledger) -> None:
    run = Trader().cycle(0).runs.with_columns(status=pl.lit("failure"), error=pl.lit("the market did not answer"))
    ledger.record_run(run)
    ledger.record_run(run)
    after = contents(ledger)
    assert {table for table in TABLES if after[table]} == {"runs"}
    with pytest.raises(InvariantViolated, match="runs demo-run-1: status is failure and would become success"):
        ledger.record_run(run.with_columns(status=pl.lit("success")))


def test_of_a_finding_only_what_became_of_it_may_change(ledger: Ledger) -> None:
    names = ("finding_id", "market", "symbol", "timeframe", "kind", "severity", "evidence")
    finding = {name: name for name in names} | {"span_start": ANCHOR_MS, "span_end": ANCHOR_MS, "state": "open"}
    rows = frame([finding], TABLES["quality"].content)
    assert ledger.record_findings(rows, NOW) == 1
    assert ledger.record_findings(rows, NOW) == 0
    assert ledger.record_findings(rows.with_columns(state=pl.lit("repaired")), NOW) == 1
    with pytest.raises(InvariantViolated, match="evidence is evidence and would become other"):
        ledger.record_findings(rows.with_columns(evidence=pl.lit("other")), NOW)


def test_accounts_are_listed_with_what_they_are_worth(ledger: Ledger) -> None:
    assert ledger.list_accounts().height == 0
    for name in ("zeta", "alpha"):
        ledger.commit_cycle(Trader(account=name).cycle(3))
    listed = ledger.list_accounts().to_dicts()
    assert [row["account"] for row in listed] == ["alpha", "zeta"]
    last = ledger.export_rows("alpha")["equity"].tail(1).to_dicts()[0]
    assert (listed[0]["equity"], listed[0]["cash"], listed[0]["strategy"]) == (last["equity"], last["cash"], "turn")
    assert listed[0]["watermark_at"] == datetime(2026, 1, 1, 2, tzinfo=UTC)
    assert listed[0]["last_status"] == "success"


def test_an_unknown_account_is_named_with_those_there_are(ledger: Ledger) -> None:
    traded(ledger)
    for read in (ledger.export_rows, ledger.export_document, ledger.check):
        with pytest.raises(UnknownAccount, match=r"'other'.* there are: demo"):
            read("other")


def test_a_view_has_everything_the_reports_draw(ledger: Ledger) -> None:
    trader = traded(ledger)
    view = ledger.view("demo", {})
    assert (view.strategy, view.quote, view.symbols) == ("turn", "USDT", trader.symbols)
    assert view.initial_cash == Decimal(10_000)
    assert view.watermark_at == datetime(2026, 1, 1, 4, tzinfo=UTC)
    assert view.equity.height == 5
    assert view.fills.schema["price"] == pl.Decimal(38, 18)
    assert view.fills.schema["posted_at"] == pl.Datetime("us", "UTC")
    assert view.parameters == {"fast": 3}


def test_a_document_is_json_with_plain_amounts_and_utc_times(ledger: Ledger) -> None:
    traded(ledger)
    document = json.loads(json.dumps(ledger.export_document("demo")))
    assert set(document) == {"account", *EXPORTED}
    fill = document["fills"][1]
    assert (fill["quantity"], fill["price"], fill["fee"], fill["realized_pnl"]) == ("0.5", "101", "0.1", None)
    assert fill["bar_opened_at"] == "2026-01-01T01:00:00Z"
    assert document["runs"][0]["completed_at"] == "2026-01-01T00:00:00.001000Z"
    assert document["terms"][0]["parameters"] == {"fast": 3}
    assert [row["sequence"] for row in document["orders"]] == sorted(row["sequence"] for row in document["orders"])


def test_an_export_to_parquet_reads_back_as_the_same_rows(ledger: Ledger, tmp_path: Path) -> None:
    traded(ledger)
    files = ledger.export_parquet("demo", tmp_path / "out")
    rows = ledger.export_rows("demo")
    assert set(files) == set(EXPORTED)
    for table, path in files.items():
        assert pl.read_parquet(path).equals(rows[table]), table
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(f"{table}.parquet" for table in EXPORTED)


def test_a_full_check_finds_what_was_changed_behind_the_ledgers_back(ledger: Ledger) -> None:
    traded(ledger)
    with ledger.database.write() as connection:
        connection.execute("UPDATE postings SET amount = amount + 1 WHERE posting_id = 'demo-deposit-2'")
    with pytest.raises(InvariantViolated, match="transaction demo-deposit"):
        ledger.check("demo")


def test_one_cycle_at_a_time_holds_an_account(ledger: Ledger) -> None:
    first = ledger.try_account_lock("a/b c")
    assert isinstance(first, HeldLock)
    with first:
        second = ledger.try_account_lock("a/b c")
        assert isinstance(second, Holder)
        assert second.pid == os.getpid()
        assert isinstance(ledger.try_account_lock("other"), HeldLock)
    assert isinstance(ledger.try_account_lock("a/b c"), HeldLock)


def test_eight_accounts_in_eight_processes_all_finish(ledger: Ledger) -> None:
    code = """
import sys
from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from tests.ledger_rows import Trader
ledger, trader = Ledger(Database(sys.argv[1], 120)), Trader(account=sys.argv[2])
for _ in range(2):
    ledger.commit_cycle(trader.cycle(2))
"""
    command = [sys.executable, "-c", code, str(ledger.database.path)]
    children = [subprocess.Popen([*command, f"account-{number}"], cwd=ROOT) for number in range(8)]
    assert [child.wait(120) for child in children] == [0] * 8
    assert ledger.list_accounts()["account"].to_list() == [f"account-{number}" for number in range(8)]
    for number in range(8):
        ledger.check(f"account-{number}")
        assert ledger.export_rows(f"account-{number}")["equity"].height == 4


def test_the_tables_known_to_the_code_are_those_of_the_migrations(ledger: Ledger) -> None:
    traded(ledger)
    kinds = {"VARCHAR": "String", "JSON": "String", "BIGINT": "Int64", "INTEGER": "Int32", "BOOLEAN": "Boolean"}
    kinds["DOUBLE"] = "Float64"
    with ledger.database.read() as connection:
        for name, table in TABLES.items():
            described = connection.execute(f"DESCRIBE {name}").fetchall()
            assert {row[0] for row in described} == set(table.columns), name
            for column, kind, *_ in described:
                if column in table.content:
                    wanted = "Decimal" if "DECIMAL" in kind else "Datetime" if "TIMESTAMP" in kind else kinds[kind]
                    assert type(table.content[column]).__name__ == wanted, (name, column)
            key = connection.execute(
                """SELECT constraint_column_names FROM duckdb_constraints()
                   WHERE table_name = ? AND constraint_type = 'PRIMARY KEY'""",
                [name],
            ).fetchall()[0][0]
            assert tuple(key) == table.key, name
    assert len(MIGRATIONS) >= 1


def test_the_schema_reference_describes_every_table_and_column_and_is_up_to_date(ledger: Ledger) -> None:
    with ledger.database.read() as connection:
        columns = connection.execute("SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal").fetchall()
    described = {(table, column) for table, (_, names) in DESCRIPTIONS.items() for column in names}
    assert set(columns) == described
    assert (ROOT / "docs" / "ledger.md").read_text() == ledger_reference()
