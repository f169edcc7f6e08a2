"""Buy once and keep: what every other strategy has to beat."""

from typing import ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from candlewick.strategies.contract import Strategy
from candlewick.strategies.decisions import decide, prices


class BuyAndHold(Strategy):
    """Buys at the first bar and keeps the position, without stop or target."""

    name: ClassVar[str] = "buy_and_hold"
    target_weight: float | None = Field(None, gt=0, le=1, description="share of the capital to buy for; none: an equal share")

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        """BUY in the first row, HOLD in all others."""
        buy = np.arange(candles.height) == 0
        at_buy = {"entry": prices(candles, "close")}
        if self.target_weight is not None:
            at_buy["target_weight"] = np.full(candles.height, self.target_weight)
        reasons = {0: "first bar: buy and hold"} if candles.height else {}
        return decide(buy, np.zeros_like(buy), reasons, at_buy)
