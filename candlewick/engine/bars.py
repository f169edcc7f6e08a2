"""Frames become the engine's integers: prices, decisions and funding of all symbols on one time grid."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import EllipsisType

import numpy as np
import polars as pl

from candlewick.candles import PRICE_COLUMNS, FormingBar, opened_at_ms
from candlewick.engine.decisions import Said, decision_records, volatility_weights
from candlewick.engine.grids import FloatColumn, Integers, bar_units, column_units, price_units
from candlewick.engine.layout import ATR_PERIOD, FUNDING, RATE, Market
from candlewick.engine.terms import Records, Terms, price_decimals, quantity_decimals
from candlewick.timeframes import DAY_MS, timeframe_ms

Frames = Mapping[str, pl.DataFrame]
Places = Integers | None
_LARGEST_VOLUME = 2.0**60


@dataclass(frozen=True, slots=True)
class EngineInput:
    """Bars, decisions and funding of every symbol on the union of their open times.

    ``decisions`` DECISION records by row, within a row in the account's order of symbols; ``fundings`` FUNDING records by row;
    ``day_ends`` int64: the row after the last of each UTC day.
    """

    market: Market
    decisions: Records
    fundings: Records
    day_ends: Integers

    @property
    def times(self) -> Integers:
        """Open times in ms, int64 (rows,)."""
        return self.market.times

    def rows(self, first: int, last: int) -> "EngineInput":
        """The rows from ``first`` up to, and without, ``last``."""
        market = self.market
        part = market._replace(
            times=market.times[first:last],
            prices=np.ascontiguousarray(market.prices[:, first:last]),
            volumes=market.volumes[first:last],
            detail_spans=market.detail_spans[:, first:last],
        )
        return EngineInput(part, _within(self.decisions, first, last), _within(self.fundings, first, last), _day_ends(part.times))


@dataclass(frozen=True, slots=True)
class Beside:
    """What belongs to the candles besides: funding rates (FUNDING_SCHEMA) of perpetuals, and finer candles, by symbol."""

    funding: Frames = field(default_factory=dict)
    detail: Frames = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LaidOut:
    """Candles of all symbols on one grid, to which decisions of any strategy can be added: a sweep lays them out once."""

    terms: Terms
    candles: Frames
    times: Mapping[str, Integers]
    spans: Mapping[str, tuple[int, int]]
    places: Mapping[str, Places]
    market: Market
    fundings: Records
    day_ends: Integers
    ranges: dict[str, FloatColumn]

    def with_decisions(self, signals: Mapping[str, Said]) -> EngineInput:
        """The engine's input for completed signals (or actions) of the same candles. Raises EngineOverflow."""
        terms = self.terms
        weights = None
        if terms.rules.sizing == "inverse_volatility":
            weights = volatility_weights(terms, self.candles, self.times)
        decisions = [
            decision_records(
                terms, number, signals[symbol], self.spans[symbol], self.places[symbol], weights, partial(self._range, symbol)
            )
            for number, symbol in enumerate(terms.symbols)
        ]
        return EngineInput(self.market, _by_row(decisions), self.fundings, self.day_ends)

    def _range(self, symbol: str) -> FloatColumn:
        """Average true range of every candle; computed when it is first asked for."""
        if symbol not in self.ranges:
            from candlewick.indicators import atr  # numba: see engine/run.py

            high, low, close = (self.candles[symbol][name].to_numpy() for name in ("high", "low", "close"))
            self.ranges[symbol] = atr(high, low, close, ATR_PERIOD)
        return self.ranges[symbol]


def lay_out(terms: Terms, candles: Frames, after_ms: int | None, until_ms: int, beside: Beside | None = None) -> LaidOut:
    """Rows with ``after_ms < opened_at <= until_ms`` of validated candles. Raises EngineOverflow."""
    beside = beside or Beside()
    times = {symbol: opened_at_ms(candles[symbol]) for symbol in terms.symbols}
    spans = {symbol: _span(times[symbol], after_ms, until_ms) for symbol in terms.symbols}
    windows = {symbol: times[symbol][slice(*spans[symbol])] for symbol in terms.symbols}
    grid = _grid(list(windows.values()))
    places = {symbol: _rows_on(grid, windows[symbol]) for symbol in terms.symbols}
    fundings = [
        _fundings(number, beside.funding[symbol], times[symbol], spans[symbol], places[symbol], timeframe_ms(terms.timeframe))
        for number, symbol in enumerate(terms.symbols)
        if symbol in beside.funding
    ]
    market = _market(terms, candles, spans, places, grid, beside.detail)
    paid = _by_row([np.zeros(0, dtype=FUNDING), *fundings])
    return LaidOut(terms, candles, times, spans, places, market, paid, _day_ends(grid), {})


def build_input(
    terms: Terms,
    candles: Frames,
    signals: Mapping[str, Said],
    after_ms: int | None,
    until_ms: int,
    beside: Beside | None = None,
) -> EngineInput:
    """Rows with ``after_ms < opened_at <= until_ms`` of validated candles and completed signals (or actions) of the same candles.

    Raises EngineOverflow.
    """
    return lay_out(terms, candles, after_ms, until_ms, beside).with_decisions(signals)


def forming_opens(terms: Terms, forming: Mapping[str, FormingBar | None], opened_ms: int) -> Integers:
    """Opens of the bars that are forming since ``opened_ms``, int64 (symbols,), 0 where a symbol shows none."""
    opens = np.zeros(len(terms.instruments), dtype=np.int64)
    for column, instrument in enumerate(terms.instruments):
        bar = forming.get(instrument.symbol)
        if bar is not None and bar.opened_at_ms == opened_ms:
            opens[column] = price_units(np.array([bar.open]), price_decimals(instrument), instrument.symbol)[0]
    return opens


