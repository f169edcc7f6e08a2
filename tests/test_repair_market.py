"""Repair against an exchange that answered wrongly and behaves again: a real lake, a real ledger, a real client."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import polars as pl
import pytest

from candlewick.candles import Series
from candlewick.errors import UsageError
from candlewick.findings import note_findings
from candlewick.lake import Lake
from candlewick.market_data.coverage import Span
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.repair_report import RepairReport
from candlewick.market_data.repairing import RepairRequest
from candlewick.quality.inspect import inspect_series
from candlewick.store.data_runs import DataStore
from candlewick.store.database import Database
from candlewick.store.quality import QualityStore
from candlewick.timeframes import utc
from candlewick.validation import Finding
from flows.data_repair import RepairContext, repair_command, repair_open, settle_command
from tasks.ingest import ChunkPlan, Keeping, fetch_chunk
from tasks.market import open_market
from tests.emulator.candle_book import CandleBook
from tests.emulator.faults import Fault
from tests.emulator.server import Emulator
from tests.emulator_fixture import START_MS, made_up_candles
from tests.kept_backtests import plain_tasks

HOUR_MS, MINUTE_MS = 3_600_000, 60_000
BARS = 200
NOW = datetime(2026, 7, 1, tzinfo=UTC)
BTC = Series("binance", "BTC/USDT", "1h")
Row = tuple[int, float, float, float, float, float]


class Desk:
    """An exchange, and the folder that keeps what it told."""

    def __init__(self, exchange: Emulator, book: CandleBook, folder: Path) -> None:
        database = Database(str(folder / "ledger.duckdb"))
        self.exchange, self.book = exchange, book
        self.lake, self.quality, self.data = Lake(str(folder / "lake")), QualityStore(database), DataStore(database)

    def tell(self, rows: list[Row], timeframe: str = "1h") -> None:
        """What the exchange says from now on."""
        self.book.add("BTCUSDT", timeframe, rows)

    def fetch(self) -> None:
        """Download all of it as backfill does, and look it over."""

        async def whole() -> None:
            from candlewick.settings import load_settings

            access = await open_market("binance", load_settings(), None)
            plan = ChunkPlan(DataSeries.of_candles(BTC), span(0, BARS), at(BARS + 100))
            try:
                await fetch_chunk(access, Keeping(self.lake, self.data, self.quality, "backfill-1"), plan)
            finally:
                await access.market.close()

        with plain_tasks():
            asyncio.run(whole())
        self.quality.record(BTC, inspect_series(self.lake, BTC, None), NOW)

    def found(self, kind: str, bar: int, bars: int = 1, severity: str = "warning") -> None:
        """A finding as validation records it."""
        self.quality.record(BTC, (Finding(kind, severity, at(bar), at(bar + bars), "as it is"),), NOW)  # type: ignore[arg-type]

    def repair(self, request: RepairRequest | None = None, *, dry_run: bool = False, force: bool = False) -> RepairReport:
        with plain_tasks():
            return asyncio.run(repair_open(RepairContext(dry_run=dry_run, force=force), request or RepairRequest()))

    def state(self, kind: str) -> tuple[str, str]:
        """State and explanation of the one finding of a kind."""
        (row,) = self.quality.findings(kinds=[kind]).iter_rows(named=True)
        return row["state"], row["explanation"]

    @property
    def candles(self) -> pl.DataFrame:
        return self.lake.read(BTC)

    def is_right(self) -> bool:
        """Whether the lake holds what the exchange really has."""
        rows = [tuple(row) for row in self.candles.with_columns(pl.col("opened_at").dt.epoch("ms")).iter_rows()]
        return rows == HOURS


def at(bar: int) -> int:
    return START_MS + bar * HOUR_MS


def span(first: int, end: int) -> Span:
    return Span(at(first), at(end))


HOURS: list[Row] = made_up_candles(40_000.0, BARS)


def without(bars: range) -> list[Row]:
    return [row for row in HOURS if row[0] not in {at(bar) for bar in bars}]


def with_close(bar: int, close: float) -> list[Row]:
    return [(*row[:2], max(row[2], close), min(row[3], close), close, row[5]) if row[0] == at(bar) else row for row in HOURS]  # type: ignore[misc]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    book = CandleBook()
    book.add("BTCUSDT", "1h", HOURS)
    monkeypatch.chdir(tmp_path)
    with Emulator(book) as exchange:
        exchange_settings = {"API_URL": exchange.url, "RATE_LIMIT": "false", "MAX_ATTEMPTS": "1", "RETRY_BASE_S": "0.01"}
        for name, value in {
            "STORE__URL": str(tmp_path / "ledger.duckdb"),
            "LAKE__URL": str(tmp_path / "lake"),
            **{f"EXCHANGES__BINANCE__{name}": value for name, value in exchange_settings.items()},
        }.items():
            monkeypatch.setenv(f"CANDLEWICK_{name}", value)
        yield Desk(exchange, book, tmp_path)


# -- what was missing


def test_bars_that_were_left_out_are_added_once_the_exchange_tells_them(desk: Desk) -> None:
    desk.exchange.misbehave(Fault("missing", symbol="BTCUSDT", opened_at_ms=at(100), count=None))
    desk.fetch()
    assert desk.candles.height == BARS - 1
    assert desk.state("gap")[0] == "open"
    desk.exchange.clear()
    report = desk.repair()
    assert (report.added, report.replaced, report.failures) == (1, 0, ())
    assert desk.is_right()
    state, explanation = desk.state("gap")
    assert (state, "1 missing bar came: 2024-01-05 04:00" in explanation) == ("repaired", True)
    (run,) = (run for run in desk.data.runs() if run.kind == "repair")
    assert (run.status, run.rows_added, run.findings, run.series) == ("success", 1, 1, 1)
    assert desk.repair().outcomes == (), "nothing is open any more"


def test_a_hole_that_a_finer_timeframe_has_as_well_is_explained(desk: Desk) -> None:
    desk.tell(without(range(100, 103)))
    desk.tell([(at(90) + minute * MINUTE_MS, 1.0, 1.0, 1.0, 1.0, 1.0) for minute in range(600)], "30m")
    desk.fetch()
    desk.found("gap_not_downloaded", 100, 3)
    desk.repair()
    state, explanation = desk.state("gap_not_downloaded")
    assert state == "explained"
    assert "the market has no bar there (3 bars); 30m has no bar there that traded, either" in explanation
    assert desk.candles.height == BARS - 3, "nothing is invented"


def test_a_hole_in_which_a_finer_timeframe_traded_stays_open(desk: Desk) -> None:
    desk.tell(without(range(100, 101)))
    desk.tell([(at(100) + half * 30 * MINUTE_MS, 1.0, 1.0, 1.0, 1.0, 1.0) for half in range(2)], "30m")
    desk.fetch()
    desk.repair()
    state, explanation = desk.state("gap")
    assert state == "open"
    assert "yet 30m has 2 bars there that traded" in explanation
    assert desk.candles.height == BARS - 1


# -- what was wrong


def test_a_wrong_bar_is_replaced_and_the_finding_says_what_it_was(desk: Desk) -> None:
    desk.tell(with_close(50, 99_999.0))
    desk.fetch()
    before = desk.candles
    desk.tell(HOURS)
    report = desk.repair()
    assert (report.added, report.replaced) == (0, 1)
    assert desk.is_right()
    assert desk.candles.height == before.height
    state, explanation = desk.state("outlier")
    assert state == "repaired"
    assert "bar 2024-01-03 02:00: 40050/99999/40049/99999/60 became 40050/40052/40049/40051/60" in explanation


def test_a_bar_without_volume_that_traded_gets_its_volume_back(desk: Desk) -> None:
    desk.exchange.misbehave(Fault("zero_volume", symbol="BTCUSDT", opened_at_ms=at(60), count=None))
    desk.fetch()
    assert desk.candles["volume"][60] == 0.0
    desk.found("resampling", 60)
    desk.exchange.clear()
    desk.repair(RepairRequest(kinds=("resampling",)))
    assert desk.is_right()
    assert desk.state("resampling")[0] == "repaired"


def test_what_the_market_says_again_is_explained_by_that(desk: Desk) -> None:
    desk.fetch()
    desk.found("outlier", 50)
    desk.found("disagreement", 70, 5)
    report = desk.repair()
    assert (report.added, report.replaced) == (0, 0)
    for kind in ("outlier", "disagreement"):
        state, explanation = desk.state(kind)
        assert (state, explanation.startswith("the market says the same again on 20")) == ("explained", True)


def test_a_bar_that_was_refused_stays_open_until_the_exchange_tells_a_sensible_one(desk: Desk) -> None:
    desk.exchange.misbehave(Fault("nan", symbol="BTCUSDT", opened_at_ms=at(30), count=None))
    desk.fetch()
    assert desk.candles.height == BARS - 1
    desk.repair(RepairRequest(kinds=("refused",)))
    state, explanation = desk.state("refused")
    assert (state, "cannot be trusted this time either: bar 2024-01-02 06:00" in explanation) == ("open", True)
    desk.exchange.clear()
    desk.repair(RepairRequest(kinds=("refused",)))
    assert desk.state("refused")[0] == "repaired"
    assert desk.is_right()


def test_a_file_that_is_damaged_is_set_aside_and_fetched_again(desk: Desk) -> None:
    desk.fetch()
    (file,) = desk.lake.folder(BTC).glob("*.parquet")
    file.write_bytes(file.read_bytes()[:1000])
    desk.quality.record(BTC, inspect_series(desk.lake, BTC, None), NOW)
    act(desk, "demo", watermark=BARS - 1)
    report = desk.repair()
    assert (report.added, report.failures) == (BARS, ())
    assert desk.is_right()
    assert [path.name for path in desk.lake.folder(BTC).glob("*.damaged")] == [f"{file.name}.damaged"]
    state, explanation = desk.state("damaged_file")
    assert (state, explanation) == ("repaired", f"set aside as {file.name}.damaged; 200 bars were fetched again")


# -- what must not be changed


def act(desk: Desk, account: str, watermark: int) -> None:
    """An account that has decided on the bars up to one."""
    with desk.quality.database.write() as connection:
        connection.execute(
            "INSERT INTO accounts VALUES (?, 'binance', '1h', ?, 'USDT', 1000, ?, ?)",
            [account, json.dumps(["ETH/USDT", "BTC/USDT"]), utc(at(10)), NOW],
        )
        connection.execute(
            "INSERT INTO checkpoints VALUES (?, 1, ?, '{}', '{}', '{}', 'run-1', ?)", [account, utc(at(watermark)), NOW]
        )


def test_a_bar_that_an_account_decided_on_is_replaced_by_force_alone(desk: Desk) -> None:
    desk.tell(with_close(50, 99_999.0))
    desk.fetch()
    desk.tell(HOURS)
    act(desk, "early", watermark=49)
    act(desk, "demo", watermark=50)
    before = desk.candles
    desk.repair()
    assert desk.candles.equals(before)
    state, explanation = desk.state("outlier")
    assert state == "open"
    assert "but account demo decided on it: left as it is. With --force" in explanation
    desk.repair(force=True)
    assert desk.is_right()
    state, explanation = desk.state("outlier")
    assert (state, explanation.endswith("account demo decided on it and will refuse it (HistoryChanged)")) == ("repaired", True)


def test_killed_after_the_lake_was_changed_the_next_run_still_says_what_it_was(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.tell(with_close(50, 99_999.0))
    desk.fetch()
    desk.tell(HOURS)

    def die(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tasks.repair.judge_all", die)
        with pytest.raises(KeyboardInterrupt):
            desk.repair()
    assert desk.is_right()
    assert desk.state("outlier")[0] == "open"
    desk.repair()
    state, explanation = desk.state("outlier")
    assert state == "repaired"
    assert "40050/99999/40049/99999/60 became 40050/40052/40049/40051/60" in explanation


def test_a_dry_run_shows_what_is_open_and_asks_and_writes_nothing(desk: Desk) -> None:
    desk.fetch()
    desk.found("outlier", 50)
    note_findings(desk.lake, BTC, [Finding("revised", "warning", at(60), at(60) + 1, "close 1 kept, 2 offered")])
    asked = len(desk.exchange.requests())
    report = desk.repair(dry_run=True)
    assert [(one.finding.kind, one.state) for one in report.outcomes] == [("outlier", "open"), ("revised", "open")]
    assert len(desk.exchange.requests()) == asked
    assert desk.quality.findings(kinds=["revised"]).is_empty()
    desk.repair()
    assert desk.state("revised")[0] == "explained", "what was noted beside the candles is taken along"
    assert desk.lake.notes(BTC) == {}


# -- who cannot be asked


def test_an_exchange_that_is_away_leaves_every_finding_open_and_says_so(desk: Desk) -> None:
    desk.fetch()
    desk.found("outlier", 50)
    desk.exchange.misbehave(Fault("http", path="/klines", count=None))
    report = desk.repair()
    assert [one.state for one in report.outcomes] == ["open"]
    assert "binance BTC/USDT 1h" in report.failures[0]
    assert "503" in report.failures[0]
    assert desk.state("outlier") == ("open", None)
    assert desk.data.runs(1)[0].status == "failure"


@pytest.mark.parametrize(
    ("market", "said", "failed"),
    [
        ("sample", "cannot be asked again: the sample market is made up", False),
        ("files-1f2e3d4c", "cannot be asked again: files say the same until somebody changes them", False),
        ("binance-sandbox", "cannot be asked again: the settings lead to binance", True),
        ("mine", "cannot be asked again: ", True),
    ],
)
def test_a_market_that_cannot_be_asked_again_is_named(desk: Desk, market: str, said: str, failed: bool) -> None:
    desk.quality.record(Series(market, "BTC/USDT", "1h"), (Finding("outlier", "warning", at(1), at(2), "as it is"),), NOW)
    report = desk.repair()
    assert said in report.outcomes[0].explanation
    assert bool(report.failures) is failed


def test_findings_of_other_data_are_left_to_a_backfill(desk: Desk) -> None:
    funding = DataSeries("binanceusdm", "BTC/USDT:USDT", "funding_rate")
    desk.quality.record(funding, (Finding("gap_not_downloaded", "warning", at(1), at(2), "1 payment"),), NOW)
    (outcome,) = desk.repair().outcomes
    assert (outcome.state, "only candles are repaired" in outcome.explanation) == ("open", True)


# -- through Prefect


def test_the_flow_leaves_its_run_and_a_table_and_the_command_prints_it(
    desk: Desk, prefect_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.tell(with_close(50, 99_999.0))
    desk.fetch()
    desk.tell(HOURS)
    assert repair_command(symbol="BTC/USDT", json=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["replaced"], {one["state"] for one in report["outcomes"]}) == (1, {"repaired"})
    assert desk.is_right()
    key = {"artifacts": {"key": {"any_": [f"{report['run_id'].lower()}-findings"]}}}
    (artifact,) = httpx.post(f"{prefect_server}/artifacts/filter", json=key, trust_env=False).raise_for_status().json()
    assert "40050/99999/40049/99999/60 became" in artifact["data"]
    run = desk.data.runs(1)[0]
    assert (run.run_id, run.status, run.rows_added) == (report["run_id"], "success", 0)
    assert run.flow_run_id is not None

    assert repair_command() == 0
    assert "nothing to repair" in capsys.readouterr().out
    desk.found("revised", 60)
    assert repair_command(dry_run=True) == 0
    assert "1 finding open. Nothing was asked or written." in capsys.readouterr().out
    (finding,) = desk.quality.findings(state="open")["finding_id"]
    assert settle_command((finding[:8],), because="looked at the tape") == 0
    assert desk.state("revised") == ("explained", "looked at the tape")
    with pytest.raises(UsageError, match="'nobody' is the beginning of no finding's id"):
        settle_command(("nobody",), because="why")
