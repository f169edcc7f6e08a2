"""Funding: time stamps that jitter, payments told twice, and payments that are not there."""

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlewick.errors import FundingMissing, InvalidFunding
from candlewick.funding import (
    FUNDING_SCHEMA,
    HOUR_MS,
    RAW_FUNDING_SCHEMA,
    empty_funding,
    funding_at_ms,
    funding_digest,
    funding_holes,
    normalise_funding,
    require_funding,
)
from candlewick.timeframes import DAY_MS, parse_utc
from tests.shared_data import SHARED

START_MS = parse_utc("2024-01-01")
DERIVATIVES = SHARED / "data" / "derivatives"


def raw(*payments: tuple[int, float | None]) -> pl.DataFrame:
    return pl.DataFrame(list(payments), schema=dict(RAW_FUNDING_SCHEMA), orient="row")


def every(hours: int, count: int, start_ms: int = START_MS) -> pl.DataFrame:
    return normalise_funding(raw(*((start_ms + n * hours * HOUR_MS, 1e-4 + n * 1e-6) for n in range(count))), "made up")


def without(funding: pl.DataFrame, *hours: int) -> pl.DataFrame:
    return funding.filter(~pl.Series(funding_at_ms(funding)).is_in([START_MS + hour * HOUR_MS for hour in hours]))


def real_funding(symbol: str) -> pl.DataFrame:
    path = DERIVATIVES / f"binanceusdm_{symbol}_funding_8h.parquet"
    if not path.is_file():
        pytest.skip(f"the real funding {path.name} is not beside this checkout")
    return pl.read_parquet(path).select(pl.col("ts").alias("noted_at"), pl.col("funding_rate").alias("rate"))


def test_a_jittering_time_stamp_means_the_whole_hour_and_is_kept_beside_it():
    funding = normalise_funding(raw((START_MS + 8 * HOUR_MS - 9, 2e-4), (START_MS + 16, 1e-4)), "binanceusdm SOL/USDT:USDT")
    assert funding.schema == dict(FUNDING_SCHEMA)
    assert funding_at_ms(funding).tolist() == [START_MS, START_MS + 8 * HOUR_MS]
    assert funding["noted_at"].dt.epoch("ms").to_list() == [START_MS + 16, START_MS + 8 * HOUR_MS - 9]
    assert funding["rate"].to_list() == [1e-4, 2e-4]


@pytest.mark.parametrize(
    ("off_ms", "meant_ms"),
    [(30_000, 0), (-30_000, 0), (30_001, 30_001), (60_900, 60_000), (59_001, 60_000), (90_000, 90_000), (1_800_000, 1_800_000)],
)
def test_only_what_is_within_the_tolerance_is_rounded(off_ms: int, meant_ms: int):
    assert funding_at_ms(normalise_funding(raw((START_MS + off_ms, 0.0)), "made up")).tolist() == [START_MS + meant_ms]


def test_a_payment_told_again_is_one_payment_and_its_first_time_stamp_stays():
    funding = normalise_funding(raw((START_MS + 12, 1e-4), (START_MS + 3, 1e-4), (START_MS + 3, 1e-4)), "made up")
    assert funding["noted_at"].dt.epoch("ms").to_list() == [START_MS + 3]


def test_two_rates_for_one_payment_are_refused():
    with pytest.raises(
        InvalidFunding, match=r"made up: the funding at 2024-01-01 00:00 has 2 different rates: \[0.0001, 0.0002\]"
    ):
        normalise_funding(raw((START_MS, 1e-4), (START_MS + 5, 2e-4)), "made up")


@pytest.mark.parametrize("rate", [None, float("nan"), float("inf"), 1.0, -1.5])
def test_what_is_no_share_of_the_notional_is_refused(rate: float | None):
    with pytest.raises(InvalidFunding, match=r"the funding rate at 2024-01-01 00:00 is .*, not a share of the notional"):
        normalise_funding(raw((START_MS, rate)), "made up")


def test_a_rate_without_a_time_is_refused():
    with pytest.raises(InvalidFunding, match="1 funding rates have no time"):
        normalise_funding(
            raw((START_MS, 0.0)).vstack(pl.DataFrame({"noted_at": [None], "rate": [0.0]}, schema=RAW_FUNDING_SCHEMA)), "x"
        )


@pytest.mark.parametrize(("symbol", "payments"), [("BTCUSDT", 7323), ("SOLUSDT", 1379), ("XRPUSDT", 6973)])
def test_real_funding_has_every_payment_of_eight_hours(symbol: str, payments: int):
    funding = normalise_funding(real_funding(symbol), symbol)
    first, last = int(funding_at_ms(funding)[0]), int(funding_at_ms(funding)[-1])
    assert require_funding(symbol, funding, first, last + 1, 8).height == payments
    assert (funding_at_ms(funding) % (8 * HOUR_MS) == 0).all()


def test_a_payment_taken_out_of_the_real_ones_is_missed():
    funding = normalise_funding(real_funding("SOLUSDT"), "SOL")
    gone = parse_utc("2025-06-01T08:00")
    holed = funding.filter(pl.col("funding_at").dt.epoch("ms") != gone)
    with pytest.raises(
        FundingMissing, match=r"SOL/USDT:USDT: 1 funding payments between 2025-06-01 00:00 and 2025-06-01 16:00"
    ) as caught:
        require_funding("SOL/USDT:USDT", holed, parse_utc("2025-05-01"), parse_utc("2025-07-01"), 8)
    error = caught.value
    assert (error.symbol, error.payments) == ("SOL/USDT:USDT", 1)
    assert (error.since_ms, error.until_ms) == (gone - 8 * HOUR_MS, gone + 8 * HOUR_MS)
    assert require_funding("SOL/USDT:USDT", holed, parse_utc("2025-06-02"), parse_utc("2025-07-01"), 8).height == 87


