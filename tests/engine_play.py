"""Drives the engine in tests: over frames, in one piece or in many, and reads its records as the reference engine tells them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

import numpy as np
import polars as pl

from candlewick.candles import CANDLE_SCHEMA
from candlewick.engine.bars import Beside, EngineInput, build_input
from candlewick.engine.layout import NEVER, Kind, Leg, Outcome, Phase, Rule
from candlewick.engine.run import Advance, advance, advance_open
from candlewick.engine.state import EngineState, open_state
from candlewick.engine.terms import Records, Terms, price_decimals, quantity_decimals
from candlewick.strategies.contract import LEGS, SIGNAL_SCHEMA
from candlewick.timeframes import timeframe_ms
from tests.reference_engine import Bar, Decision, Happening, Level, Valuation, play_reference

CASH_UNITS = 10**8
Frames = Mapping[str, pl.DataFrame]
Story = tuple[list[Happening], list[Valuation]]
_COUNTED = (Rule.COOLDOWN, Rule.MAX_OPEN_POSITIONS, Rule.ATR_UNKNOWN)
_PRICED = (Rule.STOP_BEYOND_ENTRY, Rule.TARGET_BEYOND_ENTRY)


@dataclass(frozen=True)
class Market:
    """Candles and completed signals by symbol, with funding and finer candles."""

    terms: Terms
    candles: Frames
    signals: Frames
    beside: Beside = field(default_factory=Beside)

    def input(self) -> EngineInput:
        return build_input(self.terms, self.candles, self.signals, None, 10**15, self.beside)

    def opened(self) -> EngineState:
        return open_state(self.terms.initial_cash, len(self.terms.instruments))


def candle_frame(rows: Sequence[tuple[int, float, float, float, float]], volumes: Sequence[float] | None = None) -> pl.DataFrame:
    """Rows of (open time in ms, open, high, low, close); a volume of 1 where none is given."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * 5
    times = pl.Series("opened_at", list(columns[0]), dtype=pl.Int64).cast(CANDLE_SCHEMA["opened_at"])
    prices = [
        pl.Series(name, list(column), dtype=pl.Float64)
        for name, column in zip(("open", "high", "low", "close"), columns[1:], strict=True)
    ]
    return pl.DataFrame([times, *prices, pl.Series("volume", volumes or [1.0] * len(rows), dtype=pl.Float64)])


def signal_frame(times: Sequence[int], decisions: Sequence[Mapping[str, str | float | int]]) -> pl.DataFrame:
    """One completed row a candle; an empty mapping is HOLD."""
    rows = [{"action": "HOLD", **decision, "opened_at": time} for time, decision in zip(times, decisions, strict=True)]
    columns = {name: [row.get(name) for row in rows] for name in SIGNAL_SCHEMA}
    return pl.DataFrame(
        [
            pl.Series(name, columns[name], dtype=pl.Int64 if name == "opened_at" else kind).cast(kind)
            for name, kind in SIGNAL_SCHEMA.items()
        ]
    )


def play(market: Market) -> Advance:
    """All bars in one piece."""
    return advance(market.opened(), market.terms, market.input())


def stored(state: EngineState) -> EngineState:
    """The state after a way through JSON, as a checkpoint takes it."""
    return EngineState.from_document(json.loads(json.dumps(state.to_document())))


def play_in_pieces(market: Market, lengths: Iterator[int], early: Iterator[bool]) -> list[Advance]:
    """All bars in pieces of the given lengths; where ``early`` says so, a piece's first open is played while it is forming.

    Not with perpetuals: what is paid at an open may be published after it.
    """
    bars, state, first, pieces = market.input(), market.opened(), 0, []
    perpetual = any(instrument.kind == "perpetual" for instrument in market.terms.instruments)
    while first < len(bars.times):
        if next(early) and not perpetual:
            pieces.append(advance_open(state, market.terms, int(bars.times[first]), bars.market.prices[:, first, 0]))
            state = stored(pieces[-1].state)
        last = first + max(next(lengths), 1)
        pieces.append(advance(state, market.terms, bars.rows(first, last)))
        state, first = stored(pieces[-1].state), last
    return pieces


def joined(pieces: Sequence[Advance], name: str) -> Records:
    """Events or equity of all pieces."""
    return np.concatenate([getattr(piece, name) for piece in pieces])


def story_of(terms: Terms, events: Records, equity: Records) -> Story:
    """The engine's records as the reference engine tells them."""
    names = events.dtype.names or ()
    happenings = [_happening(terms, dict(zip(names, values, strict=True))) for values in events.tolist()]
    return happenings, [_valuation(*values) for values in equity.tolist()]


