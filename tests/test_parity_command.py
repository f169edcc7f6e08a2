"""`python -m flows.backtesting parity ACCOUNT`: equal table by table, or told where not. More proofs: test_parity.py."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
from prefect.tasks import Task

from candlewick.account import Scalar
from candlewick.candles import Series
from candlewick.cli import run_command
from candlewick.engine.bars import Beside
from candlewick.market.sample import SampleMarket
from candlewick.parity import ParityReport, parity_lines, parity_markdown, parity_verdict, prove_parity
from candlewick.settings import LakeSettings, Settings, StoreSettings
from candlewick.store.queries import account_rows
from flows.backtesting import app
from tasks.parity import prove_account
from tests.paper_accounts import PaperAccount, run_cycles

QUICK: Mapping[str, Scalar] = {"fast": 3, "slow": 8, "stop_loss_bps": 300, "take_profit_1_bps": 500, "trailing_stop_bps": 400}
MOMENTS = ("2026-01-10T00:00", "2026-01-10T00:30", "2026-01-10T04:01", "2026-01-19T13:00", "2026-01-20T16:00", "2026-02-01T01:00")


def proof(account: PaperAccount) -> ParityReport:
    """What `parity` finds out about the account."""
    data = account.directory / "data"
    kept = {"store": StoreSettings(url=str(data / "ledger.duckdb")), "lake": LakeSettings(url=str(data / "lake"))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "__call__", lambda task, *arguments, **named: task.fn(*arguments, **named))
        return asyncio.run(prove_account(Settings().model_copy(update=kept), account.name))


def stored(report: ParityReport) -> dict[str, int]:
    return {one.table: one.stored for one in report.comparisons}


@pytest.mark.parametrize(
    ("symbols", "rules"),
    [
        (("BTC/USDT", "ETH/USDT"), {"max_volume_share": "0.0005", "spread_bps": 3, "sizing": "inverse_volatility"}),
        (("BTC/USDT:USDT", "ETH/USDT:USDT"), {"direction": "both", "leverage": 3, "max_drawdown_share": "none"}),
    ],
    ids=["spot", "perpetuals, both sides"],
)
def test_an_account_that_lived_in_cycles_is_one_backtest(
    tmp_path: Path, symbols: tuple[str, ...], rules: Mapping[str, Scalar]
) -> None:
    account = PaperAccount(tmp_path, symbols=symbols, parameters=QUICK, rules=rules)
    run_cycles(account, MOMENTS)
    report = proof(account)
    assert parity_lines(report) == []
    assert report.cycles == len(MOMENTS)
    assert stored(report)["fills"] > 10
    assert stored(report)["equity"] == report.bars
    assert "Equal bit for bit" in parity_markdown(report)


def test_a_ledger_that_says_something_else_is_told_table_by_table(tmp_path: Path) -> None:
    account = PaperAccount(tmp_path, parameters=QUICK)
    run_cycles(account, ["2026-03-01T01:00"])
    rows = dict(account_rows(account.ledger.database, account.name))
    candles = {symbol: account.lake.read(series) for symbol, series in _series(account).items()}
    third = pl.when(pl.int_range(pl.len()) == 2)
    rows["fills"] = rows["fills"].with_columns(price=third.then(pl.col("price") + 1).otherwise(pl.col("price")))
    report = prove_parity(rows, candles, Beside())
    assert report.differences == 1
    assert {one.table: one.differences for one in report.comparisons}["fills"] == 1
    assert "1 difference between one backtest" in parity_verdict(report)
    assert re.search(r"fills .*price is .* in the ledger, .* in the backtest", parity_lines(report)[0])


def _series(account: PaperAccount) -> Mapping[str, Series]:
    market = SampleMarket(0)
    return {symbol: market.series(symbol, account.timeframe) for symbol in account.symbols}


def test_the_command_shows_parity_and_ends_with_1_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    account = PaperAccount(tmp_path, parameters=QUICK)
    run_cycles(account, ["2026-02-01T01:00"])
    assert run_command(app, ["parity", "demo"]) == 0
    assert "bit for bit" in capsys.readouterr().out
    assert run_command(app, ["parity", "nobody"]) == 2
    with account.ledger.database.write() as connection:
        connection.execute("UPDATE fills SET reason = 'another story'")
    assert run_command(app, ["parity", "demo"]) == 1
    shown = capsys.readouterr().out
    assert "another story" in shown
    assert "differences" in shown
