"""Mean reversion with Wilder's relative strength index."""

from typing import ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from candlewick.strategies.contract import Strategy
from candlewick.strategies.decisions import FloatArray, becomes_true, decide, prices


class RsiReversion(Strategy):
    """Buys when the relative strength index falls below `oversold`, sells when it rises above `overbought`."""

    name: ClassVar[str] = "rsi_reversion"
    period: int = Field(14, ge=2, le=1_000, description="bars of the relative strength index")
    oversold: float = Field(30.0, gt=0, lt=100, description="buy when the index falls below this")
    overbought: float = Field(70.0, gt=0, lt=100, description="sell when the index rises above this; more than oversold")
    stop_loss_atr: float | None = Field(None, gt=0, le=100, description="stop below the fill price, in ATR(14); none: no stop")
    take_profit_1_atr: float | None = Field(
        None, gt=0, le=1_000, description="first target above the fill price, in ATR(14); none: no target"
    )

    @model_validator(mode="after")
    def _levels_in_order(self) -> Self:
        if self.oversold >= self.overbought:
            raise ValueError(
                f"oversold is {self.oversold} and overbought is {self.overbought}; oversold must be below overbought"
            )
        return self

    @property
    def warmup(self) -> int:
        """One bar more than the index needs, because a level is crossed between two known values."""
        return self.period + 1

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        """BUY on the bar that falls below `oversold`, SELL on the bar that rises above `overbought`."""
        from candlewick.indicators import rsi

        closes = prices(candles, "close")
        strength = rsi(closes, self.period)
        buy, sell = becomes_true(strength < self.oversold), becomes_true(strength > self.overbought)
        buy[: self.warmup], sell[: self.warmup] = False, False
        reasons = {
            bar: f"RSI({self.period}) {strength[bar]:.2f} fell below {self.oversold:g}"
            if buy[bar]
            else f"RSI({self.period}) {strength[bar]:.2f} rose above {self.overbought:g}"
            for bar in np.flatnonzero(buy | sell).tolist()
        }
        at_buy: dict[str, FloatArray | float] = {"entry": closes}
        distances = {"stop_loss_atr": self.stop_loss_atr, "take_profit_1_atr": self.take_profit_1_atr}
        at_buy |= {leg: distance for leg, distance in distances.items() if distance is not None}
        return decide(buy, sell, reasons, at_buy)
