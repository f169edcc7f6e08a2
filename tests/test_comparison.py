"""Two sources of one market: what each lacks, how far apart they are, where they disagree, and what that comes to."""

from pathlib import Path

import polars as pl
import pytest

from candlewick.candles import PRICE_COLUMNS, empty_candles
from candlewick.errors import UsageError
from candlewick.quality.comparison import BarRun, volume_notes
from candlewick.quality.lag import shifts
from candlewick.quality.request import Comparing, Inspecting, ValidationOptions, candidates, read_validation
from candlewick.quality.thresholds import REASONS, Thresholds
from candlewick.quality.verdict import MAX_FINDINGS, Judgement, disagreement_findings
from candlewick.timeframes import DAY_MS
from tests.compared_markets import HOUR_MS, START_MS, changed, compared, elsewhere, judged, market
from tests.shared_data import real_candles

NO_LIMITS: dict[str, float | None] = {}


# ------------------------------------------------------------------------------------------------- real sources


def test_binance_and_bitstamp_are_apart_as_the_readme_of_the_data_says() -> None:
    found = compared(real_candles("binance_BTCUSDT_1h_2017-2024"), real_candles("bitstamp_BTCUSD_1h"))
    difference, lag = found.difference, found.lag
    assert difference is not None
    assert lag is not None
    assert (found.common_bars, found.only_other_bars, found.only_ours_bars) == (30_268, 87, 0)
    assert round(difference.median_bps, 1) == 9.9
    assert round(difference.max_bps) == 1_114
    assert sum(difference.histogram) == 30_268
    assert max(run.bars for run in found.only_other) == 10
    assert lag.best_bars == 0
    assert judged(found).verdict == "agree"
    assert len(volume_notes(found)) == 2  # its file has quote volume in a part of its rows, and base volume in the others


def test_two_collectors_of_one_exchange_are_identical() -> None:
    found = compared(real_candles("binance_BTCUSDT_1h_2017-2024"), real_candles("binance_BTCUSDT_1h"))
    assert (found.common_bars, found.identical_bars, found.missing_share) == (20_198, 20_198, 0.0)
    assert found.disagreements == ()
    assert judged(found).verdict == "agree"


def test_ten_days_of_another_collector_differ_in_volume_only_and_are_said_one_by_one() -> None:
    ours, other = real_candles("cdd-binance_BTCUSDT_1d"), real_candles("binance_BTCUSDT_1d")
    found = compared(ours, other, timeframe="1d")
    assert (found.common_bars, found.identical_bars, found.identical_price_bars) == (1_988, 1_978, 1_988)
    assert sum(one.bars for one in found.disagreements) == 10
    assert {(one.column, one.cause) for one in found.disagreements} == {("volume", "not_identical")}
    assert {finding.severity for finding in disagreement_findings(found, judged(found))} == {"info"}
    assert judged(found).verdict == "agree"


def test_the_years_of_doubt_about_tether_differ_and_bitcoin_is_no_ether() -> None:
    found = compared(real_candles("binance_BTCUSDT_1h_2017-2024"), real_candles("coinbase_BTCUSD_1h"))
    assert judged(found).verdict == "differ"
    assert judged(found, Thresholds(max_median_bps=40, max_p99_bps=600)).verdict == "agree"
    ether = compared(real_candles("binance_BTCUSDT_1h"), real_candles("binance_ETHUSDT_1h"))
    (finding,) = disagreement_findings(ether, judged(ether))
    assert finding.severity == "error"
    assert "another pair, currency or unit" in finding.evidence


# ------------------------------------------------------------------------------------------------- coverage


def test_bars_that_one_lacks_are_told_in_runs_within_the_common_span() -> None:
    whole = market(300)
    ours = whole.filter(~pl.int_range(pl.len()).is_in([5, 6, 7, 100]))
    other = elsewhere(whole)[:250].filter(pl.int_range(pl.len()) != 42)
    found = compared(ours, other)
    assert found.only_other == (BarRun(START_MS + 5 * HOUR_MS, START_MS + 8 * HOUR_MS, 3), _run(100, 1))
    assert found.only_ours == (_run(42, 1),)
    assert found.common_bars == 245
    assert found.missing_share == 5 / 250
    assert judged(found).verdict == "differ"
    assert "missing at binance" in judged(found).reasons[0]
    assert judged(found, Thresholds(max_missing_share=0.02)).verdict == "agree"


def _run(bar: int, bars: int) -> BarRun:
    return BarRun(START_MS + bar * HOUR_MS, START_MS + (bar + bars) * HOUR_MS, bars)


