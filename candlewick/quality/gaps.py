"""Holes between bars, and what each of them is: an outage, no trades, not downloaded, or nobody knows.

In this order, for the part of a hole that is covered (without a coverage: for all of it):

1. Another timeframe of the market, or another collector of the exchange, traded there: bars are missing from ours. ``gap``, an
   error.
2. Silence is usual around it (CheckLimits.quiet_bars and quiet_others): ``gap_no_trades``.
3. Another timeframe or collector has no bars there either, or a coarser bar's volume is that of the bars that are there to the
   last digit: ``gap_outage``. So it is where another exchange traded in at least half of the bars: the market as a whole did.
4. Else ``gap``: a warning, for somebody to look at.

What is not covered is ``gap_not_downloaded``, whatever others say.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from candlewick.candles import opened_at_ms
from candlewick.market_data.coverage import Span
from candlewick.market_data.gold import bar_opens, is_made_of, resample_candles
from candlewick.quality.limits import CheckContext
from candlewick.quality.runs import Bools, Floats, Times, count_within, places_of, plural
from candlewick.timeframes import floor_to_bar, timeframe_ms
from candlewick.validation import Finding

EXACT = 1e-12
"""A float's last digits."""


@dataclass(frozen=True, slots=True)
class Holes:
    """Spans [start, end) of missing bars in order; int64 milliseconds, shape (holes,)."""

    start_ms: Times
    end_ms: Times

    def __len__(self) -> int:
        return self.start_ms.size


@dataclass(frozen=True, slots=True)
class Witness:
    """What one other source says of each hole, shape (holes,): it traded there (``traded`` bars), or saw nothing either."""

    name: str
    traded: Times
    silent: Bools
    same_exchange: bool


def find_holes(times_ms: Times, context: CheckContext) -> Holes:
    """Holes between bars (open times sorted); a bar off the grid fills the place that it is nearest to before it."""
    places = bar_opens(times_ms, context.series.timeframe)
    at = np.flatnonzero(np.diff(places) > context.length_ms)
    return Holes(places[at] + context.length_ms, places[at + 1])


def check_gaps(bars: pl.DataFrame, sound: pl.DataFrame, context: CheckContext, same_exchange: frozenset[str]) -> list[Finding]:
    """The holes between ``bars`` (sorted, one a time), classified; ``sound`` are those with numbers that can be added.

    ``same_exchange`` names those of the context's others that tell the same exchange.
    """
    holes = find_holes(opened_at_ms(bars), context)
    if not len(holes):
        return []
    holes, downloaded = _split_by_coverage(holes, context)
    witnesses = [*_finer(holes, context), *_coarser(holes, sound, context), *_others(holes, context, same_exchange)]
    quiet = _is_quiet(holes, bars, context)
    return [_finding(holes, hole, context, bool(downloaded[hole]), bool(quiet[hole]), witnesses) for hole in range(len(holes))]


def _split_by_coverage(holes: Holes, context: CheckContext) -> tuple[Holes, Bools]:
    """The holes cut where the coverage begins and ends (on the grid), and which of the parts are covered."""
    if context.coverage is None:
        return holes, np.ones(len(holes), np.bool_)
    parts: list[tuple[int, int, bool]] = []
    for start, end in zip(holes.start_ms.tolist(), holes.end_ms.tolist(), strict=True):
        at = start
        for missing in context.coverage.missing(Span(start, end)):
            since = floor_to_bar(missing.since_ms, context.series.timeframe)
            until = min(end, floor_to_bar(missing.until_ms + context.length_ms - 1, context.series.timeframe))
            parts += [(at, since, True)] if at < since else []
            parts.append((max(at, since), until, False))
            at = until
        parts += [(at, end, True)] if at < end else []
    since_ms, until_ms, covered = zip(*parts, strict=True)
    return Holes(np.array(since_ms, np.int64), np.array(until_ms, np.int64)), np.array(covered, np.bool_)


def _finding(holes: Holes, hole: int, context: CheckContext, downloaded: bool, quiet: bool, witnesses: list[Witness]) -> Finding:
    start, end = int(holes.start_ms[hole]), int(holes.end_ms[hole])
    missing = (end - start) // context.length_ms
    text = f"{plural(missing)} missing"
    if not downloaded:
        return Finding("gap_not_downloaded", "warning", start, end, f"{text}: never asked for, or not answered")
    told = [witness for witness in witnesses if witness.same_exchange and witness.traded[hole]]
    if told:
        said = ", ".join(f"{one.name} traded in {plural(int(one.traded[hole]))} of it" for one in told)
        return Finding("gap", "error", start, end, f"{text}, and not from the market: {said}")
    if quiet:
        near = f"{context.limits.quiet_bars} bars around have at least {context.limits.quiet_others} other silences"
        return Finding("gap_no_trades", "info", start, end, f"{text}: the market is quiet, the {near}")
    confirmed = [one.name for one in witnesses if one.same_exchange and one.silent[hole]]
    elsewhere = [one for one in witnesses if not one.same_exchange and 2 * one.traded[hole] >= missing]
    if confirmed or elsewhere:
        reasons = [f"{name} has nothing there either" for name in confirmed]
        reasons += [f"{one.name} traded in {plural(int(one.traded[hole]))} of it" for one in elsewhere]
        return Finding("gap_outage", "info", start, end, f"{text}, an outage of the exchange: {', '.join(reasons)}")
    asked = "" if context.coverage is None else ", and the market has answered that there are none"
    return Finding("gap", "warning", start, end, f"{text}{asked}; nothing else tells why")


