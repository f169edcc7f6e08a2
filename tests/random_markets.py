"""Random markets for property tests: a seed makes instruments, rules, bars with gaps, and decisions.

`random_market` is of the simple kind: bought outright, entered at the market. `any_market` draws from all that the engine can do.
"""

from dataclasses import replace
from decimal import Decimal
from random import Random

import polars as pl
from hypothesis import strategies as st

from candlewick.engine.bars import Beside
from candlewick.engine.terms import Terms
from candlewick.funding import FUNDING_SCHEMA
from candlewick.instruments import Instrument, Kind
from candlewick.rules import Rules
from tests.engine_play import Market, candle_frame, signal_frame
from tests.scenario import HOUR_MS, START_MS

Decision = dict[str, str | float | int]
Row = tuple[int, float, float, float, float]
SEEDS = st.integers(0, 2**32)
_NAMES = ("BTC", "ETH", "SOL", "XRP")


def random_market(seed: int) -> Market:
    """One to four symbols over one to four days, with everything drawn at random."""
    draw = Random(seed)
    symbols = _NAMES[: draw.randint(1, 4)]
    cash = draw.choice([50, 1000, 1_000_000])
    instruments = [random_instrument(draw, symbol) for symbol in symbols]
    if draw.random() < 0.2:  # so that a little loss makes a position too small to sell
        smallest = Decimal(cash) * Decimal("0.97") / len(symbols)
        instruments = [replace(instrument, min_notional=smallest.quantize(Decimal("0.01"))) for instrument in instruments]
    terms = Terms("1h", Decimal(cash), tuple(instruments), random_rules(draw))
    return market_of(draw, terms, hours=draw.choice([12, 30, 90]), gap_share=draw.choice([0, 0.1, 0.6]))


def roomy_market(seed: int) -> Market:
    """Several symbols that never lack cash and never meet an account's limit."""
    draw = Random(seed)
    instruments = tuple(random_instrument(draw, symbol) for symbol in _NAMES)
    rules = replace(random_rules(draw), capital="initial", max_open_positions=99, max_position_share=Decimal("0.01"))
    rules = replace(rules, daily_loss_limit_share=None, max_drawdown_share=None)
    return market_of(draw, Terms("1h", Decimal(100_000), instruments, rules), hours=60, gap_share=0.2)


def random_instrument(draw: Random, symbol: str) -> Instrument:
    return Instrument(
        symbol,
        symbol,
        "USDT",
        price_tick=Decimal(draw.choice(["0.01", "0.5", "0.00000001", "0.000000001", "0.003"])),
        quantity_step=Decimal(draw.choice(["0.001", "0.00001", "1", "0.07"])),
        min_quantity=Decimal(draw.choice(["0", "0.002", "2"])),
        min_notional=Decimal(draw.choice(["0", "5", "17.5"])),
        maker_fee_bps=Decimal(draw.choice(["0", "2", "7.5"])),
        taker_fee_bps=Decimal(draw.choice(["0", "10", "37.5"])),
        quote_decimals=draw.choice([8, 8, 2, 4]),
    )


def random_rules(draw: Random) -> Rules:
    return Rules(
        slippage_bps=Decimal(draw.choice(["0", "2", "33.3"])),
        capital=draw.choice(["equity", "initial"]),
        max_open_positions=draw.choice([1, 2, 10]),
        max_position_share=Decimal(draw.choice(["1", "0.3"])),
        daily_loss_limit_share=draw.choice([None, Decimal("0.01"), Decimal("0.05")]),
        max_drawdown_share=draw.choice([None, Decimal("0.02"), Decimal("0.25")]),
        cooldown_bars=draw.choice([0, 1, 5]),
        target_1_share=Decimal(draw.choice(["0.5", "0.3", "1"])),
        stop_to_entry_after_target_1=draw.choice([True, False]),
    )


def market_of(draw: Random, terms: Terms, hours: int, gap_share: float) -> Market:
    """Bars and decisions for the terms; at least one bar a symbol."""
    candles, signals = {}, {}
    for instrument in terms.instruments:
        rows = random_bars(draw, hours, gap_share, float(instrument.price_tick))
        decisions = [random_decision(draw, row[4]) for row in rows]
        candles[instrument.symbol] = candle_frame(rows)
        signals[instrument.symbol] = signal_frame([row[0] for row in rows], decisions)
    return Market(terms, candles, signals)


def random_bars(draw: Random, hours: int, gap_share: float, tick: float) -> list[Row]:
    """A random walk around 20 that jumps between bars; prices mostly on the tick."""
    rows, price = [], draw.uniform(10, 40)
    for hour in range(hours):
        opened = max(price * (1 + draw.choice([0, 0, 0.001, -0.03, 0.04]) * draw.random()), 2.0)
        closed = max(opened * (1 + draw.gauss(0, 0.02)), 2.0)
        high = max(opened, closed) * (1 + abs(draw.gauss(0, 0.01)))
        low = min(opened, closed) * (1 - min(abs(draw.gauss(0, 0.01)), 0.5))
        price = closed
        prices = [round(round(number / tick) * tick, 8) for number in (opened, high, low, closed)]
        if hour == 0 or draw.random() >= gap_share:
            rows.append((START_MS + hour * HOUR_MS, prices[0], prices[1], max(prices[2], 0.5), prices[3]))
    return rows


