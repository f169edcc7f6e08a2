"""Spans that were traded one after the other, as one: the figures and the equity curve of all of them together.

Each span starts flat with the equity that the one before ended with; a position that is open at the end of a span counts at the
last close, without the costs of leaving it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import numpy as np
import polars as pl

from candlewick.amounts import amount_column, to_units
from candlewick.backtesting.simulation import Simulation, curve_rows
from candlewick.engine.grids import Integers
from candlewick.engine.layout import CASH_DECIMALS
from candlewick.engine.terms import Records
from candlewick.figures import FigureInputs
from candlewick.timeframes import DAY_MS, timeframe_ms

_SAME = 1e-12
_SUMMED = ("bars", "bars_exposed", "trades", "wins", "gains", "losses", "fees", "funding", "turnover", "span_ms")


@dataclass(frozen=True, slots=True, eq=False)
class Stitched:
    """``inputs`` are what figures are computed from. ``times`` int64 (bars,): opens in ms; ``points``: EQUITY records a bar."""

    inputs: FigureInputs
    times: Integers
    points: Records
    timeframe: str

    def curve(self) -> pl.DataFrame:
        """Columns at (the bar's close), equity, cash, position_value, drawdown_share (of all windows), open_positions.

        A row a bar, or the last of each period where those are too many.
        """
        rows = curve_rows(self.times, "thinned")
        values, points = self.points["equity"], self.points[rows]
        peaks = np.maximum.accumulate(np.concatenate([[self.inputs.initial_cash], values]))[1:]
        shares = np.where(peaks > 0, (peaks - values) / np.maximum(peaks, 1), 0.0)[rows]
        at = pl.Series("at", (self.times + timeframe_ms(self.timeframe))[rows]).cast(pl.Datetime("ms"))
        amounts = {name: points[name] for name in ("equity", "cash", "position_value")}
        amounts["drawdown_share"] = np.rint(shares * 10**CASH_DECIMALS).astype(np.int64)
        return pl.DataFrame(
            [
                at.dt.replace_time_zone("UTC").cast(pl.Datetime("us", "UTC")),
                *(amount_column(np.ascontiguousarray(units), CASH_DECIMALS).alias(name) for name, units in amounts.items()),
                pl.Series("open_positions", points["open_positions"].astype(np.int32)),
            ]
        )


def stitch(
    spans: Sequence[Simulation], times: Sequence[Integers], initial_cash: Decimal, benchmark_return: float | None
) -> Stitched:
    """Simulations with an equity point every bar, in the order of time, and the open times of their bars in ms."""
    parts = [span.figure_inputs() for span in spans]
    initial = to_units(initial_cash, CASH_DECIMALS, "ROUND_HALF_EVEN")
    opens = np.concatenate([np.zeros(0, dtype=np.int64), *times])
    points = np.concatenate([span.equity for span in spans])
    values = points["equity"]
    assert len(opens) == len(values), f"{len(opens)} bars and {len(values)} points of equity"
    timeframe = spans[0].terms.timeframe
    peak, trough = deepest_drawdown(values, initial)
    inputs = FigureInputs(
        initial_cash=initial,
        final_equity=int(values[-1]),
        day_equity=values[_day_ends(opens)],
        drawdown_peak=peak,
        drawdown_trough=trough,
        longest_drawdown_ms=longest_drawdown_ms(values, opens, initial, timeframe_ms(timeframe)),
        return_sum=float(sum(part.return_sum for part in parts)),
        benchmark_return=benchmark_return,
        **{name: sum(int(getattr(part, name)) for part in parts) for name in _SUMMED},
    )
    return Stitched(inputs, opens, points, timeframe)


def deepest_drawdown(values: Integers, initial: int) -> tuple[int, int]:
    """The equities between which the deepest relative fall lies, the first of equal ones; 0 and 0: none."""
    peaks = np.maximum.accumulate(np.concatenate([[initial], values]))[1:]
    shares = np.where(peaks > 0, (peaks - values) / np.maximum(peaks, 1), 0.0)
    if not values.size or float(shares.max()) <= 0:
        return 0, 0
    # Floats choose who may be among them, exact fractions decide.
    near = np.flatnonzero(shares >= float(shares.max()) * (1 - _SAME))
    place = max(near.tolist(), key=lambda row: (Fraction(int(peaks[row]) - int(values[row]), int(peaks[row])), -row))
    return int(peaks[place]), int(values[place])


def longest_drawdown_ms(values: Integers, opens: Integers, initial: int, bar_ms: int) -> int:
    """Longest time from a peak's close to the close that is at it again, or to the last. The first peak is at the first open."""
    if not values.size:
        return 0
    peaks = np.maximum.accumulate(np.concatenate([[initial], values]))[1:]
    closes = opens + bar_ms
    at_peak = np.flatnonzero(values >= peaks)
    marks = np.concatenate([[int(opens[0])], closes[at_peak]])
    recovered = np.diff(marks)
    # Between two neighbouring closes at a peak nothing was below it.
    steps = np.diff(np.concatenate([[-1], at_peak]))
    longest = int(recovered[steps > 1].max()) if bool((steps > 1).any()) else 0
    ongoing = int(closes[-1] - marks[-1]) if values[-1] < peaks[-1] else 0
    return max(longest, ongoing)


def _day_ends(opens: Integers) -> Integers:
    """Rows of the last bar of each UTC day."""
    return np.flatnonzero(np.append(np.diff(opens // DAY_MS) != 0, True)) if len(opens) else np.zeros(0, dtype=np.int64)
