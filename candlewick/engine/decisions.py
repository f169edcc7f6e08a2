"""Signals become DECISION records: only the bars that act, every level on the instrument's grid."""

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from candlewick.engine.grids import FloatColumn, Integers, price_units
from candlewick.engine.layout import DECISION, NEVER, RATE, Action, Form, Pending
from candlewick.engine.terms import Records, Terms, price_decimals
from candlewick.strategies.contract import BUY, EXIT, HOLD, LEGS, LIMIT, SELL, STOP, Actions

Said = pl.DataFrame | Actions
"""What a strategy said of a window: completed signals, or the same as actions."""

_BPS_DECIMALS = 4  # a basis point is RATE / 10**4
_ACTIONS = {BUY: Action.BUY, SELL: Action.SELL, EXIT: Action.EXIT}
_ENTRY_TYPES = {LIMIT: Pending.LIMIT, STOP: Pending.STOP}
_LEG_FIELDS = dict(zip(LEGS, ("stop", "target_1", "target_2"), strict=True))


class _Acting:
    """The acting bars of one symbol: ``bars`` are rows of its candles, int64 (n,); ``column`` answers float64 (n,), NaN none."""

    def __init__(self, said: Said, span: tuple[int, int]) -> None:
        self._constants: Mapping[str, float] = {}
        self._rows = pl.DataFrame()
        if isinstance(said, Actions):
            first, last = np.searchsorted(said.rows, span)
            self.bars: Integers = said.rows[first:last]
            self.actions: Integers = said.sides[first:last].astype(np.int64)
            self._constants = said.constants
            return
        window = said[slice(*span)]
        acting = (window["action"] != HOLD).arg_true()
        self.bars = acting.to_numpy().astype(np.int64) + span[0]
        self._rows = window[acting]
        self.actions = np.array([_ACTIONS[name] for name in self._rows["action"].to_list()], dtype=np.int64)

    def column(self, name: str) -> FloatColumn | None:
        """None where nothing is said of it at all."""
        if name in self._rows.columns:
            said = self._rows[name]
            return None if said.null_count() == said.len() else said.cast(pl.Float64).fill_null(np.nan).to_numpy()
        return np.full(len(self.bars), self._constants[name]) if name in self._constants else None

    def entry_types(self) -> Integers:
        if "entry_type" not in self._rows.columns:
            return np.full(len(self.bars), Pending.MARKET, dtype=np.int64)
        names = self._rows["entry_type"].to_list()
        return np.array([_ENTRY_TYPES.get(name, Pending.MARKET) for name in names], dtype=np.int64)


def decision_records(
    terms: Terms,
    number: int,
    said: Said,
    span: tuple[int, int],
    rows: Integers | None,
    weights: Mapping[str, FloatColumn] | None,
    ranges: Callable[[], FloatColumn],
) -> Records:
    """DECISION records of one symbol for the rows ``span`` of its candles, which stand in ``rows`` of the grid (None: in all).

    ATR multiples become a distance in quote currency with the ATR at the decision: ``ranges`` answers it for every candle.
    """
    instrument = terms.instruments[number]
    decimals, symbol = price_decimals(instrument), instrument.symbol
    acting = _Acting(said, span)
    records = np.zeros(len(acting.bars), dtype=DECISION)
    records["row"] = acting.bars - span[0] if rows is None else rows[acting.bars - span[0]]
    records["symbol"], records["action"] = number, acting.actions
    records["weight"] = NEVER
    weight = weights[symbol][acting.bars] if weights is not None else acting.column("target_weight")
    if weight is not None:
        known = ~np.isnan(weight)
        records["weight"][known] = np.rint(np.abs(weight[known]) * RATE).astype(np.int64)
    _set_entries(records, acting, decimals, symbol, terms)
    for leg, field in _LEG_FIELDS.items():
        _set_level(records, field, acting, leg, decimals, symbol, ranges)
    _set_level(records, "trail", acting, "trailing_stop", decimals, symbol, ranges)
    break_even, time_stop = acting.column("break_even_bps"), acting.column("time_stop_bars")
    if break_even is not None:
        records["break_even"] = price_units(np.nan_to_num(break_even), _BPS_DECIMALS, symbol)
    if time_stop is not None:
        records["time_stop_bars"] = np.nan_to_num(time_stop).astype(np.int64)
    return records


