"""Funding: what the holders of a perpetual pay each other, as markets tell it, and whether all of it is known.

A rate is a share of the position's notional: where it is positive longs pay shorts, where it is negative shorts pay longs
(https://www.binance.com/en/support/faq/360033525031). Exchanges pay on whole hours and note it some milliseconds off.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from candlewick.errors import FundingMissing, InvalidFunding
from candlewick.timeframes import MINUTE_MS, format_utc

FUNDING_SCHEMA: Mapping[str, pl.DataType] = {
    "funding_at": pl.Datetime("us", "UTC"),
    "rate": pl.Float64(),
    "noted_at": pl.Datetime("ms", "UTC"),
}
"""When it is due, its share of the notional, and the exchange's own time stamp."""

RAW_FUNDING_SCHEMA: Mapping[str, pl.DataType] = {name: FUNDING_SCHEMA[name] for name in ("noted_at", "rate")}

HOUR_MS = 60 * MINUTE_MS
HOUR_TOLERANCE_MS = 30_000
MINUTE_TOLERANCE_MS = 1_000

Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FundingHole:
    """``payments`` that are due after ``since_ms`` and before ``until_ms`` are not there; times in milliseconds UTC."""

    since_ms: int
    until_ms: int
    payments: int


def normalise_funding(raw: pl.DataFrame, subject: str) -> pl.DataFrame:
    """Funding as a market told it (``noted_at``, ``rate``; any order), in FUNDING_SCHEMA: sorted and unique by ``funding_at``.

    A time stamp at most 30 s off a whole hour, or 1 s off a whole minute, means that hour or minute; any other is taken
    as it is. A payment that is told again is dropped. ``subject`` is market and symbol for the error's text.
    Raises InvalidFunding: no time, a rate that is no number or not within (-1, 1), two rates for one payment.
    """
    told = raw.select(pl.col("noted_at").cast(FUNDING_SCHEMA["noted_at"]), pl.col("rate").cast(pl.Float64()))
    if told["noted_at"].null_count():
        raise InvalidFunding(f"{subject}: {told['noted_at'].null_count()} funding rates have no time")
    strange = told.filter(~(pl.col("rate").is_finite() & (pl.col("rate").abs() < 1)).fill_null(False))
    if strange.height:
        when, rate = strange.row(0)
        raise InvalidFunding(
            f"{subject}: the funding rate at {when:%Y-%m-%d %H:%M} is {rate}, not a share of the notional between -1 and 1"
        )
    noted = told["noted_at"].dt.epoch("ms").to_numpy()
    due = pl.Series("funding_at", _due_ms(noted) * 1000).cast(FUNDING_SCHEMA["funding_at"])
    funding = told.with_columns(due).select(list(FUNDING_SCHEMA)).sort("funding_at", "noted_at", maintain_order=True)
    funding = funding.unique(["funding_at", "rate"], keep="first", maintain_order=True)
    twice = funding.filter(pl.col("funding_at").is_duplicated())
    if twice.height:
        when, rates = twice["funding_at"][0], twice.filter(pl.col("funding_at") == twice["funding_at"][0])["rate"].to_list()
        raise InvalidFunding(f"{subject}: the funding at {when:%Y-%m-%d %H:%M} has {len(rates)} different rates: {rates}")
    return funding


def require_funding(symbol: str, funding: pl.DataFrame, since_ms: int, until_ms: int, interval_h: int) -> pl.DataFrame:
    """The payments with ``since_ms <= funding_at < until_ms``, all of them. ``funding`` in FUNDING_SCHEMA, normalised; rows
    before the span say when payments are due. Raises FundingMissing for the first hole (see ``funding_holes``)."""
    holes = funding_holes(funding, since_ms, until_ms, interval_h)
    if holes:
        first, payments = holes[0], sum(hole.payments for hole in holes)
        others = f" ({payments} in {len(holes)} such holes)" if len(holes) > 1 else ""
        raise FundingMissing(
            f"{symbol}: {first.payments} funding payments between {format_utc(first.since_ms)} and "
            f"{format_utc(first.until_ms)} UTC are not known{others}, and an unknown rate is not a rate of zero: choose a "
            f"span that has them, or add them to the market's funding history",
            symbol,
            first.since_ms,
            first.until_ms,
            first.payments,
        )
    return within(funding, since_ms, until_ms)


