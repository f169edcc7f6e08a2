"""How the built-in strategies write down what they decided: sides, action columns, reasons, prices in words."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from candlewick.strategies.contract import BUY, EXIT, SELL, SIDES, Actions

FloatArray = np.ndarray[tuple[int], np.dtype[np.float64]]
BoolArray = np.ndarray[tuple[int], np.dtype[np.bool_]]
SideArray = np.ndarray[tuple[int], np.dtype[np.int8]]
Value = FloatArray | float | int | str

_BUY, _SELL, _EXIT = (np.int8(SIDES[action]) for action in (BUY, SELL, EXIT))


def prices(candles: pl.DataFrame, column: str) -> FloatArray:
    """A column as an own, contiguous float64 array, shape (bars,): compiled code then needs only one variant of itself."""
    return np.array(candles[column].to_numpy(), dtype=np.float64)


def prices_in_place(candles: pl.DataFrame, column: str) -> FloatArray:
    """A column as a read-only float64 array, shape (bars,), not copied: for compiled code that is fast enough to mind.

    Always read-only, because numba compiles another variant for an array that may be written.
    """
    values = np.ascontiguousarray(candles[column].to_numpy()).view()
    values.flags.writeable = False
    return values


def becomes_true(condition: BoolArray) -> BoolArray:
    """True where ``condition`` holds and did not hold one bar earlier; never at the first bar, before which nothing is known."""
    event = condition.copy()
    event[1:] &= ~condition[:-1]
    event[:1] = False
    return event


def sides_of(buy: BoolArray, sell: BoolArray, warmup: int, leave: BoolArray | None = None) -> SideArray:
    """One side a bar, 0 on the first ``warmup``. Where both are true SELL counts; ``leave`` (EXIT) where neither is."""
    sides = np.zeros(buy.size, dtype=np.int8)
    if leave is not None:
        sides[leave] = _EXIT
    sides[buy] = _BUY
    sides[sell] = _SELL
    sides[:warmup] = 0
    return sides


def short_form(sides: SideArray, constants: Mapping[str, float]) -> Actions:
    """The bars of ``sides`` that act."""
    rows = np.flatnonzero(sides)
    return Actions(rows, sides[rows], dict(constants))


def decide(
    sides: SideArray, reasons: Mapping[int, str], on_buy: Mapping[str, Value], on_sell: Mapping[str, Value]
) -> pl.DataFrame:
    """One row per bar: `action`, `reason`, the columns of ``on_buy`` where it buys and of ``on_sell`` where it sells, else null.

    ``reasons`` holds a text for each bar that acts; arrays have shape (bars,), a scalar is repeated.
    """
    texts: list[str | None] = [None] * sides.size
    for bar, text in reasons.items():
        texts[bar] = text
    frame = pl.DataFrame({"side": sides, "reason": pl.Series(texts, dtype=pl.String)})
    action = pl.col("side").replace_strict({side: action for action, side in SIDES.items()}, return_dtype=pl.String)
    side = pl.col("side")
    columns = [
        pl.when(side == _BUY).then(_value(on_buy.get(name))).when(side == _SELL).then(_value(on_sell.get(name))).alias(name)
        for name in {**on_buy, **on_sell}
    ]
    return frame.select(action.alias("action"), *columns, "reason")


def _value(value: Value | None) -> pl.Expr:
    return pl.lit(pl.Series(value)) if isinstance(value, np.ndarray) else pl.lit(value)


def price_text(price: float) -> str:
    """A price as a trader reads it: more decimals the smaller it is.

    >>> price_text(61200), price_text(1.08345), price_text(0.00000812)
    ('61,200.00', '1.0835', '0.0000081200')
    """
    decimals = 2 if price >= 100 else 4 if price >= 1 else 6 if price >= 0.01 else 10
    return f"{price:,.{decimals}f}"