def _set_entries(records: Records, acting: _Acting, decimals: int, symbol: str, terms: Terms) -> None:
    """Price and expiry of limit and stop entries. A limit is rounded to the tick away from the market, a stop too."""
    types = acting.entry_types()
    records["entry_type"] = types
    priced = types != Pending.MARKET
    entry = acting.column("entry")
    if entry is None or not priced.any():
        return
    units = np.zeros(len(types), dtype=np.int64)
    units[priced] = price_units(entry[priced], decimals, symbol)
    instrument = terms.instruments[int(records["symbol"][0])]
    tick = int(price_units(np.array([float(instrument.price_tick)]), decimals, symbol)[0])
    down = (types == Pending.LIMIT) == (acting.actions == Action.BUY)
    records["entry_price"] = np.where(priced, np.where(down, units // tick * tick, -(-units // tick) * tick), 0)
    expiry = acting.column("expiry_bars")
    records["expiry_bars"] = 1 if expiry is None else np.where(np.isnan(expiry), 1, np.nan_to_num(expiry)).astype(np.int64)


def _set_level(
    records: Records, field: str, acting: _Acting, leg: str, decimals: int, symbol: str, ranges: Callable[[], FloatColumn]
) -> None:
    """Form and level of one leg from the columns in which it may be stated."""
    form, level = records[f"{field}_form"], records[field]
    price, bps, multiple = acting.column(leg), acting.column(f"{leg}_bps"), acting.column(f"{leg}_atr")
    if price is not None:
        known = ~np.isnan(price)
        form[known], level[known] = Form.PRICE, price_units(price[known], decimals, symbol)
    if bps is not None:
        known = ~np.isnan(bps)
        form[known], level[known] = Form.RATE, price_units(bps[known], _BPS_DECIMALS, symbol)
    if multiple is not None:
        distance = multiple * ranges()[acting.bars]
        asked, known = ~np.isnan(multiple), ~np.isnan(distance)
        form[asked], level[asked] = Form.UNKNOWN, acting.bars[asked] + 1
        form[known], level[known] = Form.DISTANCE, price_units(distance[known], decimals, symbol)


def volatility_weights(
    terms: Terms, candles: Mapping[str, pl.DataFrame], times: Mapping[str, Integers]
) -> dict[str, FloatColumn]:
    """Each symbol's share by inverse volatility at each of its bars, float64 (bars,), NaN while its volatility is unknown.

    1 / sigma over the sum of 1 / sigma of the symbols whose volatility is known then; sigma is the standard deviation of the
    last ``rules.volatility_bars`` log returns.
    """
    from candlewick.indicators_bands import realised_volatility  # numba: see engine/run.py

    inverse = {}
    for symbol in terms.symbols:
        sigma = realised_volatility(candles[symbol]["close"].to_numpy().astype(np.float64), terms.rules.volatility_bars, 1.0)
        inverse[symbol] = np.divide(1.0, sigma, out=np.full(len(sigma), np.nan), where=sigma > 0)
    weights = {}
    for symbol in terms.symbols:
        total = np.zeros(len(times[symbol]))
        for other in terms.symbols:
            begun = np.searchsorted(times[other], times[symbol], side="right")
            before_any = np.concatenate([[0.0], np.nan_to_num(inverse[other])])  # a symbol may have no bar yet, or none at all
            total += before_any[begun]
        weights[symbol] = np.divide(inverse[symbol], total, out=np.full(len(total), np.nan), where=total > 0)
    return weights
