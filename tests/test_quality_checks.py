"""Checks of one series: defects planted into clean candles are found where they were planted, and nothing else is."""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from candlewick.candles import CANDLE_SCHEMA, Series, opened_at_ms
from candlewick.market_data.coverage import Coverage, Span
from candlewick.market_data.gold import resample_candles
from candlewick.quality.checks import check_series
from candlewick.quality.limits import CheckContext
from candlewick.quality.states import state_of
from candlewick.timeframes import DAY_MS
from candlewick.validation import Finding

HOUR_MS = 3_600_000
START_MS = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1000)
BARS = 600
SERIES = Series("market", "BTC/USDT", "1h")


def hours(seed: int = 7, bars: int = BARS) -> pl.DataFrame:
    """A random walk of clean hours: continuous, consistent, every bar traded."""
    chance = np.random.default_rng(seed)
    closes = 20_000 * np.exp(np.cumsum(chance.normal(0, 0.004, bars)))
    opens = np.append(20_000.0, closes[:-1])
    room = np.abs(chance.normal(0, 0.002, (2, bars)))
    return pl.DataFrame(
        {
            "opened_at": pl.Series(START_MS + HOUR_MS * np.arange(bars)).cast(CANDLE_SCHEMA["opened_at"]),
            "open": opens.round(2),
            "high": (np.maximum(opens, closes) * (1 + room[0])).round(2) + 0.01,
            "low": (np.minimum(opens, closes) * (1 - room[1])).round(2) - 0.01,
            "close": closes.round(2),
            "volume": chance.lognormal(3, 0.5, bars).round(3) + 0.001,
        },
        schema=dict(CANDLE_SCHEMA),
    )


def context(**more: object) -> CheckContext:
    return CheckContext(**{"series": SERIES, **more})  # type: ignore[arg-type]


def at(bar: int) -> int:
    return START_MS + bar * HOUR_MS


def put(frame: pl.DataFrame, bar: int, **values: float | None) -> pl.DataFrame:
    """The frame with other values in one bar."""
    here = pl.col("opened_at").dt.epoch("ms") == at(bar)
    return frame.with_columns(
        pl.when(here).then(pl.lit(value, dtype=pl.Float64)).otherwise(pl.col(name)).alias(name) for name, value in values.items()
    )


def told(findings: tuple[Finding, ...]) -> list[tuple[str, int, int]]:
    return [(one.kind, (one.span_start_ms - START_MS) // HOUR_MS, (one.span_end_ms - START_MS) // HOUR_MS) for one in findings]


# ------------------------------------------------------------------------------------------------- planted defects


def _spike(frame: pl.DataFrame, bar: int) -> pl.DataFrame:
    return put(frame, bar, high=frame["high"][bar] * 3, volume=20.0)


def _flat(frame: pl.DataFrame, bar: int) -> pl.DataFrame:
    close = frame["close"][bar - 1]
    return put(frame, bar, open=close, high=close, low=close, close=close, volume=0.0)


def _copy(frame: pl.DataFrame, bar: int) -> pl.DataFrame:
    return put(frame, bar, **{name: frame[name][bar - 30] for name in frame.columns[1:]})


def _late(frame: pl.DataFrame, bar: int) -> pl.DataFrame:
    time = pl.col("opened_at")
    return frame.with_columns(
        pl.when(time.dt.epoch("ms") == at(bar)).then(time.dt.offset_by("1m")).otherwise(time).alias("opened_at")
    )


def _twice(frame: pl.DataFrame, bar: int) -> pl.DataFrame:
    return pl.concat([frame[: bar + 1], frame[bar : bar + 1], frame[bar + 1 :]])


def _otherwise(frame: pl.DataFrame, bar: int) -> pl.DataFrame:
    return pl.concat([frame[: bar + 1], put(frame[bar : bar + 1], bar, close=frame["low"][bar]), frame[bar + 1 :]])


def _missing(frame: pl.DataFrame, bar: int) -> pl.DataFrame:
    return pl.concat([frame[:bar], frame[bar + 1 :]])


DEFECTS: dict[str, Callable[[pl.DataFrame, int], pl.DataFrame]] = {
    "outlier": _spike,
    "zero_volume": _flat,
    "repeated_candle": _copy,
    "off_grid": _late,
    "duplicate": _twice,
    "conflicting_duplicate": _otherwise,
    "gap": _missing,
    "not_finite": lambda frame, bar: put(frame, bar, close=float("nan")),
    "not_positive": lambda frame, bar: put(frame, bar, low=0.0),
    "high_low": lambda frame, bar: put(frame, bar, high=frame["low"][bar]),
}


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    kinds=st.lists(st.sampled_from(sorted(DEFECTS)), min_size=0, max_size=6),
    first=st.integers(60, 90),
    apart=st.integers(40, 80),
)
def test_planted_defects_are_found_exactly_where_they_were_planted(seed: int, kinds: list[str], first: int, apart: int) -> None:
    assume(sum(kind in ("gap", "zero_volume") for kind in kinds) <= 3)  # With more the market is a quiet one.
    frame = hours(seed)
    places = [first + apart * place for place in range(len(kinds))]
    for kind, bar in reversed(list(zip(kinds, places, strict=True))):  # From the end, so that rows before keep their places.
        frame = DEFECTS[kind](frame, bar)
    expected = [(kind, bar, bar + 1) for kind, bar in zip(kinds, places, strict=True)]
    assert told(check_series(frame, context())) == expected


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1_000))
def test_rows_in_any_order_are_told_as_that_and_checked_all_the_same(seed: int) -> None:
    frame = _spike(_missing(hours(seed), 200), 300)
    places = np.random.default_rng(seed).permutation(frame.height)
    findings = check_series(frame[places], context())
    assert [one for one in told(findings) if one[0] != "out_of_order"] == [("gap", 200, 201), ("outlier", 300, 301)]
    assert [one.kind for one in findings].count("out_of_order") == 1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1_000), bar=st.integers(4, BARS - 8), factor=st.floats(1.03, 1.5))
