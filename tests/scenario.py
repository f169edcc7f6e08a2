"""Scenarios as small text: what the account trades by, the bars with their decisions, and what must happen.

    cash 1000
    symbol BTC tick=0.01 step=0.001 taker_fee_bps=10
    rules slippage_bps=0
    00 BTC 100 101 99 100 BUY stop_loss=95
    01 BTC 100 102 94 101
    =>
    01 BTC entry filled 100 x 10 at the open
    01 BTC stop filled 95 x 10 inside the bar

Bars are hourly: ``hour symbol open high low close [decision] [volume=…]``; hours without a line are gaps. ``finer 01:15 BTC open
high low close`` is a bar of 15 minutes, ``funding 01:30 BTC 0.001`` a payment and when it is due. After ``=>`` stands everything
that happens, in order, but signals and orders placed; with ``orders`` as a line of its own also these. Times are hours: a
fill's is that of its bar's open, a decision's that of its bar's close. Fees are shown where they are not 0. Every scenario is
also played bar by bar through stored states, with early opens, and by the reference engine; all must tell the same.
"""

from dataclasses import dataclass, fields, replace
from decimal import Decimal
from fractions import Fraction
from itertools import repeat

import numpy as np
import polars as pl

from candlewick.engine.bars import Beside
from candlewick.engine.run import Advance
from candlewick.engine.terms import Terms
from candlewick.funding import FUNDING_SCHEMA
from candlewick.instruments import Instrument
from candlewick.rules import Rules
from candlewick.strategies.contract import BAR_COUNTS
from tests.engine_play import (
    Market,
    candle_frame,
    joined,
    play,
    play_in_pieces,
    reference_story,
    signal_frame,
    story_of,
)
from tests.reference_terms import Happening

START_MS = 1_767_225_600_000  # 2026-01-01 00:00 UTC
HOUR_MS = 3_600_000
PLAIN_RULES = Rules(slippage_bps=Decimal(0), daily_loss_limit_share=None, max_drawdown_share=None, cooldown_bars=0)
Rows = dict[str, list[tuple[int, float, float, float, float]]]
_PLACED = ("signal", "order")
_PHASES = {"open": "at the open", "intrabar": "inside the bar"}


@dataclass(frozen=True)
class Played:
    """What happened, and the last row of the equity curve."""

    lines: tuple[str, ...]
    expected: tuple[str, ...]
    cash: Decimal
    equity: Decimal
    advanced: Advance
    market: Market


def check(text: str) -> Played:
    """Play a scenario and compare what happened with what it expects."""
    played = run(text)
    happened = "\n".join(played.lines)
    assert happened == "\n".join(played.expected), f"this happened:\n{happened}"
    return played


def run(text: str) -> Played:
    """Play a scenario in one piece, in pieces, and by the reference engine."""
    before, _, after = text.partition("=>")
    market = parse(before)
    advanced = play(market)
    pieces = play_in_pieces(market, repeat(1), repeat(True))
    assert np.array_equal(joined(pieces, "events"), advanced.events)
    assert np.array_equal(joined(pieces, "equity"), advanced.equity)
    happenings, curve = story_of(market.terms, advanced.events, advanced.equity)
    told, reference_curve = reference_story(market)
    assert happenings == told
    assert curve == reference_curve
    expected = [" ".join(line.split()) for line in after.splitlines() if line.strip()]
    shown = [happening for happening in happenings if "orders" in expected or happening.kind not in _PLACED]
    return Played(
        lines=tuple(line_of(happening) for happening in shown),
        expected=tuple(line for line in expected if line != "orders"),
        cash=_decimal(curve[-1].cash),
        equity=_decimal(curve[-1].equity),
        advanced=advanced,
        market=market,
    )


def parse(text: str) -> Market:
    """The upper part of a scenario as terms, candles and signals."""
    cash, rules, instruments = Decimal(1000), PLAIN_RULES, list[Instrument]()
    bars, finer, volumes = Rows(), Rows(), dict[str, list[float]]()
    decisions: dict[str, list[dict[str, str | int | float]]] = {}
    payments: dict[str, list[tuple[int, float]]] = {}
    for line in (line.split("#")[0] for line in text.splitlines()):
        word, *rest = line.split() or [""]
        if word == "cash":
            cash = Decimal(rest[0])
        elif word == "rules":
            rules = replace(rules, **{name: _rule(name, value) for name, value in _options(rest).items()})  # type: ignore[arg-type]
        elif word == "symbol":
            instruments.append(_instrument(rest[0], _options(rest[1:])))
        elif word == "funding":
            payments.setdefault(rest[1], []).append((_time(rest[0]), float(rest[2])))
        elif word == "finer":
            finer.setdefault(rest[1], []).append(_bar(rest[0], rest[2:6]))
        elif word:
            bars.setdefault(rest[0], []).append(_bar(word, rest[1:5]))
            options = _options([one for one in rest[5:] if "=" in one])
            volumes.setdefault(rest[0], []).append(float(options.pop("volume", "1000")))
            action = {"action": rest[5]} if rest[5:] and "=" not in rest[5] else {}
            said = {name: _said(name, value) for name, value in options.items()}
            decisions.setdefault(rest[0], []).append({**action, **said})
    terms = Terms("1h", cash, tuple(instruments), rules)
    candles = {symbol: candle_frame(bars.get(symbol, []), volumes.get(symbol)) for symbol in terms.symbols}
    signals = {
        symbol: signal_frame([row[0] for row in bars.get(symbol, [])], decisions.get(symbol, [])) for symbol in terms.symbols
    }
    funding = {symbol: _funding(due) for symbol, due in payments.items()}
    return Market(terms, candles, signals, Beside(funding, {symbol: candle_frame(rows) for symbol, rows in finer.items()}))


