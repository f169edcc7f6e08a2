"""Walk-forward windows, the steadiness of choices and efficiency, against arithmetic done by hand."""

import json
import math
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from candlewick.errors import UsageError
from candlewick.grids import parse_grid
from candlewick.metrics import Measure
from candlewick.parameter_ranges import Value
from candlewick.strategies.sma_cross import SmaCross
from candlewick.timeframes import DAY_MS, floor_to_bar, parse_duration, parse_utc, timeframe_ms
from candlewick.walk_forward import (
    Span,
    WindowReturns,
    parameter_stability,
    plan_windows,
    plateau,
    walk_forward_efficiency,
)

HOUR_MS = DAY_MS // 24
YEAR = (parse_utc("2024-01-01"), parse_utc("2025-01-01"))


def days(first: int, last: int) -> Span:
    return Span(YEAR[0] + first * DAY_MS, YEAR[0] + last * DAY_MS)


def number(figure: Measure) -> float:
    assert figure.value is not None, figure.reason
    return float(figure.value)


def test_train_windows_move_along_and_test_windows_follow_each_other() -> None:
    windows = plan_windows(*YEAR, train_ms=180 * DAY_MS, test_ms=60 * DAY_MS, timeframe="1d")
    assert [window.train for window in windows] == [days(0, 180), days(60, 240), days(120, 300)]
    assert [window.test for window in windows] == [days(180, 240), days(240, 300), days(300, 360)]
    assert [window.number for window in windows] == [1, 2, 3]


def test_anchored_train_windows_all_begin_at_the_first_bar() -> None:
    windows = plan_windows(*YEAR, train_ms=180 * DAY_MS, test_ms=60 * DAY_MS, timeframe="1d", anchored=True)
    assert [window.train for window in windows] == [days(0, 180), days(0, 240), days(0, 300)]
    assert [window.test for window in windows] == [days(180, 240), days(240, 300), days(300, 360)]


def test_warm_up_candles_come_before_the_first_train_window_and_inside_the_span() -> None:
    windows = plan_windows(*YEAR, train_ms=180 * DAY_MS, test_ms=60 * DAY_MS, timeframe="1h", warmup_bars=48)
    assert windows[0].train == days(2, 182)
    assert windows[0].train_candles == days(0, 182)
    assert windows[0].test_candles == days(180, 242)


def test_a_longer_step_leaves_holes_and_a_shorter_one_is_refused() -> None:
    windows = plan_windows(*YEAR, train_ms=180 * DAY_MS, test_ms=30 * DAY_MS, step_ms=60 * DAY_MS, timeframe="1d")
    assert [window.test for window in windows] == [days(180, 210), days(240, 270), days(300, 330)]
    with pytest.raises(
        UsageError, match="step 10d is shorter than test 30d: bars would be counted twice; use a step of 30d or more"
    ):
        plan_windows(*YEAR, train_ms=180 * DAY_MS, test_ms=30 * DAY_MS, step_ms=10 * DAY_MS, timeframe="1d")


def test_a_span_that_is_too_short_is_told_what_is_needed() -> None:
    with pytest.raises(UsageError) as refused:
        plan_windows(YEAR[0], YEAR[0] + 200 * DAY_MS, train_ms=180 * DAY_MS, test_ms=30 * DAY_MS, timeframe="1h", warmup_bars=50)
    assert str(refused.value) == (
        "train 180d and test 30d and 50 bars of warm-up (2d 2h) need 212d 2h of 1h candles; "
        "2024-01-01 00:00 to 2024-07-19 00:00 has 200d"
    )
    with pytest.raises(UsageError, match="has 0m"):
        plan_windows(YEAR[1], YEAR[0], train_ms=DAY_MS, test_ms=DAY_MS, timeframe="1h")


