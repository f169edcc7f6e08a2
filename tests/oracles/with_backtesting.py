"""backtesting.py 0.6.6 as an oracle."""

import warnings

import pandas as pd
from backtesting import Strategy
from backtesting.lib import FractionalBacktest

from tests.oracles.play import Outcome, Play, Trade, levels

# The quantity is a whole number of these, and all-in is a hair less than all: what rounding may not exceed.
_UNIT = 1e-12
_ALL_IN = 1.0 - 1e-12


def run(play: Play) -> Outcome:
    """Fractional sizes, orders at the next open (its default), open trades left open at the end.

    Its brackets are absolute prices that are given with the order. To hang them on the fill price the oracle's strategy looks one
    open ahead, which a strategy of one's own must not.
    """
    frame = _frame(play)

    class Signals(Strategy):  # type: ignore[misc]
        def init(self) -> None:
            pass

        def next(self) -> None:
            bar = len(self.data) - 1
            if self.position:
                if play.signals.exits[bar]:
                    self.position.close()
            elif play.signals.entries[bar] and bar + 1 < len(frame):
                order = self.buy(size=_ALL_IN)
                if play.stop is not None and play.target is not None:
                    # `buy` refuses brackets that do not enclose the last close, and the fill may be beyond it.
                    stop, target = levels(play, frame["Open"].iloc[bar + 1])
                    order._replace(sl_price=stop * _UNIT, tp_price=target * _UNIT)

    engine = FractionalBacktest(frame, Signals, fractional_unit=_UNIT, cash=play.cash, commission=play.fee, finalize_trades=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stats = engine.run()
    return Outcome(tuple(_trade(row) for row in stats["_trades"].itertuples()), float(stats["Equity Final [$]"]))


def _frame(play: Play) -> pd.DataFrame:
    columns = {name.title(): play.column(name) for name in ("open", "high", "low", "close", "volume")}
    return pd.DataFrame(columns, index=pd.DatetimeIndex(play.candles["opened_at"].to_numpy()))


def _trade(row) -> Trade:  # type: ignore[no-untyped-def]
    return Trade(row.EntryBar, row.EntryPrice, row.ExitBar, row.ExitPrice, row.Size, row.PnL)
