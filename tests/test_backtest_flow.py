"""The backtesting flows through a real Prefect server and the command: states, artifacts, exit codes, and what a user sees."""

import asyncio
import json
import time

import httpx
import pytest

from candlewick.cli import run_command
from candlewick.errors import UnknownStrategy
from candlewick.settings import load_settings
from flows.backtest_options import open_store
from flows.backtesting import app
from tests.paper_flow import Workplace

ASKED = [
    "--symbols",
    "BTC/USDT",
    "--timeframe",
    "4h",
    "--strategy",
    "sma_cross",
    "--since",
    "2026-04-01",
    "--until",
    "2026-06-01",
]


def command(*words: str) -> int:
    """The exit code of `python -m flows.backtesting …`."""
    return run_command(app, list(words))


def artifacts(server: str, flow_run_id: str) -> set[str]:
    """Keys of a run's artifacts, once they are booked."""
    body = {"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}}
    deadline = time.monotonic() + 60
    while True:
        rows = httpx.post(f"{server}/artifacts/filter", json=body, trust_env=False).raise_for_status().json()
        if len(rows) >= 2 or time.monotonic() > deadline:
            return {str(row["key"]) for row in rows}
        time.sleep(0.2)


def test_run_list_show_and_compare(workplace: Workplace, prefect_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("run", *ASKED, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert first["status"] == "success"
    assert artifacts(prefect_server, first["flow_run_id"]) == {
        f"{first['run_id'].lower()}-{name}" for name in ("summary", "trades")
    }
    assert command("run", *ASKED, "--param", "fast=5") == 0
    shown = capsys.readouterr()
    assert "BACKTEST  sma_cross on BTC/USDT" in shown.out
    assert "--param fast=5" in shown.out
    assert "playing" in shown.err or "compiling" in shown.err
    assert command("list") == 0
    assert first["run_id"] in capsys.readouterr().out
    assert command("show", first["run_id"], "--json") == 0
    assert json.loads(capsys.readouterr().out)["figures"] == first["figures"]
    assert command("show") == 0
    assert "sma_cross fast=5" in capsys.readouterr().out
    assert command("compare", first["run_id"], "latest") == 0
    assert "parameter fast" in capsys.readouterr().out
    assert len(list((workplace.directory / "reports").glob("comparison-*.html"))) == 1
    assert command("compare", "latest") == 2
    assert command("show", "nothing-like-it") == 2


def test_check_keeps_its_verdict_and_ends_with_1_where_a_strategy_peeks(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--symbols", "BTC/USDT", "--since", "2026-04-01", "--until", "2026-06-01", "--cuts", "5"]
    assert command("check", "--strategy", "sma_cross", *asked) == 0
    assert "PASSED" in capsys.readouterr().out
    assert command("check", "--strategy", "tests.peeking:Shifted", *asked, "--json") == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "failed"
    assert command("run", "--strategy", "tests.peeking:Shifted", *asked[:6]) == 2
    assert "--allow-peeking" in capsys.readouterr().err
    assert command("run", "--strategy", "tests.peeking:Shifted", *asked[:6], "--allow-peeking") == 0
    assert "FAILED" in capsys.readouterr().out
    (run,) = open_store(load_settings()).list_runs()
    assert run.check_verdict == "failed"


def test_bad_input_ends_with_2_and_writes_nothing(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--strategy", "nope"], ["--param", "fast=0"], ["--rule", "nope=1"], ["--cash", "much"], ["--detail", "9h"]):
        assert command("run", *ASKED, *wrong) == 2
        assert "Error: " in capsys.readouterr().err
    assert not (workplace.directory / "ledger.duckdb").exists()


def test_the_flow_itself_refuses_what_the_command_would(workplace: Workplace) -> None:
    from flows.backtest_run import backtest
    from flows.command import result_of

    with pytest.raises(UnknownStrategy, match="nope"):
        asyncio.run(result_of(backtest(strategy="nope", return_state=True)))
    assert not (workplace.directory / "ledger.duckdb").exists()


def test_a_strategy_whose_code_fails_leaves_a_failed_run(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace.directory / "breaking.py").write_text(
        "from candlewick.strategies.contract import Strategy\n"
        "class Breaks(Strategy):\n"
        "    def signals(self, candles):\n"
        "        if candles.height > 100: raise ValueError('too many for me')\n"
        "        return candles.select(action=__import__('polars').lit('HOLD'))\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(workplace.directory))
    monkeypatch.setattr("flows.backtest_context.check_candles", _unchecked)
    assert command("run", *ASKED[:4], "--strategy", "breaking:Breaks", *ASKED[6:]) == 1
    assert "too many for me" in capsys.readouterr().out
    (run,) = open_store(load_settings()).list_runs()
    assert run.status == "failure"
    assert "too many for me" in (run.error or "")


async def _unchecked(*_: object) -> None:
    """A check that had too few candles, so that the strategy's own failure comes later."""
    from candlewick.errors import UsageError

    raise UsageError("too few candles")