def _span(times: Integers, after_ms: int | None, until_ms: int) -> tuple[int, int]:
    """First row, and the row after the last, of those with ``after_ms < opened_at <= until_ms``."""
    first = 0 if after_ms is None else int(np.searchsorted(times, after_ms, side="right"))
    return first, max(first, int(np.searchsorted(times, until_ms, side="right")))


def _grid(windows: list[Integers]) -> Integers:
    longest = max(windows, key=len)
    if all(len(window) == len(longest) and np.array_equal(window, longest) for window in windows):
        return np.ascontiguousarray(longest)
    return np.unique(np.concatenate(windows))


def _rows_on(grid: Integers, window: Integers) -> Places:
    """Where a symbol's bars stand on the grid, row by row; None: everywhere."""
    return None if len(window) == len(grid) else np.searchsorted(grid, window)


def _index(places: Places) -> Integers | EllipsisType:
    """The same as an index of rows; everywhere costs nothing then."""
    return ... if places is None else places


def _market(
    terms: Terms,
    candles: Frames,
    spans: Mapping[str, tuple[int, int]],
    rows: Mapping[str, Places],
    grid: Integers,
    detail: Frames,
) -> Market:
    shape = (len(grid), len(terms.symbols))
    full = all(place is None for place in rows.values())
    prices = (np.empty if full else np.zeros)((shape[1], shape[0], 4), dtype=np.int64)
    capped = terms.rules.max_volume_share is not None
    volumes = np.zeros(shape if capped else (0, shape[1]), dtype=np.int64)
    for column, instrument in enumerate(terms.instruments):
        symbol, decimals = instrument.symbol, price_decimals(instrument)
        bars = candles[symbol][slice(*spans[symbol])]
        columns = [bars[name].to_numpy() for name in PRICE_COLUMNS]
        bar_units(columns, decimals, symbol, rows[symbol], prices[column])
        if capped:
            scaled = np.minimum(bars["volume"].to_numpy() * 10.0 ** quantity_decimals(instrument), _LARGEST_VOLUME)
            volumes[:, column][_index(rows[symbol])] = scaled.astype(np.int64)
    return Market(grid, prices, volumes, *_details(terms, detail, rows, grid))


def _details(
    terms: Terms, detail: Frames, rows: Mapping[str, Places], grid: Integers
) -> tuple[Integers, Integers, Integers, Integers]:
    """Spans of the finer bars, and their opens, highs and lows, one symbol after the other."""
    if not detail:
        nothing = np.zeros(0, dtype=np.int64)
        return np.zeros((0, 0, 2), dtype=np.int64), nothing, nothing, nothing
    spans = np.zeros((len(terms.symbols), len(grid), 2), dtype=np.int64)
    parts: dict[str, list[Integers]] = {name: [] for name in ("open", "high", "low")}
    before = 0
    for number, instrument in enumerate(terms.instruments):
        finer = detail.get(instrument.symbol)
        if finer is None:
            continue
        place = _index(rows[instrument.symbol])
        opened, at = opened_at_ms(finer), grid[place]
        spans[number, :, 0][place] = before + np.searchsorted(opened, at)
        spans[number, :, 1][place] = before + np.searchsorted(opened, at + timeframe_ms(terms.timeframe))
        before += len(opened)
        for name, part in parts.items():
            part.append(column_units(finer[name].to_numpy(), price_decimals(instrument), instrument.symbol))
    opens, highs, lows = (np.concatenate(part) for part in parts.values())
    return spans, opens, highs, lows


def _fundings(
    number: int, funding: pl.DataFrame, times: Integers, span: tuple[int, int], rows: Places, length_ms: int
) -> Records:
    """Payments as records on the rows of the bars in which they are due; one due in a gap belongs to the next bar's open."""
    due = funding["funding_at"].dt.epoch("ms").to_numpy().astype(np.int64)
    bar = np.searchsorted(times, due, side="right") - 1
    known = bar >= 0
    due, bar, rate = due[known], bar[known], funding["rate"].to_numpy()[known]
    late = due >= times[bar] + length_ms
    inside = ~late & (due > times[bar])
    bar = bar + late
    kept = (bar >= span[0]) & (bar < span[1])
    records = np.zeros(int(kept.sum()), dtype=FUNDING)
    places = np.arange(span[1] - span[0]) if rows is None else rows
    records["row"] = places[bar[kept] - span[0]]
    records["symbol"], records["inside"], records["at"] = number, inside[kept], due[kept]
    records["rate"] = np.rint(rate[kept] * RATE).astype(np.int64)
    return records


def _by_row(parts: list[Records]) -> Records:
    """Records of all symbols in the order of their rows. As plain numbers: numpy takes its time over records."""
    filled = [part for part in parts if len(part)]
    if len(filled) < 2:
        return filled[0] if filled else parts[0]
    numbers = np.concatenate([part.view(np.int64).reshape(len(part), -1) for part in filled])
    return numbers[np.argsort(numbers[:, 0], kind="stable")].view(parts[0].dtype).reshape(-1)


def _within(records: Records, first: int, last: int) -> Records:
    """Records of the rows from ``first`` up to ``last``, counted from ``first``."""
    part = records[slice(*np.searchsorted(records["row"], (first, last)))].copy()
    part["row"] -= first
    return part


def _day_ends(grid: Integers) -> Integers:
    """The row after the last of each UTC day that has bars, int64."""
    if not len(grid):
        return np.zeros(0, dtype=np.int64)
    midnights = np.arange(int(grid[0]) // DAY_MS + 1, int(grid[-1]) // DAY_MS + 2) * DAY_MS
    return np.unique(np.searchsorted(grid, midnights))
