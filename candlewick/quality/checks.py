"""All checks of one series of candles; docs/data.md lists what they find, and what makes it so.

Nothing is changed and nothing is refused: candles as received are looked at as they are, and what is in the lake as well.
"""

import polars as pl

from candlewick.candles import opened_at_ms
from candlewick.quality.gaps import check_gaps
from candlewick.quality.limits import CheckContext
from candlewick.quality.outliers import check_outliers
from candlewick.quality.recency import check_partial, check_recency
from candlewick.quality.resampling_check import check_resampling
from candlewick.quality.sources import find_same_exchange
from candlewick.quality.values import check_columns, check_grid, check_order, check_values, single_bars
from candlewick.quality.volume import check_volume
from candlewick.validation import Finding


def check_series(candles: pl.DataFrame, context: CheckContext) -> tuple[Finding, ...]:
    """What is remarkable about candles of one series, in the order of their spans; sorted or not, broken or not.

    Rows that are not finite, not positive or not consistent are told as such and left out of what needs prices.
    """
    findings = check_columns(candles)
    if findings or candles.is_empty():
        return tuple(findings)
    findings += check_order(candles, context.length_ms)
    bars, several = single_bars(candles, context.length_ms)
    is_sound, unsound = check_values(bars, context.length_ms)
    findings += several + unsound
    findings += check_grid(opened_at_ms(bars), context.series.timeframe)
    findings += check_recency(bars, context)
    sound = bars if not unsound else bars.filter(pl.Series(is_sound))
    same_exchange = find_same_exchange(sound, context)
    findings += check_gaps(bars, sound, context, same_exchange)
    if sound.height:
        findings += check_volume(sound, context, same_exchange)
        findings += check_outliers(sound, context, same_exchange)
        findings += check_resampling(sound, context)
        findings += check_partial(sound, context, same_exchange)
    return tuple(sorted(findings, key=lambda one: (one.span_start_ms, one.span_end_ms, one.kind, one.evidence)))
