"""Runs, chunks and series of market data, as the store keeps them."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from candlewick.candles import Series
from candlewick.errors import InvariantViolated, UnknownRun, UsageError
from candlewick.market_data.coverage import Span
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.rows import DataChunk, DataRun
from candlewick.store.data_runs import SERIES_STATE_SCHEMA, DataStore
from candlewick.store.database import Database
from candlewick.store.quality import QualityStore
from candlewick.validation import Finding

HOUR_MS = 3_600_000
T0 = datetime(2026, 7, 1, tzinfo=UTC)
BTC, ETH = Series("binance", "BTC/USDT", "1h"), Series("binance", "ETH/USDT", "1h")
FUNDING = DataSeries("binanceusdm", "BTC/USDT:USDT", "funding_rate")
RUN = DataRun(run_id="data-1", kind="backfill", code_version="1", started_at=T0, market="binance", series=2)


@pytest.fixture
def store(tmp_path: Path) -> DataStore:
    return DataStore(Database(str(tmp_path / "ledger.duckdb")))


def chunk(series: Series | DataSeries, since: int, until: int, **more: object) -> DataChunk:
    usual = {"rows": until - since, "pages": 1, "first_at": T0, "last_at": T0, "digest": "d", "bytes": 100, "fetched_at": T0}
    timing = {"requested_s": 0.5, "waited_s": 0.25}
    return DataChunk(series=series, span=Span(since * HOUR_MS, until * HOUR_MS), **{**usual, **timing, **more})  # type: ignore[arg-type]


def test_where_there_is_no_ledger_nothing_is_known_and_nothing_is_made(store: DataStore) -> None:
    assert (store.runs(), store.chunks().height, store.series_states().height) == ((), 0, 0)
    assert store.add_chunks("data-1", ()) == 0
    assert dict(store.series_states().schema) == dict(SERIES_STATE_SCHEMA)
    assert not store.database.exists()


def test_a_run_is_written_as_it_begins_and_changed_as_it_ends(store: DataStore) -> None:
    store.begin(RUN)
    (begun,) = store.runs()
    assert replace(begun, process=None) == RUN
    done = replace(RUN, status="success", rows_added=10, findings=2, completed_at=T0 + timedelta(minutes=1))
    store.finish(done)
    store.finish(replace(done, completed_at=T0 + timedelta(minutes=2)))
    assert store.runs() == (done,)


def test_a_run_ends_once_and_only_if_it_began(store: DataStore) -> None:
    store.begin(RUN)
    with pytest.raises(InvariantViolated, match="that id is taken"):
        store.begin(RUN)
    with pytest.raises(UsageError, match="cannot end as running"):
        store.finish(RUN)
    with pytest.raises(UnknownRun, match="data-2"):
        store.finish(replace(RUN, run_id="data-2", status="success"))
    store.finish(replace(RUN, status="failure", error="the market is away", completed_at=T0))
    with pytest.raises(InvariantViolated, match="status is failure and would become success"):
        store.finish(replace(RUN, status="success", completed_at=T0))


def test_runs_are_listed_newest_first_and_one_whose_process_died_as_interrupted(store: DataStore, tmp_path: Path) -> None:
    program = f"""
from datetime import UTC, datetime
from candlewick.market_data.rows import DataRun
from candlewick.store.data_runs import DataStore
from candlewick.store.database import Database
started = datetime(2026, 7, 2, tzinfo=UTC)
DataStore(Database({str(tmp_path / "ledger.duckdb")!r})).begin(
    DataRun(run_id="data-2", kind="sync", code_version="1", started_at=started))
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1])
    store.begin(RUN)
    store.begin(replace(RUN, run_id="data-0", started_at=T0 - timedelta(days=1)))
    assert [(run.run_id, run.status) for run in store.runs()] == [
        ("data-2", "interrupted"),
        ("data-1", "running"),
        ("data-0", "running"),
    ]
    assert "ended without a word" in str(store.runs(1)[0].error)
    assert len(store.runs(1)) == 1


def test_a_chunk_that_is_fetched_again_replaces_its_row(store: DataStore) -> None:
    empty = chunk(FUNDING, 0, 8, rows=0, first_at=None, last_at=None, digest="")
    assert store.add_chunks("data-1", [chunk(BTC, 0, 10), chunk(BTC, 10, 20), empty]) == 3
    assert store.add_chunks("data-2", [chunk(BTC, 10, 20, digest="other", waited_s=2.0)]) == 1
    assert store.chunks().select("symbol", "timeframe", "digest", "run_id").rows() == [
        ("BTC/USDT", "1h", "d", "data-1"),
        ("BTC/USDT", "1h", "other", "data-2"),
        ("BTC/USDT:USDT", "funding_rate", "", "data-1"),
    ]
    assert store.chunks(BTC, run_id="data-2")["waited_s"].to_list() == [2.0]
    assert store.chunks([FUNDING]).select("rows", "first_at", "until_at").row(0) == (0, None, datetime(1970, 1, 1, 8, tzinfo=UTC))


def test_what_is_known_of_a_series_is_one_row(store: DataStore) -> None:
    quality = QualityStore(store.database)
    quality.record_all(
        {
            BTC: (
                Finding("gap", "info", 0, HOUR_MS, "1 bars missing"),
                Finding("gap_outage", "info", 0, HOUR_MS, "1m lacks it too"),
                Finding("gap_not_downloaded", "warning", 5 * HOUR_MS, 9 * HOUR_MS, "4 bars"),
                Finding("refused", "error", 0, HOUR_MS, "high below low"),
            ),
            FUNDING: (Finding("gap", "info", 0, HOUR_MS, "1 payment missing"),),
        },
        T0,
    )
    store.synced([BTC, ETH], T0)
    store.validated(BTC, T0 + timedelta(hours=1), "good")
    store.synced(BTC, T0 + timedelta(hours=2))
    store.add_chunks("data-1", [chunk(BTC, 0, 10), chunk(BTC, 10, 20)])
    btc, eth, funding = store.series_states().iter_rows(named=True)
    assert (btc["last_synced_at"], btc["last_validated_at"]) == (T0 + timedelta(hours=2), T0 + timedelta(hours=1))
    assert (btc["verdict"], btc["chunks"], btc["last_fetched_at"]) == ("good", 2, T0)
    assert (btc["open_findings"], btc["open_errors"], btc["open_warnings"], btc["gaps"]) == (2, 1, 1, 2)
    assert (funding["timeframe"], funding["gaps"], funding["last_synced_at"]) == ("funding_rate", 1, None)
    assert (eth["symbol"], eth["last_synced_at"], eth["verdict"], eth["open_findings"]) == ("ETH/USDT", T0, None, 0)


def test_what_was_fetched_after_a_series_was_last_complete_is_known(store: DataStore) -> None:
    assert store.fetched_since_sync(BTC) is None
    store.add_chunks("data-1", [chunk(BTC, 48, 72), chunk(BTC, 24, 48), chunk(ETH, 0, 24)])
    assert store.fetched_since_sync(BTC) == 24 * HOUR_MS
    store.synced(BTC, T0 + timedelta(seconds=1))
    assert store.fetched_since_sync(BTC) is None
    assert store.fetched_since_sync(ETH) == 0
    store.add_chunks("data-2", [chunk(BTC, 72, 96, fetched_at=T0 + timedelta(seconds=2))])
    assert store.fetched_since_sync(BTC) == 72 * HOUR_MS