def _happening(terms: Terms, raw: dict[str, int]) -> Happening:
    instrument = terms.instruments[raw["symbol"]] if raw["symbol"] != NEVER else None
    prices = 10 ** price_decimals(instrument) if instrument else CASH_UNITS
    quantities = 10 ** quantity_decimals(instrument) if instrument else CASH_UNITS
    rule = Rule(raw["rule"])
    unit = CASH_UNITS
    if rule in _COUNTED:
        unit = 1
    elif rule in _PRICED:
        unit = prices
    elif rule is Rule.MIN_QUANTITY:
        unit = quantities
    return Happening(
        kind=Kind(raw["kind"]).name.lower(),
        at=raw["at"],
        symbol=instrument.symbol if instrument else "",
        leg=Leg(raw["leg"]).name.lower(),
        decided_at=raw["decided_at"],
        phase=Phase(raw["phase"]).name.lower(),
        price=Fraction(raw["price"], prices),
        reference=Fraction(raw["reference_price"], prices),
        quantity=Fraction(raw["quantity"], quantities),
        notional=Fraction(raw["notional"], CASH_UNITS),
        fee=Fraction(raw["fee"], CASH_UNITS),
        realized=Fraction(raw["realized"], CASH_UNITS),
        budget=Fraction(raw["budget"], CASH_UNITS),
        rule=rule.name.lower(),
        limit=Fraction(raw["rule_limit"], unit),
        value=Fraction(raw["rule_value"], unit),
        outcome=Outcome(raw["outcome"]).name.lower(),
    )


def _valuation(at: int, equity: int, cash: int, value: int, drawdown: int, open_positions: int) -> Valuation:
    amounts = (Fraction(amount, CASH_UNITS) for amount in (equity, cash, value, drawdown))
    return Valuation(at, *amounts, open_positions)


def reference_story(market: Market) -> Story:
    """The same market through the reference engine."""
    terms = market.terms
    bars: dict[str, dict[int, Bar]] = {}
    decisions: dict[str, dict[int, Decision]] = {}
    for instrument in terms.instruments:
        symbol, grid = instrument.symbol, 10 ** max(8, -instrument.price_tick.normalize().as_tuple().exponent)  # type: ignore[operator]
        frame = market.candles[symbol]
        times = frame["opened_at"].dt.epoch("ms").to_list()
        prices = frame.select("open", "high", "low", "close").rows()
        bars[symbol] = {time: tuple(to_grid(price, grid) for price in row) for time, row in zip(times, prices, strict=True)}  # type: ignore[misc]
        ranges = average_true_ranges(prices)
        decisions[symbol] = {
            time: _decision(row, grid, atr, number)
            for number, (time, row, atr) in enumerate(
                zip(times, market.signals[symbol].iter_rows(named=True), ranges, strict=True), 1
            )
            if row["action"] != "HOLD"
        }
    return play_reference(
        Fraction(terms.initial_cash), terms.instruments, terms.rules, timeframe_ms(terms.timeframe), bars, decisions
    )


def to_grid(number: float, grid: int) -> Fraction:
    """A float becomes the nearest number of the grid."""
    return Fraction(round(number * float(grid)), grid)


def _decision(row: Mapping[str, str | float | None], grid: int, atr: float | None, bars: int) -> Decision:
    legs = []
    for leg in LEGS:
        price, bps, multiple = (row[f"{leg}{unit}"] for unit in ("", "_bps", "_atr"))
        if price is not None:
            legs.append(Level("price", to_grid(float(price), grid)))
        elif bps is not None:
            legs.append(Level("bps", to_grid(float(bps), 10**4)))
        elif multiple is not None:
            unknown = Level("missing", Fraction(bars))
            legs.append(unknown if atr is None else Level("distance", to_grid(float(multiple) * atr, grid)))
        else:
            legs.append(None)
    weight = row["target_weight"]
    return Decision(str(row["action"]), None if weight is None else to_grid(abs(float(weight)), CASH_UNITS), tuple(legs))  # type: ignore[arg-type]


def average_true_ranges(rows: Sequence[tuple[float, ...]], period: int = 14) -> list[float | None]:
    """Wilder's average true range: a plain mean of the first 14 true ranges, then smoothed by 1/14."""
    averages: list[float | None] = [None] * len(rows)
    average = 0.0
    for bar in range(1, len(rows)):
        _, high, low, _ = rows[bar]
        before = rows[bar - 1][3]
        true_range = max(high, before) - min(low, before)
        average = average + true_range / period if bar <= period else (average * (period - 1) + true_range) / period
        if bar >= period:
            averages[bar] = average
    return averages


def decimal(text: str | int | float) -> Decimal:
    return Decimal(str(text))
