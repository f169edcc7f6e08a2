"""Walking through pages, against a small exchange in memory whose history has holes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick.candles import FormingBar, opened_at_ms
from candlewick.errors import MarketUnavailable, UsageError
from candlewick.market.paging import CandleRow, PageWalk, parse_rows

MINUTE_MS = 60_000


def row(minute: int, volume: float = 1.0) -> CandleRow:
    return minute * MINUTE_MS, 1.0 + minute, 2.0 + minute, 0.5 + minute, 1.5 + minute, volume


def from_here_on(history: list[CandleRow], since_ms: int, limit: int) -> list[CandleRow]:
    return [r for r in history if r[0] >= since_ms][:limit]


def window_of_time(history: list[CandleRow], since_ms: int, limit: int) -> list[CandleRow]:
    return [r for r in history if since_ms <= r[0] < since_ms + limit * MINUTE_MS]


@pytest.mark.parametrize("answer", [from_here_on, window_of_time])
@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 120), max_size=100), st.integers(0, 130), st.integers(0, 8_000_000), st.integers(2, 40))
def test_a_walk_brings_every_closed_candle_once_whatever_the_gaps(answer, minutes, since, now_ms, page_limit):
    # The bar that contains now is always shown, as exchanges do that answer with the latest candles only.
    history = [row(minute) for minute in sorted(minutes | {now_ms // MINUTE_MS}) if minute * MINUTE_MS <= now_ms]
    walk = PageWalk("1m", since * MINUTE_MS, now_ms, page_limit)
    asked = 0
    while not walk.done:
        walk.take(answer(history, walk.cursor_ms, walk.limit))
        asked += 1
        assert asked <= 200
    expected = [r[0] for r in history if since * MINUTE_MS <= r[0] and r[0] + MINUTE_MS <= now_ms]
    assert opened_at_ms(walk.page().candles).tolist() == expected
    assert (walk.page().forming is not None) == (since * MINUTE_MS <= now_ms // MINUTE_MS * MINUTE_MS)


@given(st.integers(31, 40))
def test_an_exchange_that_always_gives_its_latest_candles_is_asked_once(since):
    walk = PageWalk("1m", since * MINUTE_MS, 40 * MINUTE_MS + 5, page_limit=10)
    walk.take([row(minute) for minute in range(31, 41)])
    assert walk.done
    assert opened_at_ms(walk.page().candles).tolist() == [minute * MINUTE_MS for minute in range(since, 40)]
    assert walk.page().forming == FormingBar(40 * MINUTE_MS, 41.0)


@given(st.integers(0, 30))
def test_candles_that_an_exchange_no_longer_keeps_are_not_taken_for_a_gap(since):
    latest = [row(minute) for minute in range(31, 41)]
    walk = PageWalk("1m", since * MINUTE_MS, 40 * MINUTE_MS + 5, page_limit=10)
    walk.take(latest)
    with pytest.raises(UsageError, match=r"keeps only the latest 10, from 1970-01-01 00:31 UTC on: start later"):
        walk.take(latest)


def test_a_young_market_is_not_taken_for_one_that_forgets():
    walk = PageWalk("1m", 0, 40 * MINUTE_MS + 5, page_limit=100)
    walk.take([row(minute) for minute in range(31, 41)])
    assert walk.page().candles.height == 9


def test_a_page_that_repeats_ends_the_walk_with_an_error_that_says_so():
    walk = PageWalk("1m", 0, 10 * MINUTE_MS, page_limit=3)
    page = [row(0), row(1), row(2)]
    walk.take(page)
    with pytest.raises(MarketUnavailable, match=r"from 1970-01-01 00:03 UTC on and repeated 3 old ones \(1970-01-01 00:00 to"):
        walk.take(page)


def test_an_old_page_is_no_error_when_only_the_forming_bar_is_missing():
    walk = PageWalk("1m", 3 * MINUTE_MS, 3 * MINUTE_MS + 5, page_limit=3)
    walk.take([row(0), row(1), row(2)])
    assert walk.done
    assert walk.page().candles.height == 0


def test_a_forming_bar_without_trades_has_no_open():
    walk = PageWalk("1m", 0, MINUTE_MS + 5, page_limit=5)
    walk.take([row(0), row(1, volume=0.0)])
    assert walk.page().forming is None


def test_a_forming_bar_that_traded_shows_its_open():
    walk = PageWalk("1m", 0, MINUTE_MS + 5, page_limit=5)
    walk.take([row(0), row(1)])
    assert walk.page().forming == FormingBar(MINUTE_MS, 2.0)


def test_a_short_page_up_to_the_last_closed_bar_is_not_asked_again():
    walk = PageWalk("1m", 0, 2 * MINUTE_MS + 5, page_limit=50)
    walk.take([row(0), row(1)])
    assert walk.done


@pytest.mark.parametrize("raw", ["<html>", {"a": 1}, None, [["x", 1, 2, 3, 4, 5]], [[0, 1, 2]], ["row"], [[0, "a", 1, 1, 1, 1]]])
def test_an_answer_that_is_no_list_of_candles_is_refused(raw):
    with pytest.raises(MarketUnavailable, match="answered with"):
        parse_rows(raw)


def test_missing_values_stay_in_their_row_as_not_a_number():
    (parsed,) = parse_rows([[5, 1, None, 3, 4, 5]])
    assert parsed[0] == 5
    assert parsed[2] != parsed[2]
