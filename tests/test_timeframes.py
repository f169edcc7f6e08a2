"""Durations as text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick.errors import UsageError
from candlewick.timeframes import DAY_MS, MINUTE_MS, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "minutes"), [("180d", 259_200), ("26w", 262_080), ("12h", 720), ("90m", 90), (" 2 d ", 2_880), ("007d", 10_080)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, minutes: int) -> None:
    assert parse_duration(text) == minutes * MINUTE_MS


@pytest.mark.parametrize("text", ["", "d", "180", "0d", "-3d", "1.5d", "3y", "3M", "d3", "9999999999w", "３d"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="is not understood: use a whole number and m, h, d or w, such as 180d"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [(0, "0m"), (DAY_MS, "1d"), (DAY_MS + 90 * MINUTE_MS, "1d 1h 30m"), (1_500, "1.5s"), (-MINUTE_MS, "-1m"), (7 * DAY_MS, "7d")],
)
def test_a_duration_is_written_in_days_hours_and_minutes(duration_ms: int, text: str) -> None:
    assert format_duration(duration_ms) == text


@settings(deadline=None)
@given(st.integers(1, 10**9), st.sampled_from("mhd"))
def test_a_written_duration_adds_up_to_the_same(number: int, unit: str) -> None:
    duration_ms = parse_duration(f"{number % 10**9 or 1}{unit}")
    assert sum(parse_duration(part) for part in format_duration(duration_ms).split()) == duration_ms
