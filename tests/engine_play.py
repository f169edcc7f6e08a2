"""Drives the engine in tests: over frames, in one piece or in many, and reads its records as the reference engine tells them."""

import json
import math
import statistics
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import numpy as np
import polars as pl

from candlewick.candles import CANDLE_SCHEMA
from candlewick.engine.bars import Beside, EngineInput, build_input
from candlewick.engine.layout import NEVER, Kind, Leg, Outcome, Pending, Phase, Rule, Why
from candlewick.engine.run import Advance, advance, advance_open
from candlewick.engine.state import EngineState, open_state
from candlewick.engine.terms import Records, Terms, price_decimals, quantity_decimals
from candlewick.strategies.contract import LEGS, SIGNAL_SCHEMA
from candlewick.timeframes import timeframe_ms
from tests.reference_engine import Moment, play_reference
from tests.reference_terms import Decision, Happening, Level, Payment, Valuation, down, up

CASH_UNITS = 10**8
_TOLD = ("bars", "decisions", "volumes", "payments", "finer")
Frames = Mapping[str, pl.DataFrame]
Story = tuple[list[Happening], list[Valuation]]
_COUNTED = (Rule.COOLDOWN, Rule.MAX_OPEN_POSITIONS, Rule.ATR_UNKNOWN, Rule.VOLATILITY_UNKNOWN, Rule.WEIGHT_MISSING)
_PRICED = (Rule.STOP_BEYOND_ENTRY, Rule.TARGET_BEYOND_ENTRY, Rule.STOP_MISSING)


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
    cash = {name: Fraction(raw[name], CASH_UNITS) for name in ("notional", "settled", "fee", "realized", "budget")}
    return Happening(
        kind=Kind(raw["kind"]).name.lower(),
        at=raw["at"],
        symbol=instrument.symbol if instrument else "",
        leg=Leg(raw["leg"]).name.lower(),
        decided_at=raw["decided_at"],
        phase=Phase(raw["phase"]).name.lower(),
        side=raw["side"],
        position_side=raw["position_side"],
        price=Fraction(raw["price"], prices),
        reference=Fraction(raw["reference_price"], prices),
        quantity=Fraction(raw["quantity"], quantities),
        left=Fraction(raw["left"], quantities),
        **cash,
        entry_type=Pending(raw["entry_type"]).name.lower(),
        expires_at=raw["expires_at"],
        rule=rule.name.lower(),
        limit=Fraction(raw["rule_limit"], unit),
        value=Fraction(raw["rule_value"], unit),
        outcome=Outcome(raw["outcome"]).name.lower(),
        why=Why(raw["why"]).name.lower(),
    )


def _valuation(at: int, equity: int, cash: int, value: int, drawdown: int, open_positions: int) -> Valuation:
    amounts = [Fraction(amount, CASH_UNITS) for amount in (equity, cash, value, drawdown)]
    return Valuation(at, amounts[0], amounts[1], amounts[2], amounts[3], open_positions)


def reference_story(market: Market) -> Story:
    """The same market through the reference engine."""
    terms = market.terms
    told: dict[str, dict[int, dict[str, object]]] = {name: defaultdict(dict) for name in _TOLD}
    weights = volatility_shares(market) if terms.rules.sizing == "inverse_volatility" else None
    for instrument in terms.instruments:
        symbol, frame = instrument.symbol, market.candles[instrument.symbol]
        prices, quantities = 10 ** price_decimals(instrument), 10 ** quantity_decimals(instrument)
        times = frame["opened_at"].dt.epoch("ms").to_list()
        rows = frame.select("open", "high", "low", "close").rows()
        ranges = average_true_ranges(rows)
        signals = market.signals[symbol].iter_rows(named=True)
        volumes = frame["volume"].to_list()
        for number, (time, row, signal) in enumerate(zip(times, rows, signals, strict=True)):
            told["bars"][time][symbol] = tuple(to_grid(price, prices) for price in row)
            told["volumes"][time][symbol] = Fraction(int(volumes[number] * quantities), quantities)
            if signal["action"] != "HOLD":
                weight = signal["target_weight"] if weights is None else weights[symbol][number]
                tick = Fraction(instrument.price_tick)
                decision = _decision(signal, prices, tick, ranges[number], number + 1, weight)
                told["decisions"][time][symbol] = decision
        for time, payment in _payments(market.beside.funding.get(symbol), times, timeframe_ms(terms.timeframe)):
            told["payments"][time].setdefault(symbol, []).append(payment)  # type: ignore[attr-defined]
        if symbol in market.beside.detail:
            for time, one in _finer(market.beside.detail[symbol], times, timeframe_ms(terms.timeframe), prices):
                told["finer"][time].setdefault(symbol, []).append(one)  # type: ignore[attr-defined]
    moments = [Moment(at, **{name: told[name][at] for name in _TOLD}) for at in sorted(told["bars"])]  # type: ignore[arg-type]
    return play_reference(Fraction(terms.initial_cash), terms.instruments, terms.rules, timeframe_ms(terms.timeframe), moments)


