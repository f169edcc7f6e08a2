"""The gate: what is known against a window, and what a backtest and a paper cycle do about it."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from candlewick.backtest_request import read_backtest
from candlewick.candles import CANDLE_SCHEMA, Series
from candlewick.errors import DirtyWindow
from candlewick.findings import note_findings
from candlewick.lake import Lake
from candlewick.market_data.coverage import Span
from candlewick.quality.gate import check_windows, is_clean, judge_window, judge_windows
from candlewick.settings import QualitySettings, load_settings
from candlewick.store.database import Database
from candlewick.store.quality import QualityStore
from candlewick.timeframes import parse_utc
from candlewick.validation import Finding, finding_rows
from flows.backtest_context import BacktestContext, prepare
from tests.kept_backtests import folder, options, plain_tasks
from tests.paper_flow import Workplace, trade, workplace

__all__ = ["folder", "workplace"]
HOUR_MS = 3_600_000
T0 = datetime(2026, 7, 1, tzinfo=UTC)
BTC, ETH = Series("binance", "BTC/USDT", "1h"), Series("binance", "ETH/USDT", "1h")
WINDOW = Span(10 * HOUR_MS, 20 * HOUR_MS)
USUAL = QualitySettings()


def finding(kind: str, first: int, end: int, severity: str = "warning") -> Finding:
    return Finding(kind, severity, first * HOUR_MS, end * HOUR_MS, "as it is")  # type: ignore[arg-type]


def rows(*findings: Finding, series: Series = BTC) -> pl.DataFrame:
    return finding_rows(series, findings, T0)


def hours(first: int, end: int) -> pl.DataFrame:
    bars = [(hour * HOUR_MS, 1.0, 2.0, 0.5, 1.0, 5.0) for hour in range(first, end)]
    return pl.DataFrame(bars, schema=list(CANDLE_SCHEMA), orient="row").cast(dict(CANDLE_SCHEMA))  # type: ignore[arg-type]


# -- judging a window


@pytest.mark.parametrize(
    ("found", "clean"),
    [
        (finding("outlier", 10, 11), False),
        (finding("outlier", 19, 21), False),
        (finding("outlier", 9, 10), True),
        (finding("outlier", 20, 21), True),
        (finding("gap", 12, 15, "info"), True),
        (finding("gap_outage", 12, 15), True),
        (finding("duplicate", 12, 15), True),
        (finding("refused", 0, 30, "error"), False),
        (finding("high_low", 12, 13, "error"), False),
    ],
)
def test_open_findings_of_the_window_count_from_the_severity_on_that_is_set(found: Finding, clean: bool) -> None:
    assert judge_window(rows(found), BTC, WINDOW, USUAL).is_clean is clean


def test_another_series_or_kind_or_severity_counts_where_the_settings_say_so() -> None:
    found = rows(finding("outlier", 10, 11))
    assert judge_window(found, ETH, WINDOW, USUAL)
    assert judge_window(found, BTC, WINDOW, QualitySettings(severity="error"))
    assert judge_window(found, BTC, WINDOW, QualitySettings(ignore=("outlier",)))
    assert not judge_window(rows(finding("gap", 10, 11, "info")), BTC, WINDOW, QualitySettings(severity="info"))


def test_a_verdict_names_count_worst_finding_and_span() -> None:
    found = rows(finding("outlier", 10, 11), finding("high_low", 15, 16, "error"), finding("outlier", 17, 18))
    assert str(judge_window(found, BTC, WINDOW, USUAL)) == (
        "binance BTC/USDT 1h, 1970-01-01 10:00 to 1970-01-01 20:00: 3 open findings, the worst (error) is high_low at "
        "1970-01-01 15:00: as it is"
    )


def test_the_table_is_asked_together_with_what_is_on_its_way_into_it(tmp_path: Path) -> None:
    store, lake = QualityStore(Database(str(tmp_path / "ledger.duckdb"))), Lake(str(tmp_path / "lake"))
    windows = {BTC: WINDOW, ETH: WINDOW}
    noted = rows(finding("outlier", 12, 13))
    assert check_windows(store, lake, noted, {}, USUAL) == ()
    assert check_windows(store, lake, rows(), windows, USUAL) == ()
    (said,) = check_windows(store, lake, noted, windows, USUAL)
    assert "1 open finding, the worst (warning) is outlier" in said
    assert said.endswith("`python -m flows.market_data repair --market binance --symbol BTC/USDT --timeframe 1h` looks into it")
    assert not store.database.exists(), "asking writes nothing"

    store.record(BTC, (finding("outlier", 12, 13),), T0)
    store.settle(store.findings()["finding_id"], "explained", "a flash crash", T0)
    assert check_windows(store, lake, noted, windows, USUAL) == (), "what the table has settled is settled"


def test_a_dirty_window_is_refused_with_what_to_do_or_said_or_not_looked_at(tmp_path: Path) -> None:
    store, lake = QualityStore(Database(str(tmp_path / "ledger.duckdb"))), Lake(str(tmp_path / "lake"))
    store.record_all({BTC: (finding("outlier", 12, 13),), ETH: (finding("outlier", 12, 13),)}, T0)
    windows = {BTC: WINDOW, ETH: WINDOW}
    with pytest.raises(DirtyWindow, match=r"(?s)1 open finding.*1 more series.*repair --market binance.*--dry-run.*gate=warn"):
        check_windows(store, lake, rows(), windows, QualitySettings(gate="refuse"))
    assert len(check_windows(store, lake, rows(), windows, USUAL)) == 2
    assert check_windows(store, lake, rows(), windows, QualitySettings(gate="off")) == ()


# -- a notebook, a backtest, a paper account


def test_a_notebook_asks_of_the_lake_and_ledger_of_its_folder(workplace: Workplace) -> None:
    series = Series("sample", "BTC/USDT", "4h")
    verdict = is_clean(series)
    assert verdict.findings.is_empty()
    trade(account="demo", market="sample", symbols=["BTC/USDT"], until="2026-10-01", since="2026-08-01")
    start_ms = parse_utc("2026-09-01")
    QualityStore(Database(load_settings().store.url)).record(
        series, (Finding("outlier", "warning", start_ms, start_ms + 1, "as it is"),), T0
    )
    assert is_clean(series, "2026-08-02", "2026-09-01")
    assert not is_clean(series, "2026-08-02", "2026-09-02")
    assert is_clean(series).findings["kind"].to_list() == ["outlier"]


def test_what_was_refused_or_not_downloaded_does_not_count_once_it_is_there(tmp_path: Path) -> None:
    store, lake = QualityStore(Database(str(tmp_path / "ledger.duckdb"))), Lake(str(tmp_path / "lake"))
    bar, answer, hole = (
        finding("refused", 12, 13, "error"),
        finding("refused", 14, 18, "error"),
        finding("gap_not_downloaded", 14, 18),
    )
    store.record(BTC, (bar, answer, hole), T0)

    def counted() -> int:
        (verdict,) = judge_windows(store, lake, rows(), {BTC: WINDOW}, USUAL)
        return verdict.findings.height

    assert counted() == 3
    lake.put_chunk(BTC, hours(10, 12), Span(10 * HOUR_MS, 14 * HOUR_MS), "binance", T0)
    assert counted() == 3, "its span was answered, yet without the bar that was refused"
    lake.append(BTC, hours(12, 13), "binance", T0)
    assert counted() == 2
    lake.put_chunk(BTC, hours(14, 16), Span(14 * HOUR_MS, 18 * HOUR_MS), "binance", T0)
    assert counted() == 0


def test_a_backtest_says_what_is_known_against_its_candles_or_refuses_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> list[str]:
        async def whole() -> list[str]:
            context = BacktestContext(read_backtest(options(symbols=("BTC/USDT",))))
            try:
                await prepare(context)
            finally:
                await context.close()
            return [notice for notice in context.notices if "finding" in notice]

        with plain_tasks():
            return asyncio.run(whole())

    assert said() == []
    store, since_ms = QualityStore(Database(load_settings().store.url)), parse_utc("2026-03-02")
    series = Series("sample", "BTC/USDT", "4h")
    store.record(series, (Finding("outlier", "warning", since_ms, since_ms + 1, "as it is"),), T0)
    (notice,) = said()
    assert notice.startswith("sample BTC/USDT 4h, 2026-03-01 00:00 to 2026-06-01 00:00: 1 open finding")
    monkeypatch.setenv("CANDLEWICK_QUALITY__GATE", "refuse")
    with pytest.raises(DirtyWindow, match="1 open finding, the worst"):
        said()
    store.settle(store.findings()["finding_id"], "explained", "so it was", T0)
    assert said() == []


def test_a_paper_account_stops_at_dirty_bars_not_yet_decided_and_goes_on_once_they_are_settled(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def day(until: str) -> tuple[str, str | None, int]:
        result = trade(
            account="demo", market="sample", symbols=["BTC/USDT"], strategy="buy_and_hold", since="2026-08-01", until=until
        )
        return result.status, result.error, 0 if result.data is None else result.data.bars

    monkeypatch.setenv("CANDLEWICK_QUALITY__GATE", "refuse")
    assert day("2026-09-01")[:2] == ("success", None)
    series = Series("sample", "BTC/USDT", "4h")
    decided_ms, coming_ms = parse_utc("2026-08-10"), parse_utc("2026-09-01T04:00")
    note_findings(workplace.lake, series, [Finding("outlier", "warning", decided_ms, decided_ms + 1, "was decided on long ago")])
    assert day("2026-09-01T04:00") == ("success", None, 1), "a bar that was decided on stops nobody again"
    store = QualityStore(workplace.ledger.database)
    assert store.findings(kinds=["outlier"])["state"].to_list() == ["open"]

    note_findings(workplace.lake, series, [Finding("outlier", "warning", coming_ms, coming_ms + 1, "as it is")])
    status, error, _ = day("2026-09-02")
    assert status == "failure"
    assert error is not None
    assert "1 open finding, the worst (warning) is outlier at 2026-09-01 04:00" in error
    assert workplace.ledger.export_rows("demo")["runs"]["status"].to_list() == ["success", "success", "failure"]

    monkeypatch.setenv("CANDLEWICK_QUALITY__GATE", "warn")
    result = trade(account="demo", until="2026-09-02")
    assert (result.status, result.error) == ("success", None)
    assert result.data is not None
    assert [notice for notice in result.data.notices if "outlier at 2026-09-01 04:00" in notice]
