"""The real defects that were published with candles, and the real outages of an exchange, are found, counted and classified."""

from collections import Counter
from collections.abc import Mapping, Sequence

import polars as pl
import pytest

from candlewick.candles import Series
from candlewick.quality.checks import check_series
from candlewick.quality.limits import CheckContext
from candlewick.timeframes import parse_utc, timeframe_ms
from candlewick.validation import Finding
from tests import defect_files
from tests.shared_data import SHARED, real_candles

HOUR_MS = 3_600_000
QUIET_HOUR_MS = parse_utc("2023-03-24 12:00")

# Files in `candles` that carry defects which the README says of their exchange's other file, or which are told here first.
SWAPPED_TOO = {"bitstamp_BTCUSD_1h": 20_143, "bitstamp_BTCUSD_1d": 1_180}  # Bars with a volume above 0.
REPEATED_TOO = {"coinbase_BTCUSD_1h"}
COARSER = {"1m": ("5m", "15m_2025Q3"), "5m": ("15m_2025Q3",), "15m": ("1h", "4h", "1d"), "1h": ("4h", "1d"), "4h": ("1d",)}


def context(
    timeframe: str, coarser: Mapping[str, pl.DataFrame] | None = None, others: Mapping[str, pl.DataFrame] | None = None
) -> CheckContext:
    return CheckContext(series=Series("market", "BTC/USDT", timeframe), coarser=coarser or {}, others=others or {})


def count(findings: Sequence[Finding], kind: str, severity: str | None = None) -> int:
    """Bars or rows that the evidence of all findings of a kind counts."""
    told = [one for one in findings if one.kind == kind and severity in (None, one.severity)]
    return sum(int(one.evidence.split()[0]) for one in told)


def kinds(findings: Sequence[Finding]) -> Counter[str]:
    return Counter(one.kind for one in findings)


def only(findings: Sequence[Finding], kind: str) -> Finding:
    (finding,) = [one for one in findings if one.kind == kind]
    return finding


def real_names() -> list[str]:
    return sorted(path.stem for path in (SHARED / "data" / "candles").glob("*.parquet"))


def timeframe_of(name: str) -> str:
    return next(part for part in name.split("_") if part[0].isdigit() and part[-1] in "mhd")


def coarser_of(name: str) -> dict[str, pl.DataFrame]:
    """The exchange's own coarser bars of the same pair, where a file has them."""
    exchange, pair = name.split("_")[:2]
    names = {other.split("_")[0]: f"{exchange}_{pair}_{other}" for other in COARSER.get(timeframe_of(name), ())}
    return {timeframe: real_candles(other) for timeframe, other in names.items() if other in real_names()}


# ------------------------------------------------------------------------------------------------- clean series


@pytest.mark.parametrize("name", real_names())
def test_a_clean_series_raises_nothing_but_holes_that_nothing_else_explains(name: str) -> None:
    findings = check_series(real_candles(name), context(timeframe_of(name)))
    remarkable = [one for one in findings if one.severity != "info" and one.kind != "gap"]
    if name in SWAPPED_TOO:
        assert {one.kind for one in remarkable} == {"volume_level"}
        assert count(findings, "volume_level") == SWAPPED_TOO[name]
    elif name in REPEATED_TOO:
        assert [one.kind for one in remarkable] == ["repeated_candle"]
    else:
        assert remarkable == []


@pytest.mark.parametrize("name", [name for name in real_names() if coarser_of(name) and name not in SWAPPED_TOO])
def test_a_clean_series_agrees_with_its_coarser_bars_and_they_explain_its_holes(name: str) -> None:
    findings = check_series(real_candles(name), context(timeframe_of(name), coarser=coarser_of(name)))
    remarkable = [one for one in findings if one.severity != "info"]
    # The README's hour: flat, without volume, and at another price than the 4h bar that begins with it.
    assert [one for one in remarkable if (one.kind, one.span_start_ms) != ("invented_candle", QUIET_HOUR_MS)] == []