def _time(text: str) -> int:
    """Hours, or hours and minutes, since the start."""
    hours, _, minutes = text.partition(":")
    return START_MS + int(hours) * HOUR_MS + int(minutes or 0) * 60_000


def _bar(time: str, prices: list[str]) -> tuple[int, float, float, float, float]:
    opened, high, low, close = (float(price) for price in prices)
    return _time(time), opened, high, low, close


def _funding(due: list[tuple[int, float]]) -> pl.DataFrame:
    times = pl.Series("funding_at", [at for at, _ in due], dtype=pl.Int64).cast(pl.Datetime("ms", "UTC"))
    rows = pl.DataFrame({"funding_at": times, "rate": [rate for _, rate in due], "noted_at": times})
    return rows.cast(dict(FUNDING_SCHEMA))  # type: ignore[arg-type]


def _options(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words)


def _instrument(symbol: str, options: dict[str, str]) -> Instrument:
    known = {field.name for field in fields(Instrument)}
    names = {"tick": "price_tick", "step": "quantity_step"}
    values: dict[str, Decimal] = {"price_tick": Decimal("0.01"), "quantity_step": Decimal("0.001")}
    values |= {"maker_fee_bps": Decimal(0), "taker_fee_bps": Decimal(0)}
    kind = options.pop("kind", "spot")
    values |= {names.get(name, name): Decimal(value) for name, value in options.items()}
    assert set(values) <= known, f"unknown options {set(values) - known}"
    quote_decimals = int(values.pop("quote_decimals", Decimal(8)))
    return Instrument(symbol, symbol, "USDT", **values, quote_decimals=quote_decimals, kind=kind)  # type: ignore[arg-type]


def _said(name: str, value: str) -> str | int | float:
    if name == "entry_type":
        return value
    return int(value) if name in BAR_COUNTS else float(value)


def _rule(name: str, value: str) -> str | int | bool | Decimal | None:
    if value == "none":
        return None
    if name in ("stop_to_entry_after_target_1", "reverse"):
        return value == "yes"
    if name in ("capital", "direction", "sizing"):
        return value
    counts = ("max_open_positions", "cooldown_bars", "max_entries", "kelly_min_trades", "volatility_bars")
    return int(value) if name in counts else Decimal(value)


def line_of(happening: Happening) -> str:
    """One happening as scenarios write it."""
    one = happening
    who = f"{(one.at - START_MS) // HOUR_MS:02d} {one.symbol or 'account'}"
    named = f"{who} {one.leg}"
    limits = f"{one.rule} limit {_text(one.limit)} value {_text(one.value)}"
    return {
        "signal": lambda: f"{who} signal {one.outcome}",
        "order": lambda: f"{named} ordered{_ordered(one)}",
        "refusal": lambda: f"{named} refused {limits}",
        "fill": lambda: f"{named} filled {_text(one.price)} x {_text(one.quantity)}{_left(one)} {_PHASES[one.phase]}{_fee(one)}",
        "cancel": lambda: f"{named} cancelled",
        "expiry": lambda: f"{named} expired",
        "funding": lambda: f"{who} funding {'received' if one.settled > 0 else 'paid'} {_text(abs(one.settled))}",
        "stop_moved": lambda: f"{named} moved {_text(one.reference)} -> {_text(one.price)}",
        "halt": lambda: f"{who} halt {limits}",
        "loss_limit": lambda: f"{who} loss_limit {limits}",
    }[one.kind]()


def _ordered(one: Happening) -> str:
    if one.leg == "entry":
        return f"{f' {one.entry_type} {_text(one.price)}' if one.price else ''} budget {_text(one.budget)}"
    return f" {_text(one.price)} x {_text(one.quantity)}" if one.price else f" x {_text(one.quantity)}"


def _left(one: Happening) -> str:
    return f" of {_text(one.quantity + one.left)}" if one.left else ""


def _fee(one: Happening) -> str:
    return f" fee {_text(one.fee)}" if one.fee else ""


def _text(amount: Fraction) -> str:
    return format(_decimal(amount).normalize(), "f")


def _decimal(amount: Fraction) -> Decimal:
    return Decimal(amount.numerator) / Decimal(amount.denominator)
