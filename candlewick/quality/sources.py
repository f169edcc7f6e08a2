"""Which of the other sources tell the same exchange."""

import numpy as np
import polars as pl

from candlewick.candles import opened_at_ms
from candlewick.quality.limits import CheckContext
from candlewick.quality.runs import places_of

LEAST_COMMON_BARS = 20


def find_same_exchange(bars: pl.DataFrame, context: CheckContext) -> frozenset[str]:
    """Names of the others whose closes are ours in CheckLimits.same_exchange_share of the common bars that traded.

    Two exchanges have the same close once in some hundred bars; opens are not asked, because some collectors take the close
    before for one.
    """
    found = set()
    traded = bars.filter(pl.col("volume") > 0)
    for name, candles in context.others.items():
        places, there = places_of(opened_at_ms(traded), opened_at_ms(candles))
        common = int(there.sum())
        if common >= LEAST_COMMON_BARS:
            equal = traded["close"].to_numpy()[there] == candles["close"].to_numpy()[places[there]]
            found |= {name} if np.count_nonzero(equal) >= context.limits.same_exchange_share * common else set()
    return frozenset(found)
