"""Paper accounts made quickly: the flow's own steps, one after the other, with Prefect's tasks called as plain functions.

Everything else is real: market, lake, signals, engine and ledger are those of a cycle, under ``directory`` as in a working
directory (`data/ledger.duckdb`, `data/lake`).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prefect.tasks import Task

from candlewick.account import Scalar
from candlewick.cycle import Decided
from candlewick.lake import Lake
from candlewick.paper_request import PaperOptions, PaperRequest, read_request
from candlewick.settings import LakeSettings, StoreSettings
from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from candlewick.store.tables import TABLES
from flows.cycle import begin, commit, complete_payments, compute_all_signals, decide, fetch_all, read_candles
from flows.cycle_context import Cycle


@dataclass(frozen=True, slots=True)
class PaperAccount:
    """An account to be made under ``directory``; the defaults trade a lot in a few bars."""

    directory: Path
    name: str = "demo"
    market: str = "sample"
    symbols: tuple[str, ...] = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
    timeframe: str = "4h"
    strategy: str = "sma_cross"
    parameters: Mapping[str, Scalar] | None = None
    since: str = "2026-01-01"
    rules: Mapping[str, Scalar] | None = None
    allow_peeking: bool = False

    @property
    def ledger(self) -> Ledger:
        """The ledger under ``directory``."""
        return Ledger(Database(str(self.directory / "data" / "ledger.duckdb")))

    @property
    def lake(self) -> Lake:
        """The lake under ``directory``."""
        return Lake(str(self.directory / "data" / "lake"))

    def request(self, until: str) -> PaperRequest:
        """What a user would have asked for, with all that is kept under ``directory``."""
        asked = PaperOptions(
            account=self.name, market=self.market, symbols=self.symbols, timeframe=self.timeframe, strategy=self.strategy,
            parameters=self.parameters, since=self.since, until=until, rules=self.rules,
            allow_peeking=self.allow_peeking,
        )  # fmt: skip
        request = read_request(asked)
        data = self.directory / "data"
        kept = {
            "store": StoreSettings(url=str(data / "ledger.duckdb")),
            "lake": LakeSettings(url=str(data / "lake")),
        }
        return replace(request, settings=request.settings.model_copy(update=kept))


def run_cycle(account: PaperAccount, until: str) -> Decided:
    """One committed cycle at the market's time ``until`` (ISO 8601, UTC). Raises what the cycle raises."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "__call__", lambda task, *arguments, **named: task.fn(*arguments, **named))
        return asyncio.run(_cycle(account.request(until)))


def run_cycles(account: PaperAccount, moments: Sequence[str]) -> Decided:
    """Committed cycles at these times, the last one's decisions."""
    return [run_cycle(account, moment) for moment in moments][-1]


async def _cycle(request: PaperRequest) -> Decided:
    cycle = Cycle(request)
    with cycle.turn():
        begun = await begin(cycle)
        fetched = await fetch_all(cycle, begun)
        candles = await read_candles(cycle, begun, fetched)
        fetched = await complete_payments(cycle, begun, fetched, candles)
        signals = await compute_all_signals(cycle, begun, candles)
        decided = decide(cycle, begun, fetched, candles, signals)
        commit(cycle, begun, fetched, decided)
        await cycle.close()
    return decided


def bare_document(account: PaperAccount) -> dict[str, object]:
    """The account's export without what may differ between two ledgers of equal inputs: bookkeeping, and the runs."""
    document = account.ledger.export_document(account.name)
    return {
        table: [{name: value for name, value in row.items() if name not in TABLES[table].bookkeeping} for row in rows]
        for table, rows in document.items()
        if table in TABLES and table != "runs"
    }
