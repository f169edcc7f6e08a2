"""Kill a backfill or a sync anywhere and run it again: what is missing is fetched, and the lake is that of an undisturbed run.

CANDLEWICK_CRASH_POINTS sets how many places are tried (`make crash` tries many), CANDLEWICK_CRASH_SEED which ones.
"""

import hashlib
import os
import random
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl
import pytest

from candlewick.store.database import Database
from candlewick.store.quality import QualityStore
from tests.cycle_processes import Cycle, CycleProcesses, Outcome
from tests.emulator.candle_book import CandleBook
from tests.emulator.faults import ANSWER_KINDS, Fault
from tests.emulator.server import Emulator

POINTS = max(6, int(os.environ.get("CANDLEWICK_CRASH_POINTS", "30")) // 5)
SEED = int(os.environ.get("CANDLEWICK_CRASH_SEED", "1"))
MINUTE_MS = 60_000
START_MS = 1_706_400_000_000  # 2024-01-28 00:00: the span crosses the end of a month
ROWS = 12_000
AREAS = (
    (3, ("flows/coll", "tasks/")),
    (4, ("candlewick/lake", "candlewick/storage", "candlewick/market_data/")),
    (2, ("candlewick/store/",)),
    (1, ("blocks/", "candlewick/")),
)
OPTIONS = {
    "market": "binance",
    "symbols": ["BTC/USDT", "ETH/USDT"],
    "timeframes": ["1m"],
    "since": "2024-01-20",
    "until": "2024-02-05 08:00",
    "chunks": "fixed",
    "chunk_bars": 2_000,
}


def made_up_minutes(price: float, holes: frozenset[int]) -> list[tuple[int, float, float, float, float, float]]:
    """Minutes from START_MS on, each different from every other; none at the numbers in ``holes``."""
    rows = ((START_MS + i * MINUTE_MS, price + i, price + i + 2, price + i - 1, price + i + 1, 10.0 + i) for i in range(ROWS))
    return [row for number, row in enumerate(rows) if number not in holes]


@pytest.fixture
def exchange() -> Iterator[Emulator]:
    """Two symbols with an outage each, listed a week after what is asked for."""
    book = CandleBook()
    book.add("BTCUSDT", "1m", made_up_minutes(40_000.0, frozenset(range(3_990, 4_030))))
    book.add("ETHUSDT", "1m", made_up_minutes(2_000.0, frozenset({500})))
    with Emulator(book) as emulator:
        yield emulator


def backfill(exchange: Emulator, directory: Path, **more: object) -> Cycle:
    """A backfill of both symbols in this folder."""
    prefix = "CANDLEWICK_EXCHANGES__BINANCE__"
    settings = {f"{prefix}API_URL": exchange.url, f"{prefix}RATE_LIMIT": "false", f"{prefix}RETRY_BASE_S": "0.01"}
    return Cycle(directory, OPTIONS, environment=settings, flow="backfill", **more)  # type: ignore[arg-type]


def silver(directory: Path) -> Mapping[str, str]:
    """The digest of every file of the silver layer but locks, by its place."""
    folder = directory / "data" / "lake" / "silver"
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def gaps(directory: Path) -> list[tuple[object, ...]]:
    """The findings about missing bars."""
    found = QualityStore(Database(str(directory / "data" / "ledger.duckdb"))).findings()
    return found.filter(pl.col("kind").str.starts_with("gap")).select("symbol", "kind", "state", "span_start", "span_end").rows()


def place(chosen: random.Random, sites: Mapping[str, int]) -> tuple[str, int, int]:
    """A line that an undisturbed backfill executes, which time, and how much later to strike."""
    (area,) = chosen.choices([prefixes for _, prefixes in AREAS], [weight for weight, _ in AREAS])
    site = chosen.choice(sorted(site for site in sites if site.startswith(area)))
    return site, chosen.randint(1, sites[site]), chosen.choice((0, 0, chosen.randrange(1, 20_000)))


def pages(exchange: Emulator) -> int:
    """How many pages of candles were asked for since the last time this was asked."""
    asked = len(exchange.requests("/klines"))
    exchange.clear()
    return asked


def test_a_backfill_that_is_killed_anywhere_and_run_again_leaves_the_lake_of_an_undisturbed_one(
    cycles: CycleProcesses, exchange: Emulator, tmp_path: Path
) -> None:
    chosen = random.Random(SEED)
    pages(exchange)
    told: Outcome = cycles.finish(backfill(exchange, tmp_path / "undisturbed", trace=True))
    all_pages, wanted = pages(exchange), silver(tmp_path / "undisturbed")
    assert [name.rsplit("/", 1)[1] for name in wanted if name.endswith(".parquet")] == ["2024-01.parquet", "2024-02.parquet"] * 2
    cut_off, found = 0, gaps(tmp_path / "undisturbed")
    assert len(found) == 2
    for number in range(POINTS):
        directory = tmp_path / f"killed-{number}"
        (ended,) = cycles.run(backfill(exchange, directory, kill=place(chosen, told.sites)))
        assert ended.code in (0, -signal.SIGKILL), ended.said
        cut_off += ended.code != 0
        before = pages(exchange)
        cycles.finish(backfill(exchange, directory))
        assert silver(directory) == wanted, f"try {number}"
        assert gaps(directory) == found, f"try {number}: what the dead run had fetched was not looked over"
        # A kill costs the chunks that were under way (two side by side, of two or three pages) and the questions for the listing.
        assert before + pages(exchange) <= all_pages + 12, f"try {number}: what was finished was fetched again"
    assert cut_off > POINTS // 2, f"only {cut_off} of {POINTS} tries were cut off"


def test_a_finished_backfill_asks_for_nothing_again(cycles: CycleProcesses, exchange: Emulator, tmp_path: Path) -> None:
    cycles.finish(backfill(exchange, tmp_path))
    pages(exchange)
    again = cycles.finish(backfill(exchange, tmp_path))
    assert pages(exchange) == 0
    assert "nothing new" in again.said


def test_two_backfills_of_the_same_series_at_once_leave_the_lake_of_one(
    cycles: CycleProcesses, exchange: Emulator, tmp_path: Path
) -> None:
    cycles.finish(backfill(exchange, tmp_path / "one"))
    both = cycles.run(*[backfill(exchange, tmp_path / "both")] * 2)
    assert [(outcome.code, outcome.status) for outcome in both] == [(0, "success")] * 2, both[0].said + both[1].said
    assert silver(tmp_path / "both") == silver(tmp_path / "one")


def test_a_sync_that_meets_faults_and_dies_and_comes_again_ends_in_the_lake_of_an_undisturbed_one(
    server_cycles: CycleProcesses, exchange: Emulator, tmp_path: Path
) -> None:
    chosen = random.Random(SEED)
    now_ms = round(time.time() * 1000) // MINUTE_MS * MINUTE_MS
    first_ms = now_ms - 3_000 * MINUTE_MS
    rows = made_up_minutes(30_000.0, frozenset(range(700, 720)))[:2_981]
    exchange.book.add("BTCUSDT", "1m", [(row[0] - START_MS + first_ms, *row[1:]) for row in rows])
    since = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(first_ms / 1000))
    dataset = f"  minutes: {{markets: [binance], symbols: [BTC/USDT], timeframes: [1m], since: '{since}'}}\n"

    def sync(folder: str, **more: object) -> Cycle:
        directory = tmp_path / folder
        directory.mkdir(exist_ok=True)
        (directory / "candlewick.yaml").write_text(f"datasets:\n{dataset}", encoding="utf-8")
        settings = dict(backfill(exchange, directory).environment) | {
            "CANDLEWICK_EXCHANGES__BINANCE__MAX_CLOCK_SKEW_S": "3600",
            "CANDLEWICK_EXCHANGES__BINANCE__RETRY_MAX_S": "0.02",
            "CANDLEWICK_EXCHANGES__BINANCE__TIMEOUT_S": "1",
        }
        return Cycle(directory, {}, environment=settings, flow="sync", **more)  # type: ignore[arg-type]

    exchange.now_ms = now_ms - 50 * MINUTE_MS
    sites = server_cycles.finish(sync("traced", trace=True)).sites
    cut_off = 0
    for minutes in (50, 40, 31, 22, 13, 4):
        exchange.now_ms = now_ms - minutes * MINUTE_MS
        exchange.misbehave(*(Fault(chosen.choice(ANSWER_KINDS), path="/klines", seconds=2.0) for _ in range(2)))
        site, _, delay_us = place(chosen, sites)  # the first time: a sync executes a line less often than the first download
        (ended,) = server_cycles.run(sync("disturbed", kill=(site, 1, delay_us) if minutes % 2 == 0 else None))
        cut_off += ended.code != 0
        assert ended.status in (None, "success"), ended.said
        exchange.faults.clear()
    assert cut_off, "no sync was cut off"
    exchange.now_ms = now_ms
    server_cycles.finish(sync("disturbed"))
    server_cycles.finish(sync("undisturbed"))
    assert silver(tmp_path / "disturbed") == silver(tmp_path / "undisturbed")


def test_a_full_disk_is_named_and_the_next_run_goes_on(cycles: CycleProcesses, exchange: Emulator, tmp_path: Path) -> None:
    cycles.finish(backfill(exchange, tmp_path / "undisturbed"))
    (ended,) = cycles.run(backfill(exchange, tmp_path / "full", largest_file_bytes=150_000))
    assert ended.status == "failure" or ended.status == "raised", ended.said
    assert "no space left" in ended.said or "cannot be written" in ended.said
    cycles.finish(backfill(exchange, tmp_path / "full"))
    assert silver(tmp_path / "full") == silver(tmp_path / "undisturbed")
