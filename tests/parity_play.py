"""One account played in both ways: as cycles of a paper account, and as one backtest; and what of them has to be equal."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from prefect.tasks import Task

from candlewick.backtest_request import BacktestOptions, read_backtest
from candlewick.backtesting.inputs import Inputs
from candlewick.backtesting.playing import ACCOUNT, Played, play
from candlewick.comparing import Json, flatten
from candlewick.cycle import Decided
from candlewick.engine.state import EngineState
from candlewick.paper_request import PaperOptions, PaperRequest, read_request
from candlewick.settings import LakeSettings, Settings, StoreSettings
from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from candlewick.store.tables import TABLES
from candlewick.strategies.catalog import load_strategy
from flows.backtest_context import BacktestContext, prepare
from tests.paper_accounts import PaperAccount, run_cycle
from tests.paper_flow import differences
from tests.parity_cases import Case

__all__ = ["ACCOUNT", "as_backtest", "disagreements", "ledger_of", "play_cycles"]
COMPARED = ("signals", "orders", "fills", "postings", "positions", "events", "equity")


@dataclass(frozen=True, slots=True)
class CaseAccount(PaperAccount):
    """The paper account of a case; it has the name that backtests give theirs, so that all ids are to be equal."""

    case: Case | None = None

    def request(self, until: str) -> PaperRequest:
        """What a user would have asked for."""
        case = self.case
        assert case is not None
        options = PaperOptions(
            account=ACCOUNT, market=case.market, symbols=case.symbols, timeframe=case.timeframe, strategy=case.strategy,
            parameters=case.parameters, cash=Decimal(case.cash), since=case.since, until=until, rules=case.rules,
        )  # fmt: skip
        request = read_request(options)
        return replace(request, settings=_kept(request.settings, self.directory))


def _kept(settings: Settings, directory: Path) -> Settings:
    data = directory / "data"
    kept = {"store": StoreSettings(url=str(data / "ledger.duckdb")), "lake": LakeSettings(url=str(data / "lake"))}
    return settings.model_copy(update=kept)


def play_cycles(case: Case, directory: Path) -> list[Decided]:
    """The paper account, cycle by cycle: each knows what ledger and lake hold, and nothing else."""
    account = CaseAccount(directory, case=case)
    return [run_cycle(account, until) for until in case.untils]


def as_backtest(case: Case, directory: Path) -> tuple[Inputs, Played]:
    """What `python -m flows.backtesting run` computes over the same span, with a lake of its own."""
    options = BacktestOptions(
        market=case.market, symbols=case.symbols, timeframe=case.timeframe, strategy=case.strategy,
        parameters=case.parameters, since=case.since, until=case.untils[-1], cash=Decimal(case.cash), rules=case.rules,
    )  # fmt: skip
    request = read_backtest(options)
    context = BacktestContext(replace(request, settings=_kept(request.settings, directory)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "__call__", lambda task, *arguments, **named: task.fn(*arguments, **named))
        inputs = asyncio.run(_prepared(context))
    return inputs, play(inputs, load_strategy(case.strategy, case.parameters))


async def _prepared(context: BacktestContext) -> Inputs:
    try:
        return await prepare(context)
    finally:
        await context.close()


def ledger_of(directory: Path) -> Ledger:
    """The ledger of a directory."""
    return Ledger(Database(str(directory / "data" / "ledger.duckdb")))


def disagreements(ledger: Ledger, played: Played) -> list[str]:
    """Tables in which the account's rows are not the backtest's, and fields of the engine's state; none where all is equal."""
    found = _sorted(ledger.export_rows(ACCOUNT))
    deposit = found["postings"].filter(pl.col("transaction_id") == f"{ACCOUNT}-deposit")
    journal = played.journal
    # Of a long span the backtest keeps the equity at the ends of hours or days only.
    found["equity"] = found["equity"].join(journal.equity.select("at"), on="at", how="semi", maintain_order="left")
    wanted = _sorted({name: getattr(journal, name) for name in COMPARED})
    wanted["postings"] = pl.concat([deposit, wanted["postings"]]).sort(TABLES["postings"].order)
    return [*differences(found, wanted), *_state_differences(ledger, played)]


def _sorted(rows: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    return {name: rows[name].select(list(TABLES[name].content)).sort(TABLES[name].order) for name in COMPARED}


def _state_differences(ledger: Ledger, played: Played) -> list[str]:
    """Every integer of the state: cash, equity, halts, counts and sums of the account, and all of each position."""
    loaded = ledger.load_account(ACCOUNT)
    assert loaded is not None
    assert loaded.checkpoint is not None
    assert loaded.checkpoint.state is not None
    # An account's first version of its terms has a number, a backtest's terms have none.
    ours, theirs = _fields(loaded.checkpoint.state), _fields(played.simulation.state.under(1, lifts_halt=False))
    return [
        f"{name}: {ours.get(name)} in the checkpoint, {theirs.get(name)} in the backtest"
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name)
    ]


def _fields(state: EngineState) -> dict[str, Json]:
    """The state's integers by their place: `positions[0].stop`."""
    return flatten(json.loads(json.dumps(state.to_document())))