def _traded_times(candles: pl.DataFrame) -> Times:
    return opened_at_ms(candles.filter(pl.col("volume") > 0))


def _reaches(candles: pl.DataFrame, timeframe: str, holes: Holes) -> Bools:
    """Whether the candles reach over the hole, on both sides."""
    times = opened_at_ms(candles)
    if times.size == 0:
        return np.zeros(len(holes), np.bool_)
    reached: Bools = (times[0] <= holes.start_ms) & (times[-1] + timeframe_ms(timeframe) >= holes.end_ms)
    return reached


def _finer(holes: Holes, context: CheckContext) -> list[Witness]:
    witnesses = []
    for timeframe, candles in context.finer.items():
        traded = count_within(_traded_times(candles), holes.start_ms, holes.end_ms)
        witnesses.append(Witness(timeframe, traded, _reaches(candles, timeframe, holes) & (traded == 0), True))
    return witnesses


def _others(holes: Holes, context: CheckContext, same_exchange: frozenset[str]) -> list[Witness]:
    witnesses = []
    for name, candles in context.others.items():
        traded = count_within(_traded_times(candles), holes.start_ms, holes.end_ms)
        silent = _reaches(candles, context.series.timeframe, holes) & (traded == 0)
        witnesses.append(Witness(name, traded, silent, name in same_exchange))
    return witnesses


def _coarser(holes: Holes, bars: pl.DataFrame, context: CheckContext) -> list[Witness]:
    """A coarser bar saw trades that are not in ours where its volume is clearly above theirs; nothing where it is the same."""
    witnesses = []
    times = opened_at_ms(bars)
    for timeframe, candles in context.coarser.items():
        if not bars.height or not is_made_of(timeframe, context.series.timeframe):
            continue
        opens, excess = opened_at_ms(candles), volume_excess(candles, bars, context, timeframe)
        since = bar_opens(holes.start_ms, timeframe)
        until = bar_opens(holes.end_ms - 1, timeframe) + timeframe_ms(timeframe)
        traded = count_within(opens[excess > context.limits.missing_share], since, until)
        unlike = count_within(opens[~(np.abs(excess) <= EXACT)], since, until)
        known = _reaches(candles, timeframe, Holes(since, until)) & (times[0] <= since) & (times[-1] + context.length_ms >= until)
        witnesses.append(Witness(timeframe, traded, known & (unlike == 0), True))
    return witnesses


def volume_excess(coarse: pl.DataFrame, bars: pl.DataFrame, context: CheckContext, timeframe: str) -> Floats:
    """The share of each coarse bar's volume that is not in the ``bars`` inside of it, shape (coarse rows,): 1 where all of it is
    missing, negative where they have more, NaN where ``bars`` do not reach over it."""
    opens, times = opened_at_ms(coarse), opened_at_ms(bars)
    sums = resample_candles(bars, context.series.timeframe, timeframe)
    places, there = places_of(opens, opened_at_ms(sums))
    ours = np.where(there, sums["volume"].to_numpy()[places], 0.0) if sums.height else np.zeros(opens.size)
    theirs = coarse["volume"].to_numpy()
    inside = (opens >= times[0]) & (opens + timeframe_ms(timeframe) <= times[-1] + context.length_ms)
    excess: Floats = np.divide(theirs - ours, theirs, out=np.where(ours > 0, -np.inf, 0.0), where=theirs > 0)
    return np.where(inside, excess, np.nan)


def _is_quiet(holes: Holes, bars: pl.DataFrame, context: CheckContext) -> Bools:
    """Whether silence is usual around each hole; bars without volume are silences as well."""
    limits, length = context.limits, context.length_ms
    there = bars.filter((pl.col("volume") != 0).fill_null(True))  # A bar that is broken is not silent.
    times = bar_opens(opened_at_ms(there), context.series.timeframe)
    at = np.flatnonzero(np.diff(times) > length)
    starts, ends = times[at] + length, times[at + 1]
    single = starts[ends - starts == length]
    reach = limits.quiet_bars * length
    since, until = holes.start_ms - reach, holes.end_ms + reach
    own_place = np.searchsorted(starts, holes.start_ms, side="right") - 1
    own = own_place >= 0
    own[own] = ends[own_place[own]] >= holes.end_ms[own]
    own_single = own & (holes.end_ms - holes.start_ms == length) & np.isin(holes.start_ms, single)
    others = count_within(starts, since, until) - own
    singles = count_within(single, since, until) - own_single
    short = holes.end_ms - holes.start_ms <= reach
    quiet: Bools = short & (others >= limits.quiet_others) & (2 * singles >= others)
    return quiet
