"""vectorbt on its Rust engine: its own averages and crosses, its own portfolio, and the metrics that are asked for."""

from importlib.metadata import version

import numpy as np
import pandas as pd
import vectorbt as vbt

from tests.bench.contender import CASH, FAST, FEE, SLOW, STOP, TARGET, Figures, cross_flags
from tests.bench.markets import COLUMNS, Market

VERSION = version("vectorbt")
_SETS_AT_ONCE = 20
Table = dict[str, pd.DataFrame]
vbt.settings["engine"] = "rust"


def table(market: Market) -> Table:
    """Frames of one column: open, high, low, close."""
    index = pd.DatetimeIndex(market.opened_at * 1_000_000)
    return {name: pd.DataFrame({0: getattr(market, name)}, index=index) for name in COLUMNS}


def single(market: Table, brackets: bool) -> Figures:
    """One run; signals are moved one bar on. Its brackets are live from the bar after the entry."""
    return _figures(_portfolio(market, [(FAST, SLOW)], brackets))[0]


def symbols(markets: list[Table]) -> list[Figures]:
    """All symbols as columns of one portfolio, each with cash of its own."""
    together = {name: pd.concat([market[name] for market in markets], axis=1, ignore_index=True) for name in COLUMNS}
    fast, slow = (vbt.MA.run(together["close"], window).ma.to_numpy() for window in (FAST, SLOW))
    flags = [cross_flags(fast[:, column], slow[:, column]) for column in range(len(markets))]
    return _figures(_run(together, flags, brackets=False))


def sweep(market: Table, sets: list[tuple[int, int]]) -> list[Figures]:
    """In chunks of columns: it keeps whole orders and values of every column."""
    figures: list[Figures] = []
    for start in range(0, len(sets), _SETS_AT_ONCE):
        figures += _figures(_portfolio(market, sets[start : start + _SETS_AT_ONCE], brackets=False))
    return figures


def _portfolio(market: Table, sets: list[tuple[int, int]], brackets: bool) -> vbt.Portfolio:
    windows = sorted({window for pair in sets for window in pair})
    averages = dict(zip(windows, vbt.MA.run(market["close"][0], windows).ma.to_numpy().T, strict=True))
    return _run(market, [cross_flags(averages[fast], averages[slow]) for fast, slow in sets], brackets)


def _run(market: Table, flags: list[tuple[np.ndarray, np.ndarray]], brackets: bool) -> vbt.Portfolio:
    stops = {"sl_stop": STOP, "tp_stop": TARGET, "stop_entry_price": "fillprice"} if brackets else {}
    entries, exits = (np.column_stack([pair[side] for pair in flags]) for side in (0, 1))
    index = market["close"].index
    return vbt.Portfolio.from_signals(
        **market, entries=_next_bar(entries, index), exits=_next_bar(exits, index), price=market["open"], init_cash=CASH,
        fees=FEE, min_size=1e-15, freq=index[1] - index[0], **stops,
    )  # fmt: skip


def _next_bar(flags: np.ndarray, index: pd.DatetimeIndex) -> pd.DataFrame:
    return pd.DataFrame(np.concatenate((np.zeros((1, flags.shape[1]), dtype=bool), flags[:-1])), index=index)


def _figures(portfolio: vbt.Portfolio) -> list[Figures]:
    columns = (portfolio.trades.closed.count(), portfolio.final_value(), portfolio.max_drawdown(), portfolio.sharpe_ratio())
    trades, equity, drawdown, _ = (np.atleast_1d(np.asarray(column)) for column in columns)
    return [Figures(int(n), float(value), float(deepest)) for n, value, deepest in zip(trades, equity, drawdown, strict=True)]