def test_every_hole_is_counted_and_the_first_one_is_told():
    with pytest.raises(
        FundingMissing, match=r"2 funding payments between 2024-01-01 16:00 and 2024-01-02 16:00 .*3 in 2 such holes"
    ):
        require_funding("X", without(every(8, 30), 24, 32, 80), START_MS, START_MS + 5 * DAY_MS, 8)


def test_only_the_payments_of_the_span_are_asked_for():
    funding = every(8, 30)
    answer = require_funding("X", funding, START_MS + 8 * HOUR_MS, START_MS + 24 * HOUR_MS, 8)
    assert funding_at_ms(answer).tolist() == [START_MS + 8 * HOUR_MS, START_MS + 16 * HOUR_MS]


def test_no_funding_at_all_is_missing_and_not_zero():
    with pytest.raises(FundingMissing, match="2 funding payments between 2024-01-01 00:00 and 2024-01-01 20:00"):
        require_funding("X", empty_funding(), START_MS, START_MS + 20 * HOUR_MS, 8)


def test_a_span_in_which_nothing_is_due_needs_no_payment():
    assert require_funding("X", empty_funding(), START_MS + HOUR_MS, START_MS + 8 * HOUR_MS, 8).is_empty()


def test_a_payment_that_is_due_at_the_end_of_the_span_is_not_asked_for_yet():
    funding = every(8, 3)
    assert funding_holes(funding, START_MS, START_MS + 24 * HOUR_MS, 8) == ()
    (hole,) = funding_holes(funding, START_MS, START_MS + 24 * HOUR_MS + 60_000, 8)
    assert (hole.since_ms, hole.payments) == (START_MS + 16 * HOUR_MS, 1)


def test_a_history_that_begins_late_misses_what_was_due_before():
    (hole,) = funding_holes(every(8, 9), START_MS - 20 * HOUR_MS, START_MS + DAY_MS, 8)
    assert (hole.since_ms, hole.until_ms, hole.payments) == (START_MS - 20 * HOUR_MS, START_MS, 2)
    assert funding_holes(every(8, 9), START_MS - 8 * HOUR_MS, START_MS + DAY_MS, 8) == ()


def test_rows_before_the_span_say_when_its_first_payment_is_due():
    funding = without(every(8, 9), 8)
    (hole,) = funding_holes(funding, START_MS + 7 * HOUR_MS, START_MS + DAY_MS, 8)
    assert (hole.since_ms, hole.until_ms, hole.payments) == (START_MS + 7 * HOUR_MS, START_MS + 16 * HOUR_MS, 1)


def test_an_interval_shortened_from_eight_to_four_hours_is_declared_by_its_rows():
    later = every(4, 12, START_MS + 5 * 8 * HOUR_MS)
    funding = pl.concat([every(8, 5), later])
    assert require_funding("X", funding, START_MS, START_MS + 80 * HOUR_MS, 8).height == 15
    back = pl.concat([funding, every(8, 3, START_MS + 92 * HOUR_MS)])
    assert funding_holes(back, START_MS, START_MS + 110 * HOUR_MS, 8) == ()


def test_a_payment_missing_among_four_hourly_ones_is_missed_although_eight_hours_are_declared():
    (hole,) = funding_holes(without(every(4, 12), 20), START_MS, START_MS + 40 * HOUR_MS, 8)
    assert (hole.since_ms, hole.payments) == (START_MS + 16 * HOUR_MS, 1)


def test_four_hourly_payments_that_stop_are_missed_after_four_hours():
    assert funding_holes(every(4, 6), START_MS, START_MS + 24 * HOUR_MS, 8) == ()
    (hole,) = funding_holes(every(4, 6), START_MS, START_MS + 25 * HOUR_MS, 8)
    assert hole.payments == 1


@given(
    hours=st.sampled_from([1, 4, 8]),
    gone=st.sets(st.integers(3, 36), min_size=1, max_size=6),
)
def test_whatever_is_taken_out_is_counted(hours: int, gone: set[int]):
    whole = every(hours, 40)
    holed = whole.filter(~pl.Series(range(40)).is_in(list(gone)))
    span = START_MS, START_MS + 39 * hours * HOUR_MS + 1
    assert sum(hole.payments for hole in funding_holes(holed, *span, hours)) == len(gone)


def test_equal_payments_have_equal_digests_whatever_the_time_stamps_jitter():
    one = normalise_funding(raw((START_MS + 7, 1e-4)), "x")
    same = normalise_funding(raw((START_MS, 1e-4)), "x")
    others = [raw((START_MS, 2e-4)), raw((START_MS + HOUR_MS, 1e-4)), raw()]
    assert funding_digest(one) == funding_digest(same)
    assert funding_digest(one) not in {funding_digest(normalise_funding(other, "x")) for other in others}
    assert one["funding_at"].dtype == pl.Datetime("us", "UTC")
    assert one["noted_at"][0] - one["funding_at"][0] == timedelta(milliseconds=7)
