"""Volume: bars in which nothing traded and bars that were made up, copied bars, and volumes in another unit."""

import itertools

import numpy as np
import polars as pl

from candlewick.candles import opened_at_ms
from candlewick.market_data.gold import bar_opens, is_made_of
from candlewick.quality.gaps import volume_excess
from candlewick.quality.limits import CheckContext
from candlewick.quality.runs import Bools, Floats, Times, places_of, plural, run_findings, runs_of
from candlewick.timeframes import format_utc
from candlewick.validation import Finding, VolumeJump, find_repeated, volume_jumps

SWAP_FACTOR = 2.0
"""How far the ratio of two volumes may be off the price to be taken for it: the price moves inside of a bar."""
LEVEL_ROOM = 5.0
"""How far the ratio of two levels of volume may be off the price to be taken for it: the market itself changes, too."""
LEAST_PRICE = 10.0
"""Below this price a volume in quote currency does not stand out from one in base currency."""


def check_volume(bars: pl.DataFrame, context: CheckContext, same_exchange: frozenset[str]) -> list[Finding]:
    """Findings of sound ``bars``: `zero_volume`, `invented_candle`, `repeated_candle`, `volume_level`."""
    times, silent = opened_at_ms(bars), bars["volume"].to_numpy() == 0
    findings: list[Finding] = []
    for text, flags in _invented(bars, silent, context, same_exchange) if silent.any() else []:
        made_up = times[silent & flags]
        silent = silent & ~flags
        findings += [
            Finding("invented_candle", "warning", run.start_ms, run.end_ms, f"{plural(run.bars)} without volume: {text}")
            for run in runs_of(made_up, context.length_ms)
        ]
    findings += run_findings(
        "zero_volume", "info", times[silent], context.length_ms, lambda run: f"{plural(run.bars)} in which nothing traded"
    )
    return [*findings, *find_repeated(bars, context.length_ms), *_levels(bars, context, same_exchange)]


def _invented(bars: pl.DataFrame, silent: Bools, context: CheckContext, same_exchange: frozenset[str]) -> list[tuple[str, Bools]]:
    """Reasons to take flat bars without volume for made up, and the bars that each is true of, shape (rows,)."""
    times, flat = opened_at_ms(bars), silent & (bars["high"].to_numpy() == bars["low"].to_numpy())
    unknown = flat.copy()  # What another collector tells as well the exchange has said itself.
    reasons: list[tuple[str, Bools]] = []
    for name in sorted(same_exchange):
        other = opened_at_ms(context.others[name])
        places, there = places_of(times, other)
        within = (times >= other[0]) & (times <= other[-1])
        traded = there & (context.others[name]["volume"].to_numpy()[places] > 0)
        unknown &= ~there
        reasons.append((f"{name}, the same exchange, has no such bar", flat & within & ~there))
        reasons.append((f"{name}, the same exchange, traded there", silent & traded))
    for timeframe, candles in context.finer.items():
        other = bar_opens(opened_at_ms(candles), context.series.timeframe)
        within = (times >= other[0]) & (times < other[-1]) if other.size else np.zeros(times.size, np.bool_)
        reasons.append((f"no {timeframe} bar is inside of it", flat & within & ~places_of(times, np.unique(other))[1]))
    for timeframe, candles in context.coarser.items():
        if candles.height and is_made_of(timeframe, context.series.timeframe):
            reasons += _beside_coarser(bars, flat, unknown, candles, timeframe, context)
    return reasons


def _beside_coarser(
    bars: pl.DataFrame, flat: Bools, unknown: Bools, coarse: pl.DataFrame, timeframe: str, context: CheckContext
) -> list[tuple[str, Bools]]:
    times, opens = opened_at_ms(bars), opened_at_ms(coarse)
    keys = bar_opens(times, timeframe)
    places, there = places_of(keys, opens)
    within = (keys >= opens[0]) & (keys <= opens[-1])
    traded = there & (coarse["volume"].to_numpy()[places] > 0)
    price = bars["close"].to_numpy()
    outside = (price > coarse["high"].to_numpy()[places]) | (price < coarse["low"].to_numpy()[places])
    not_open = (keys == times) & (price != coarse["open"].to_numpy()[places])
    more = volume_excess(coarse, bars, context, timeframe)[places] > context.limits.missing_share
    return [
        (f"there is no {timeframe} bar around it", flat & within & ~there),
        (f"the {timeframe} bar around it has another price", flat & traded & (outside | not_open)),
        (f"the {timeframe} bar around it traded more than the bars that have volume", unknown & traded & more),
    ]


def _levels(bars: pl.DataFrame, context: CheckContext, same_exchange: frozenset[str]) -> list[Finding]:
    """`volume_level`: bars whose volume is another collector's times the price; else where the level jumps."""
    findings: list[Finding] = []
    times, price, volume = opened_at_ms(bars), bars["close"].to_numpy(), bars["volume"].to_numpy()
    for name in sorted(same_exchange):
        other = context.others[name]
        places, there = places_of(times, opened_at_ms(other))
        theirs = other["volume"].to_numpy()[places]
        swapped = there & (price >= LEAST_PRICE) & (volume > 0) & (theirs > 0)
        swapped &= _is_near(volume / np.where(theirs > 0, theirs, np.inf), price)
        text = f"have the volume of {name} times the price: it is in quote currency"
        findings += [
            Finding("volume_level", "warning", run.start_ms, run.end_ms, f"{plural(run.bars)} {text}")
            for run in runs_of(times[swapped], context.length_ms)
        ]
    return findings or _jumps(times, price, bars, context)


def _is_near(ratio: Floats, price: Floats) -> Bools:
    near: Bools = (ratio > price / SWAP_FACTOR) & (ratio < price * SWAP_FACTOR)
    return near


def _jumps(times: Times, price: Floats, bars: pl.DataFrame, context: CheckContext) -> list[Finding]:
    """Where the level jumps; where it jumps about by the price, all bars between such borders that have the higher level."""
    findings: list[Finding] = []
    swaps: list[VolumeJump] = []
    for jump in volume_jumps(bars, context.length_ms):
        worth = price[np.searchsorted(times, jump.time_ms)]
        if worth / LEVEL_ROOM < max(jump.before, jump.after) / min(jump.before, jump.after) < worth * LEVEL_ROOM:
            swaps.append(jump)
        else:
            end = jump.time_ms + context.length_ms
            findings.append(Finding("volume_level", "warning", jump.time_ms, end, f"{_told(jump)} and stays"))
    borders = [int(times[0]), *(jump.time_ms for jump in swaps), int(times[-1]) + context.length_ms]
    traded = times[bars["volume"].to_numpy() > 0]
    for place, (start, end) in enumerate(itertools.pairwise(borders)):
        rises = [jump for jump in swaps[max(0, place - 1) : place] if jump.after > jump.before]
        falls = [jump for jump in swaps[place : place + 1] if jump.after < jump.before]
        if rises or falls:
            count = int(np.searchsorted(traded, end) - np.searchsorted(traded, start))
            text = f"{plural(count)} with the volume in quote currency, as it seems, for about by the price"
            findings.append(
                Finding("volume_level", "warning", start, end, f"{text} {', and '.join(_told(one) for one in rises + falls)}")
            )
    return findings


def _told(jump: VolumeJump) -> str:
    return f"the median volume goes from {jump.before:g} to {jump.after:g} at {format_utc(jump.time_ms)}"
