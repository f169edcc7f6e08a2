"""`python -m flows.accounts`: what a user sees of the accounts, and that looking changes nothing."""

import hashlib
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest

from candlewick.cli import run_command
from flows.accounts import app
from tests.paper_accounts import PaperAccount, bare_document, run_cycle, run_cycles

EXPORTED = ("orders", "fills", "postings", "positions", "equity", "signals", "runs")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PaperAccount:
    """Two accounts in one ledger: demo with refusals and an open position, quiet without any trade."""
    account = PaperAccount(tmp_path_factory.mktemp("made"), strategy="fibonacci_golden_zone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CANDLEWICK_RULES__MAX_OPEN_POSITIONS", "1")
        run_cycles(account, ["2026-02-15T05:00", "2026-03-05T17:30"])
    quiet = PaperAccount(account.directory, name="quiet", symbols=("LTC/USDT",), timeframe="1d", strategy="buy_and_hold")
    run_cycle(quiet, "2026-01-01T12:00")
    return account


@pytest.fixture
def here(made: PaperAccount, monkeypatch: pytest.MonkeyPatch) -> PaperAccount:
    """The working directory of a user who has the two accounts, and no Prefect server."""
    monkeypatch.chdir(made.directory)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return made


def shown(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert run_command(app, arguments) == code
    return capsys.readouterr().out


def test_list_shows_each_account_with_its_equity_return_watermark_and_last_run(
    here: PaperAccount, capsys: pytest.CaptureFixture[str]
) -> None:
    head, _, demo, quiet = shown(capsys, "list").rstrip().splitlines()
    equity = here.ledger.view("demo", {}).equity["equity"][-1]
    for title in ("Account", "Market", "Timeframe", "Symbols", "Strategy", "Equity", "Return", "Watermark", "Last run", "Status"):
        assert title in head
    for cell in (
        "sample",
        "4h",
        "BTC/USDT, ETH/USDT, SOL/USDT",
        "fibonacci_golden_zone",
        f"{equity:.2f}",
        "2026-03-05 12:00",
        "success",
    ):
        assert cell in demo
    assert f"{(equity / 10_000 - 1) * 100:+.2f}%" in demo
    assert "10000.00" in quiet
    assert "buy_and_hold" in quiet


def test_list_as_json_has_amounts_in_full_and_times_in_utc(here: PaperAccount, capsys: pytest.CaptureFixture[str]) -> None:
    demo, quiet = json.loads(shown(capsys, "list", "--json"))
    equity = here.ledger.view("demo", {}).equity["equity"][-1]
    assert Decimal(demo["equity"]) == equity
    assert abs(Decimal(demo["return_share"]) - (equity / 10_000 - 1)) < Decimal("1e-12")
    assert demo["watermark_at"] == "2026-03-05T12:00:00Z"
    assert demo["symbols"] == ["BTC/USDT", "ETH/USDT", "SOL/USDT"]
    assert (quiet["watermark_at"], quiet["return_share"], quiet["last_status"]) == (None, "0", "success")


def test_list_without_a_ledger_says_how_to_begin_and_makes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "make paper" in shown(capsys, "list")
    assert json.loads(shown(capsys, "list", "--json")) == []
    assert list(tmp_path.iterdir()) == []


def test_show_tells_figures_terms_positions_orders_fills_refusals_runs_and_the_report(
    here: PaperAccount, capsys: pytest.CaptureFixture[str]
) -> None:
    report = here.directory / "data" / "reports" / "demo.html"
    text = shown(capsys, "show", "demo")
    assert "none yet; the next cycle writes it" in text
    report.parent.mkdir(exist_ok=True)
    report.write_text("<html></html>")
    text = shown(capsys, "show", "demo")
    report.unlink()
    view = here.ledger.view("demo", {})
    position = view.positions.to_dicts()[0]
    for part in (
        "Account demo: fibonacci_golden_zone on sample 4h",
        "Started at 2026-01-01 00:00 UTC with 10,000.00 USDT; the watermark is 2026-03-05 12:00 UTC",
        "Open positions (1)",
        f"{position['stop_loss']:,.2f}",
        f"{position['take_profit_1']:,.2f}",
        "Waiting orders (3)",
        "buy signal of 2026-03-03 12:00: filled at the next open",
        "Refused orders (3)",
        "refused by max open positions: 1, limit 1",
        "lookback_bars=48",
        "max_open_positions=1",
        "BTC/USDT: price_tick=0.01",
        "Last runs (2 in all)",
        view.runs["run_id"][-1],
        "data/reports/demo.html",
    ):
        assert part in text


def test_show_as_json_has_the_same_in_full(here: PaperAccount, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(shown(capsys, "show", "demo", "--json"))
    view = here.ledger.view("demo", {})
    assert Decimal(document["equity"]) == view.equity["equity"][-1]
    assert Decimal(document["cash"]) == view.equity["cash"][-1]
    assert [row["symbol"] for row in document["positions"]] == ["BTC/USDT"]
    assert Decimal(document["positions"][0]["stop_loss"]) == view.positions["stop_loss"][0]
    assert [row["leg"] for row in document["waiting_orders"]] == ["stop", "target_1", "target_2"]
    assert [row["rule"] for row in document["last_refusals"]] == ["max_open_positions"] * document["refused"]
    assert [row["reason"] for row in document["last_fills"]] == view.fills["reason"].to_list()[-10:]
    assert document["parameters"]["lookback_bars"] == 48
    assert document["rules"]["max_open_positions"] == 1
    assert [row["symbol"] for row in document["instruments"]] == document["symbols"]
    assert [run["run_id"] for run in document["last_runs"]] == view.runs["run_id"].to_list()
    assert document["report"] is None


def test_show_of_an_account_without_a_bar_says_so(here: PaperAccount, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "show", "quiet")
    assert "Starts at 2026-01-01 00:00 UTC with 10,000.00 USDT; no bar has been processed yet" in text


def test_export_writes_one_parquet_file_a_table_and_says_where_and_how_many_rows(
    here: PaperAccount, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = shown(capsys, "export", "demo", "--directory", str(tmp_path / "out")).splitlines()
    rows = here.ledger.export_rows("demo")
    assert {path.stem for path in (tmp_path / "out").iterdir()} == set(rows) >= set(EXPORTED)
    for table, frame in rows.items():
        path = tmp_path / "out" / f"{table}.parquet"
        assert pl.read_parquet(path).equals(frame)
        (line,) = [line for line in lines if str(path) in line]
        assert line.split()[-1] == str(frame.height)
    assert "data/export/demo/fills.parquet" in shown(capsys, "export", "demo")


def test_export_as_json_is_one_document_of_rows_in_a_stable_order(here: PaperAccount, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "export", "demo", "--json")
    document = json.loads(text)
    assert text == shown(capsys, "export", "demo", "--json")
    for table in EXPORTED:
        assert isinstance(document[table], list)
        assert document[table], f"{table} is empty"
    for table, column in {
        "orders": "sequence",
        "fills": "sequence",
        "equity": "at",
        "signals": "decided_at",
        "runs": "started_at",
    }.items():
        assert [row[column] for row in document[table]] == sorted(row[column] for row in document[table])
    assert document["fills"][0]["quantity"] == document["fills"][0]["quantity"].rstrip("0")


def test_exports_of_two_accounts_of_equal_inputs_differ_in_bookkeeping_only(
    here: PaperAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = PaperAccount(tmp_path, strategy="fibonacci_golden_zone")
    monkeypatch.setenv("CANDLEWICK_RULES__MAX_OPEN_POSITIONS", "1")
    run_cycle(other, "2026-03-05T17:30")
    assert bare_document(other) == bare_document(here)
    assert other.ledger.export_document("demo") != here.ledger.export_document("demo")


def test_export_cannot_write_files_and_one_document_at_once(here: PaperAccount, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(app, ["export", "demo", "--json", "--directory", "out"]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert not Path("out").exists()


def test_export_into_a_place_that_cannot_be_written_names_it(
    here: PaperAccount, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run_command(app, ["export", "demo", "--directory", str(tmp_path / "file")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


@pytest.mark.parametrize("command", ["show", "export", "audit"])
def test_an_unknown_account_is_a_usage_error_that_names_the_known_ones(
    here: PaperAccount, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run_command(app, [command, "dmeo", "--json"]) == 2
    output = capsys.readouterr()
    assert json.loads(output.out)["error_type"] == "UnknownAccount"
    assert "demo, quiet" in output.err


def test_a_command_without_its_account_is_a_usage_error(here: PaperAccount, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(app, ["show"]) == 2
    assert "ACCOUNT" in capsys.readouterr().err


def test_audit_tells_what_was_compared_and_ends_with_0(here: PaperAccount, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "audit", "demo")
    rows = here.ledger.export_rows("demo")
    assert "gives every one of the ledger's" in text
    for table in ("signals", "orders", "fills", "postings", "positions", "equity", "events"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{table} ")]
        assert line.split() == [table, str(rows[table].height), str(rows[table].height), "0"]
    document = json.loads(shown(capsys, "audit", "demo", "--json"))
    assert (document["status"], document["difference_count"], document["differences"]) == ("success", 0, [])


def test_audit_names_differences_and_ends_with_1(
    made: PaperAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(made.directory / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with duckdb.connect("data/ledger.duckdb") as connection:
        connection.execute("UPDATE equity SET drawdown_share = drawdown_share + 0.5 WHERE account = 'demo'")
    bars = made.ledger.view("demo", {}).equity.height
    text = shown(capsys, "audit", "demo", code=1)
    assert f"{bars} differences between the ledger and the replay" in text
    assert text.count(": drawdown_share is ") == 20
    assert f"... and {bars - 20} more differences" in text
    document = json.loads(shown(capsys, "audit", "demo", "--json", code=1))
    assert (document["status"], document["difference_count"], len(document["differences"])) == ("failure", bars, 20)
    first = document["differences"][0]
    assert (first["table"], first["row"], first["column"]) == ("equity", "2026-01-01 04:00", "drawdown_share")
    assert (first["stored"], first["replayed"]) == ("0.5", "0")
    assert shown(capsys, "audit", "quiet")


def test_where_a_prefect_server_is_known_the_audit_is_a_run_there(
    made: PaperAccount, prefect_server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import httpx

    def runs() -> int:
        body = {"flows": {"name": {"any_": ["audit-account"]}}, "flow_runs": {"name": {"any_": ["audit quiet"]}}}
        return int(httpx.post(f"{prefect_server}/flow_runs/count", json=body, trust_env=False).raise_for_status().json())

    monkeypatch.chdir(made.directory)
    before = runs()
    document = json.loads(shown(capsys, "audit", "quiet", "--json"))
    assert (document["account"], document["status"]) == ("quiet", "success")
    assert runs() == before + 1


def test_looking_at_accounts_changes_no_byte_of_the_ledger(here: PaperAccount, capsys: pytest.CaptureFixture[str]) -> None:
    def digest() -> str:
        return hashlib.sha256(here.ledger.database.path.read_bytes()).hexdigest()

    before = digest()
    for command in (["list"], ["show", "demo"], ["export", "demo", "--json"], ["audit", "demo"]):
        shown(capsys, *command)
    assert digest() == before


def test_list_show_and_export_import_no_prefect_no_engine_and_no_exchange(here: PaperAccount) -> None:
    program = """
import sys
from candlewick.cli import run_command
from flows.accounts import app
for command in (["list"], ["show", "demo"], ["export", "demo", "--json"]):
    assert run_command(app, command) == 0
heavy = {"prefect", "numba", "ccxt", "plotly"} & sys.modules.keys()
raise SystemExit(f"imported: {sorted(heavy)}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
