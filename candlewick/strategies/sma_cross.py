"""Trend following with two moving averages."""

from typing import ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from candlewick.strategies.contract import Strategy
from candlewick.strategies.decisions import BoolArray, decide, price_text, prices


class SmaCross(Strategy):
    """Buys when the fast moving average of the closes crosses above the slow one, sells when it crosses below.

    Averages that touch and part again on the same side have not crossed. Ties are decided exactly, in integers.
    """

    name: ClassVar[str] = "sma_cross"
    fast: int = Field(10, ge=1, le=2_000, description="bars of the fast moving average")
    slow: int = Field(30, ge=2, le=2_000, description="bars of the slow moving average; more than fast")

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
        from candlewick.indicators import sma, sma_cross_sign

        closes = prices(candles, "close")
        up, down = _crosses(sma_cross_sign(closes, self.fast, self.slow))
        fast, slow = sma(closes, self.fast), sma(closes, self.slow)
        reasons = {
            bar: f"SMA({self.fast}) {price_text(fast[bar])} crossed {'above' if up[bar] else 'below'} "
            f"SMA({self.slow}) {price_text(slow[bar])}"
            for bar in np.flatnonzero(up | down).tolist()
        }
        return decide(up, down, reasons, {"entry": closes})


def _crosses(sign: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[BoolArray, BoolArray]:
    """Where the last sign that was not 0 turns from -1 to 1, and from 1 to -1."""
    apart = np.flatnonzero(sign)
    turns = apart[1:][sign[apart[1:]] != sign[apart[:-1]]]
    up, down = np.zeros(sign.size, dtype=np.bool_), np.zeros(sign.size, dtype=np.bool_)
    up[turns], down[turns] = sign[turns] > 0, sign[turns] < 0
    return up, down
