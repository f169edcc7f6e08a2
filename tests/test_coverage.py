"""Which times were asked for and answered: spans that are joined, cut and looked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlewick.errors import LakeError, UsageError
from candlewick.market_data.coverage import Coverage, Span
from candlewick.market_data.kinds import KINDS, TIMED_KINDS, DataSeries

spans = st.tuples(st.integers(0, 40), st.integers(1, 12)).map(lambda pair: Span(pair[0], pair[0] + pair[1]))


def times(coverage: Coverage) -> set[int]:
    return {time for span in coverage.spans for time in range(span.since_ms, span.until_ms)}


@given(st.lists(spans, max_size=8), spans)
def test_a_coverage_is_the_set_of_its_times_whatever_is_added_taken_away_or_asked_for(parts: list[Span], one: Span) -> None:
    coverage, asked = Coverage.of(parts), set(range(one.since_ms, one.until_ms))
    known = {time for span in parts for time in range(span.since_ms, span.until_ms)}
    assert times(coverage) == known
    assert times(coverage.with_span(one)) == known | asked
    assert times(coverage.without(one)) == known - asked
    assert times(Coverage(coverage.missing(one))) == asked - known
    assert times(Coverage(coverage.within(one))) == asked & known
    assert coverage.covers(one) == (asked <= known)


@given(st.lists(spans, max_size=8))
def test_spans_are_sorted_do_not_touch_and_survive_being_written_down(parts: list[Span]) -> None:
    coverage = Coverage.of(parts)
    assert all(first.until_ms < second.since_ms for first, second in zip(coverage.spans, coverage.spans[1:], strict=False))
    assert Coverage.from_text(coverage.to_text(), "here") == coverage


@pytest.mark.parametrize("text", ["", "{}x", "[[1]]", "[[5, 5]]", '[["a", 3]]', "7"])
def test_a_damaged_coverage_is_named(text: str) -> None:
    with pytest.raises(LakeError, match=r"BTC/coverage is damaged"):
        Coverage.from_text(text, "BTC/coverage")


@pytest.mark.parametrize("kind", KINDS)
def test_a_series_of_any_kind_is_found_again_by_its_part(kind: str) -> None:
    series = DataSeries("binance", "BTC/USDT", kind, "1h" if kind in TIMED_KINDS else "")  # type: ignore[arg-type]
    assert DataSeries.from_part("binance", "BTC/USDT", series.part) == series


def test_a_kind_takes_a_timeframe_only_where_it_has_one() -> None:
    with pytest.raises(UsageError, match="funding_rate of BTC/USDT needs no timeframe"):
        DataSeries("binance", "BTC/USDT", "funding_rate", "1h")
    with pytest.raises(UsageError, match="ohlcv of BTC/USDT needs a timeframe"):
        DataSeries("binance", "BTC/USDT")
