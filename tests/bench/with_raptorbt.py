"""raptorbt: its own averages, its own engine (33 metrics come with every run), its own sweep over all cores."""

from importlib.metadata import version

import numpy as np
import raptorbt

from tests.bench.contender import CASH, FAST, FEE, SLOW, STOP, TARGET, Figures, cross_flags
from tests.bench.markets import Market

VERSION = version("raptorbt")
# Of 1,000 parameter sets it would hold a gigabyte of flags and half a megabyte of curves each, so it is given some at a time.
_SETS_AT_ONCE = 20


def table(market: Market) -> Market:
    """Columns are what it takes."""
    return market


def single(market: Market, brackets: bool) -> Figures:
    """One run; orders fill at the next open. Its targets fill at their limit where the open is better."""
    entries, exits = _flags(market, FAST, SLOW)
    result = raptorbt.run_single_backtest(
        *_columns(market), entries=entries, exits=exits, config=_config(brackets)
    )  # fmt: skip
    return _figures(result)


def symbols(markets: list[Market]) -> list[Figures]:
    """Symbol by symbol, each with cash of its own."""
    return [single(market, brackets=False) for market in markets]


def sweep(market: Market, sets: list[tuple[int, int]]) -> list[Figures]:
    """Its batch function, in chunks; an average that several sets use is computed once."""
    averages = {window: np.asarray(raptorbt.sma(market.close, window)) for window in {window for pair in sets for window in pair}}
    figures: list[Figures] = []
    for start in range(0, len(sets), _SETS_AT_ONCE):
        items = [
            raptorbt.BatchSingleItem(f"{fast}/{slow}", *cross_flags(averages[fast], averages[slow]))
            for fast, slow in sets[start : start + _SETS_AT_ONCE]
        ]
        results = raptorbt.batch_single_backtest(*_columns(market), items=items, config=_config(False))
        figures += [_figures(result[1] if isinstance(result, tuple) else result) for result in results]
    return figures


def _flags(market: Market, fast: int, slow: int) -> tuple[np.ndarray, np.ndarray]:
    return cross_flags(np.asarray(raptorbt.sma(market.close, fast)), np.asarray(raptorbt.sma(market.close, slow)))


def _columns(market: Market) -> tuple[np.ndarray, ...]:
    return market.opened_at * 1_000_000, market.open, market.high, market.low, market.close, market.volume


def _config(brackets: bool) -> raptorbt.BacktestConfig:
    config = raptorbt.BacktestConfig(initial_capital=CASH, fees=FEE, fill_timing="next_bar_open")
    if brackets:
        config.set_fixed_stop(STOP)
        config.set_fixed_target(TARGET)
    return config


def _figures(result: raptorbt.BacktestResult) -> Figures:
    metrics = result.metrics
    return Figures(metrics.total_closed_trades, metrics.end_value, -metrics.max_drawdown_pct / 100)
