"""What every engine is given, what it answers, and how two answers are compared. Bars count from 0; money is in floats."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tests.oracles.signals import Signals


@dataclass(frozen=True, slots=True)
class Play:
    """Long only and all-in: a signal at a close fills at the next open, ``fee`` is a share of each side's notional.

    ``stop`` and ``target`` are shares of the fill price below and above it, both or none. ``candles`` as in CANDLE_SCHEMA.
    """

    candles: pl.DataFrame
    signals: Signals
    stop: float | None = None
    target: float | None = None
    cash: float = 1_000_000.0
    fee: float = 0.001

    def column(self, name: str) -> np.ndarray:
        """One of the candles' columns, float64, writable and contiguous."""
        return self.candles[name].to_numpy().astype(np.float64)


def levels(play: Play, fill: float) -> tuple[float, float]:
    """Prices of stop and target of an entry at ``fill``, as they are meant: 615 less 2 % is 602.7, which a low can touch."""
    assert play.stop is not None
    assert play.target is not None
    return round(fill * (1.0 - play.stop), 8), round(fill * (1.0 + play.target), 8)


@dataclass(frozen=True, slots=True)
class Trade:
    """A closed trade; ``pnl`` is after both fees. ``size`` is negative for a short."""

    entry_bar: int
    entry_price: float
    exit_bar: int
    exit_price: float
    size: float
    pnl: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """``final_equity`` is marked to the last close without a fee for what is still held."""

    trades: tuple[Trade, ...]
    final_equity: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """``differing`` counts the trades of either side that the other has not at the same bars and prices (1e-9 relative)."""

    ours: Outcome
    theirs: Outcome

    @property
    def equity_difference(self) -> float:
        """Relative to ours, signed."""
        return self.theirs.final_equity / self.ours.final_equity - 1.0

    @property
    def differing(self) -> tuple[Trade, ...]:
        """Trades that only one side made, ours first."""
        return _without(self.ours.trades, self.theirs.trades) + _without(self.theirs.trades, self.ours.trades)

    @property
    def largest_size_difference(self) -> float:
        """Of the trades in pairs, relative; 0 where there are none."""
        pairs = zip(self.ours.trades, self.theirs.trades, strict=False)
        return max((abs(theirs.size / ours.size - 1.0) for ours, theirs in pairs), default=0.0)

    @property
    def largest_pnl_difference(self) -> float:
        """Of the trades in pairs, relative to the trade's notional (a break-even trade has no profit to be relative to)."""
        pairs = zip(self.ours.trades, self.theirs.trades, strict=False)
        return max((abs(theirs.pnl - ours.pnl) / (abs(ours.size) * ours.entry_price) for ours, theirs in pairs), default=0.0)


def _without(trades: tuple[Trade, ...], others: tuple[Trade, ...]) -> tuple[Trade, ...]:
    known = {(trade.entry_bar, trade.exit_bar): trade for trade in others}
    return tuple(trade for trade in trades if not _same(trade, known.get((trade.entry_bar, trade.exit_bar))))


def _same(trade: Trade, other: Trade | None) -> bool:
    return other is not None and all(
        abs(theirs / ours - 1.0) < 1e-9
        for ours, theirs in ((trade.entry_price, other.entry_price), (trade.exit_price, other.exit_price))
    )


def assert_same(comparison: Comparison) -> None:
    """The same trades at the same bars and prices; final equity, sizes and profits to 1e-9 relative."""
    assert comparison.differing == ()
    assert len(comparison.ours.trades) == len(comparison.theirs.trades) > 0
    assert abs(comparison.equity_difference) < 1e-9
    assert comparison.largest_size_difference < 1e-9
    assert comparison.largest_pnl_difference < 1e-9
