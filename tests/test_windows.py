"""What a market is asked for to complete a series: what the lake's coverage lacks, and nothing else."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from candlewick.lake import Lake
from candlewick.market_data.coverage import Coverage, Span
from candlewick.windows import FetchPlan, plan_fetch, remember_covered
from tests.test_lake import HOURLY, START_MS, candles

HOUR_MS = 3_600_000
FETCHED = datetime(2026, 1, 2, tzinfo=UTC)
NOW_MS = START_MS + 100 * HOUR_MS + 1_800_000  # inside of bar 100


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


def bar(number: int) -> int:
    return START_MS + number * HOUR_MS


def put(lake: Lake, first: int, end: int, bars: tuple[int, int] | None = None) -> None:
    """Cover the hours ``first`` to ``end``; of them those between ``bars`` traded, all by default."""
    since, until = bars or (first, end)
    lake.put_chunk(HOURLY, candles(since, until - since), Span(bar(first), bar(end)), "binance", FETCHED)


def plan(lake: Lake, anchor: int = 0, now_ms: int = NOW_MS) -> FetchPlan:
    return plan_fetch(lake, HOURLY, bar(anchor), now_ms, None)


def test_a_series_that_is_new_is_asked_for_from_the_anchor(lake: Lake):
    assert plan(lake, 7) == FetchPlan(HOURLY, bar(7), NOW_MS)


def test_a_series_goes_on_after_its_last_bar_and_knows_it_for_the_gap_at_the_seam(lake: Lake):
    put(lake, 0, 90)
    assert plan(lake) == FetchPlan(HOURLY, bar(90), NOW_MS, known_ms=bar(89))
    put(lake, 90, 100)
    complete = plan(lake)
    assert complete.is_complete
    assert (complete.since_ms, complete.known_ms) == (bar(100), bar(99))


def test_a_hole_that_other_downloads_left_in_the_middle_is_asked_for(lake: Lake):
    put(lake, 0, 20)
    put(lake, 50, 100)
    assert plan(lake) == FetchPlan(HOURLY, bar(20), NOW_MS, known_ms=bar(19))
    assert plan(lake, 30) == FetchPlan(HOURLY, bar(30), NOW_MS), "from the anchor on: what is before it is not of interest"
    assert plan(lake, 60).is_complete
    remember_covered(lake, plan(lake), candles(20, 80))
    assert plan(lake).is_complete


def test_hours_in_which_nothing_traded_are_not_asked_for_again(lake: Lake):
    put(lake, -50, 40, (0, 40))  # a listing
    put(lake, 40, 100, (60, 100))  # a pause
    assert plan(lake, -50).is_complete
    assert plan(lake, -51).since_ms == bar(-51)


def test_a_bar_that_was_covered_in_part_is_asked_for(lake: Lake):
    lake.put_chunk(HOURLY, candles(0, 50), Span(bar(0), bar(50) + 1_800_000), "binance", FETCHED)
    assert plan(lake) == FetchPlan(HOURLY, bar(50), NOW_MS, known_ms=bar(49))


def test_what_was_uncovered_is_asked_for_again_though_its_bars_are_there(lake: Lake):
    put(lake, 0, 100)
    lake.uncover(HOURLY, Span(bar(10), bar(12)))
    assert plan(lake) == FetchPlan(HOURLY, bar(10), NOW_MS, known_ms=bar(9))


def test_only_what_was_answered_is_covered(lake: Lake):
    asked = FetchPlan(HOURLY, bar(0), NOW_MS)
    remember_covered(lake, asked, candles(0, 0))
    assert lake.coverage(HOURLY) == Coverage(), "an answer without a bar may be a market that does not show it yet"
    remember_covered(lake, asked, candles(5, 90))
    assert lake.coverage(HOURLY).spans == (Span(bar(0), bar(95)),), "the last five closed bars were not shown yet"


def test_files_that_were_lost_are_asked_for_whatever_the_coverage_says(lake: Lake):
    put(lake, 0, 100)
    for path in lake.folder(HOURLY).glob("*.parquet"):
        path.unlink()
    assert plan(lake).since_ms == bar(0)


def test_a_lake_of_before_coverage_goes_on_where_it_was(lake: Lake):
    lake.append(HOURLY, candles(10, 80), "binance", FETCHED)
    lake.set_fingerprint(HOURLY, str(bar(0)))
    assert plan(lake) == FetchPlan(HOURLY, bar(90), NOW_MS, known_ms=bar(89))
    assert plan(lake, -5).since_ms == bar(-5)


def test_an_anchor_in_the_forming_bar_leaves_nothing_to_ask(lake: Lake):
    put(lake, 0, 90)
    assert plan(lake, 100).is_complete


def test_a_copied_file_is_asked_for_when_it_changed_and_then_as_a_whole(lake: Lake):
    lake.replace(HOURLY, candles(0, 100), "files", FETCHED)
    lake.set_fingerprint(HOURLY, "one.csv 10")
    assert plan_fetch(lake, HOURLY, bar(0), NOW_MS, "one.csv 10").is_complete
    assert plan_fetch(lake, HOURLY, bar(0), NOW_MS, "one.csv 11").since_ms == 0