@pytest.mark.parametrize("name", real_names())
def test_gaps_and_silent_bars_of_real_series_are_as_many_as_the_readme_counts(name: str) -> None:
    told = (SHARED / "data" / "README.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in told if line.startswith(f"| {name}.parquet"))
    gaps, missing, silent = (int(cell) for cell in row.split("|")[8:11])
    findings = check_series(real_candles(name), context(timeframe_of(name)))
    holes = [one for one in findings if one.kind.startswith("gap")]
    assert (len(holes), sum(one.span_end_ms - one.span_start_ms for one in holes) // timeframe_ms(timeframe_of(name))) == (
        gaps,
        missing,
    )
    assert count(findings, "zero_volume") == silent


# ------------------------------------------------------------------------------------------------- outages


def test_the_28_holes_of_seven_years_are_outages_because_the_4h_bars_saw_no_more_trades() -> None:
    hours = real_candles("binance_BTCUSDT_1h_2017-2024")
    findings = check_series(hours, context("1h", coarser={"4h": real_candles("binance_BTCUSDT_4h")}))
    assert kinds(findings) == {"gap_outage": 28, "zero_volume": 3, "invented_candle": 1}
    assert count(findings, "gap_outage") == 128


def test_another_exchange_that_traded_makes_a_hole_an_outage_and_its_own_span_alone() -> None:
    hours, other = real_candles("binance_BTCUSDT_1h_2017-2024"), real_candles("bitstamp_BTCUSD_1h")
    findings = check_series(hours, context("1h", others={"bitstamp": other}))
    first, last = (int(time.timestamp() * 1000) for time in (other["opened_at"][0], other["opened_at"][-1]))
    holes = [one for one in findings if one.kind.startswith("gap")]
    assert {one.kind for one in holes if first <= one.span_start_ms <= last} == {"gap_outage"}
    assert {one.kind for one in holes if not first <= one.span_start_ms <= last} == {"gap"}
    assert kinds(holes) == {"gap_outage": 24, "gap": 4}


def test_hours_that_the_4h_bar_traded_in_are_missing_from_ours_and_no_outage() -> None:
    hours = real_candles("binance_BTCUSDT_1h")
    lost = hours.filter(~pl.col("opened_at").is_between(hours["opened_at"][100], hours["opened_at"][102]))
    findings = check_series(lost, context("1h", coarser={"4h": real_candles("binance_BTCUSDT_4h")}))
    gaps = [one for one in findings if one.kind == "gap"]
    assert [(one.severity, one.span_end_ms - one.span_start_ms) for one in gaps] == [("error", 3 * HOUR_MS)]


def test_the_flat_hour_of_2023_03_24_is_invented_because_the_4h_bar_opens_at_another_price() -> None:
    hours = real_candles("binance_BTCUSDT_1h")
    found = only(check_series(hours, context("1h", coarser={"4h": real_candles("binance_BTCUSDT_4h")})), "invented_candle")
    assert (found.span_start_ms, found.severity) == (QUIET_HOUR_MS, "warning")


def test_a_crash_of_one_exchange_alone_with_a_rush_of_volume_is_a_fact() -> None:
    """Bitstamp, 2019-05-17: one order took the price 11 % down; the largest difference of the README."""
    findings = check_series(
        real_candles("binance_BTCUSDT_1h_2017-2024"), context("1h", others={"bitstamp": real_candles("bitstamp_BTCUSD_1h")})
    )
    found = only(findings, "outlier")
    assert (found.span_start_ms, found.severity) == (parse_utc("2019-05-17 03:00"), "info")


# ------------------------------------------------------------------------------------------------- published defects


def test_rows_told_twice_are_counted_by_what_differs() -> None:
    findings = check_series(defect_files.mixed_units_and_duplicates(), context("1h"))
    assert count(findings, "conflicting_duplicate", "error") == 1_442
    assert count(findings, "conflicting_duplicate", "error") + count(findings, "conflicting_duplicate", "warning") == 2_649


def test_a_first_open_that_no_neighbour_knows_is_an_outlier_even_with_nothing_beside_it() -> None:
    found = only(check_series(defect_files.mixed_units_and_duplicates(), context("1h")), "outlier")
    assert (found.span_start_ms, found.severity) == (parse_utc("2017-08-17 04:00"), "warning")
    assert "open 16199.91 beside 4308.83 after" in found.evidence


def test_another_collector_of_the_exchange_tells_true_prices_invented_bars_and_the_partial_end() -> None:
    truth = real_candles("binance_BTCUSDT_1h_2017-2024")
    findings = check_series(defect_files.mixed_units_and_duplicates(), context("1h", others={"truth": truth}))
    first = next(one for one in findings if one.kind == "outlier")
    assert "open 16199.91 where truth has 4261.48" in first.evidence
    invented = [one for one in findings if one.kind == "invented_candle"]
    assert count([one for one in invented if "has no such bar" in one.evidence], "invented_candle") == 109
    assert count([one for one in invented if "traded there" in one.evidence], "invented_candle") == 5
    assert only(findings, "partial_candle").span_start_ms == parse_utc("2021-06-10 00:00")


def test_bars_invented_inside_an_outage_are_found_by_the_4h_bars_alone() -> None:
    """All but one (2017-09-06, where the 4h bar is as silent): a 4h bar is absent there, opens elsewhere, or traded more."""
    bars, coarse = defect_files.mixed_units_and_duplicates(), real_candles("binance_BTCUSDT_4h")
    truth = real_candles("binance_BTCUSDT_1h_2017-2024")["opened_at"]
    findings = [one for one in check_series(bars, context("1h", coarser={"4h": coarse})) if one.kind == "invented_candle"]
    times = bars.filter(~pl.col("opened_at").is_in(truth.implode()))["opened_at"].dt.epoch("ms").to_list()
    assert len(times) == 109
    assert sum(any(one.span_start_ms <= time < one.span_end_ms for one in findings) for time in times) >= 100


def test_rows_out_of_order_and_one_candle_at_two_hours() -> None:
    findings = check_series(defect_files.out_of_order(), context("1h"))
    assert only(findings, "out_of_order").evidence == "rows come newest first, 5 rows of 20111 out of order"
    repeated = only(findings, "repeated_candle")
    assert parse_utc("2017-11-12") <= repeated.span_start_ms < repeated.span_end_ms <= parse_utc("2017-11-13")
    assert count(findings, "zero_volume") == 28


def test_days_that_do_not_open_at_midnight_a_price_of_zero_and_days_without_trades() -> None:
    findings = check_series(defect_files.off_the_grid(), context("1d"))
    assert count(findings, "off_grid") == 2_811
    assert count(findings, "zero_volume") == 23
    zero = only(findings, "not_positive")
    assert (zero.span_start_ms, zero.severity) == (parse_utc("2015-10-08 04:00"), "error")
    assert "open 0.0 is not above 0, low 0.0 is not above 0" in zero.evidence


def test_swapped_volumes_are_found_bar_by_bar() -> None:
    findings = [one for one in check_series(defect_files.swapped_volume(), context("1h")) if one.kind == "volume_level"]
    spans = [(one.span_start_ms, one.span_end_ms) for one in findings]
    assert spans == [
        (parse_utc("2018-05-15 06:00"), parse_utc("2019-03-03 01:00")),
        (parse_utc("2019-04-13 17:00"), parse_utc("2020-10-12 09:00")),
    ]
    assert count(findings, "volume_level") == 20_143


def test_a_quiet_market_has_bars_without_trades() -> None:
    findings = check_series(defect_files.gappy(), context("5m"))
    assert kinds(findings) == {"gap_no_trades": 5}
    assert count(findings, "gap_no_trades") == 40
