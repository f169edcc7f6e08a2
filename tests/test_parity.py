"""Parity: what a paper account did in many cycles is what one backtest over its span does, bit for bit.

`make test` plays a hundred bars a case; `make parity` (CANDLEWICK_PARITY=full) thousands of bars, in more cycles, and many more
accounts. CANDLEWICK_PARITY_SEED draws others.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import polars as pl
import pytest

from candlewick.backtesting.playing import Played
from candlewick.engine.layout import Kind, Leg
from candlewick.results import CycleResult
from candlewick.store.backtests import Backtests
from candlewick.strategies.catalog import BUILT_IN
from tests.cycle_processes import ROOT, Cycle, CycleProcesses
from tests.paper_flow import Workplace, trade
from tests.parity_cases import PARAMETERS, Case, random_case, strategy_case, strategy_cases
from tests.parity_play import ACCOUNT, as_backtest, disagreements, ledger_of, play_cycles
from tests.test_crash import KILLED, place

FULL = os.environ.get("CANDLEWICK_PARITY") == "full"
SEED = int(os.environ.get("CANDLEWICK_PARITY_SEED", "1"))
BARS, CYCLES, ACCOUNTS, KILLED_ACCOUNTS = (2000, 12, 60, 8) if FULL else (110, 3, 9, 1)
OFTEN = 60 if FULL else 16
"""Cycles of the first random account, so that some follow each other bar by bar."""
SEEDS = range(SEED * 1000, SEED * 1000 + ACCOUNTS)
EVENTS = (Kind.ORDER, Kind.FILL, Kind.REFUSAL, Kind.CANCEL, Kind.EXPIRY, Kind.STOP_MOVED, Kind.FUNDING)
LEGS = (Leg.ENTRY, Leg.EXIT, Leg.STOP, Leg.TARGET_1, Leg.TARGET_2, Leg.TIME_STOP)


@pytest.fixture(autouse=True)
def switches_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candlewick refuses variables that begin as its settings do and are none."""
    for name in ("CANDLEWICK_PARITY", "CANDLEWICK_PARITY_SEED"):
        monkeypatch.delenv(name, raising=False)


@dataclass(slots=True)
class Seen:
    """What the accounts did that were compared."""

    accounts: int = 0
    cycles: int = 0
    bars: int = 0
    postings: int = 0
    events: Counter[int] = field(default_factory=Counter)
    fills: Counter[int] = field(default_factory=Counter)

    def add(self, case: Case, played: Played) -> None:
        events = played.simulation.events
        self.accounts += 1
        self.cycles += len(case.untils)
        self.bars += int(played.simulation.tally["bars"][0])
        self.postings += played.journal.postings.height
        self.events.update(events["kind"].tolist())
        self.fills.update(events["leg"][events["kind"] == Kind.FILL].tolist())

    def __str__(self) -> str:
        kinds = ", ".join(f"{count:,} {Kind(kind).name.lower()}" for kind, count in sorted(self.events.items()))
        legs = ", ".join(f"{count:,} {Leg(leg).name.lower()}" for leg, count in sorted(self.fills.items()))
        return (
            f"{self.accounts} accounts, {self.cycles:,} cycles, {self.bars:,} bar times, {self.postings:,} postings; "
            f"events: {kinds}; fills: {legs}"
        )


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest) -> Iterator[Seen]:
    """Filled by the tests of this file in their order; the long form says at its end what it was."""
    told = Seen()
    yield told
    if FULL:
        capturing = request.config.pluginmanager.getplugin("capturemanager")
        with capturing.global_and_fixture_disabled():
            print(f"\n{told}")


def prove(case: Case, folder: Path, seen: Seen) -> Played:
    """Play the case in both ways. Answers the backtest, which is equal."""
    decided = play_cycles(case, folder / "paper")
    _, played = as_backtest(case, folder / "backtest")
    assert disagreements(ledger_of(folder / "paper"), played) == [], case
    assert sum(one.advanced.bars for one in decided) == played.simulation.tally["bars"][0]
    seen.add(case, played)
    return played


def test_every_built_in_strategy_has_parameter_sets_here() -> None:
    assert set(PARAMETERS) == set(BUILT_IN)
    assert all(len(sets) >= 2 for sets in PARAMETERS.values())


@pytest.mark.parametrize(("strategy", "number"), strategy_cases())
def test_a_paper_account_in_cycles_is_one_backtest(strategy: str, number: int, tmp_path: Path, seen: Seen) -> None:
    played = prove(strategy_case(tmp_path / "market", strategy, number, BARS, CYCLES), tmp_path, seen)
    assert played.journal.fills.height, "the account trades"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_account_in_cycles_is_one_backtest(seed: int, tmp_path: Path, seen: Seen) -> None:
    prove(random_case(tmp_path / "market", seed, BARS, OFTEN if seed == SEEDS[0] else CYCLES), tmp_path, seen)


