"""Resampling: bars of a coarser timeframe must be what the finer ones inside of them make, to the last digit.

Only coarse bars are compared that lie wholly between the first and the last fine bar, and of whose fine bars none is missing or
unsound: those are told as holes, and as wrong values.
"""

import numpy as np
import polars as pl

from candlewick.candles import opened_at_ms
from candlewick.market_data.gold import bar_opens, is_made_of, resample_candles
from candlewick.quality.limits import CheckContext
from candlewick.quality.runs import Bools, Run, Times, places_of, plural, run_findings
from candlewick.quality.values import NUMBERS
from candlewick.timeframes import format_utc, timeframe_ms
from candlewick.validation import Finding, Severity

ROUNDING = 0.001
"""Up to this share a difference is how somebody rounds, which is a warning; beyond it it is an error."""


def check_resampling(bars: pl.DataFrame, context: CheckContext) -> list[Finding]:
    """`resampling`: coarse bars that differ from what sound ``bars`` make of them, or bars that finer ones make otherwise."""
    own = context.series.timeframe
    findings: list[Finding] = []
    for timeframe, candles in context.coarser.items():
        if is_made_of(timeframe, own):
            findings += _compare(bars, own, candles, timeframe)
    for timeframe, candles in context.finer.items():
        if is_made_of(own, timeframe):
            findings += _compare(candles, timeframe, bars, own)
    return findings


def _compare(fine: pl.DataFrame, fine_timeframe: str, coarse: pl.DataFrame, timeframe: str) -> list[Finding]:
    made = resample_candles(fine, fine_timeframe, timeframe)
    made = made.filter(pl.Series(_is_whole(fine, fine_timeframe, opened_at_ms(made), timeframe)))
    places, there = places_of(opened_at_ms(coarse), opened_at_ms(made))
    told, made = coarse.filter(pl.Series(there)).select(NUMBERS), made[places[there]].select(NUMBERS)
    times = opened_at_ms(coarse)[there]
    unlike = np.column_stack([told[name].to_numpy() != made[name].to_numpy() for name in NUMBERS])
    wrong = unlike.any(axis=1)
    if not wrong.any():
        return []
    far = np.logical_or.reduce(
        [np.abs(told[name].to_numpy() - made[name].to_numpy()) > ROUNDING * np.abs(told[name].to_numpy()) for name in NUMBERS]
    )

    def findings(at: Bools, severity: Severity) -> list[Finding]:
        rows = np.flatnonzero(at)

        def evidence(run: Run) -> str:
            row = int(rows[run.first])
            names = [name for name, differs in zip(NUMBERS, unlike[row].tolist(), strict=True) if differs]
            values = ", ".join(f"{name} {told[name][row]} against {made[name][row]}" for name in names)
            return (
                f"{plural(run.bars)} of {timeframe} {'differs' if run.bars == 1 else 'differ'} from what {fine_timeframe} makes; "
                f"{format_utc(run.start_ms)}: {values}"
            )

        return run_findings("resampling", severity, times[rows], timeframe_ms(timeframe), evidence)

    return [*findings(wrong & far, "error"), *findings(wrong & ~far, "warning")]


def _is_whole(fine: pl.DataFrame, fine_timeframe: str, opens: Times, timeframe: str) -> Bools:
    """Whether each coarse bar has all of its fine bars; shape of ``opens``."""
    keys, counts = np.unique(bar_opens(opened_at_ms(fine), timeframe), return_counts=True)
    places, there = places_of(opens, keys)
    whole: Bools = there & (counts[places] == timeframe_ms(timeframe) // timeframe_ms(fine_timeframe))
    return whole
