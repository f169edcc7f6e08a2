"""Random markets for property tests: a seed makes instruments, rules, bars with gaps, and decisions."""

from dataclasses import replace
from decimal import Decimal
from random import Random

from hypothesis import strategies as st

from candlewick.engine.terms import Terms
from candlewick.instruments import Instrument
from candlewick.rules import Rules
from tests.engine_play import Market, candle_frame, signal_frame
from tests.scenario import HOUR_MS, START_MS

Decision = dict[str, str | float]
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
        capital=draw.choice(["equity", "initial"]),  # type: ignore[arg-type]
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


def random_bars(draw: Random, hours: int, gap_share: float, tick: float) -> list[tuple[int, float, float, float, float]]:
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