@pytest.mark.parametrize("sizing", ["inverse_volatility"])
def test_an_account_whose_second_symbol_is_listed_after_its_first_cycle_is_one_backtest(sizing: str, tmp_path: Path) -> None:
    case = strategy_case(tmp_path / "market", "sma_cross", 0, 60, 3)
    file = tmp_path / "market" / "binance_ETHUSDT_1h.parquet"
    candles = pl.read_parquet(file)
    candles[20:].write_parquet(file)
    first = f"{candles['ts'][10]:%Y-%m-%d %H:%M}"
    case = replace(case, rules={**case.rules, "sizing": sizing, "volatility_bars": 5}, untils=(first, case.untils[-1]))
    assert prove(case, tmp_path, Seen()).journal.fills.height


def test_the_accounts_above_did_everything_an_account_can_do(seen: Seen) -> None:
    if seen.accounts < len(strategy_cases()) + ACCOUNTS:
        pytest.skip("not all of the accounts above were played")
    assert [kind.name for kind in EVENTS if not seen.events[kind]] == []
    assert [leg.name for leg in LEGS if not seen.fills[leg]] == []


# Killed


@pytest.mark.parametrize("seed", SEEDS[:KILLED_ACCOUNTS])
def test_an_account_whose_cycles_are_killed_and_run_again_is_one_backtest(
    seed: int, cycles: CycleProcesses, tmp_path: Path
) -> None:
    case = random_case(tmp_path / "market", seed, min(BARS, 500), 3 if FULL else 2)
    chosen, cut_off = Random(seed), 0
    for until in case.untils:
        options = {**case.options(ACCOUNT), "until": until}
        sites = cycles.run(Cycle(tmp_path / "undisturbed", options, trace=True))[0].sites
        for _ in range(2):
            (ended,) = cycles.run(Cycle(tmp_path / "killed", options, place(chosen, sites)))
            cut_off += ended.code == KILLED
        cycles.finish(Cycle(tmp_path / "killed", options))
    assert cut_off >= len(case.untils), "most of the tries were cut off"
    _, played = as_backtest(case, tmp_path / "backtest")
    assert disagreements(ledger_of(tmp_path / "killed"), played) == [], case


# Through Prefect


def backtest_run(case: Case) -> str:
    """The id of a run of `flows.backtesting run` over the case's span, at its good end."""
    from flows.backtest_run import backtest
    from flows.command import result_of

    asked = {name: value for name, value in case.options(ACCOUNT).items() if name != "account"}
    result = asyncio.run(result_of(backtest(**asked, until=case.untils[-1], return_state=True)))
    assert result.run.status == "success"
    return str(result.run.run_id)


def assert_parity(case: Case, place: Workplace) -> None:
    """The kept fills of a backtest are the account's, and `flows.backtesting parity` says so of all its rows."""
    from flows.backtest_parity import show_parity
    from flows.command import result_of

    fills = Backtests(place.ledger.database).fills(backtest_run(case))
    traded = place.ledger.export_rows(ACCOUNT)["fills"]
    columns = [name for name in fills.columns if name in traded.columns]
    assert {"sequence", "price", "quantity", "fee", "leg"} <= set(columns)
    assert traded.height
    assert traded.select(columns).sort("sequence").equals(fills.select(columns).sort("sequence"))
    report = asyncio.run(result_of(show_parity(ACCOUNT, return_state=True)))
    assert (report.differences, [str(one) for one in report.first]) == (0, [])
    assert {one.table for one in report.comparisons if one.stored} >= {"signals", "orders", "fills", "postings"}


def cycle_of(case: Case, until: str) -> CycleResult:
    return trade(**case.options(ACCOUNT), until=until)


def test_the_flows_give_the_same_account_as_the_flow_of_a_backtest(workplace: Workplace) -> None:
    case = strategy_case(workplace.directory / "market", "bollinger_reversion", 1, 110, 2)
    assert [cycle_of(case, until).status for until in case.untils] == ["success"] * 2
    assert_parity(case, workplace)


def test_a_flow_killed_inside_its_transaction_and_run_again_gives_the_same_account(
    workplace: Workplace, server_cycles: CycleProcesses
) -> None:
    case = strategy_case(workplace.directory / "market", "donchian_breakout", 0, 110, 2)
    first, last = case.untils
    assert cycle_of(case, first).status == "success"
    options = {**case.options(ACCOUNT), "until": last}
    before = workplace.ledger.export_rows(ACCOUNT)["fills"].height
    inside = line_of("candlewick/store/ledger.py", "check_written(connection")
    (ended,) = server_cycles.run(Cycle(workplace.directory, options, (inside, 1, 0), environment=workplace.settings()))
    assert ended.code == KILLED
    assert workplace.ledger.export_rows(ACCOUNT)["fills"].height == before
    assert cycle_of(case, last).status == "success"
    assert_parity(case, workplace)


def line_of(file: str, text: str) -> str:
    """The one line of a file with this text, as tests/crash_child.py names it."""
    (number,) = [n for n, line in enumerate((ROOT / file).read_text(encoding="utf-8").splitlines(), 1) if text in line]
    return f"{file}:{number}"
