"""raptorbt 0.13 as an oracle."""

import numpy as np
import raptorbt

from tests.oracles.play import Outcome, Play, Trade


def run(play: Play) -> Outcome:
    """Orders at the next open; what is open at the end it reports as a trade that ends with the data, without a fee."""
    config = raptorbt.BacktestConfig(initial_capital=play.cash, fees=play.fee, fill_timing="next_bar_open")
    if play.stop is not None:
        config.set_fixed_stop(play.stop)
    if play.target is not None:
        config.set_fixed_target(play.target)
    result = raptorbt.run_single_backtest(
        timestamps=play.candles["opened_at"].dt.timestamp("ns").to_numpy().astype(np.int64),
        open=play.column("open"),
        high=play.column("high"),
        low=play.column("low"),
        close=play.column("close"),
        volume=play.column("volume"),
        entries=play.signals.entries.copy(),
        exits=play.signals.exits.copy(),
        config=config,
    )
    closed = (trade for trade in result.trades() if trade.exit_reason != "EndOfData")
    return Outcome(tuple(_trade(trade) for trade in closed), float(result.metrics.end_value))


def _trade(trade: raptorbt.Trade) -> Trade:
    return Trade(trade.entry_idx, trade.entry_price, trade.exit_idx, trade.exit_price, trade.size, trade.pnl)
