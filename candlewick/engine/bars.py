"""Frames become the engine's integers: prices and signals of all symbols on one time grid."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from candlewick.candles import PRICE_COLUMNS, FormingBar, opened_at_ms
from candlewick.engine.layout import ATR_PERIOD, NEVER, RATE, Action, Form
from candlewick.engine.terms import Terms, price_decimals
from candlewick.errors import EngineOverflow
from candlewick.strategies.contract import BUY, LEGS, SELL

Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Bytes = np.ndarray[tuple[int, ...], np.dtype[np.int8]]
FloatColumn = np.ndarray[tuple[int], np.dtype[np.float64]]
Column = np.ndarray[tuple[int], np.dtype[np.int64]]
_LARGEST_PRICE = 2.0**60
_BPS_DECIMALS = 4  # a basis point is RATE / 10**4


@dataclass(frozen=True, slots=True)
class EngineInput:
    """Bars and decisions of every symbol on the union of their open times.

    ``times`` int64 ms (rows,); ``prices`` int64 (4, rows, symbols): open, high, low, close, 0 where a symbol has no bar;
    ``actions`` int8 (rows, symbols); ``weights`` int64 (rows, symbols); ``forms`` int8 and ``levels`` int64 (rows, symbols, 3).
    """

    times: Integers
    prices: Integers
    actions: Bytes
    weights: Integers
    forms: Bytes
    levels: Integers

    def rows(self, first: int, last: int) -> "EngineInput":
        """The rows from ``first`` up to, and without, ``last``."""
        return EngineInput(
            self.times[first:last],
            self.prices[:, first:last],
            self.actions[first:last],
            self.weights[first:last],
            self.forms[first:last],
            self.levels[first:last],
        )


def build_input(
    terms: Terms, candles: Mapping[str, pl.DataFrame], signals: Mapping[str, pl.DataFrame], after_ms: int | None, until_ms: int
) -> EngineInput:
    """Rows with ``after_ms < opened_at <= until_ms`` of validated candles and completed signals (same rows each)."""
    times = {symbol: opened_at_ms(candles[symbol]) for symbol in terms.symbols}
    spans = {symbol: _span(times[symbol], after_ms, until_ms) for symbol in terms.symbols}
    grid = np.unique(np.concatenate([times[symbol][slice(*spans[symbol])] for symbol in terms.symbols]))
    shape = (len(grid), len(terms.symbols))
    prices = np.zeros((4, *shape), dtype=np.int64)
    actions, weights = np.zeros(shape, dtype=np.int8), np.full(shape, NEVER, dtype=np.int64)
    forms, levels = np.zeros((*shape, 3), dtype=np.int8), np.zeros((*shape, 3), dtype=np.int64)
    for column, instrument in enumerate(terms.instruments):
        symbol, decimals = instrument.symbol, price_decimals(instrument)
        first, last = spans[symbol]
        rows = np.searchsorted(grid, times[symbol][first:last])
        bars = candles[symbol][first:last]
        for field, name in enumerate(PRICE_COLUMNS):
            prices[field, rows, column] = price_units(bars[name].to_numpy(), decimals, symbol)
        decided = signals[symbol][first:last]
        actions[rows, column] = _actions(decided)
        weights[rows, column] = _weights(decided)
        for leg, name in enumerate(LEGS):
            forms[rows, column, leg], levels[rows, column, leg] = _legs(candles[symbol], decided, name, first, decimals, symbol)
    return EngineInput(grid, prices, actions, weights, forms, levels)


def forming_opens(terms: Terms, forming: Mapping[str, FormingBar | None], opened_ms: int) -> Integers:
    """Opens of the bars that are forming since ``opened_ms``, int64 (symbols,), 0 where a symbol shows none."""
    opens = np.zeros(len(terms.instruments), dtype=np.int64)
    for column, instrument in enumerate(terms.instruments):
        bar = forming.get(instrument.symbol)
        if bar is not None and bar.opened_at_ms == opened_ms:
            opens[column] = price_units(np.array([bar.open]), price_decimals(instrument), instrument.symbol)[0]
    return opens


def price_units(prices: FloatColumn, decimals: int, symbol: str) -> Column:
    """Float prices on the instrument's grid: the nearest integer, which is the written decimal for up to 15 digits.

    Raises EngineOverflow.
    """
    scaled = prices * 10.0**decimals
    if scaled.size and float(np.max(scaled)) > _LARGEST_PRICE:
        raise EngineOverflow(f"{symbol}: price {float(np.max(prices))} does not fit the engine's grid of {decimals} decimals")
    return np.rint(scaled).astype(np.int64)


def _span(times: Integers, after_ms: int | None, until_ms: int) -> tuple[int, int]:
    """First row, and the row after the last, of those with ``after_ms < opened_at <= until_ms``."""
    first = 0 if after_ms is None else int(np.searchsorted(times, after_ms, side="right"))
    return first, max(first, int(np.searchsorted(times, until_ms, side="right")))


def _actions(decided: pl.DataFrame) -> Bytes:
    action = decided["action"]
    return (
        (action == BUY).to_numpy().astype(np.int8) * Action.BUY + (action == SELL).to_numpy().astype(np.int8) * Action.SELL
    ).astype(np.int8)


def _weights(decided: pl.DataFrame) -> Integers:
    weight = decided["target_weight"].to_numpy()
    known = ~np.isnan(weight)
    return np.where(known, np.rint(np.abs(np.where(known, weight, 0)) * RATE), NEVER).astype(np.int64)


def _legs(
    candles: pl.DataFrame, decided: pl.DataFrame, leg: str, first: int, decimals: int, symbol: str
) -> tuple[Bytes, Integers]:
    """Form and level of one leg per row. ATR multiples become a distance in quote currency with the ATR at the decision.

    ``first`` is the row of ``candles`` that the first row of ``decided`` belongs to: the ATR counts from the anchor bar.
    """
    form = np.full(decided.height, Form.NONE, dtype=np.int8)
    level = np.zeros(decided.height, dtype=np.int64)
    price = decided[leg].to_numpy()
    bps = decided[f"{leg}_bps"].to_numpy()
    multiple = decided[f"{leg}_atr"].to_numpy()
    if not np.isnan(price).all():
        known = ~np.isnan(price)
        form[known], level[known] = Form.PRICE, price_units(price[known], decimals, symbol)
    if not np.isnan(bps).all():
        known = ~np.isnan(bps)
        form[known], level[known] = Form.RATE, price_units(bps[known], _BPS_DECIMALS, symbol)
    if not np.isnan(multiple).all():
        from candlewick.indicators import atr  # numba: see engine/run.py

        high, low, close = (candles[name].to_numpy() for name in ("high", "low", "close"))
        distance = multiple * atr(high, low, close, ATR_PERIOD)[first : first + decided.height]
        asked, known = ~np.isnan(multiple), ~np.isnan(distance)
        form[asked], level[asked] = Form.UNKNOWN, first + 1 + np.flatnonzero(asked)
        form[known], level[known] = Form.DISTANCE, price_units(distance[known], decimals, symbol)
    return form, level
