"""Whenever, how often and beside whom a cycle runs: the ledger is the one of punctual cycles."""

import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from candlewick.store.lock import HeldLock
from tests.cycle_processes import BARE_ENVIRONMENT, ROOT, Cycle, CycleProcesses, assert_same, content, ledger_in

TRENDS = {
    "account": "demo",
    "market": "sample",
    "symbols": ["BTC/USDT", "ETH/USDT"],
    "timeframe": "1h",
    "strategy": "sma_cross",
    "parameters": {"fast": 3, "slow": 8},
    "since": "2024-01-12",
}
ZONES = {**TRENDS, "symbols": ["SOL/USDT", "ETH/USDT"], "strategy": "fibonacci_golden_zone", "parameters": {"lookback_bars": 24}}


def cycle(directory: Path, until: datetime | str, options: dict[str, Any] = TRENDS) -> Cycle:
    moment = until if isinstance(until, str) else f"{until:%Y-%m-%d %H:%M}"
    return Cycle(directory, {**options, "until": moment})


def test_a_cycle_that_is_run_twice_changes_nothing_the_second_time(cycles: CycleProcesses, tmp_path: Path) -> None:
    cycles.finish(cycle(tmp_path, "2024-02-01 10:20"))
    once = content(tmp_path, "demo")
    assert once["fills"].height > 10
    cycles.finish(cycle(tmp_path, "2024-02-01 10:20"))
    assert_same(content(tmp_path, "demo"), once)


def test_a_cycle_that_meets_another_one_says_so_and_changes_nothing(cycles: CycleProcesses, tmp_path: Path) -> None:
    cycles.finish(cycle(tmp_path, "2024-02-01 10:20"))
    before = content(tmp_path, "demo")
    runs = ledger_in(tmp_path).export_rows("demo")["runs"]
    with ledger_in(tmp_path).try_account_lock("demo") as held:
        assert isinstance(held, HeldLock)
        outcome = cycles.finish(cycle(tmp_path, "2024-02-03 10:20"))
    assert f"another cycle of account demo is at work (process {os.getpid()}" in outcome.said
    assert_same(content(tmp_path, "demo"), before)
    assert ledger_in(tmp_path).export_rows("demo")["runs"].equals(runs)


def test_an_account_that_is_being_opened_by_another_cycle_is_left_to_it(cycles: CycleProcesses, tmp_path: Path) -> None:
    with ledger_in(tmp_path).try_account_lock("demo") as held:
        assert isinstance(held, HeldLock)
        assert "another cycle" in cycles.finish(cycle(tmp_path, "2024-02-01 10:20")).said
    assert not ledger_in(tmp_path).database.exists()


def test_cycles_of_one_account_at_once_leave_the_ledger_of_one(cycles: CycleProcesses, tmp_path: Path) -> None:
    for until in ("2024-02-01 10:20", "2024-02-04 06:40"):
        cycles.finish(cycle(tmp_path / "alone", until))
        outcomes = cycles.run(*[cycle(tmp_path / "crowd", until)] * 3)
        assert [(outcome.code, outcome.status) for outcome in outcomes] == [(0, "success")] * 3
        assert_same(content(tmp_path / "crowd", "demo"), content(tmp_path / "alone", "demo"))


@pytest.mark.parametrize("options", [TRENDS, ZONES], ids=["trends", "zones"])
def test_ten_missed_schedules_and_one_late_run_leave_the_ledger_of_punctual_cycles(
    cycles: CycleProcesses, tmp_path: Path, options: dict[str, Any]
) -> None:
    chosen = random.Random(str(options["strategy"]))
    moments = [datetime(2024, 1, 29, tzinfo=UTC)]
    for _ in range(10):  # most of them inside a bar, so that orders meet an open that is forming
        moments.append(moments[-1] + timedelta(minutes=chosen.randrange(1, 500)))
    for moment in moments:
        cycles.finish(cycle(tmp_path / "punctual", moment, options))
    for moment in (moments[0], moments[-1]):
        cycles.finish(cycle(tmp_path / "late", moment, options))
    cycles.finish(cycle(tmp_path / "at once", moments[-1], options))
    punctual = content(tmp_path / "punctual", "demo")
    assert punctual["fills"].height > 5
    assert_same(content(tmp_path / "late", "demo"), punctual)
    assert_same(content(tmp_path / "at once", "demo"), punctual)


def test_a_stop_of_three_months_leaves_the_ledger_of_punctual_cycles(cycles: CycleProcesses, tmp_path: Path) -> None:
    start = datetime(2024, 3, 1, 9, 30, tzinfo=UTC)
    cycles.finish(cycle(tmp_path / "stopped", start))
    for days in range(0, 92, 13):
        cycles.finish(cycle(tmp_path / "punctual", start + timedelta(days=days)))
    cycles.finish(cycle(tmp_path / "stopped", start + timedelta(days=91)))
    punctual = content(tmp_path / "punctual", "demo")
    assert punctual["fills"].height > 200
    assert_same(content(tmp_path / "stopped", "demo"), punctual)


def test_eight_accounts_in_eight_processes_all_finish_and_none_is_lost(cycles: CycleProcesses, tmp_path: Path) -> None:
    for until in ("2024-02-01 10:20", "2024-02-03 20:05"):
        accounts = [
            cycle(tmp_path / "together", until, {**TRENDS, "account": f"account-{n}", "cash": 1000 * n}) for n in range(1, 9)
        ]
        outcomes = cycles.run(*accounts)
        assert [(outcome.code, outcome.status) for outcome in outcomes] == [(0, "success")] * 8, outcomes
    assert ledger_in(tmp_path / "together").list_accounts()["account"].to_list() == [f"account-{n}" for n in range(1, 9)]
    filled = [content(tmp_path / "together", one.options["account"])["fills"].height for one in accounts]
    assert min(filled) == max(filled) > 10
    last = accounts[-1].options
    cycles.finish(Cycle(tmp_path / "alone", last))
    assert_same(content(tmp_path / "together", last["account"]), content(tmp_path / "alone", last["account"]))


@pytest.mark.xdist_group("prefect_server")
def test_the_command_that_meets_another_cycle_says_so_and_ends_well(prefect_server: str, tmp_path: Path) -> None:
    environment = BARE_ENVIRONMENT | {"PREFECT_API_URL": prefect_server, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with ledger_in(tmp_path).try_account_lock("demo") as held:
        assert isinstance(held, HeldLock)
        ended = subprocess.run(
            [sys.executable, "-m", "flows.paper_trading"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
    assert ended.returncode == 0, ended.stderr
    assert "another cycle of account demo is at work" in " ".join(ended.stdout.split())
    assert not ledger_in(tmp_path).database.exists()
