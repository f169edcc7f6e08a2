"""Single rules of the checks at their limits: what is just enough for a finding, and what is not."""

import polars as pl

from candlewick.candles import opened_at_ms
from candlewick.market_data.gold import resample_candles
from candlewick.quality.checks import check_series
from tests.test_quality_checks import BARS, at, context, hole, hours, put, told


def with_volume(coarse: pl.DataFrame, start_ms: int, factor: float) -> pl.DataFrame:
    here = pl.col("opened_at").dt.epoch("ms") == start_ms
    return coarse.with_columns(volume=pl.when(here).then(pl.col("volume") * factor).otherwise("volume"))


def test_a_coarser_bar_with_a_little_more_volume_neither_explains_a_hole_nor_contradicts_it() -> None:
    frame = hole(101, 1)
    coarse = resample_candles(frame, "1h", "4h")
    assert told(check_series(frame, context(coarser={"4h": coarse}))) == [("gap_outage", 101, 102)]
    (found,) = check_series(frame, context(coarser={"4h": with_volume(coarse, at(100), 1.005)}))
    assert (found.kind, found.severity) == ("gap", "warning")
    (found,) = check_series(frame, context(coarser={"4h": with_volume(coarse, at(100), 1.02)}))
    assert (found.kind, found.severity) == ("gap", "error")


def test_a_coarse_bar_of_which_hours_are_missing_is_told_as_a_hole_alone() -> None:
    (found,) = check_series(hole(101, 1), context(coarser={"4h": resample_candles(hours(), "1h", "4h")}))
    assert (found.kind, found.severity) == ("gap", "error")


def test_silences_that_are_all_longer_than_a_bar_make_no_quiet_market() -> None:
    frame = hours()
    for bar in (300, 310, 320, 330, 340):
        frame = hole(bar, 2, frame)
    assert {one.kind for one in check_series(frame, context())} == {"gap"}


def test_bars_whose_volume_is_not_known_are_no_silences() -> None:
    frame = hole(330, 1)
    for bar in (300, 310, 320):
        frame = put(frame, bar, volume=None)
    kinds = [one.kind for one in check_series(frame, context())]
    assert kinds == ["not_finite", "not_finite", "not_finite", "gap"]


def test_the_close_of_the_last_bar_may_still_come_back_and_is_no_outlier() -> None:
    frame = hours()
    low = frame["close"][BARS - 1] * 0.7
    assert check_series(put(frame, BARS - 1, close=low, low=low, volume=20.0), context()) == ()


def test_a_silent_bar_that_another_collector_tells_as_well_is_the_exchanges_own() -> None:
    close = hours()["close"][104]
    frame = put(hours(), 105, open=close, high=close, low=close, close=close, volume=0.0)
    coarse = with_volume(resample_candles(frame, "1h", "4h"), at(104), 1.5)
    kinds = {one.kind for one in check_series(frame, context(coarser={"4h": coarse}))}
    assert kinds == {"invented_candle", "resampling"}
    kinds = {one.kind for one in check_series(frame, context(coarser={"4h": coarse}, others={"twin": frame}))}
    assert kinds == {"zero_volume", "resampling"}


def test_volumes_that_turn_into_quote_currency_and_stay_so_are_told_to_the_end() -> None:
    later = pl.int_range(pl.len()) >= 300
    frame = hours().with_columns(volume=pl.col("volume") * pl.when(later).then(pl.col("close")).otherwise(1.0))
    (found,) = check_series(frame, context())
    assert told((found,)) == [("volume_level", 300, BARS)]
    assert found.evidence.startswith("300 bars with the volume in quote currency")
    (found,) = check_series(frame, context(others={"twin": hours()}))
    assert told((found,)) == [("volume_level", 300, BARS)]
    assert found.evidence == "300 bars have the volume of twin times the price: it is in quote currency"


def test_a_volume_that_jumps_by_something_else_than_the_price_is_told_at_the_jump() -> None:
    later = pl.int_range(pl.len()) >= 300
    frame = hours().with_columns(volume=pl.col("volume") * pl.when(later).then(300.0).otherwise(1.0))
    assert told(check_series(frame, context())) == [("volume_level", 300, 301)]


def test_a_bar_that_opens_this_moment_is_open_and_not_in_the_future() -> None:
    assert told(check_series(hours(), context(now_ms=at(BARS - 1)))) == [("unclosed", BARS - 1, BARS)]


def test_a_coarser_bar_that_is_rounded_is_a_warning_and_one_that_is_wrong_an_error() -> None:
    coarse = resample_candles(hours(), "1h", "4h")
    changed = with_volume(with_volume(coarse, at(100), 1.0002), at(200), 1.1)
    findings = check_series(hours(), context(coarser={"4h": changed}))
    assert [(one.kind, one.severity, one.span_start_ms) for one in findings] == [
        ("resampling", "warning", at(100)),
        ("resampling", "error", at(200)),
    ]


def test_a_bar_is_told_once_by_the_first_thing_that_is_wrong_with_it() -> None:
    (found,) = check_series(put(hours(), 100, high=-5.0), context())
    assert (found.kind, found.evidence) == ("not_positive", "1 bar; 2024-01-05 04:00: high -5.0 is not above 0")


def test_conflicting_rows_no_more_than_a_day_apart_are_one_finding_that_counts_them() -> None:
    frame = hours()
    again = frame[[100, 110, 120, 200]].with_columns(volume=pl.col("volume") + 1)
    findings = check_series(pl.concat([frame, again]).sort("opened_at", maintain_order=True), context())
    assert told(findings) == [("conflicting_duplicate", 100, 121), ("conflicting_duplicate", 200, 201)]
    assert findings[0].evidence.startswith("3 bars more than once with the same prices and another volume")
    assert {one.severity for one in findings} == {"warning"}


def test_an_empty_or_short_frame_beside_anything_is_checked_without_an_error() -> None:
    nothing = hours()[:0]
    for rows in (1, 2, 5):
        frame = hours()[:rows]
        assert check_series(frame, context(coarser={"4h": nothing}, finer={"15m": nothing}, others={"other": nothing})) == ()
        assert check_series(frame, context(coarser={"1w": hours()[:1]}, others={"itself": frame})) == ()
    broken = hours()[:5].with_columns(close=pl.lit(None, dtype=pl.Float64))
    assert [one.kind for one in check_series(broken, context(others={"other": hours()}))] == ["not_finite"]
    assert opened_at_ms(nothing).size == 0
