"""Backtests to report on, made up from seeded random walks: realistic in shape, not what any engine computed."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import polars as pl

from candlewick.candles import CANDLE_SCHEMA
from candlewick.metrics import AMOUNT, Measure
from candlewick.reports.backtest_view import BacktestView, ComparisonView, MonteCarlo, RunFacts, SweepView, WalkForwardView
from candlewick.trades import TRADE_SCHEMA

START = datetime(2023, 3, 1, tzinfo=UTC)
CASH = Decimal(10_000)
STEPS_MS = {"1m": 60_000, "1h": 3_600_000, "4h": 14_400_000}
NAMES = ("total_return", "annualised_return", "annualised_volatility", "sharpe", "sortino", "calmar", "max_drawdown")
NAMES += ("max_drawdown_days", "exposure", "turnover", "trades", "win_rate", "profit_factor", "expectancy", "average_trade")
NAMES += ("fees", "funding", "benchmark_return", "final_equity")
CENT = Decimal("0.01")


def walked(bars: int, timeframe: str, seed: int, price: float = 100.0) -> pl.DataFrame:
    """A random walk quoted to the cent; every 997th bar is missing."""
    random = np.random.default_rng(seed)
    drift = 0.004 * (STEPS_MS[timeframe] / 3_600_000) ** 0.5
    close = np.round(price * np.exp(np.cumsum(random.normal(0, drift, bars))), 2)
    opened = np.concatenate([[price], close[:-1]])
    wicks = np.round(np.abs(random.normal(0, drift / 2, (2, bars))) * close, 2)
    at = np.int64(START.timestamp() * 1000) + np.arange(bars, dtype=np.int64) * STEPS_MS[timeframe]
    frame = pl.DataFrame(
        {"opened_at": at, "open": opened, "high": np.maximum(opened, close) + wicks[0], "low": 0.0, "close": close}
    )
    frame = frame.with_columns(pl.Series("low", np.minimum(opened, close) - wicks[1]), pl.lit(5.0).alias("volume"))
    kept = frame.filter((pl.int_range(pl.len()) % 997 != 500) | (pl.len() < 997))
    return kept.select(pl.col(name).cast(kind) for name, kind in CANDLE_SCHEMA.items())


def walked_trades(candles: Mapping[str, pl.DataFrame], count: int, seed: int = 5) -> pl.DataFrame:
    """``count`` trades at the candles' opens, every third short, the last one still open, in the order of their entries."""
    random = np.random.default_rng(seed)
    rows = []
    symbols = list(candles)
    for number in range(count):
        symbol = symbols[number % len(symbols)]
        frame, short = candles[symbol], number % 3 == 2
        first = int(frame.height * number / count)
        last = min(frame.height - 1, first + int(random.integers(1, max(2, frame.height // max(count, 4)))))
        entry, leaving = (Decimal(str(round(frame["open"][row], 2))) for row in (first, last))
        quantity = (Decimal(4_000) / entry).quantize(Decimal("0.0001"))
        gain = (entry - leaving if short else leaving - entry) * quantity
        fees = ((entry + leaving) * quantity / 1000).quantize(CENT)
        opened = frame["opened_at"][first]
        is_open = number == count - 1 and count > 1
        funding = Decimal("-0.37") if short else Decimal(0)
        pnl = (gain - fees + funding).quantize(CENT)
        leg = ("exit", "stop", "target_1")[number % 3]
        closed = {"closed_at": frame["opened_at"][last], "holding_time": frame["opened_at"][last] - opened, "exit_price": leaving}
        closed |= {
            "pnl": pnl,
            "return_share": pnl / (entry * quantity),
            "exit_legs": [leg],
            "exit_reasons": [f"price met {leaving}"],
        }
        rows.append(
            {"symbol": symbol, "opened_at": opened, "quantity": quantity, "open_quantity": quantity if is_open else Decimal(0)}
            | {
                "entry_price": entry,
                "cost": entry * quantity,
                "fees": fees,
                "side": "short" if short else "long",
                "funding": funding,
            }
            | {
                "entry_order": f"o{number}",
                "entry_reason": f"SMA(10) {entry} crossed SMA(50) & <held>",
                "fill_ids": [f"f{number}"],
            }
            | ({} if is_open else closed)
        )
    return pl.DataFrame([{name: row.get(name) for name in TRADE_SCHEMA} for row in rows], schema=dict(TRADE_SCHEMA))


def walked_equity(candles: pl.DataFrame, seed: int = 11) -> pl.DataFrame:
    """An equity curve over the candles' times, with the candles held as benchmark."""
    random = np.random.default_rng(seed)
    size = candles.height
    if not size:
        return pl.DataFrame(
            schema={"at": pl.Datetime("us", "UTC"), "equity": AMOUNT, "drawdown_share": AMOUNT, "benchmark": AMOUNT}
        )
    values = 10_000 * np.exp(np.cumsum(random.normal(0.3 / size, 0.35 / size**0.5, size)))
    peaks = np.maximum(np.maximum.accumulate(values), 10_000)
    held = 10_000 * candles["close"].to_numpy() / candles["close"][0]
    columns = {"equity": values, "drawdown_share": 1 - values / peaks, "benchmark": held}
    frame = pl.DataFrame({"at": candles["opened_at"].cast(pl.Datetime("us", "UTC")), **columns})
    return frame.with_columns(pl.col(name).round(8).cast(AMOUNT) for name in columns)


def monthly(equity: pl.DataFrame) -> pl.DataFrame:
    """Returns by month of an equity curve that began with CASH."""
    ends = equity.group_by(pl.col("at").dt.year().alias("year"), pl.col("at").dt.month().alias("month"), maintain_order=True)
    last = ends.agg(pl.col("equity").last().cast(pl.Float64))
    before = pl.concat([pl.Series([10_000.0]), last["equity"]])[: last.height]
    share = (last["equity"] / before - 1).alias("return_share")
    return last.select("year", pl.col("month").cast(pl.Int8)).with_columns(share)


def figures_of(equity: pl.DataFrame, trades: pl.DataFrame) -> dict[str, Measure]:
    """Plausible figures; those of trades undefined where there is no trade."""
    final: Decimal = equity["equity"][-1] if equity.height else CASH
    shares = {"total_return": final / CASH - 1, "max_drawdown": max(equity["drawdown_share"].to_list(), default=Decimal(0))}
    found = {name: Measure(Decimal("1.2345")) for name in NAMES} | {name: Measure(value) for name, value in shares.items()}
    found |= {"final_equity": Measure(final), "trades": Measure(Decimal(trades.height)), "exposure": Measure(Decimal("0.4375"))}
    found |= {"annualised_return": Measure(Decimal("-0.0321")), "max_drawdown_days": Measure(Decimal("41.5"))}
    found |= {"fees": Measure(Decimal("123.45")), "funding": Measure(Decimal("-4.20")), "expectancy": Measure(Decimal("-1.75"))}
    found |= {name: Measure(Decimal("0.4567")) for name in ("win_rate", "annualised_volatility", "benchmark_return")}
    if not trades.height:
        lost = ("win_rate", "profit_factor", "expectancy", "average_trade")
        found |= {name: Measure(None, "no trade was closed yet") for name in lost}
    return found


def facts(kind: str, symbols: tuple[str, ...], bars: int, timeframe: str) -> dict[str, object]:
    """The fields that every run has."""
    return {
        "run_id": f"{kind}-20260430-0001",
        "kind": kind,
        "title": f"sma_cross on {', '.join(symbols[:3])}",
        "market": "files:/data/candles",
        "timeframe": timeframe,
        "detail_timeframe": "1m" if timeframe != "1m" else None,
        "symbols": symbols,
        "quote": "USDT",
        "strategy": "sma_cross",
        "parameters": {"fast": 10, "slow": 50, "confirm": True},
        "rules": {"fee_bps": "10", "slippage_bps": "2", "direction": "both", "max_open_positions": "10"},
        "since_at": START,
        "until_at": START + timedelta(milliseconds=bars * STEPS_MS[timeframe]),
        "initial_cash": CASH,
        "code_version": "0.1.0+abc1234",
        "candle_digests": {symbol: f"{number:064x}" for number, symbol in enumerate(symbols, 1)},
        "notices": ("3 bars of S00/USDT are missing: nothing fills in a gap",),
        "check": "all 240 truncated histories gave the same signals; 50 bars of warm-up are enough",
        "check_passed": True,
        "command": f"python -m flows.backtesting {kind} --market files:/data/candles --strategy sma_cross",
    }


def backtest_view(bars: int = 6_000, symbols: int = 3, trades: int = 120, timeframe: str = "1h") -> BacktestView:
    """A backtest with bands and a shuffle of its trades."""
    names = tuple(f"S{number:02}/USDT" for number in range(symbols))
    candles = {name: walked(bars, timeframe, seed) for seed, name in enumerate(names)}
    made = walked_trades(candles, trades) if trades else pl.DataFrame(schema=dict(TRADE_SCHEMA))
    equity = walked_equity(candles[names[0]])
    spread = np.linspace(0, 0.3, equity.height)
    base = equity["equity"].cast(pl.Float64).to_numpy()
    edges = {"p05": -1.6, "p25": -0.6, "p50": 0.05, "p75": 0.7, "p95": 1.7}
    bands = pl.DataFrame({"at": equity["at"], **{name: base * (1 + edge * spread) for name, edge in edges.items()}})
    shuffled = {
        "figure": ["max_drawdown", "final_equity"],
        "p05": [0.05, 9_000.0],
        "p25": [0.08, 9_800.0],
        "p50": [0.12, 10_500.0],
    }
    quantiles = pl.DataFrame({**shuffled, "p75": [0.18, 11_300.0], "p95": [0.31, 12_900.0]})
    table = {"symbol": names, "trades": [made.filter(pl.col("symbol") == name).height for name in names]}
    table |= {
        "pnl": [12.5 - 20 * n for n in range(symbols)],
        "win_rate": [0.5] * symbols,
        "profit_factor": [None, *[1.1] * (symbols - 1)],
    }
    return BacktestView(
        **facts("run", names, bars, timeframe),  # type: ignore[arg-type]
        figures=figures_of(equity, made),
        equity=equity,
        trades=made,
        months=monthly(equity),
        symbols_table=pl.DataFrame(table),
        candles=candles,
        bands=bands,
        monte_carlo=MonteCarlo(draws=1_000, seed=7, quantiles=quantiles, text="Trades are drawn without replacement."),
    )


def sweep_view(grid: Mapping[str, list[object]] | None = None, objective: str = "sharpe", bars: int = 2_000) -> SweepView:
    """A sweep over a grid with a plateau; every seventh set has no objective."""
    values = grid or {"fast": list(range(5, 55, 5)), "slow": list(range(20, 200, 10))}
    frame = pl.DataFrame({"one": [0]})
    for name, own in values.items():
        frame = frame.join(pl.DataFrame({name: own}), how="cross")
    frame = frame.drop("one")
    random, size = np.random.default_rng(3), frame.height
    codes = [frame[name].rank("dense").cast(pl.Float64).to_numpy() / max(1, frame[name].n_unique()) for name in values]
    hill = 1.4 * np.exp(-sum((code - 0.4) ** 2 for code in codes) * 4) + random.normal(0, 0.2, size) - 0.3
    scores = [None if row % 7 == 6 else float(value) for row, value in enumerate(hill)]
    columns = {
        objective: scores,
        "total_return": hill / 4,
        "max_drawdown": 0.3 - hill / 10,
        "trades": [float(40 + row % 30) for row in range(size)],
    }
    return SweepView(
        **facts("sweep", ("S00/USDT", "S01/USDT"), bars, "1h") | {"parameters": {"confirm": True}},  # type: ignore[arg-type]
        grid=tuple(values),
        results=frame.with_columns(pl.Series(name, own) for name, own in columns.items()),
        objective=objective,
        top=20,
        skipped={"slow must be above fast": 12},
        deflated_sharpe=Measure(Decimal("0.8731")),
        sharpe_threshold=Measure(Decimal("0.91")),
        overfit_probability=Measure(None, "fewer than 16 blocks of 30 days"),
        texts=("Deflated Sharpe ratio: Bailey and López de Prado (2014).",),
    )


def walk_forward_view(windows: int = 12, bars: int = 6_000) -> WalkForwardView:
    """Train windows of 60 days, test windows of 20; what training promised is more than what testing gave."""
    random = np.random.default_rng(9)
    starts = [START + timedelta(days=20 * number) for number in range(windows)]
    inside = random.normal(1.6, 0.4, windows)
    outside = 0.5 * inside + random.normal(0, 0.6, windows)
    frame = pl.DataFrame(
        {
            "train_since_at": starts,
            "train_until_at": [at + timedelta(days=60) for at in starts],
            "test_since_at": [at + timedelta(days=60) for at in starts],
            "test_until_at": [at + timedelta(days=80) for at in starts],
            "fast": [int(value) for value in random.integers(5, 20, windows)],
            "slow": [int(value) for value in random.integers(40, 120, windows)],
            "kind": [("ema", "sma")[number % 2] for number in range(windows)],
            "in_sample_objective": inside,
            "out_of_sample_objective": [None if number == 4 else float(value) for number, value in enumerate(outside)],
            "in_sample_return": inside / 20,
            "out_of_sample_return": outside / 20,
        },
        schema_overrides={
            name: pl.Datetime("us", "UTC") for name in ("train_since_at", "train_until_at", "test_since_at", "test_until_at")
        },
    )
    candles = walked(bars, "1h", 1)
    equity = walked_equity(candles)
    stability = {
        "parameter": ["fast", "slow", "kind"],
        "different_values": [7, 9, 2],
        "most_common": ["12", "80", "ema"],
        "share": [0.3, 0.2, 0.5],
    }
    return WalkForwardView(
        **facts("walk-forward", ("S00/USDT",), bars, "1h"),  # type: ignore[arg-type]
        grid=("fast", "slow", "kind"),
        objective="sharpe",
        windows=frame,
        equity=equity,
        figures=figures_of(equity, pl.DataFrame({"a": [1]})),
        stability=pl.DataFrame(stability),
        efficiency=Measure(Decimal("0.4312")),
        texts=("Efficiency: return a year out of sample over in sample (Pardo 2008).",),
    )


def comparison_view(runs: int = 3, bars: int = 3_000) -> ComparisonView:
    """Runs that differ in a parameter and a rule."""
    made, equities, figures = [], [], {}
    for number in range(runs):
        own = facts("run", ("S00/USDT",), bars, "1h") | {
            "run_id": f"run-{number}",
            "parameters": {"fast": 10 + number, "slow": 50},
        }
        own["rules"] = {"fee_bps": str(10 - number), "slippage_bps": "2"}
        run = RunFacts(**own)  # type: ignore[arg-type]
        made.append(run)
        equity = walked_equity(walked(bars, "1h", 1), seed=20 + number)
        equities.append(
            equity.select(pl.lit(run.run_id).alias("run_id"), "at", (pl.col("equity").cast(pl.Float64) / 10_000).alias("growth"))
        )
        figures[run.run_id] = figures_of(equity, pl.DataFrame({"a": [1]} if number else {"a": []}))
    return ComparisonView(
        title="Three speeds of sma_cross",
        runs=tuple(made),
        equity=pl.concat(equities),
        figures=figures,
        trade_counts=pl.DataFrame({"run_id": [run.run_id for run in made], "trades": 40, "shared": 31, "alone": 9}),
        notices=("the runs' candles end at the same bar",),
        command="python -m flows.backtesting compare run-0 run-1 run-2",
    )
