"""Walking through pages, against a small exchange in memory whose history has holes."""

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick.candles import FormingBar, opened_at_ms
from candlewick.errors import CandlesNotKept, MarketUnavailable
from candlewick.market.paging import Answers, CandleRows, PageManners, PageWalk, parse_rows

MINUTE_MS = 60_000


def rows(minutes: Iterable[int], volume: float = 1.0) -> CandleRows:
    """A candle for each minute, in their order."""
    table = [(m * MINUTE_MS, 1.0 + m, 2.0 + m, 0.5 + m, 1.5 + m, volume) for m in minutes]
    return np.array(table, dtype=np.float64).reshape(-1, 6)


def walk_over(since: int, now_ms: int, page_limit: int, answers: Answers = "unknown") -> PageWalk:
    return PageWalk("1m", since * MINUTE_MS, now_ms, PageManners(page_limit, answers, newest_first=answers == "window"))


class Onwards:
    """Gives the first candles from a time on, as Binance does."""

    answers: Answers = "onwards"

    def __init__(self, minutes: set[int], page_limit: int) -> None:
        self.minutes, self.page_limit = sorted(minutes), page_limit

    def answer(self, since_ms: int, limit: int) -> CandleRows:
        return rows([m for m in self.minutes if m * MINUTE_MS >= since_ms][:limit])


class Window(Onwards):
    """Gives the candles of a window of time, newest first, as Coinbase does."""

    answers: Answers = "window"

    def answer(self, since_ms: int, limit: int) -> CandleRows:
        return rows([m for m in reversed(self.minutes) if since_ms <= m * MINUTE_MS < since_ms + limit * MINUTE_MS])


class Latest(Onwards):
    """Gives its newest candles whatever is asked, as Kraken does."""

    answers: Answers = "latest"

    def answer(self, since_ms: int, limit: int) -> CandleRows:
        return rows(self.minutes[-self.page_limit :])


def finish(walk: PageWalk, exchange: Onwards, hiccups: frozenset[int] = frozenset()) -> int:
    """Walk to the end; how many questions it took. The exchange answers the questions of these numbers with nothing."""
    asked = 0
    while not walk.done:
        walk.take(rows([]) if asked in hiccups else exchange.answer(walk.cursor_ms, walk.limit))
        asked += 1
        assert asked <= 600
    return asked


