"""Kill a cycle anywhere and run it again: the ledger is the one of an undisturbed account, row for row.

CANDLEWICK_CRASH_POINTS sets how many places are tried (`make crash` tries many), CANDLEWICK_CRASH_SEED which ones.
"""

import os
import random
import signal
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.cycle_processes import Cycle, CycleProcesses, Outcome, assert_same, content, ledger_in

POINTS = int(os.environ.get("CANDLEWICK_CRASH_POINTS", "30"))
SEED = int(os.environ.get("CANDLEWICK_CRASH_SEED", "1"))
CYCLES = 5
FIRST = datetime(2024, 1, 29, tzinfo=UTC)
ACCOUNT = {
    "account": "demo",
    "market": "sample",
    "symbols": ["BTC/USDT", "ETH/USDT"],
    "timeframe": "1h",
    "strategy": "sma_cross",
    "parameters": {"fast": 3, "slow": 8},
    "since": "2024-01-12",
}
# Where to kill, and how often: the steps of the flow, the write transaction, the lake and other files, all the rest.
AREAS = (
    (3, ("flows/", "tasks/")),
    (4, ("candlewick/store/",)),
    (2, ("candlewick/lake", "candlewick/partitions.py", "candlewick/storage/", "candlewick/signal_", "candlewick/windows.py")),
    (1, ("candlewick/",)),
)
# Lines that run between BEGIN and COMMIT.
TRANSACTION = ("candlewick/store/ledger.py", "candlewick/store/writing.py", "candlewick/store/invariants.py")
KILLED = -signal.SIGKILL


def moments(chosen: random.Random) -> list[str]:
    """Where the cycles end: a few hours apart, most of them in the middle of a bar."""
    at, untils = FIRST, []
    for _ in range(CYCLES):
        untils.append(at.strftime("%Y-%m-%d %H:%M"))
        at += timedelta(minutes=chosen.randrange(30, 60 * 30))
    return untils


def place(chosen: random.Random, sites: Mapping[str, int]) -> tuple[str, int, int]:
    """A line that an undisturbed cycle executes, which time, and how much later to strike."""
    (area,) = chosen.choices([prefixes for _, prefixes in AREAS], [weight for weight, _ in AREAS])
    site = chosen.choice(sorted(site for site in sites if site.startswith(area)))
    delay_us = chosen.choice((0, 0, chosen.randrange(1, 3_000), chosen.randrange(1, 30_000)))
    return site, chosen.randint(1, sites[site]), delay_us


def undisturbed(cycles: CycleProcesses, directory: Path, untils: Sequence[str]) -> list[tuple[Outcome, dict[str, pl.DataFrame]]]:
    """What each cycle executed, and what the ledger held after it."""
    ended = []
    for until in untils:
        outcome = cycles.finish(Cycle(directory, {**ACCOUNT, "until": until}, trace=True))
        ended.append((outcome, content(directory, "demo")))
    return ended


def kill_and_finish(
    cycles: CycleProcesses, cycle: Cycle, kills: Sequence[tuple[str, int, int]], wanted: Mapping[str, pl.DataFrame]
) -> int:
    """Try the cycle, killed at each of the places in turn, then undisturbed; how many tries were really cut off."""
    cut_off = 0
    for number, kill in enumerate(kills):
        (ended,) = cycles.run(Cycle(cycle.directory, cycle.options, kill))
        assert ended.status in (None, "success"), f"after {kills[:number]}: {ended.said}"
        assert ended.code == (0 if ended.status else KILLED), f"{kill} ended with {ended.code}"
        cut_off += ended.code == KILLED
    cycles.finish(cycle)
    assert_same(content(cycle.directory, "demo"), wanted)
    return cut_off


def test_a_cycle_that_is_killed_anywhere_and_run_again_leaves_the_ledger_of_an_undisturbed_one(
    cycles: CycleProcesses, tmp_path: Path
) -> None:
    chosen = random.Random(SEED)
    untils = moments(chosen)
    cut_off = 0
    told = undisturbed(cycles, tmp_path / "undisturbed", untils)
    assert told[-1][1]["fills"].height > told[0][1]["fills"].height > 5, "the account trades"
    assert told[-1][1]["quality"].height > told[0][1]["quality"].height > 0, "the candles have gaps"
    for until, (outcome, rows) in zip(untils, told, strict=True):
        kills = [place(chosen, outcome.sites) for _ in range(POINTS // CYCLES)]
        cut_off += kill_and_finish(cycles, Cycle(tmp_path / "killed", {**ACCOUNT, "until": until}), kills, rows)
    assert cut_off > POINTS // 2, f"only {cut_off} of {POINTS} tries were cut off"


def test_whoever_dies_inside_the_transaction_leaves_nothing_or_all_of_it(cycles: CycleProcesses, tmp_path: Path) -> None:
    chosen = random.Random(SEED)
    (until,) = moments(chosen)[:1]
    ((outcome, rows),) = undisturbed(cycles, tmp_path / "undisturbed", [until])
    inside = sorted(site for site in outcome.sites if site.startswith(TRANSACTION))
    kills = [(chosen.choice(inside), 1, chosen.choice((0, chosen.randrange(1, 30_000)))) for _ in range(POINTS // 5)]
    cut_off = 0
    for number, kill in enumerate(kills):
        directory = tmp_path / f"killed-{number}"
        (ended,) = cycles.run(Cycle(directory, {**ACCOUNT, "until": until}, kill))
        ledger = ledger_in(directory)
        if ended.code == KILLED and ledger.database.exists():
            cut_off += 1
            if ledger.load_account("demo") is not None:
                assert_same(content(directory, "demo"), rows)
        cycles.finish(Cycle(directory, {**ACCOUNT, "until": until}))
        assert_same(content(directory, "demo"), rows)
    assert cut_off > len(kills) // 3


@pytest.mark.xdist_group("prefect_server")
def test_a_flow_killed_on_a_real_server_leaves_the_ledger_of_an_undisturbed_one(
    cycles: CycleProcesses, server_cycles: CycleProcesses, tmp_path: Path
) -> None:
    chosen = random.Random(SEED)
    untils = moments(chosen)[:2]
    told = undisturbed(cycles, tmp_path / "undisturbed", untils)
    for until, (outcome, rows) in zip(untils, told, strict=True):
        kills = [place(chosen, outcome.sites) for _ in range(max(2, POINTS // 20))]
        kill_and_finish(server_cycles, Cycle(tmp_path / "killed", {**ACCOUNT, "until": until}), kills, rows)
