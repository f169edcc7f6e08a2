"""How long to wait before asking again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlewick.market.retry import parse_ban_s, parse_retry_after_s, retry_delay_s

attempts = st.integers(1, 10_000)
seconds = st.floats(0.001, 1e6)
jitters = st.floats(0, 1, exclude_max=True)


@given(attempts, seconds, seconds, jitters)
def test_a_delay_lies_between_half_and_the_whole_of_the_capped_doubling(attempt: int, base_s: float, max_s: float, jitter: float):
    whole = min(max_s, base_s * 2.0 ** min(attempt - 1, 63))
    assert whole / 2 <= retry_delay_s(attempt, None, base_s, max_s, jitter) <= whole <= max_s


@given(attempts, st.floats(0, 1e6), seconds, seconds, jitters)
def test_a_delay_is_never_shorter_than_the_exchange_asks(
    attempt: int, asked_s: float, base_s: float, max_s: float, jitter: float
):
    assert retry_delay_s(attempt, asked_s, base_s, max_s, jitter) >= asked_s


@given(attempts, seconds, seconds, jitters)
def test_a_later_attempt_waits_no_shorter_at_the_same_jitter(attempt: int, base_s: float, max_s: float, jitter: float):
    first, second = (retry_delay_s(n, None, base_s, max_s, jitter) for n in (attempt, attempt + 1))
    assert second >= first


def test_clients_told_the_same_moment_do_not_return_together():
    assert retry_delay_s(1, 30, 1, 60, 0.0) == 30
    assert retry_delay_s(1, 30, 1, 60, 0.5) == 30.5


def test_an_attempt_below_one_is_refused():
    with pytest.raises(ValueError, match="attempt 0"):
        retry_delay_s(0, None, 1, 60, 0.5)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("17", 17.0),
        (" 0.5 ", 0.5),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 60.0),
        ("Thu, 01 Jan 1970 00:00:30 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str | None, expected: float | None):
    assert parse_retry_after_s(header, now_ms=60_000) == expected


def test_binances_ban_text_is_read_in_its_old_and_its_new_wording():
    new = "Way too much request weight used; IP banned until 1660090423228. Please use the websocket for live updates."
    assert parse_ban_s(new, now_ms=1660090423228 - 90_000) == 90
    assert parse_ban_s("Way too many requests; IP banned until 1515929738237", now_ms=1515929738237 + 1) == 0
    assert parse_ban_s("Invalid symbol.", now_ms=0) is None