@pytest.mark.parametrize("is_known", [True, False], ids=["manners known", "manners unknown"])
@pytest.mark.parametrize("kind", [Onwards, Window])
@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 120), max_size=100), st.integers(0, 130), st.integers(0, 8_000_000), st.integers(3, 40), st.data())
def test_a_walk_brings_every_closed_candle_once_whatever_the_gaps(kind, is_known, minutes, since, now_ms, page_limit, data):
    # The bar that contains now is always shown, as exchanges do that answer with the latest candles only.
    history = {minute for minute in minutes | {now_ms // MINUTE_MS} if minute * MINUTE_MS <= now_ms}
    walk = walk_over(since, now_ms, page_limit, kind.answers if is_known else "unknown")
    first_empty = data.draw(st.integers(0, 5))
    finish(walk, kind(history, page_limit), frozenset({first_empty, first_empty + 4}))
    expected = [m * MINUTE_MS for m in sorted(history) if since <= m and (m + 1) * MINUTE_MS <= now_ms]
    assert opened_at_ms(walk.page().candles).tolist() == expected
    assert (walk.page().forming is not None) == (now_ms % MINUTE_MS != 0 and since <= now_ms // MINUTE_MS)


@pytest.mark.parametrize("kind", [Onwards, Window])
@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 200), st.integers(1, 40))
def test_a_past_span_costs_as_many_questions_as_it_has_pages(kind, since, bars, page_limit):
    walk = walk_over(since, (since + bars) * MINUTE_MS, page_limit, kind.answers)
    asked = finish(walk, kind(set(range(300)), page_limit))
    assert opened_at_ms(walk.page().candles).tolist() == [m * MINUTE_MS for m in range(since, since + bars)]
    assert walk.page().forming is None
    assert asked == math.ceil(bars / page_limit)


@settings(deadline=None)
@given(st.sets(st.integers(0, 200)), st.integers(0, 40), st.integers(4, 60), st.integers(1, 30))
def test_chunks_of_any_cut_bring_every_candle_once(minutes, since, length, page_limit):
    exchange = Onwards(minutes, page_limit)
    borders = [*range(since, 200, length + 1), 200]
    found = []
    for start, end in itertools.pairwise(borders):
        walk = walk_over(start, end * MINUTE_MS, page_limit, "onwards")
        finish(walk, exchange)
        found += opened_at_ms(walk.page().candles).tolist()
    assert found == [m * MINUTE_MS for m in sorted(minutes) if since <= m < 200]


@settings(deadline=None)
@given(st.integers(31, 40))
def test_an_exchange_that_always_gives_its_latest_candles_is_asked_once(since):
    for answers in ("latest", "unknown"):
        walk = walk_over(since, 40 * MINUTE_MS + 5, 10, answers)
        assert finish(walk, Latest(set(range(41)), 10)) == 1
        assert opened_at_ms(walk.page().candles).tolist() == [minute * MINUTE_MS for minute in range(since, 40)]
        assert walk.page().forming == FormingBar(40 * MINUTE_MS, 41.0)


@pytest.mark.parametrize("answers", ["latest", "unknown"])
@settings(deadline=None)
@given(st.integers(0, 30))
def test_candles_that_an_exchange_no_longer_keeps_are_not_taken_for_a_gap(answers, since):
    with pytest.raises(CandlesNotKept, match=r"only the newest 10 candles of 1m, from 1970-01-01 00:31 UTC on: start") as caught:
        finish(walk_over(since, 40 * MINUTE_MS + 5, 10, answers), Latest(set(range(41)), 10))
    assert caught.value.first_ms == 31 * MINUTE_MS


@pytest.mark.parametrize("answers", ["latest", "unknown"])
def test_a_young_market_is_not_taken_for_one_that_forgets(answers):
    walk = walk_over(0, 40 * MINUTE_MS + 5, 100, answers)
    walk.take(rows(range(31, 41)))
    assert walk.done
    assert walk.page().candles.height == 9


def test_latest_candles_that_end_before_the_last_closed_bar_are_an_old_answer():
    walk = walk_over(20, 40 * MINUTE_MS + 5, 100, "latest")
    with pytest.raises(MarketUnavailable, match=r"from 1970-01-01 00:20 UTC on and repeated 29 old ones"):
        walk.take(rows(range(10, 39)))


def test_an_empty_answer_is_asked_again_before_it_is_believed():
    for answers, asked in (("onwards", 2), ("latest", 2), ("window", 8), ("unknown", 8)):
        walk = walk_over(0, 40 * MINUTE_MS, 10, answers)
        assert finish(walk, Window(set(), 10)) == asked
        assert walk.page().candles.is_empty()


def test_newest_first_pages_are_turned_and_a_row_out_of_place_stays_out_of_place():
    walk = walk_over(0, 4 * MINUTE_MS, 10, "window")
    walk.take(rows([3, 1, 2, 0]))
    assert opened_at_ms(walk.page().candles).tolist() == [m * MINUTE_MS for m in (0, 2, 1, 3)]


@pytest.mark.parametrize("answers", ["onwards", "window", "unknown"])
def test_a_page_that_repeats_ends_the_walk_with_an_error_that_says_so(answers):
    walk = walk_over(0, 10 * MINUTE_MS, 3, answers)
    walk.take(rows(range(3)))
    with pytest.raises(MarketUnavailable, match=r"from 1970-01-01 00:03 UTC on and repeated 3 old ones \(1970-01-01 00:00 to"):
        walk.take(rows(range(3)))


def test_an_old_page_is_no_error_when_only_the_forming_bar_is_missing():
    walk = walk_over(3, 3 * MINUTE_MS + 5, 3)
    walk.take(rows(range(3)))
    assert walk.done
    assert walk.page().candles.height == 0


def test_a_forming_bar_without_trades_has_no_open():
    walk = walk_over(0, MINUTE_MS + 5, 5)
    walk.take(np.concatenate([rows([0]), rows([1], volume=0.0)]))
    assert walk.page().forming is None


def test_a_forming_bar_that_traded_shows_its_open():
    walk = walk_over(0, MINUTE_MS + 5, 5)
    walk.take(rows([0, 1]))
    assert walk.page().forming == FormingBar(MINUTE_MS, 2.0)


def test_a_short_page_up_to_the_last_closed_bar_is_not_asked_again():
    walk = walk_over(0, 2 * MINUTE_MS + 5, 50)
    walk.take(rows([0, 1]))
    assert walk.done


@pytest.mark.parametrize("raw", ["<html>", {"a": 1}, None, [["x", 1, 2, 3, 4, 5]], [[0, 1, 2]], ["row"], [[0, "a", 1, 1, 1, 1]]])
def test_an_answer_that_is_no_list_of_candles_is_refused(raw):
    with pytest.raises(MarketUnavailable, match="answered with"):
        parse_rows(raw)


def test_missing_values_stay_in_their_row_as_not_a_number():
    (parsed,) = parse_rows([[5, 1, None, 3, 4, 5]])
    assert parsed[0] == 5
    assert math.isnan(parsed[2])
