"""vectorbt 1.2 as an oracle, on its compiled Rust engine where that is installed."""

import numpy as np
import pandas as pd
import vectorbt as vbt

from tests.oracles.play import Outcome, Play, Trade


def run(play: Play) -> Outcome:
    """Signals moved one bar on, so that they fill at that bar's open; sizes may be as small as they come."""
    frame = {name: pd.Series(play.column(name)) for name in ("open", "high", "low", "close")}
    stops = {} if play.stop is None else {"sl_stop": play.stop, "tp_stop": play.target, "stop_entry_price": "fillprice"}
    portfolio = vbt.Portfolio.from_signals(
        frame["close"],
        open=frame["open"],
        high=frame["high"],
        low=frame["low"],
        entries=_next_bar(play.signals.entries),
        exits=_next_bar(play.signals.exits),
        price=frame["open"],
        init_cash=play.cash,
        fees=play.fee,
        min_size=1e-15,
        freq="1h",
        **stops,
    )
    records = portfolio.trades.closed.values
    trades = (
        Trade(int(row["entry_idx"]), row["entry_price"], int(row["exit_idx"]), row["exit_price"], row["size"], row["pnl"])
        for row in records
    )
    return Outcome(tuple(trades), float(portfolio.final_value()))


def _next_bar(flags: np.ndarray) -> pd.Series:
    return pd.Series(np.concatenate(([False], flags[:-1])))
