"""How far funding is known: the last bar whose payments are all there, what is merely late, and what is missing."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from candlewick.errors import FundingMissing
from candlewick.funded import funded_bar, waiting_text
from candlewick.funding import FUNDING_SCHEMA, HOUR_MS
from candlewick.timeframes import parse_utc

START_MS = parse_utc("2026-01-05")


def payments(*hours: int) -> pl.DataFrame:
    times = [datetime.fromtimestamp(START_MS / 1000 + hour * 3600, UTC) for hour in hours]
    return pl.DataFrame({"funding_at": times, "rate": [0.0001] * len(times), "noted_at": times}, schema=dict(FUNDING_SCHEMA))


def bars(count: int, hours: int = 1) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return START_MS + np.arange(count, dtype=np.int64) * hours * HOUR_MS


def hour_of(known: pl.DataFrame, times: np.ndarray[tuple[int], np.dtype[np.int64]], hours: int = 1) -> float:
    return (funded_bar("BTC/USDT:USDT", known, times, hours * HOUR_MS, 8) - START_MS) / HOUR_MS


@pytest.mark.parametrize(
    ("known", "count", "last"),
    [
        ((-8, 0, 8, 16), 24, 23),  # the payment at 24 is due at the next bar's open
        ((-8, 0, 8), 24, 15),  # that of 16:00 is due at the open of the bar at 16
        ((-8, 0, 8), 16, 15),
        ((-8, 0, 8), 17, 15),
        ((-8, 0), 24, 7),
    ],
)
def test_the_last_bar_is_the_one_before_the_first_unknown_payment(known: tuple[int, ...], count: int, last: int) -> None:
    assert hour_of(payments(*known), bars(count)) == last


def test_a_payment_inside_a_bar_holds_that_bar_back() -> None:
    assert hour_of(payments(-8, 0, 8), bars(2, hours=12), hours=12) == 0  # 16:00 is inside the second bar
    assert hour_of(payments(-8, 0), bars(2, hours=12), hours=12) < 0  # 08:00 is inside the first: no bar is funded


def test_a_payment_that_is_unknown_between_known_ones_is_missing_and_not_late() -> None:
    with pytest.raises(FundingMissing, match="1 funding payments between 2026-01-05 00:00 and 2026-01-05 16:00"):
        hour_of(payments(-8, 0, 16), bars(24))


def test_funding_that_ended_more_than_two_days_ago_is_missing_and_not_late() -> None:
    assert hour_of(payments(-8, 0), bars(48)) == 7
    with pytest.raises(FundingMissing, match="funding payments between 2026-01-05 00:00"):
        hour_of(payments(-8, 0), bars(49))


def test_the_notice_says_what_is_waited_for_and_what_is_known() -> None:
    known = payments(-8, 0, 8)
    text = waiting_text("BTC/USDT:USDT", known, START_MS + 15 * HOUR_MS, HOUR_MS)
    assert "waiting for BTC/USDT:USDT: a funding payment that is due after 2026-01-05 16:00 UTC" in text
    assert "the last one known is of 2026-01-05 08:00 UTC" in text
    assert "none is known yet" in waiting_text("BTC/USDT:USDT", payments(), START_MS, HOUR_MS)
