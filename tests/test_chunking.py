"""Chunks of a download, how far it is, and rows that are left out of an answer."""

from datetime import UTC, datetime
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlewick.candles import CANDLE_SCHEMA, Series
from candlewick.errors import InvalidCandles, UsageError
from candlewick.market_data.chunking import LEAST_BARS, MOST_BARS, ChunkSize, closed_span, first_size, next_chunk
from candlewick.market_data.coverage import Span
from candlewick.market_data.progress import Progress
from candlewick.market_data.refusing import refuse_rows
from candlewick.timeframes import timeframe_ms
from candlewick.validation import validate_candles

HOUR_MS = 3_600_000
SERIES = Series("binance", "BTC/USDT", "1h")


@given(
    st.sampled_from(["1m", "5m", "1h", "4h", "1d", "1w"]),
    st.integers(1, 400_000),
    st.lists(st.booleans(), max_size=60),
)
def test_chunks_follow_each_other_without_a_hole_whatever_the_exchange_answers(
    timeframe: str, bars: int, answers: list[bool]
) -> None:
    length_ms = timeframe_ms(timeframe)
    left, size, chunks = Span(0, bars * length_ms), first_size("adaptive", timeframe), []
    for smooth in [*answers, *[True] * 400]:
        chunks.append(next_chunk(left, timeframe, size))
        assert LEAST_BARS <= size.bars <= MOST_BARS
        size = size.after(smooth=smooth)
        if chunks[-1].until_ms == left.until_ms:
            break
        left = Span(chunks[-1].until_ms, left.until_ms)
    assert chunks[0].since_ms == 0
    assert chunks[-1].until_ms == bars * length_ms
    assert all(one.until_ms == other.since_ms for one, other in pairwise(chunks))


def test_a_chunk_of_minutes_is_a_week_and_one_of_days_holds_all_there_is() -> None:
    assert first_size("adaptive", "1m").bars == 7 * 24 * 60
    assert first_size("adaptive", "1d").bars * timeframe_ms("1d") > 25 * 365 * 86_400_000


def test_an_adaptive_chunk_halves_to_its_least_and_doubles_to_its_most_and_a_fixed_one_stays() -> None:
    size = ChunkSize("adaptive", 10_000)
    for _ in range(9):
        size = size.after(smooth=False)
    assert (size.bars, size.is_least) == (LEAST_BARS, True)
    for _ in range(9):
        size = size.after(smooth=True)
    assert size.bars == MOST_BARS
    assert first_size("fixed", "1m", 777).after(smooth=False) == ChunkSize("fixed", 777)


@pytest.mark.parametrize(("strategy", "bars"), [("clever", None), ("fixed", 0), ("fixed", MOST_BARS + 1), ("adaptive", 5)])
def test_an_impossible_chunk_is_refused(strategy: str, bars: int | None) -> None:
    with pytest.raises(UsageError):
        first_size(strategy, "1m", bars)


def test_only_closed_bars_of_the_grid_are_wanted() -> None:
    assert closed_span(1, 3 * HOUR_MS + 5, "1h") == Span(HOUR_MS, 3 * HOUR_MS)
    assert closed_span(HOUR_MS, 2 * HOUR_MS - 1, "1h") is None


def test_the_time_left_follows_the_span_that_is_done() -> None:
    progress = Progress(started_s=100.0)
    progress.expect((Span(0, 30), Span(50, 60)))
    assert progress.left_s(105.0) is None
    progress.advance("binance BTC/USDT 1h", Span(0, 10), 1_000, 1)
    assert progress.left_s(110.0) == pytest.approx(30.0)
    assert progress.text(110.0) == "1,000 rows, 25%, 100 rows/s, 30 s left, binance BTC/USDT 1h until 1970-01-01 00:00"
    progress.skip(30)
    assert progress.share == 1.0
    assert "left" not in progress.text(111.0)


def candles(*rows: tuple[int, float, float, float, float, float]) -> pl.DataFrame:
    return pl.DataFrame(
        [(datetime.fromtimestamp(row[0] * 3600, UTC), *row[1:]) for row in rows], schema=dict(CANDLE_SCHEMA), orient="row"
    )


GOOD = (10, 5.0, 6.0, 4.0, 5.5, 1.0)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ((11, float("nan"), 6.0, 4.0, 5.5, 1.0), "no finite number"),
        ((11, 5.0, 6.0, 0.0, 5.5, 1.0), "not above 0"),
        ((11, 5.0, 6.0, 4.0, 5.5, -1.0), "below 0"),
        ((11, 5.0, 5.2, 4.0, 5.5, 1.0), "the high is below"),
        ((11.5, 5.0, 6.0, 4.0, 5.5, 1.0), "grid"),
    ],
)
def test_one_row_that_cannot_be_trusted_is_left_out_and_named(bad: tuple[int, ...], why: str) -> None:
    whole = candles(GOOD, bad, (12, *GOOD[1:5], 2.0))  # type: ignore[arg-type]
    with pytest.raises(InvalidCandles):
        validate_candles(whole, SERIES, 10**12)
    kept, (finding,) = refuse_rows(whole, SERIES)
    assert kept.height == 2
    assert why in finding.evidence
    assert (finding.kind, finding.severity, finding.span_end_ms - finding.span_start_ms) == ("refused", "error", HOUR_MS)
    assert validate_candles(kept, SERIES, 10**12).candles.equals(kept)


def test_of_two_different_rows_for_one_time_neither_is_kept_and_of_two_equal_ones_both_are() -> None:
    whole = candles(GOOD, (11, 5.0, 6.0, 4.0, 5.5, 1.0), (11, 5.0, 6.0, 4.0, 5.0, 1.0), (12, *GOOD[1:]), (12, *GOOD[1:]))
    kept, (finding,) = refuse_rows(whole, SERIES)
    assert [moment.hour for moment in kept["opened_at"]] == [10, 12, 12]
    assert "twice with different content" in finding.evidence