@pytest.mark.parametrize(
    ("train", "test", "timeframe", "said"),
    [
        ("180d", "30d", "1w", "train 180d is not a whole number of 1w candles; use 175d or 182d"),
        ("90m", "1h", "1h", "train 1h 30m is not a whole number of 1h candles; use 1h or 2h"),
        ("2h", "30m", "1h", "test 30m is not a whole number of 1h candles; use 1h"),
        ("1m", "1m", "1m", "these lengths make 527,039 windows; 10,000 are the most"),
    ],
)
def test_lengths_that_make_no_sense_are_refused_with_what_would(train: str, test: str, timeframe: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        plan_windows(*YEAR, train_ms=parse_duration(train), test_ms=parse_duration(test), timeframe=timeframe)
    assert said in str(refused.value)


def test_an_empty_window_and_a_negative_warm_up_are_refused() -> None:
    with pytest.raises(UsageError, match="test is 0m; it must be at least one 1h candle"):
        plan_windows(*YEAR, train_ms=DAY_MS, test_ms=0, timeframe="1h")
    with pytest.raises(UsageError, match="warm-up is -1 bars"):
        plan_windows(*YEAR, train_ms=DAY_MS, test_ms=DAY_MS, timeframe="1h", warmup_bars=-1)


@settings(deadline=None)
@given(
    st.integers(0, 10**12),
    st.integers(1, 4_000),
    st.integers(1, 300),
    st.integers(1, 100),
    st.integers(0, 50),
    st.booleans(),
    st.sampled_from(["15m", "1h", "1d", "1w"]),
)
def test_any_plan_tests_after_training_on_whole_bars_inside_the_span_once(
    since_ms: int, bars: int, train_bars: int, test_bars: int, warmup_bars: int, anchored: bool, timeframe: str
) -> None:
    bar_ms = timeframe_ms(timeframe)
    until_ms = since_ms + bars * bar_ms
    assume(bars > train_bars + test_bars + warmup_bars)
    windows = plan_windows(
        since_ms,
        until_ms,
        train_ms=train_bars * bar_ms,
        test_ms=test_bars * bar_ms,
        timeframe=timeframe,
        anchored=anchored,
        warmup_bars=warmup_bars,
    )
    assert windows[0].train_candles.since_ms - since_ms < bar_ms
    assert 0 <= until_ms - windows[-1].test.until_ms < (test_bars + 1) * bar_ms
    for window in windows:
        assert since_ms <= window.train_candles.since_ms
        assert window.train.until_ms == window.test.since_ms
        assert window.test.duration_ms == test_bars * bar_ms
        assert window.train.duration_ms == (train_bars + (window.number - 1) * test_bars * anchored) * bar_ms
        assert floor_to_bar(window.train.since_ms, timeframe) == window.train.since_ms
    assert all(before.test.until_ms == after.test.since_ms for before, after in pairwise(windows))


def choices(*sets: tuple[int, int]) -> list[dict[str, Value]]:
    return [{"fast": fast, "slow": slow} for fast, slow in sets]


def test_stability_counts_changes_and_steps_to_neighbours() -> None:
    grid = parse_grid(SmaCross, {"fast": "5:20:5", "slow": "20,50,100"})
    steady = parameter_stability(choices((5, 20), (10, 20), (10, 100), (10, 50), (10, 50)), grid)
    assert steady.windows == 5
    assert number(steady.changed_share) == 0.75
    assert number(steady.neighbour_share) == 0.75
    fast, slow = steady.parameters
    assert (fast.name, fast.distinct, slow.distinct) == ("fast", 2, 3)
    assert (number(fast.changed_share), number(slow.changed_share)) == (0.25, 0.5)
    assert (number(fast.neighbour_share), number(slow.neighbour_share)) == (1.0, 0.75)
    assert (number(fast.lowest), number(fast.highest), number(fast.mean)) == (5, 10, 9)
    # fast: 5, 10, 10, 10, 10; the mean is 9 and the sum of squares (16 + 4) / 4 = 5
    assert number(fast.coefficient_of_variation) == pytest.approx(math.sqrt(5) / 9, rel=1e-15)
    assert json.loads(json.dumps(steady.to_document()))["parameters"][0]["mean"] == {"value": "9.0", "reason": None}


def test_without_a_grid_changes_are_counted_and_neighbours_undefined() -> None:
    steady = parameter_stability(choices((5, 20), (10, 20)))
    assert number(steady.changed_share) == 1
    assert steady.neighbour_share == Measure(None, "without a grid no value has a neighbour")


def test_text_and_flags_have_changes_but_no_mean() -> None:
    chosen: list[dict[str, Value]] = [{"side": "long", "quiet": True}, {"side": "short", "quiet": True}]
    side, quiet = parameter_stability(chosen).parameters
    assert (side.distinct, number(side.changed_share), number(quiet.changed_share)) == (2, 1, 0)
    assert side.mean == Measure(None, "side is not a number in every window")
    assert quiet.coefficient_of_variation.reason == "quiet is not a number in every window"


def test_one_window_or_none_leaves_changes_undefined() -> None:
    for chosen in ([], choices((5, 20))):
        steady = parameter_stability(chosen)
        assert steady.changed_share.value is None
        assert all(one.coefficient_of_variation.value is None for one in steady.parameters)


def test_a_coefficient_around_zero_is_undefined() -> None:
    (level,) = parameter_stability([{"level": -1.0}, {"level": 1.0}]).parameters
    assert level.coefficient_of_variation == Measure(None, "the mean is 0")


def test_choices_that_do_not_belong_together_are_refused() -> None:
    grid = parse_grid(SmaCross, {"fast": "5:20:5", "slow": "50"})
    with pytest.raises(UsageError, match="window 2 chose fast; window 1 chose fast, slow"):
        parameter_stability([{"fast": 5, "slow": 50}, {"fast": 5}])
    with pytest.raises(UsageError, match="fast = 7 was chosen; it is not one of the grid's values"):
        parameter_stability(choices((7, 50)), grid)
    with pytest.raises(UsageError, match="the grid has no parameter 'other'; it has fast, slow"):
        parameter_stability([{"other": 1}], grid)


def test_a_plateau_is_what_the_neighbours_score() -> None:
    grid = parse_grid(SmaCross, {"fast": "5,10,15", "slow": "20,30,40"})
    scores = {1: 1.0, 3: 2.0, 4: 2.0, 5: 1.5, 7: 1.5, 8: 100.0}
    middle = plateau(grid, 4, scores)
    assert (middle.neighbours, number(middle.mean), number(middle.lowest), number(middle.ratio)) == (4, 1.5, 1.0, 0.75)
    corner = plateau(grid, 0, {0: -1.0, 1: 1.0})
    assert (corner.neighbours, corner.ratio.value) == (1, None)
    assert plateau(grid, 0, {0: 1.0}).ratio == Measure(None, "no neighbour of the chosen set has a score")
    assert plateau(grid, 0, {1: 1.0}).score == Measure(None, "the chosen set has no score")
    assert json.loads(json.dumps(middle.to_document()))["neighbours"] == 4


def test_efficiency_is_the_annual_return_of_the_tests_over_that_of_the_trains() -> None:
    year_ms = 365 * DAY_MS
    windows = [WindowReturns(0.44, year_ms, 0.1, year_ms // 2), WindowReturns(0.44, year_ms, 0.1, year_ms // 2)]
    efficient = walk_forward_efficiency(windows)
    assert number(efficient.train_annualised) == pytest.approx(0.44, rel=1e-14)
    assert number(efficient.test_annualised) == pytest.approx(0.21, rel=1e-14)
    assert number(efficient.efficiency) == pytest.approx(0.21 / 0.44, rel=1e-14)
    assert efficient.profitable_share == Measure(Decimal("1.0"))
    assert json.loads(json.dumps(efficient.to_document()))["windows"] == 2


def test_losing_tests_have_an_efficiency_below_zero() -> None:
    year_ms = 365 * DAY_MS
    efficient = walk_forward_efficiency([WindowReturns(0.5, year_ms, -0.25, year_ms), WindowReturns(0.5, year_ms, 0.0, year_ms)])
    assert number(efficient.efficiency) < 0
    assert number(efficient.profitable_share) == 0


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        (WindowReturns(-0.1, 90 * DAY_MS, 0.1, 90 * DAY_MS), "the train windows did not gain"),
        (WindowReturns(0.0, 90 * DAY_MS, 0.1, 90 * DAY_MS), "the train windows did not gain"),
        (WindowReturns(0.1, 90 * DAY_MS, -1.0, 90 * DAY_MS), "a test window lost everything"),
        (WindowReturns(0.1, 90 * DAY_MS, 0.1, 20 * DAY_MS), "the test windows' 20 days are below 30"),
        (WindowReturns(math.nan, 90 * DAY_MS, 0.1, 90 * DAY_MS), "a train window's return is undefined"),
        (WindowReturns(1e300, 31 * DAY_MS, 0.1, 90 * DAY_MS), "beyond the range of numbers"),
    ],
)
def test_an_efficiency_that_means_nothing_is_undefined_with_a_reason(window: WindowReturns, reason: str) -> None:
    efficient = walk_forward_efficiency([window])
    assert efficient.efficiency.value is None
    assert efficient.efficiency.reason is not None
    assert reason in efficient.efficiency.reason


def test_no_window_has_no_efficiency() -> None:
    assert walk_forward_efficiency([]).profitable_share == Measure(None, "there is no window")


def test_windows_are_written_down_as_json() -> None:
    (window,) = plan_windows(0, 3 * HOUR_MS, train_ms=2 * HOUR_MS, test_ms=HOUR_MS, timeframe="1h")
    assert json.loads(json.dumps(window.to_document())) == {
        "number": 1,
        "train": {"since_ms": 0, "until_ms": 2 * HOUR_MS},
        "test": {"since_ms": 2 * HOUR_MS, "until_ms": 3 * HOUR_MS},
        "warmup_ms": 0,
    }
