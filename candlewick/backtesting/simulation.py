"""One backtest, without Prefect, store or network: candles and a strategy in, what the engine did and its figures out.

>>> from decimal import Decimal
>>> from candlewick.backtesting.simulation import backtest
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from candlewick.amounts import to_units
from candlewick.candles import opened_at_ms
from candlewick.engine.bars import Beside, EngineInput, LaidOut, lay_out
from candlewick.engine.decisions import Said
from candlewick.engine.grids import Integers
from candlewick.engine.layout import CASH_DECIMALS, TURNOVER_WRAP
from candlewick.engine.run import advance
from candlewick.engine.state import EngineState, open_state
from candlewick.engine.terms import Records, Terms
from candlewick.errors import UsageError
from candlewick.figures import FigureInputs, Figures, compute_figures
from candlewick.metrics import held_return
from candlewick.strategies.contract import Strategy, complete_signals
from candlewick.timeframes import DAY_MS, timeframe_ms

Frames = Mapping[str, pl.DataFrame]
Curve = Literal["none", "thinned", "every bar"]
_HOUR_MS = 3_600_000
CURVE_POINTS = 2_500
"""An equity curve of more points than this is thinned to the last of each hour, four hours or day."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What the engine did over a span: its records, and the open of the first bar and the close of the last."""

    terms: Terms
    state: EngineState
    events: Records
    equity: Records
    tally: Records
    day_equity: Integers
    first_ms: int
    closed_ms: int
    benchmark_return: float | None = None

    def figures(self) -> Figures:
        """Every figure of candlewick/figures.py."""
        return compute_figures(self.figure_inputs())

    def figure_inputs(self) -> FigureInputs:
        """The sums that the figures are computed from."""
        account, tally = self.state.account[0], self.tally[0]
        below = int(account["equity"]) < int(account["peak_equity"])
        ongoing = self.closed_ms - int(account["peak_at"]) if below else 0
        return FigureInputs(
            initial_cash=to_units(self.terms.initial_cash, CASH_DECIMALS, "ROUND_HALF_EVEN"),
            final_equity=int(account["equity"]),
            day_equity=self.day_equity,
            span_ms=self.closed_ms - self.first_ms,
            longest_drawdown_ms=max(int(tally["longest_drawdown_ms"]), ongoing),
            return_sum=float(tally["return_sum"]),
            benchmark_return=self.benchmark_return,
            **{name: int(tally[name]) for name in ("bars", "bars_exposed", "drawdown_peak", "drawdown_trough")},
            **{name: int(account[name]) for name in ("trades", "wins", "gains", "losses")},
            turnover=int(tally["turnover"]) + int(tally["turnover_wraps"]) * TURNOVER_WRAP,
            **{name: int(tally[name]) for name in ("fees", "funding")},
        )


def backtest(
    terms: Terms,
    strategy: Strategy,
    candles: Frames,
    *,
    since_ms: int | None = None,
    until_ms: int | None = None,
    beside: Beside | None = None,
    curve: Curve = "thinned",
) -> Simulation:
    """Play ``strategy`` over validated candles by symbol: those that open from ``since_ms`` to before ``until_ms``.

    Signals are computed over all of the candles given, so what lies before ``since_ms`` warms them up. Raises UsageError where no
    bar is left, UnknownStrategy and StrategyFailed, FundingMissing is the caller's to find.
    """
    laid = lay_out_span(terms, candles, since_ms, until_ms, beside)
    return simulate(laid, laid.with_decisions(said_of(strategy, candles)), curve)


def lay_out_span(
    terms: Terms, candles: Frames, since_ms: int | None, until_ms: int | None, beside: Beside | None = None
) -> LaidOut:
    """The candles of a span, on the engine's grid. Raises UsageError where there is none."""
    after_ms = None if since_ms is None else since_ms - 1
    last = max((int(opened_at_ms(frame)[-1]) for frame in candles.values() if frame.height), default=0)
    laid = lay_out(terms, candles, after_ms, last if until_ms is None else until_ms - 1, beside)
    if not len(laid.market.times):
        raise UsageError(f"there is no candle of {', '.join(terms.symbols)} in the span asked for")
    return laid


def said_of(strategy: Strategy, candles: Frames) -> dict[str, Said]:
    """What the strategy decides for each symbol, by its quick way where it has one."""
    said: dict[str, Said] = {}
    for symbol, frame in candles.items():
        actions = strategy.actions(frame)
        said[symbol] = complete_signals(strategy, frame) if actions is None else actions
    return said


def simulate(laid: LaidOut, bars: EngineInput, curve: Curve = "thinned", *, keeps_events: bool = True) -> Simulation:
    """Step a new account over the bars; without ``keeps_events`` the answer has none."""
    terms = laid.terms
    rows = curve_rows(bars.times, curve)
    opened = open_state(terms.initial_cash, len(terms.symbols))
    moved = advance(opened, terms, bars, rows, keeps_events=keeps_events)
    held = held_return([laid.candles[symbol][slice(*laid.spans[symbol])] for symbol in terms.symbols]).value
    return Simulation(
        terms, moved.state, moved.events, moved.equity, moved.tally, moved.day_equity, int(bars.times[0]),
        int(bars.times[-1]) + timeframe_ms(terms.timeframe), None if held is None else float(held),
    )  # fmt: skip


def curve_rows(times: Integers, curve: Curve) -> Integers:
    """Rows whose close is a point of the curve: all, none, or the last of each period where all would be too many."""
    if curve == "none" or not len(times):
        return np.zeros(0, dtype=np.int64)
    if curve == "every bar" or len(times) <= CURVE_POINTS:
        return np.arange(len(times))
    span = int(times[-1]) - int(times[0])
    period = next((one for one in (_HOUR_MS, 4 * _HOUR_MS, DAY_MS) if span // one < CURVE_POINTS), 7 * DAY_MS)
    edges = np.arange(int(times[0]) // period + 1, int(times[-1]) // period + 2) * period
    return np.unique(np.searchsorted(times, edges)) - 1