def test_a_coarser_bar_that_is_not_what_its_hours_make_is_found(seed: int, bar: int, factor: float) -> None:
    frame = hours(seed)
    coarse = resample_candles(frame, "1h", "4h")
    changed = put(frame, bar, volume=frame["volume"][bar] * factor + 1)
    (found,) = check_series(changed, context(coarser={"4h": coarse}))
    assert (found.kind, found.span_start_ms, found.span_end_ms) == ("resampling", at(bar // 4 * 4), at(bar // 4 * 4 + 4))
    (finer,) = check_series(coarse, CheckContext(series=Series("market", "BTC/USDT", "4h"), finer={"1h": changed}))
    assert (finer.kind, finer.span_start_ms) == ("resampling", at(bar // 4 * 4))


def test_other_columns_are_the_one_finding_and_no_rows_are_none() -> None:
    (found,) = check_series(hours().rename({"volume": "vol"}), context())
    assert (found.kind, found.severity) == ("schema", "error")
    (found,) = check_series(hours().with_columns(pl.col("open").cast(pl.Float32)), context())
    assert found.kind == "schema"
    assert check_series(hours()[:0], context()) == ()


def test_a_row_without_a_time_is_a_schema_finding() -> None:
    frame = hours(bars=20)
    timeless = frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 3).then(None).otherwise(pl.col("opened_at")).alias("opened_at")
    )
    (found,) = check_series(timeless, context())
    assert (found.kind, found.evidence) == ("schema", "1 row without an open time")


def test_a_negative_volume_is_not_positive_and_neighbours_make_one_finding() -> None:
    frame = put(put(hours(), 100, volume=-1.0), 101, volume=-2.0)
    (found,) = check_series(frame, context())
    assert told((found,)) == [("not_positive", 100, 102)]
    assert "2 bars; 2024-01-05 04:00: volume -1.0 is below 0" in found.evidence


def test_a_spike_with_a_rush_of_volume_is_taken_for_real() -> None:
    frame = _spike(hours(), 300)
    assert check_series(put(frame, 300, volume=2_000.0), context()) == ()


def test_a_move_that_stays_is_no_outlier_however_large() -> None:
    frame = hours()
    later = pl.int_range(pl.len()) > 300
    half = frame.with_columns(
        pl.when(later).then(pl.col(name) / 2).otherwise(pl.col(name)).alias(name) for name in frame.columns[1:5]
    )
    assert check_series(half, context()) == ()


# ------------------------------------------------------------------------------------------------- holes


def hole(first: int, bars: int, frame: pl.DataFrame | None = None) -> pl.DataFrame:
    frame = hours() if frame is None else frame
    times = opened_at_ms(frame)
    return frame.filter(pl.Series((times < at(first)) | (times >= at(first + bars))))


def test_what_is_not_covered_is_not_downloaded_whatever_others_say() -> None:
    coverage = Coverage.of([Span(at(0), at(100)), Span(at(104), at(BARS))])
    other = hours()
    findings = check_series(hole(98, 8), context(coverage=coverage, others={"other": other}))
    assert told(findings) == [("gap", 98, 100), ("gap_not_downloaded", 100, 104), ("gap", 104, 106)]
    assert [one.severity for one in findings] == ["error", "warning", "error"]
    assert "not from the market: other traded in 2 bars of it" in findings[0].evidence


def test_coverage_that_ends_inside_of_a_bar_leaves_that_bar_to_be_downloaded() -> None:
    coverage = Coverage.of([Span(at(0), at(100) + 60_000), Span(at(102) + 60_000, at(BARS))])
    assert told(check_series(hole(98, 8), context(coverage=coverage))) == [
        ("gap", 98, 100),
        ("gap_not_downloaded", 100, 103),
        ("gap", 103, 106),
    ]


def test_a_covered_hole_that_nothing_explains_stays_open() -> None:
    (found,) = check_series(hole(98, 2), context(coverage=Coverage.of([Span(at(0), at(BARS))])))
    assert (found.kind, found.severity, state_of(found)) == ("gap", "warning", "open")
    assert "the market has answered that there are none" in found.evidence


@pytest.mark.parametrize("finer_has_it", [True, False])
def test_a_finer_timeframe_tells_an_outage_from_bars_that_were_lost(finer_has_it: bool) -> None:
    coarse_series = Series("market", "BTC/USDT", "4h")
    coarse = resample_candles(hours(), "1h", "4h")
    lacking = coarse.filter(pl.col("opened_at").dt.epoch("ms") != at(200))
    finer = hours() if finer_has_it else hole(200, 4)
    (found,) = check_series(lacking, CheckContext(series=coarse_series, finer={"1h": finer}))
    assert (found.kind, found.severity) == (("gap", "error") if finer_has_it else ("gap_outage", "info"))


def test_another_exchange_that_was_silent_too_explains_nothing() -> None:
    other = hole(300, 5, hours(8))
    (found,) = check_series(hole(300, 5), context(others={"other": other}))
    assert found.kind == "gap"


def test_a_hole_longer_than_silences_are_is_open_in_a_quiet_market_too() -> None:
    frame = hours(bars=1_200)
    for bar in (300, 310, 700, 710):
        frame = hole(bar, 1, frame)
    frame = hole(400, 200, frame)
    kinds = {start: kind for kind, start, _ in told(check_series(frame, context()))}
    assert kinds == {300: "gap", 310: "gap", 400: "gap", 700: "gap", 710: "gap"}
    quiet = hole(330, 1, hole(340, 2, frame))
    kinds = {start: kind for kind, start, _ in told(check_series(quiet, context()))}
    assert kinds[310] == kinds[340] == "gap_no_trades"
    assert kinds[400] == "gap"


# ------------------------------------------------------------------------------------------------- other sources and time


def test_a_price_that_another_collector_of_the_exchange_does_not_have_is_an_error() -> None:
    frame = put(hours(), 300, high=hours()["high"][300] * 1.05)
    (found,) = check_series(frame, context(others={"twin": hours()}))
    assert (found.kind, found.severity, found.span_start_ms) == ("outlier", "error", at(300))


def test_the_last_bar_that_another_collector_continues_was_stored_too_early() -> None:
    last = BARS - 1
    whole = hours()
    early = put(whole, last, high=max(whole["open"][last], whole["close"][last]), volume=whole["volume"][last] / 2)
    (found,) = check_series(early, context(others={"twin": whole}))
    assert (found.kind, found.severity, found.span_start_ms) == ("partial_candle", "warning", at(last))
    assert check_series(whole, context(others={"twin": whole})) == ()


def test_bars_that_are_open_or_in_the_future_are_told_by_the_clock() -> None:
    findings = check_series(hours(), context(now_ms=at(BARS - 2) + 60_000))
    assert told(findings) == [("unclosed", BARS - 2, BARS - 1), ("future", BARS - 1, BARS)]


def test_a_series_is_stale_after_three_bars_and_the_finding_stays_the_same() -> None:
    assert check_series(hours(), context(now_ms=at(BARS + 3))) == ()
    (found,) = check_series(hours(), context(now_ms=at(BARS + 3) + 1))
    assert (found.kind, found.severity, found.span_start_ms) == ("stale", "warning", at(BARS))
    assert check_series(hours(), context(now_ms=at(BARS) + 30 * DAY_MS)) == (found,)


def test_more_than_a_thousand_silences_are_told_by_the_day() -> None:
    frame = hours(bars=4_800)
    silent = frame.with_columns(pl.when(pl.int_range(pl.len()) % 2 == 0).then(0.0).otherwise(pl.col("volume")).alias("volume"))
    findings = [one for one in check_series(silent, context()) if one.kind == "zero_volume"]
    assert len(findings) == 200
    assert sum(int(one.evidence.split()[0]) for one in findings) == 2_400
