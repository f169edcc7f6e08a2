"""Accounts for tests/test_parity.py: what they trade, by which terms, and at which moments their cycles see the market."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from random import Random

import polars as pl
import pytest

from candlewick.account import Scalar
from candlewick.timeframes import timeframe_ms
from tests.shared_data import SHARED, real_candles

FIRST = datetime(2025, 6, 2, tzinfo=UTC)
"""Real candles and real funding are there from here to the end of April 2026."""
SPOT = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT")
PERPETUALS = ("SOL/USDT:USDT", "BTC/USDT:USDT", "XRP/USDT:USDT")
LEGS: Mapping[str, Scalar] = {"stop_loss_bps": 120.0, "take_profit_1_bps": 90.0}
# Of every built-in strategy: how it is used plainly, and with all it can say of entries, stops, targets and time.
PARAMETERS: Mapping[str, tuple[Mapping[str, Scalar], ...]] = {
    "fibonacci_golden_zone": (
        {"lookback_bars": 12, "min_swing_bps": 50.0},
        {"lookback_bars": 24, "min_swing_bps": 100.0, "one_entry_per_swing": False, "target_2_extension": 1.27},
    ),
    "sma_cross": ({"fast": 2, "slow": 5}, {"fast": 3, "slow": 8, **LEGS}, {"fast": 2, "slow": 7, "trailing_stop_bps": 60.0}),
    "rsi_reversion": (
        {"period": 5, "oversold": 35.0, "overbought": 65.0},
        {"period": 4, "oversold": 40.0, "overbought": 60.0, "stop_loss_atr": 1.2, "take_profit_1_atr": 0.8},
    ),
    "donchian_breakout": (
        {"channel_bars": 5},
        {"channel_bars": 4, "entry_type": "stop", "expiry_bars": 3, "time_stop_bars": 5, **LEGS},
        {"channel_bars": 6, "entry_type": "stop", "trailing_stop_atr": 1.5},
    ),
    "macd_trend": (
        {"fast": 3, "slow": 7, "signal": 3},
        {"fast": 4, "slow": 9, "signal": 2, "trailing_stop_bps": 80.0, "time_stop_bars": 7, "take_profit_1_bps": 60.0},
    ),
    "bollinger_reversion": (
        {"period": 8, "deviations": 1.2, "exit_at": "middle"},
        {"period": 6, "deviations": 1.0, "entry_type": "limit", "expiry_bars": 4, "time_stop_bars": 9, **LEGS},
        {"period": 10, "deviations": 1.5, "entry_type": "limit", "trailing_stop_atr": 2.0},
    ),
    "supertrend": ({"period": 4, "multiple": 1.5}, {"period": 3, "multiple": 1.0, "trailing_stop_bps": 100.0, **LEGS}),
    "buy_and_hold": ({}, {"target_weight": 0.6}),
}
LONG_ONLY: Mapping[str, Scalar] = {"max_drawdown_share": "none", "daily_loss_limit_share": "none"}
BOTH_WAYS: Mapping[str, Scalar] = {**LONG_ONLY, "direction": "both", "leverage": "3", "spread_bps": "1"}


@dataclass(frozen=True, slots=True)
class Case:
    """One account: the terms it is opened with, and the times (ISO 8601, UTC) of its cycles; the last is a bar's close."""

    market: str
    symbols: tuple[str, ...]
    timeframe: str
    strategy: str
    parameters: Mapping[str, Scalar]
    rules: Mapping[str, Scalar]
    cash: str
    since: str
    untils: tuple[str, ...]

    def options(self, account: str) -> dict[str, object]:
        """As parameters of the flow `paper_trading`, without `until`."""
        return {
            "account": account, "market": self.market, "symbols": list(self.symbols), "timeframe": self.timeframe,
            "strategy": self.strategy, "parameters": dict(self.parameters), "rules": dict(self.rules), "cash": self.cash,
            "since": self.since,
        }  # fmt: skip


def strategy_cases() -> list[tuple[str, int]]:
    """Every parameter set, by the strategy's name and its number."""
    return [(name, number) for name, sets in PARAMETERS.items() for number in range(len(sets))]