def test_sources_that_hardly_or_never_meet_are_unusable_and_no_finding() -> None:
    whole = market(400)
    for other in (elsewhere(whole).with_columns(pl.col("opened_at").dt.offset_by("380h")), elsewhere(whole)[:0]):
        found = compared(whole, other)
        assert judged(found).verdict == "unusable"
        assert "are needed to judge them" in judged(found).reasons[0]
        assert disagreement_findings(found, judged(found)) == ()
    assert compared(empty_candles(), empty_candles()).span is None


def test_sources_whose_bars_open_at_other_times_have_nothing_in_common() -> None:
    whole = market(200)
    found = compared(whole, elsewhere(whole).with_columns(pl.col("opened_at").dt.offset_by("30m")))
    assert found.common_bars == 0
    assert judged(found).verdict == "unusable"


# ------------------------------------------------------------------------------------------------- prices


def test_a_bad_print_is_an_outlier_and_a_premium_of_weeks_is_none() -> None:
    whole = market(1_000)
    bad = changed(elsewhere(whole), [500, 501], close=pl.col("close") * 1.01)
    (one,) = compared(whole, bad).disagreements
    assert (one.cause, one.bars, one.since_ms, one.column) == ("outlier", 2, START_MS + 500 * HOUR_MS, "close")
    assert -110 < one.difference_bps < -90
    assert one.z is not None
    assert one.z < -10
    premium = changed(elsewhere(whole), list(range(300, 700)), **{name: pl.col(name) * 1.01 for name in PRICE_COLUMNS})
    assert sum(one.bars for one in compared(whole, premium).disagreements) == 0


def test_a_hole_ends_a_run_of_disagreeing_bars() -> None:
    whole = market(1_000)
    bad = changed(elsewhere(whole), [500, 501, 502], close=pl.col("close") * 1.01)
    found = compared(whole.filter(pl.int_range(pl.len()) != 501), bad)
    assert [(one.since_ms, one.bars) for one in found.disagreements] == [
        (START_MS + 500 * HOUR_MS, 1),
        (START_MS + 502 * HOUR_MS, 1),
    ]


def test_a_close_far_away_counts_whatever_the_days_around_it() -> None:
    whole = market(600)
    apart = changed(elsewhere(whole), list(range(200, 400)), **{name: pl.col(name) * 1.06 for name in PRICE_COLUMNS})
    found = compared(whole, apart)
    assert found.disagreeing_bars == 200
    assert {one.cause for one in found.disagreements} <= {"beyond", "outlier"}
    assert judged(found).verdict == "differ"


def test_a_high_that_only_one_has_is_a_wick() -> None:
    whole = market(600)
    found = compared(changed(whole, [77], high=pl.col("high") * 1.05), elsewhere(whole))
    (one,) = found.disagreements
    assert (one.cause, one.column, one.at_ms) == ("wick", "high", START_MS + 77 * HOUR_MS)
    (finding,) = disagreement_findings(found, judged(found))
    assert finding.kind == "disagreement"
    assert finding.severity == "warning"
    assert f"{one.ours:.10g} here, {one.other:.10g} at bitstamp BTC/USD" in finding.evidence


def test_of_one_feed_every_bar_that_differs_counts() -> None:
    whole = market(2_000)
    other = changed(whole, [10, 11, 900], low=pl.col("low") * 0.9999)
    found = compared(whole, changed(other, [1_500], volume=pl.col("volume") + 1))
    assert found.is_same_feed
    assert [(one.bars, one.column) for one in found.disagreements] == [(2, "low"), (1, "low"), (1, "volume")]
    assert found.disagreeing_bars == 3


def test_volumes_that_differ_everywhere_are_no_findings() -> None:
    whole = market(500)
    assert compared(whole, whole.with_columns(pl.col("volume") * 3)).disagreements == ()


def test_only_the_largest_disagreements_become_rows() -> None:
    whole = market(2_000)
    marked = list(range(3, 2_000, 3))[: MAX_FINDINGS + 100]
    other = changed(elsewhere(whole), marked, low=pl.col("low") * (0.5 - pl.int_range(pl.len()) / 10_000))
    found = compared(whole, other)
    assert len(found.disagreements) == MAX_FINDINGS + 100
    rows = disagreement_findings(found, Judgement("differ", ()))
    assert len(rows) == MAX_FINDINGS
    assert rows[0].span_start_ms == START_MS + marked[100] * HOUR_MS
    assert list(rows) == sorted(rows, key=lambda row: row.span_start_ms)


# ------------------------------------------------------------------------------------------------- times and volumes


