"""Mean reversion with Wilder's relative strength index."""

from typing import ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from candlewick.strategies.contract import Actions, Shared, Strategy
from candlewick.strategies.decisions import FloatArray, SideArray, becomes_true, decide, prices, short_form, sides_of


class RsiReversion(Strategy):
    """Buys when the relative strength index falls below `oversold`, sells when it rises above `overbought`."""

    name: ClassVar[str] = "rsi_reversion"
    period: int = Field(14, ge=2, le=1_000, description="bars of the relative strength index")
    oversold: float = Field(30.0, gt=0, lt=100, description="buy when the index falls below this")
    overbought: float = Field(70.0, gt=0, lt=100, description="sell when the index rises above this; more than oversold")
    stop_loss_atr: float | None = Field(
        None, gt=0, le=100, description="stop this far from the fill price, in ATR(14); none: no stop"
    )
    take_profit_1_atr: float | None = Field(
        None, gt=0, le=1_000, description="first target this far from the fill price, in ATR(14); none: no target"
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
        strength, sides = self._decide(candles)
        reasons = {
            bar: f"RSI({self.period}) {strength[bar]:.2f} fell below {self.oversold:g}"
            if sides[bar] > 0
            else f"RSI({self.period}) {strength[bar]:.2f} rose above {self.overbought:g}"
            for bar in np.flatnonzero(sides).tolist()
        }
        return decide(sides, reasons, {"entry": prices(candles, "close"), **self._legs()}, self._legs())

    def actions(self, candles: pl.DataFrame, shared: Shared | None = None) -> Actions:
        """As `signals`."""
        return short_form(self._decide(candles)[1], self._legs())

    def _decide(self, candles: pl.DataFrame) -> tuple[FloatArray, SideArray]:
        """The index, and what is done about it, shape (bars,) each."""
        from candlewick.indicators import rsi

        strength = rsi(prices(candles, "close"), self.period)
        buy, sell = becomes_true(strength < self.oversold), becomes_true(strength > self.overbought)
        return strength, sides_of(buy, sell, self.warmup)

    def _legs(self) -> dict[str, float]:
        legs = {"stop_loss_atr": self.stop_loss_atr, "take_profit_1_atr": self.take_profit_1_atr}
        return {leg: distance for leg, distance in legs.items() if distance is not None}