def strategy_case(folder: Path, strategy: str, number: int, bars: int, cycles: int) -> Case:
    """Every second parameter set on spot, the others long and short on perpetuals."""
    draw = Random(f"{strategy} {number}")
    spot = number % 2 == 0
    symbols = SPOT[:2] if spot else PERPETUALS[:2]
    since = FIRST + timedelta(hours=draw.randrange(1000))
    write_market(folder, symbols, "1h", since, since + timedelta(hours=bars + 2))
    return Case(
        market=f"files:{folder}", symbols=symbols, timeframe="1h", strategy=strategy,
        parameters=PARAMETERS[strategy][number], rules=LONG_ONLY if spot else BOTH_WAYS, cash="10000",
        since=f"{since:%Y-%m-%d %H:%M}", untils=moments(draw, since, "1h", bars, cycles),
    )  # fmt: skip


def random_case(folder: Path, seed: int, bars: int, cycles: int) -> Case:
    """An account of one to four symbols with everything drawn."""
    draw = Random(seed)
    kind = ("spot", "perpetual", "margin", "sample")[seed % 4]
    timeframe = draw.choice(["1h", "1h", "30m", "2h"]) if kind == "sample" else "1h"
    since = FIRST + timedelta(hours=draw.randrange(3000))
    symbols = _symbols(draw, kind)
    market = "sample"
    if kind != "sample":
        length = timedelta(hours=bars + 2)
        write_market(folder, symbols, timeframe, since, since + length, draw if draw.random() < 0.6 else None)
        (folder / "candlewick-files.yaml").write_text(_instruments(draw, symbols, kind), encoding="utf-8")
        market = f"files:{folder}"
    strategy, parameters = _strategy(draw)
    return Case(
        market=market, symbols=symbols, timeframe=timeframe, strategy=strategy, parameters=parameters,
        rules=_rules(draw, kind), cash=draw.choice(["200", "10000", "1000000.5"]), since=f"{since:%Y-%m-%d %H:%M}",
        untils=moments(draw, since, timeframe, bars, cycles),
    )  # fmt: skip


def moments(draw: Random, since: datetime, timeframe: str, bars: int, cycles: int) -> tuple[str, ...]:
    """Ends of cycles: bunched or far apart, at closes, soon after an open and late in a bar; several may see the same bar."""
    length_min = timeframe_ms(timeframe) // 60_000
    ends = sorted(draw.randrange(2 * length_min, bars * length_min) for _ in range(cycles - 1))
    ends = [end - end % length_min if draw.random() < 0.2 else end for end in ends]
    if len(ends) > 2:
        ends[1] = ends[0]
    return tuple(f"{since + timedelta(minutes=end):%Y-%m-%d %H:%M}" for end in [*ends, bars * length_min])


def write_market(
    folder: Path, symbols: Sequence[str], timeframe: str, since: datetime, until: datetime, draw: Random | None = None
) -> None:
    """Files of real candles and funding as an exchange's folder has them. ``draw``: with gaps, and some symbol listed later."""
    folder.mkdir(parents=True, exist_ok=True)
    for symbol in symbols:
        exchange, pair = "binanceusdm" if ":" in symbol else "binance", symbol.split(":")[0].replace("/", "")
        candles = hourly(pair, exchange).filter(pl.col("opened_at").is_between(since, until, closed="left"))
        if draw is not None:
            candles = _with_gaps(draw, candles)
        candles.rename({"opened_at": "ts"}).write_parquet(folder / f"{exchange}_{pair}_{timeframe}.parquet")
        if ":" in symbol:
            funding(pair).write_parquet(folder / f"{exchange}_{pair}_funding_8h.parquet")


@lru_cache(maxsize=8)
def hourly(pair: str, exchange: str) -> pl.DataFrame:
    """Real hourly candles. Only SOL's are of a perpetual; other perpetuals are given their spot prices, with real funding."""
    if (pair, exchange) != ("SOLUSDT", "binanceusdm"):
        return real_candles(f"binance_{pair}_1h")
    bars = real_candles("binanceusdm_SOLUSDT_5m").group_by_dynamic("opened_at", every="1h")
    column = pl.col
    return bars.agg(
        column("open").first(), column("high").max(), column("low").min(), column("close").last(), column("volume").sum()
    )