def to_grid(number: float, grid: int) -> Fraction:
    """A float becomes the nearest number of the grid."""
    return Fraction(round(number * float(grid)), grid)


def _payments(funding: pl.DataFrame | None, times: Sequence[int], length_ms: int) -> Iterator[tuple[int, Payment]]:
    """Funding by the bar that pays it; what is due in a gap is paid at the next bar's open."""
    if funding is None:
        return
    for due, rate in zip(funding["funding_at"].dt.epoch("ms").to_list(), funding["rate"].to_list(), strict=True):
        bar = bisect_right(times, due) - 1
        if bar < 0:
            continue
        late = due >= times[bar] + length_ms
        if bar + late < len(times):
            yield times[bar + late], Payment(due, to_grid(rate, CASH_UNITS), inside=not late and due > times[bar])


def _finer(detail: pl.DataFrame, times: Sequence[int], length_ms: int, grid: int) -> Iterator[tuple[int, tuple[Fraction, ...]]]:
    """Open, high and low of the finer bars, by the bar in which they lie."""
    opened = detail["opened_at"].dt.epoch("ms").to_list()
    for time, row in zip(opened, detail.select("open", "high", "low").rows(), strict=True):
        bar = bisect_right(times, time) - 1
        if bar >= 0 and time < times[bar] + length_ms:
            yield times[bar], tuple(to_grid(price, grid) for price in row)


def _decision(
    row: Mapping[str, str | float | None], grid: int, tick: Fraction, atr: float | None, bars: int, weight: float | None
) -> Decision:
    legs = [_level(row, leg, grid, atr, bars) for leg in LEGS]
    kind = str(row["entry_type"] or "market") if row["action"] != "EXIT" else "market"
    price = None
    if kind != "market":
        rounded = down if (kind == "limit") == (row["action"] == "BUY") else up
        price = rounded(to_grid(float(row["entry"] or 0), grid), tick)
    return Decision(
        action=str(row["action"]),
        weight=None if weight is None else to_grid(abs(float(weight)), CASH_UNITS),
        legs=tuple(legs),
        trail=_level(row, "trailing_stop", grid, atr, bars),
        entry_type=kind,
        price=price,
        expiry=int(row["expiry_bars"] or 1),
        break_even=to_grid(float(row["break_even_bps"] or 0), 10**4) / 10**4,
        time_stop=int(row["time_stop_bars"] or 0),
    )


def _level(row: Mapping[str, str | float | None], leg: str, grid: int, atr: float | None, bars: int) -> Level | None:
    price, bps, multiple = (row.get(f"{leg}{unit}") for unit in ("", "_bps", "_atr"))
    if price is not None:
        return Level("price", to_grid(float(price), grid))
    if bps is not None:
        return Level("share", to_grid(float(bps), 10**4) / 10**4)
    if multiple is None:
        return None
    return Level("missing", Fraction(bars)) if atr is None else Level("distance", to_grid(float(multiple) * atr, grid))


def volatility_shares(market: Market) -> dict[str, list[float | None]]:
    """Each symbol's share by inverse volatility at each of its bars: its part of the inverse volatilities known then."""
    inverse: dict[str, list[tuple[int, float | None]]] = {}
    window = market.terms.rules.volatility_bars
    for symbol, frame in market.candles.items():
        closes, times = frame["close"].to_list(), frame["opened_at"].dt.epoch("ms").to_list()
        steps = [math.log(after / before) for before, after in pairwise(closes)]
        sigmas = [statistics.stdev(steps[bar - window : bar]) if bar >= window else 0.0 for bar in range(len(closes))]
        inverse[symbol] = [(time, 1 / sigma if sigma > 0 else None) for time, sigma in zip(times, sigmas, strict=True)]
    shares: dict[str, list[float | None]] = {}
    for symbol, mine in inverse.items():
        shares[symbol] = []
        for time, own in mine:
            newest = [[one for at, one in other if at <= time][-1:] for other in inverse.values()]
            total = sum(one[0] for one in newest if one and one[0])
            shares[symbol].append(own / total if own else None)
    return shares


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
