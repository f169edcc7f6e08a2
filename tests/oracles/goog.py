"""The known answer: GOOG, SMA(10) against SMA(20), long and short in turn, as backtesting.py 0.6.6 plays it.

Its rules, read in its source and confirmed by `written_out`: both sides; a cross decides at the close and acts at the next open,
where the position is closed first and the other side opened in the same open; whole shares, as many as the equity after that
close pays for at the open with the fee on top, long or short alike: floor(equity / (open * (1 + fee))); 0.2 % fee on each side's
notional; nothing is borrowed and a short's proceeds earn nothing; what is open at the end is marked to the last close.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from candlewick.candles import CANDLE_SCHEMA
from tests.oracles.play import Outcome, Trade
from tests.shared_data import SHARED

CASH, FEE = 10_000.0, 0.002
FAST, SLOW = 10, 20
_ANSWERS = SHARED / "data" / "known_answers"


@dataclass(frozen=True, slots=True)
class Answer:
    """As stated beside the data: money in quote currency, shares of 1."""

    trades: int = 93
    final_equity: float = 56_263.51934
    total_return: float = 4.62635193
    largest_drawdown: float = -0.33931592
    win_rate: float = 0.52688172
    commissions: float = 10_563.95154


def goog_candles() -> pl.DataFrame:
    """Daily candles in CANDLE_SCHEMA; skips the test where they are absent."""
    path = _ANSWERS / "backtesting.py_GOOG.csv"
    if not path.is_file():
        pytest.skip(f"the known answer {path.name} is not beside this checkout")
    frame = pl.read_csv(path).rename(str.lower).rename({"": "opened_at"})
    day = pl.col("opened_at").str.to_datetime("%Y-%m-%d", time_unit="ms").dt.replace_time_zone("UTC")
    return frame.with_columns(day).cast(dict(CANDLE_SCHEMA)).select(*CANDLE_SCHEMA)


def goog_trades() -> tuple[Trade, ...]:
    """The known trade list."""
    rows = pl.read_csv(_ANSWERS / "backtesting.py-0.6.6_GOOG_SMA10-20_comm0.2pct_93trades.csv").iter_rows(named=True)
    return tuple(
        Trade(row["EntryBar"], row["EntryPrice"], row["ExitBar"], row["ExitPrice"], row["Size"], row["PnL"]) for row in rows
    )


def crosses(closes: np.ndarray) -> np.ndarray:
    """1 where the fast average passes above the slow one, -1 where it passes below, else 0; int64, shape (bars,).

    From the bar before the pass on the averages are known, and they differ on both sides of it.
    """
    cents = np.rint(closes * 100).astype(np.int64)
    sums = np.concatenate(([0], np.cumsum(cents)))
    spread = np.zeros(cents.size, dtype=np.int64)
    spread[SLOW - 1 :] = np.sign((sums[SLOW:] - sums[SLOW - FAST : -FAST]) * (SLOW // FAST) - (sums[SLOW:] - sums[:-SLOW]))
    before = np.concatenate(([0], spread[:-1]))
    return np.where(spread * before < 0, spread, 0)


def written_out(candles: pl.DataFrame) -> tuple[Outcome, float, list[float]]:
    """The rules above as a loop: the outcome, all commissions of closed trades, and the equity at each close."""
    opens, closes = candles["open"].to_list(), candles["close"].to_list()
    decided = crosses(candles["close"].to_numpy()).tolist()
    cash, size, entry_bar, entry_price, commissions = CASH, 0, -1, 0.0, 0.0
    trades, equity = [], [CASH]
    for bar in range(1, len(opens)):
        price = opens[bar]
        if decided[bar - 1]:
            if size:
                fees = abs(size) * (entry_price + price) * FEE
                cash += size * (price - entry_price) - abs(size) * price * FEE
                trades.append(Trade(entry_bar, entry_price, bar, price, size, size * (price - entry_price) - fees))
                commissions += fees
            shares = math.floor(cash / (price * (1.0 + FEE)))
            size, entry_bar, entry_price = decided[bar - 1] * shares, bar, price
            cash -= shares * price * FEE
        equity.append(cash + size * (closes[bar] - entry_price))
    return Outcome(tuple(trades), equity[-1]), commissions, equity


def played_by_backtesting(candles: pl.DataFrame) -> tuple[Outcome, float, float, float]:
    """The outcome, commissions of closed trades, largest drawdown and win rate (shares of 1), by backtesting.py itself."""
    import pandas as pd
    from backtesting import Backtest, Strategy

    columns = {name.title(): candles[name].to_numpy() for name in ("open", "high", "low", "close", "volume")}
    decided = crosses(candles["close"].to_numpy())

    class Reversing(Strategy):  # type: ignore[misc]
        def init(self) -> None:
            pass

        def next(self) -> None:
            if side := decided[len(self.data) - 1]:
                self.position.close()
                (self.buy if side > 0 else self.sell)()

    frame = pd.DataFrame(columns, index=pd.DatetimeIndex(candles["opened_at"].to_numpy()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stats = Backtest(frame, Reversing, cash=CASH, commission=FEE).run()
    trades = tuple(
        Trade(row.EntryBar, row.EntryPrice, row.ExitBar, row.ExitPrice, row.Size, row.PnL)
        for row in stats["_trades"].itertuples()
    )
    outcome = Outcome(trades, float(stats["Equity Final [$]"]))
    return outcome, float(stats["Commissions [$]"]), stats["Max. Drawdown [%]"] / 100, stats["Win Rate [%]"] / 100