@lru_cache(maxsize=8)
def funding(pair: str) -> pl.DataFrame:
    """Real funding rates of a perpetual; skips the test where they are absent."""
    path = SHARED / "data" / "derivatives" / f"binanceusdm_{pair}_funding_8h.parquet"
    if not path.is_file():
        pytest.skip(f"the real funding {path.name} is not beside this checkout")
    return pl.read_parquet(path)


def _with_gaps(draw: Random, candles: pl.DataFrame) -> pl.DataFrame:
    """Without some bars, but with the last ones; in a quarter of all cases also without the first."""
    keep = [draw.random() > 0.05 for _ in range(candles.height)]
    for _ in range(3):
        start = draw.randrange(candles.height)
        keep[start : start + 5] = [False] * len(keep[start : start + 5])
    if draw.random() < 0.25:
        late = candles.height // 6
        keep[:late] = [False] * late
    keep[-4:] = [True] * 4
    return candles.filter(pl.Series(keep))


def _symbols(draw: Random, kind: str) -> tuple[str, ...]:
    pool = {"perpetual": PERPETUALS, "sample": tuple(f"{name}:USDT" for name in SPOT)}.get(kind, SPOT)
    return tuple(draw.sample(pool, draw.randint(1, len(pool))))


def _instruments(draw: Random, symbols: Sequence[str], kind: str) -> str:
    """The mapping of a folder: what an exchange asks of an order."""
    lines = ["instruments:"]
    for symbol in symbols:
        lines += [
            f'  "{symbol}":',
            f"    kind: {kind}",
            f"    price_tick: {draw.choice(['0.01', '0.0001', '0.001'])}",
            f"    quantity_step: {draw.choice(['0.001', '0.00001', '0.1'])}",
            f"    min_notional: {draw.choice(['0', '5', '17.5'])}",
            f"    maker_fee_bps: {draw.choice(['0', '2', '7.5'])}",
            f"    taker_fee_bps: {draw.choice(['0', '5', '12.5'])}",
        ]
        if kind != "spot":
            lines += ["    max_leverage: 50", f"    maintenance_margin_share: {draw.choice(['0.005', '0.02'])}"]
    return "\n".join(lines) + "\n"


def _strategy(draw: Random) -> tuple[str, Mapping[str, Scalar]]:
    """Half of them the one that uses every column of the contract."""
    if draw.random() < 0.5:
        return "tests.parity_strategy:Drawn", {"seed": draw.randrange(2**31), "act_share": draw.choice([0.1, 0.3, 0.7])}
    name = draw.choice(sorted(PARAMETERS))
    return name, draw.choice(PARAMETERS[name])


def _rules(draw: Random, kind: str) -> Mapping[str, Scalar]:
    rules: dict[str, Scalar] = {
        "slippage_bps": draw.choice(["0", "2", "33.3"]),
        "spread_bps": draw.choice(["0", "1", "8"]),
        "capital": draw.choice(["equity", "initial", "equity_at_open"]),
        "max_open_positions": draw.choice([1, 2, 10]),
        "max_position_share": draw.choice(["1", "0.4"]),
        "daily_loss_limit_share": draw.choice(["none", "0.02", "0.05"]),
        "max_drawdown_share": draw.choice(["none", "none", "0.1", "0.5"]),
        "cooldown_bars": draw.choice([0, 1, 5]),
        "target_1_share": draw.choice(["0.5", "0.3", "1"]),
        "stop_to_entry_after_target_1": draw.choice([True, False]),
        "max_volume_share": draw.choice(["none", "none", "0.0001", "0.01"]),
        "max_entries": draw.choice([1, 1, 3]),
        "sizing": draw.choice(["equal_share", "fixed_notional", "risk", "inverse_volatility", "kelly", "target_weight"]),
        "fixed_notional": draw.choice(["60", "1000"]),
        "risk_share": draw.choice(["0.01", "0.05"]),
        "volatility_bars": draw.choice([3, 12]),
        "kelly_min_trades": draw.choice([2, 5]),
        "rebalance_share": draw.choice(["0", "0.01", "0.1"]),
    }
    if kind != "spot":
        rules["direction"] = draw.choice(["long", "short", "both", "both"])
        rules["reverse"] = draw.choice([True, False])
        rules["leverage"] = draw.choice(["1", "3", "10", "20"])
    return rules
