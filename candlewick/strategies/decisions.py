"""How the built-in strategies write down what they decided: action columns, reasons, prices in words."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from candlewick.strategies.contract import BUY, HOLD, SELL

FloatArray = np.ndarray[tuple[int], np.dtype[np.float64]]
BoolArray = np.ndarray[tuple[int], np.dtype[np.bool_]]


def prices(candles: pl.DataFrame, column: str) -> FloatArray:
    """A column as an own, contiguous float64 array, shape (bars,): compiled code then needs only one variant of itself."""
    return np.array(candles[column].to_numpy(), dtype=np.float64)


def becomes_true(condition: BoolArray) -> BoolArray:
    """True where ``condition`` holds and did not hold one bar earlier; never at the first bar, before which nothing is known."""
    event = condition.copy()
    event[1:] &= ~condition[:-1]
    event[:1] = False
    return event


def decide(buy: BoolArray, sell: BoolArray, reasons: Mapping[int, str], at_buy: Mapping[str, FloatArray | float]) -> pl.DataFrame:
    """One row per bar: `action`, `reason`, and the columns of ``at_buy`` where the action is BUY, null elsewhere.

    ``reasons`` holds a text for each bar that acts; ``at_buy`` arrays have shape (bars,). Nothing is bought where both are true.
    """
    buy = buy & ~sell
    texts: list[str | None] = [None] * buy.size
    for bar, text in reasons.items():
        texts[bar] = text
    frame = pl.DataFrame({"buy": buy, "sell": sell, "reason": pl.Series(texts, dtype=pl.String)})
    frame = frame.with_columns(pl.Series(name, np.broadcast_to(np.asarray(v), buy.shape)) for name, v in at_buy.items())
    action = pl.when("buy").then(pl.lit(BUY)).when("sell").then(pl.lit(SELL)).otherwise(pl.lit(HOLD))
    return frame.select(action.alias("action"), *(pl.when("buy").then(pl.col(name)).alias(name) for name in at_buy), "reason")


def price_text(price: float) -> str:
    """A price as a trader reads it: more decimals the smaller it is.

    >>> price_text(61200), price_text(1.08345), price_text(0.00000812)
    ('61,200.00', '1.0835', '0.0000081200')
    """
    decimals = 2 if price >= 100 else 4 if price >= 1 else 6 if price >= 0.01 else 10
    return f"{price:,.{decimals}f}"