@pytest.mark.parametrize("shift", [-5, 1, 3, 24])
def test_a_shifted_source_is_found_and_unusable(shift: int) -> None:
    whole = market(1_000)
    other = elsewhere(whole).with_columns(pl.col("opened_at").dt.offset_by(f"{shift}h"))
    found = compared(whole, other)
    assert found.lag is not None
    assert found.lag.best_bars == shift
    assert judged(found).verdict == "unusable"
    (finding,) = disagreement_findings(found, judged(found))
    late = "late" if shift > 0 else "early"
    assert f"bitstamp is {abs(shift)} bar{'' if abs(shift) == 1 else 's'} {late} against binance" in finding.evidence


def test_neither_holes_nor_a_monstrous_print_hide_a_shift() -> None:
    whole = market(1_000)
    holes = whole.filter(pl.int_range(pl.len()) % 50 > 3)
    monstrous = changed(elsewhere(whole), [310], close=pl.col("close") * 100)
    found = compared(holes, monstrous.with_columns(pl.col("opened_at").dt.offset_by("2h")))
    assert found.lag is not None
    assert found.lag.best_bars == 2


def test_a_time_zone_is_tried_in_every_timeframe_it_can_shift() -> None:
    assert {60 * hours for hours in range(1, 25)} < set(shifts(60_000))
    assert 8 in shifts(HOUR_MS)
    assert 32 in shifts(15 * 60_000)
    assert shifts(DAY_MS)[-1] == 5


def test_a_market_that_does_not_move_has_no_shift() -> None:
    flat = market(200).with_columns(pl.lit(100.0).alias(name) for name in PRICE_COLUMNS)
    assert compared(flat, flat).lag is None
    assert judged(compared(flat, flat)).verdict == "agree"


def test_volume_in_quote_currency_is_said() -> None:
    whole = market(500).with_columns(pl.col(name) * 200 for name in PRICE_COLUMNS)
    other = elsewhere(whole)
    assert volume_notes(compared(whole, other)) == ()
    (note,) = volume_notes(compared(whole, other.with_columns(pl.col("volume") * pl.col("close"))))
    assert "bitstamp BTC/USD seems to be in quote currency" in note
    (swapped,) = volume_notes(compared(whole, changed(other, list(range(150)), volume=pl.col("volume") * pl.col("close"))))
    assert "swapped in a part" in swapped


def test_a_source_without_volume_has_no_ratio() -> None:
    whole = market(200)
    volume = compared(whole, elsewhere(whole).with_columns(volume=pl.lit(0.0))).volume
    assert volume is not None
    assert (volume.median, volume.other_zero_share) == (None, 1.0)


# ------------------------------------------------------------------------------------------------- what is asked


def test_a_comparison_needs_to_know_what_to_compare() -> None:
    with pytest.raises(UsageError, match="needs --symbol and --timeframe"):
        read_validation(ValidationOptions(market="binance", against="bitstamp", limits=NO_LIMITS))
    with pytest.raises(UsageError, match="--max-median-bps belongs to a comparison"):
        read_validation(ValidationOptions(limits={"max_median_bps": 3}))
    with pytest.raises(UsageError, match="compared with itself"):
        read_validation(_asked(against="binance"))
    with pytest.raises(UsageError, match="is not a bar of 1h after"):
        read_validation(_asked(since="2024-01-02", until="2024-01-02"))
    with pytest.raises(UsageError, match="--max-median-bps -1 is below 0"):
        read_validation(_asked(limits={"max_median_bps": -1}))
    asked = read_validation(_asked(limits={"max_median_bps": 7, "max_p99_bps": None}))
    assert isinstance(asked, Comparing)
    assert (asked.limits.max_median_bps, asked.limits.max_p99_bps) == (7, Thresholds().max_p99_bps)
    assert isinstance(read_validation(ValidationOptions(limits=NO_LIMITS)), Inspecting)


def _asked(
    against: str = "bitstamp", since: str | None = None, until: str | None = None, limits: dict[str, float | None] | None = None
) -> ValidationOptions:
    return ValidationOptions(
        market="binance", against=against, symbol="BTC/USDT", timeframe="1h", since=since, until=until, limits=limits or NO_LIMITS
    )


def test_another_dollar_is_tried_and_a_perpetual_has_only_itself() -> None:
    assert candidates("BTC/USD") == ("BTC/USD", "BTC/USDT", "BTC/USDC", "BTC/BUSD")
    assert candidates("BTC/USDT:USDT") == ("BTC/USDT:USDT",)


def test_every_threshold_has_a_reason() -> None:
    assert set(REASONS) == set(Thresholds.__dataclass_fields__)


def test_the_data_page_says_every_threshold_with_its_value_and_reason() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    for name, reason in REASONS.items():
        value: float = getattr(Thresholds(), name)
        text = f"{value:.0%}" if name.endswith(("share", "overlap")) else f"{value:,g}"
        assert f"| `{name}` | {text} | {reason} |" in page
