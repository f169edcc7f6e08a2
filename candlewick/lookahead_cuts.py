"""Where the look-ahead check cuts a history, and with what made-up bars it goes on.

A cut is the number of leading bars that are kept. Nothing here knows a strategy.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from candlewick.candles import CANDLE_SCHEMA, opened_at_ms

IntArray = np.ndarray[tuple[int], np.dtype[np.int64]]

FIRST_CUTS = 5
ACTING_CUTS_PER_CUT = 25
BARS_PER_CUT = 300_000
_FEWEST_ACTING_CUTS = 10
_LONG_FUTURE_BARS = 64


@dataclass(frozen=True, slots=True)
class Future:
    """Made-up bars after a cut: prices go to ``factor`` times the last close within one bar, and stay around it for ``bars``."""

    factor: float
    bars: int


FUTURES = (Future(0.5, 1), Future(2.0, 1), Future(0.5, _LONG_FUTURE_BARS), Future(2.0, _LONG_FUTURE_BARS))
"""A crash and a rally, of a single bar as a forming one would be, and of many."""


@dataclass(frozen=True, slots=True)
class CutPlan:
    """Cuts of one symbol, ascending and unique: ``truncated`` histories simply end, ``continued`` ones go on with FUTURES."""

    truncated: IntArray
    continued: IntArray


def plan_cuts(acting: IntArray, bars: int, warmup: int, cuts: int, share: int, draw: np.random.Generator) -> CutPlan:
    """Choose the cuts of ``bars`` bars, of which ``acting`` (ascending) act; ``share``: symbols that share the budget.

    - ``cuts`` spread over the span, one at random in each of as many equal parts, the middle, 1 bar and the last but one;
    - the first bars after the warm-up;
    - right after acting bars: of one symbol up to 25 x ``cuts`` and 300,000 x ``cuts`` bars of work, whichever is less; where
      there are more, a third the oldest, a third the newest, the rest evenly spread. A history of no more bars than that is
      cut after every bar;
    - made-up futures after up to ``cuts`` / 4 acting bars, and in place of the last bar and after it.
    """
    edges = np.linspace(1, bars, cuts + 1)
    spread = np.floor(draw.uniform(edges[:-1], edges[1:])).astype(np.int64)
    basic = np.concatenate([spread, [1, bars // 2, bars - 1], warmup + 1 + np.arange(FIRST_CUTS)])
    basic = np.unique(basic[(basic >= 1) & (basic < bars)])
    most = max(ACTING_CUTS_PER_CUT * cuts // share, _FEWEST_ACTING_CUTS)
    work = max(BARS_PER_CUT * cuts // share - int(basic.sum()), 0)
    wanted = np.arange(1, bars) if bars <= most else acting[acting < bars - 1] + 1
    mean = float(wanted.mean()) if wanted.size else 1.0
    chosen = _choose(wanted, min(most, max(int(work / mean), _FEWEST_ACTING_CUTS)))
    futures = _choose(acting + 1, max(cuts // (4 * share), 1))
    return CutPlan(np.union1d(basic, chosen), np.unique(np.concatenate([futures, [bars - 1, bars]])))


def _choose(wanted: IntArray, most: int) -> IntArray:
    """All, or ``most`` of them: oldest, newest, and the rest evenly."""
    if wanted.size <= most:
        return wanted
    ends = most // 3
    between = np.linspace(ends, wanted.size - 1 - ends, most - 2 * ends).astype(np.int64)
    places = np.unique(np.concatenate([np.arange(ends), between, np.arange(wanted.size - ends, wanted.size)]))
    chosen: IntArray = wanted[places]
    return chosen


def continued(candles: pl.DataFrame, cut: int, future: Future) -> pl.DataFrame:
    """The first ``cut`` candles and then a made-up future: valid candles, at the spacing of the last ones."""
    times = opened_at_ms(candles)
    step_ms = int(np.diff(times).min())
    last = candles.row(cut - 1, named=True)
    number = np.arange(1, future.bars + 1)
    # Up and down by a few per cent, so that averages cross and swings form.
    closes = float(last["close"]) * future.factor * (1 + 0.05 * np.sin(number))
    opens = np.concatenate([[float(last["close"])], closes[:-1]])
    made_up = pl.DataFrame(
        {
            "opened_at": pl.Series(int(times[cut - 1]) + step_ms * number, dtype=pl.Int64).cast(CANDLE_SCHEMA["opened_at"]),
            "open": opens,
            "high": np.maximum(opens, closes) * 1.01,
            "low": np.minimum(opens, closes) * 0.99,
            "close": closes,
            "volume": np.full(future.bars, 10 * float(last["volume"]) + 1),
        }
    )
    return pl.concat([candles.head(cut), made_up.select(candles.columns).cast(candles.schema)])