def random_decision(draw: Random, close: float) -> Decision:
    action = draw.choices(["HOLD", "BUY", "SELL"], [5, 4, 1])[0]
    if action != "BUY":
        return {"action": action}
    decision: Decision = {"action": action}
    for leg, direction, reach in (("stop_loss", -1, 1), ("take_profit_1", 1, 1), ("take_profit_2", 1, 2)):
        form = draw.choice(["none", "price", "bps", "atr"])
        if form == "price":
            decision[leg] = round(close * (1 + direction * reach * abs(draw.gauss(0, 0.02)) - 0.002), 4)
        elif form == "bps":
            decision[f"{leg}_bps"] = round(draw.uniform(1, 300 * reach), 2)
        elif form == "atr":
            decision[f"{leg}_atr"] = round(draw.uniform(0.1, 2 * reach), 2)
    if draw.random() < 0.5:
        decision["target_weight"] = round(draw.uniform(-1, 1), 3)
    return decision


def some_market(seed: int) -> Market:
    """One of the simple kind or one of any."""
    return any_market(seed // 2) if seed % 2 else random_market(seed // 2)


_FINER = 4
_FINER_MS = HOUR_MS // _FINER


def quiet_market(seed: int) -> Market:
    """Of any kind, over ten days with few decisions, few limits and coarse prices, which touch levels exactly."""
    return any_market(seed, quiet=True)


def any_market(seed: int, *, quiet: bool = False) -> Market:
    """One to four symbols over one to four days: spot, margin or perpetual, with all rules, entries and protections."""
    draw = Random(seed)
    symbols = _NAMES[: draw.choice([1, 1, 2, 3, 4])]
    cash = draw.choice([50, 1000, 1_000_000])
    kinds: list[Kind] = draw.choice([["spot"], ["margin"], ["perpetual"], ["margin", "perpetual"], ["spot", "margin"]])
    instruments = tuple(
        replace(
            random_instrument(draw, symbol),
            kind=draw.choice(kinds),
            max_leverage=Decimal(50),
            maintenance_margin_share=Decimal(draw.choice(["0", "0.005", "0.015"])),
        )
        for symbol in symbols
    )
    if quiet:
        coarse = Decimal(draw.choice(["0.05", "0.5"]))
        instruments = tuple(
            replace(one, price_tick=coarse, min_quantity=Decimal(0), min_notional=Decimal(0)) for one in instruments
        )
    spot = any(instrument.kind == "spot" for instrument in instruments)
    terms = Terms("1h", Decimal(cash), instruments, any_rules(draw, cash, spot=spot))
    hours, gap_share, holds = draw.choice([12, 30, 90]), draw.choice([0, 0.1, 0.6]), draw.choice([2, 6, 40])
    if quiet:
        limits = {"daily_loss_limit_share": Decimal("0.3"), "max_drawdown_share": Decimal("0.9"), "kelly_min_trades": 99}
        terms = replace(terms, rules=replace(terms.rules, **limits))  # type: ignore[arg-type]
        hours, holds = 240, draw.choice([40, 150])
    detailed = draw.random() < 0.3
    candles, signals, detail = {}, {}, {}
    for instrument in instruments:
        rows, finer = finer_bars(draw, hours, gap_share, float(instrument.price_tick))
        times = [row[0] for row in rows]
        candles[instrument.symbol] = candle_frame(rows, random_volumes(draw, rows, cash))
        signals[instrument.symbol] = signal_frame(times, [any_decision(draw, row[4], holds, terms) for row in rows])
        if detailed and draw.random() < 0.8:
            detail[instrument.symbol] = candle_frame([row for row in finer if draw.random() < 0.9])
    funding = {one.symbol: random_funding(draw, hours) for one in instruments if one.kind == "perpetual"}
    return Market(terms, candles, signals, Beside(funding, detail))


def any_rules(draw: Random, cash: int, *, spot: bool) -> Rules:
    """Rules of every kind; what is owned outright is only bought, and without leverage."""
    rules = random_rules(draw)
    if draw.random() < 0.7:  # most accounts trade on, so that much happens
        rules = replace(rules, daily_loss_limit_share=None, max_drawdown_share=None, max_open_positions=10, cooldown_bars=0)
    return replace(
        rules,
        capital=draw.choice(["equity", "initial", "equity_at_open"]),
        direction="long" if spot else draw.choice(["long", "short", "both", "both"]),
        leverage=Decimal(1) if spot else Decimal(draw.choice(["1", "2", "7.5", "20", "50"])),
        reverse=draw.random() < 0.7,
        max_entries=draw.choice([1, 1, 3]),
        spread_bps=Decimal(draw.choice(["0", "0", "5", "80"])),
        max_volume_share=draw.choice([None, None, Decimal("0.1"), Decimal(1)]),
        sizing=draw.choice(["equal_share", "fixed_notional", "risk", "inverse_volatility", "kelly", "target_weight"]),
        fixed_notional=Decimal(cash) * Decimal(draw.choice(["0.1", "0.5", "3"])),
        risk_share=Decimal(draw.choice(["0.001", "0.02", "0.5"])),
        volatility_bars=draw.choice([2, 5]),
        kelly_multiple=Decimal(draw.choice(["0.5", "1"])),
        kelly_cap_share=Decimal(draw.choice(["0.25", "1"])),
        kelly_min_trades=draw.choice([0, 2, 4]),
        rebalance_share=Decimal(draw.choice(["0", "0.01", "0.2"])),
    )


def finer_bars(draw: Random, hours: int, gap_share: float, tick: float) -> tuple[list[Row], list[Row]]:
    """Hourly bars, and the quarters of an hour that they are made of."""
    rows: list[Row] = []
    finer: list[Row] = []
    quarters = random_bars(draw, hours * _FINER, 0, tick)
    for hour in range(hours):
        part = [(START_MS + hour * HOUR_MS + n * _FINER_MS, *quarters[hour * _FINER + n][1:]) for n in range(_FINER)]
        if hour == 0 or draw.random() >= gap_share:
            highest, lowest = max(row[2] for row in part), min(row[3] for row in part)
            rows.append((part[0][0], part[0][1], highest, lowest, part[-1][4]))
            finer += part
    return rows, finer


def random_volumes(draw: Random, rows: list[Row], cash: int) -> list[float]:
    """Volumes of which a share is sometimes less than what an account of so much cash would trade."""
    usual = cash / 20 * draw.choice([1, 10])
    return [round(usual * draw.choice([0, 0.2, 1, 1, 3]) * draw.random(), 6) for _ in rows]


def random_funding(draw: Random, hours: int) -> pl.DataFrame:
    """Rates of either sign, on the hour or inside a bar, gaps or not."""
    every_ms = draw.choice([8 * HOUR_MS, 8 * HOUR_MS, HOUR_MS, HOUR_MS // 2])
    due = [START_MS + n * every_ms for n in range(hours * HOUR_MS // every_ms + 1)]
    size = draw.choice([0.0001, 0.003, 0.1])
    rates = [round(draw.gauss(0, size), 8) for _ in due]
    times = pl.Series("funding_at", due, dtype=pl.Int64).cast(pl.Datetime("ms", "UTC"))
    rows = pl.DataFrame({"funding_at": times, "rate": rates, "noted_at": times})
    return rows.cast(dict(FUNDING_SCHEMA))  # type: ignore[arg-type]


def any_decision(draw: Random, close: float, holds: int, terms: Terms) -> Decision:
    """A signal of either side, with any entry and any protection; mostly such as the account's sizing asks for."""
    action = draw.choices(["HOLD", "BUY", "SELL", "EXIT"], [holds, 3, 3, 0.5])[0]
    if action in ("HOLD", "EXIT"):
        return {"action": action}
    side = 1 if action == "BUY" else -1
    decision: Decision = {"action": action}
    legs = (("stop_loss", -side, 1), ("take_profit_1", side, 1), ("take_profit_2", side, 2))
    for leg, direction, reach in legs:
        form = draw.choice(["none", "none", "price", "bps", "atr"])
        if leg == "stop_loss" and terms.rules.sizing == "risk" and draw.random() < 0.8:
            form = "bps"
        if form == "price":
            decision[leg] = round(close * (1 + direction * (reach * abs(draw.gauss(0, 0.02)) - 0.002)), 4)
        elif form == "bps":
            decision[f"{leg}_bps"] = round(draw.uniform(1, 300 * reach), 2)
        elif form == "atr" and draw.random() < 0.3:
            decision[f"{leg}_atr"] = round(draw.uniform(0.1, 2 * reach), 2)
    return decision | _any_entry(draw, close, terms) | _any_movement(draw)


def _any_entry(draw: Random, close: float, terms: Terms) -> Decision:
    entry: Decision = {}
    if draw.random() < 0.4:
        entry = {"entry_type": draw.choice(["limit", "stop"]), "entry": round(close * (1 + draw.gauss(0, 0.01)), 4)}
        if draw.random() < 0.7:
            entry["expiry_bars"] = draw.randint(1, 5)
    if draw.random() < (0.9 if terms.rules.sizing == "target_weight" else 0.5):
        entry["target_weight"] = round(draw.choice([draw.uniform(-1, 1), 0.0, 0.4]), 3)
    return entry


def _any_movement(draw: Random) -> Decision:
    """What moves a stop, or ends the position in time."""
    movement: Decision = {}
    trail = draw.choices(["none", "bps", "atr"], [10, 4, 1])[0]
    if trail == "bps":
        movement["trailing_stop_bps"] = round(draw.uniform(5, 400), 2)
    elif trail == "atr":
        movement["trailing_stop_atr"] = round(draw.uniform(0.2, 3), 2)
    if draw.random() < 0.3:
        movement["break_even_bps"] = round(draw.uniform(5, 200), 2)
    if draw.random() < 0.3:
        movement["time_stop_bars"] = draw.randint(1, 12)
    return movement
