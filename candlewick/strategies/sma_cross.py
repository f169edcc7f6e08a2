"""Trend following with two moving averages."""

from typing import ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from candlewick.strategies.contract import Actions, Shared, Strategy
from candlewick.strategies.decisions import decide, price_text, prices, prices_in_place
from candlewick.strategies.protection import StopLossBps, TakeProfit1Bps, TrailingStopBps, protection


class SmaCross(Strategy):
    """Buys when the fast moving average of the closes crosses above the slow one, sells when it crosses below.

    Averages that touch and part again on the same side have not crossed. Ties are decided exactly, in integers.
    """

    name: ClassVar[str] = "sma_cross"
    fast: int = Field(10, ge=1, le=2_000, description="bars of the fast moving average")
    slow: int = Field(30, ge=2, le=2_000, description="bars of the slow moving average; more than fast")
    stop_loss_bps: StopLossBps = None
    take_profit_1_bps: TakeProfit1Bps = None
    trailing_stop_bps: TrailingStopBps = None

    @model_validator(mode="after")
    def _fast_is_faster(self) -> Self:
        if self.fast >= self.slow:
            raise ValueError(f"fast is {self.fast} and slow is {self.slow}; fast must be below slow")
        return self

    @property
    def warmup(self) -> int:
        """``slow`` bars: the first on which both averages exist has nothing before it that it could have crossed from."""
        return self.slow

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        """BUY on the bar of a cross up, SELL on the bar of a cross down."""
        from candlewick.indicators import sma

        crosses, closes = self.actions(candles), prices(candles, "close")
        fast, slow = sma(closes, self.fast), sma(closes, self.slow)
        reasons = {
            bar: f"SMA({self.fast}) {price_text(fast[bar])} crossed {'above' if side > 0 else 'below'} "
            f"SMA({self.slow}) {price_text(slow[bar])}"
            for bar, side in zip(crosses.rows.tolist(), crosses.sides.tolist(), strict=True)
        }
        sides = np.zeros(closes.size, dtype=np.int8)
        sides[crosses.rows] = crosses.sides
        return decide(sides, reasons, {"entry": closes, **crosses.constants}, crosses.constants)

    def actions(self, candles: pl.DataFrame, shared: Shared | None = None) -> Actions:
        """As `signals`; compiled, one pass over the closes where they lie, or over the sums that all sets share."""
        from candlewick.crossing import fits, sma_cross_rows, sma_crosses, turns

        shared = self.shared(candles) if shared is None else shared
        lowest, highest = shared["bounds"].tolist() if shared else (0, 0)
        if shared and candles.height > self.slow and fits(lowest, highest, self.fast, self.slow):
            rows, sides = np.empty(candles.height, dtype=np.int64), np.empty(candles.height, dtype=np.int8)
            count = sma_cross_rows(shared["sums"], self.fast, self.slow, rows, sides)
            return Actions(rows[:count].copy(), sides[:count].copy(), protection(self))
        rows, sides, exact = sma_crosses(prices_in_place(candles, "close"), self.fast, self.slow)
        if not exact:
            from candlewick.indicators import sma_cross_sign

            turned = turns(sma_cross_sign(prices(candles, "close"), self.fast, self.slow).astype(np.int8))
            rows = np.flatnonzero(turned)
            sides = turned[rows]
        return Actions(rows, sides, protection(self))

    @classmethod
    def shared(cls, candles: pl.DataFrame) -> Shared:
        """Sums of the closes in whole units of the grid, and their bounds; nothing where a price is not on the exact grid."""
        from candlewick.crossing import closes_on_grid, prefix_sums

        units, exact = closes_on_grid(prices_in_place(candles, "close"))
        if not exact or not units.size:
            return {}
        return {"sums": prefix_sums(units), "bounds": np.array([units.min(), units.max()])}