def funding_holes(funding: pl.DataFrame, since_ms: int, until_ms: int, interval_h: int) -> tuple[FundingHole, ...]:
    """Where payments that are due after ``since_ms`` and before ``until_ms`` are absent, in order of time.

    Neighbours more than ``interval_h`` apart have a hole between them. Exchanges shorten the interval of single contracts for a
    while: rows that are closer say so themselves, and then a longer step between two pairs of equal shorter ones is a hole,
    and so is a longer way from the last two such steps to the end. Without any row payments are due as most exchanges
    have them, every ``interval_h`` hours from 00:00 UTC on. What is due at ``since_ms`` itself nobody holds yet.
    """
    assert interval_h > 0, f"funding interval of {interval_h} h"
    interval_ms = interval_h * HOUR_MS
    times = funding_at_ms(funding)
    times = times[times < until_ms]
    if times.size == 0:
        return _due_by_the_clock(since_ms, until_ms, interval_ms)
    steps = np.diff(times)
    rhythm = _rhythm(steps, interval_ms)
    holes = []
    for at in np.flatnonzero(steps > rhythm[:-1] + HOUR_TOLERANCE_MS):
        holes.append(_hole(int(times[at]), int(times[at + 1]), int(rhythm[at]), since_ms, until_ms))
    first, last = int(times[0]), int(times[-1])
    if first - since_ms > interval_ms + HOUR_TOLERANCE_MS:
        absent = (first - since_ms - 1) // interval_ms
        holes.insert(0, FundingHole(since_ms, first, absent))
    holes.append(_hole(last, until_ms + HOUR_TOLERANCE_MS, int(rhythm[-1]), since_ms, until_ms))
    return tuple(hole for hole in holes if hole.payments > 0)


def within(funding: pl.DataFrame, since_ms: int, until_ms: int) -> pl.DataFrame:
    """The payments with ``since_ms <= funding_at < until_ms``."""
    return funding.filter(pl.col("funding_at").dt.epoch("ms").is_between(since_ms, until_ms, closed="left"))


def empty_funding() -> pl.DataFrame:
    """A funding frame with no rows."""
    return pl.DataFrame(schema=dict(FUNDING_SCHEMA))


def funding_at_ms(funding: pl.DataFrame) -> Times:
    """Times of the payments as int64 milliseconds, shape (rows,)."""
    return funding["funding_at"].dt.epoch("ms").to_numpy()


def funding_digest(funding: pl.DataFrame) -> str:
    """SHA-256 over times (int64 milliseconds) and rates (float64), little endian: equal payments, equal digest.

    The exchange's own time stamps are left out: no amount depends on them.
    """
    digest = hashlib.sha256(f"funding-1:{funding.height}:".encode())
    digest.update(funding_at_ms(funding).astype("<i8").tobytes())
    digest.update(funding["rate"].to_numpy().astype("<f8").tobytes())
    return digest.hexdigest()


def _due_ms(noted_ms: Times) -> Times:
    """The whole hour or minute that is meant."""
    hour = (noted_ms + HOUR_MS // 2) // HOUR_MS * HOUR_MS
    minute = (noted_ms + MINUTE_MS // 2) // MINUTE_MS * MINUTE_MS
    near = np.where(np.abs(noted_ms - minute) <= MINUTE_TOLERANCE_MS, minute, noted_ms)
    return np.where(np.abs(noted_ms - hour) <= HOUR_TOLERANCE_MS, hour, near)


def _rhythm(steps: Times, interval_ms: int) -> Times:
    """The interval that applies to each step, and to the one after the last: int64 milliseconds, shape (steps + 1,)."""
    rhythm = np.full(steps.size + 1, interval_ms, dtype=np.int64)
    if steps.size >= 2 and steps[-1] == steps[-2]:
        rhythm[-1] = min(interval_ms, int(steps[-1]))
    if steps.size >= 5:
        step, one, two, three, four = steps[2:-2], steps[:-4], steps[1:-3], steps[3:-1], steps[4:]
        alone = (one == two) & (two == three) & (three == four) & (step > two)
        rhythm[2:-3] = np.where(alone, np.minimum(interval_ms, two), interval_ms)
    return rhythm


def _hole(start_ms: int, end_ms: int, step_ms: int, since_ms: int, until_ms: int) -> FundingHole:
    """The payments that are due every ``step_ms`` between two times, as far as they are in the span."""
    due = np.arange(start_ms + step_ms, end_ms - HOUR_TOLERANCE_MS, step_ms, dtype=np.int64)
    absent = int((due > since_ms).sum())
    return FundingHole(max(start_ms, since_ms), min(end_ms, until_ms), absent)


def _due_by_the_clock(since_ms: int, until_ms: int, interval_ms: int) -> tuple[FundingHole, ...]:
    absent = max(0, (until_ms - 1) // interval_ms - since_ms // interval_ms)
    return (FundingHole(since_ms, until_ms, absent),) if absent else ()
