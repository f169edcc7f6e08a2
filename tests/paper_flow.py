"""The paper_trading flow as a test drives it: in this process, against the session's Prefect server, in a folder of its own."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import polars as pl
import pytest

from candlewick.account import Account
from candlewick.advancing import advance_account, common_watermark
from candlewick.candles import CANDLE_SCHEMA, FormingBar
from candlewick.cycle import conclude, new_start, opening_rows
from candlewick.lake import Lake
from candlewick.results import CycleResult
from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from candlewick.store.tables import TABLES
from candlewick.strategies.catalog import load_strategy
from candlewick.strategies.contract import complete_signals
from tests.shared_data import real_candles

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")


@dataclass(frozen=True, slots=True)
class Workplace:
    """A folder with ledger, lake and reports, as the settings in the environment name it."""

    directory: Path

    @property
    def ledger(self) -> Ledger:
        """The ledger of this folder; it need not exist."""
        return Ledger(Database(str(self.directory / "ledger.duckdb")))

    @property
    def lake(self) -> Lake:
        """The lake of this folder."""
        return Lake(str(self.directory / "lake"))

    def settings(self) -> dict[str, str]:
        """Environment variables that lead here."""
        return {
            "CANDLEWICK_STORE__URL": str(self.directory / "ledger.duckdb"),
            "CANDLEWICK_LAKE__URL": str(self.directory / "lake"),
            "CANDLEWICK_REPORTS__DIRECTORY": str(self.directory / "reports"),
        }


@pytest.fixture
def workplace(tmp_path: Path, prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """An empty folder for one test, with nothing configured but where things are kept."""
    place = Workplace(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, value in place.settings().items():
        monkeypatch.setenv(name, value)
    return place


def trade(**options: object) -> CycleResult:
    """One run of the flow, its result. Raises what the flow raises."""
    from prefect.context import SyncClientContext

    from flows.command import result_of
    from flows.paper_trading import paper_trading

    with SyncClientContext.get_or_create():  # one connection instead of one for each time that Prefect asks before the flow runs
        return asyncio.run(result_of(paper_trading(**options, return_state=True)))  # type: ignore[arg-type]


def differences(found: Mapping[str, pl.DataFrame], expected: Mapping[str, pl.DataFrame]) -> list[str]:
    """Tables of ``expected`` in which the ledgers differ, with the first rows that do; bookkeeping and runs aside."""
    texts = []
    for name in sorted(set(expected) - {"runs"}):
        columns = list(TABLES[name].content)
        ours, theirs = found[name].select(columns), expected[name].select(columns)
        if not ours.equals(theirs):
            extra = ours.join(theirs, on=columns, how="anti", nulls_equal=True).head(2).to_dicts()
            lost = theirs.join(ours, on=columns, how="anti", nulls_equal=True).head(2).to_dicts()
            texts.append(f"{name}: {ours.height} rows for {theirs.height}; too many: {extra}; missing: {lost}")
    return texts


def folded(
    account: Account, candles: Mapping[str, pl.DataFrame], opens: Mapping[str, FormingBar | None]
) -> dict[str, pl.DataFrame]:
    """What an account of one version of terms comes to by the pure engine, folded once over these candles: its rows by table.

    ``opens`` are forming bars whose open phase is done.
    """
    start = new_start(account)
    terms = account.current
    strategy = load_strategy(terms.strategy, terms.parameters)
    signals = {terms.version: {symbol: complete_signals(strategy, frame) for symbol, frame in candles.items()}}
    advanced = advance_account(account, start.state, candles, signals, common_watermark(candles), opens)
    journal = conclude(start, advanced, candles).journal
    postings = pl.concat([opening_rows(account)[2], journal.postings])
    rows = {
        "signals": journal.signals,
        "orders": journal.orders,
        "fills": journal.fills,
        "postings": postings,
        "positions": journal.positions,
        "equity": journal.equity,
        "events": journal.events,
    }
    return {name: frame.select(list(TABLES[name].content)).sort(TABLES[name].order) for name, frame in rows.items()}


def real_windows(since_ms: int, last_ms: int) -> dict[str, pl.DataFrame]:
    """The hourly candles of SYMBOLS as the files have them, from ``since_ms`` to the bar that opens at ``last_ms``."""
    times = pl.col("opened_at").dt.epoch("ms")
    return {
        symbol: real_candles(f"binance_{symbol.replace('/', '')}_1h")
        .filter(times.is_between(since_ms, last_ms))
        .select(list(CANDLE_SCHEMA))
        .cast(dict(CANDLE_SCHEMA))  # type: ignore[arg-type]
        for symbol in SYMBOLS
    }


def real_opens(opened_ms: int) -> dict[str, FormingBar | None]:
    """The opens of the bars at ``opened_ms``, as a cycle inside them sees them."""
    return {
        symbol: FormingBar(opened_ms, float(frame["open"][0])) for symbol, frame in real_windows(opened_ms, opened_ms).items()
    }


def task_runs(server: str, result: CycleResult) -> list[str]:
    """Names of a run's tasks, sorted; the run id in a commit's name left out.

    Prefect's client reports task runs as events, which the server books a little later: so this asks until the last is there.
    """
    body = {"flow_runs": {"id": {"any_": [result.metadata.flow_run_id]}}, "limit": 200}
    deadline = time.monotonic() + 60
    while True:
        runs = httpx.post(f"{server}/task_runs/filter", json=body, trust_env=False).raise_for_status().json()
        names = sorted(str(run["name"]).replace(result.metadata.run_id, "RUN") for run in runs)
        settled = all(run["state_type"] in ("COMPLETED", "FAILED") for run in runs)
        if (settled and "publish artifacts" in names) or time.monotonic() > deadline:
            return names
        time.sleep(0.2)
