"""Runs and their rows for tests of the run store and of comparisons."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl

from candlewick.backtest_rows import BacktestRun
from candlewick.instruments import Instrument
from candlewick.metrics import Measure
from candlewick.rows import AMOUNT, TIME
from candlewick.rules import Rules
from candlewick.store.backtests import Outcome
from candlewick.trades import TRADE_SCHEMA

BEGUN = datetime(2026, 7, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
GRID = Decimal("0.01")
BTC = Instrument("BTC/USDT", "BTC", "USDT", GRID, GRID)


def begun(run_id: str = "sweep-aa11", hour: int = 0, **cells: object) -> BacktestRun:
    """A run as it begins, ``hour`` hours after BEGUN."""
    facts = {"kind": "run", "correlation_id": run_id, "market": "sample", "timeframe": "1h", "symbols": ("BTC/USDT",)}
    facts |= {"quote": "USDT", "strategy": "sma_cross", "parameters": {"fast": 10, "share": 0.1, "name": "é"}, "rules": Rules()}
    facts |= {"instruments": (BTC,), "initial_cash": Decimal(10_000), "code_version": "0.1.0+abc", "strategy_version": "s1"}
    facts |= {"started_at": BEGUN + hour * HOUR, "since_at": BEGUN - 100 * HOUR, "until_at": BEGUN}
    facts |= {"candle_digests": {"BTC/USDT": "d1"}}
    return BacktestRun(run_id=run_id, **{**facts, **cells})


def ended(run: BacktestRun, **cells: object) -> BacktestRun:
    """The run as it succeeded."""
    figures = {"sharpe": Measure(Decimal("1.230")), "profit_factor": Measure(None, "no losing trade")}
    facts = {"status": "success", "completed_at": run.started_at + HOUR, "figures": figures, "bars": 100}
    facts |= {
        "statistics": {"deflated_sharpe": 0.93, "bands": [1, 2.5, None]},
        "notices": ("a gap",),
        "durations_s": {"fold": 0.25},
    }
    facts |= {"report": "reports/run.html", "process": None}
    return BacktestRun(**{**{name: getattr(run, name) for name in BacktestRun.__slots__}, **facts, **cells})


def trades(count: int = 3, every_h: int = 4) -> pl.DataFrame:
    """Trades one after the other; the last one is still open, every second one is short."""
    rows = []
    for number in range(count):
        opened, is_open = BEGUN + number * every_h * HOUR, number == count - 1
        closed = None if is_open else opened + 2 * HOUR
        row = {"symbol": "BTC/USDT", "side": "short" if number % 2 else "long", "opened_at": opened, "closed_at": closed}
        row |= {"holding_time": None if is_open else 2 * HOUR, "quantity": Decimal("0.5"), "entry_price": Decimal(100 + number)}
        row |= {"open_quantity": Decimal("0.5") if is_open else Decimal(0), "cost": Decimal(50), "fees": Decimal("0.1")}
        row |= {
            "exit_price": None if is_open else Decimal(101),
            "pnl": None if is_open else Decimal(number),
            "funding": Decimal(1),
        }
        row |= {"return_share": None if is_open else Decimal("0.02"), "entry_order": f"cw-{number}", "entry_reason": "cross"}
        legs = [] if is_open else ["target_1", "stop"]
        rows.append(row | {"exit_legs": legs, "exit_reasons": [f'"{leg}", é' for leg in legs], "fill_ids": [f"{number}.1"]})
    return pl.DataFrame(rows, schema=dict(TRADE_SCHEMA))


def equity(count: int = 5, start: Decimal = Decimal(10_000), step: Decimal = Decimal(1), every: timedelta = HOUR) -> pl.DataFrame:
    """A curve that grows by ``step`` a row."""
    times = [BEGUN + (number + 1) * every for number in range(count)]
    values = [start + number * step for number in range(count)]
    amounts = {"equity": values, "cash": values, "position_value": [Decimal(0)] * count, "drawdown_share": [Decimal(0)] * count}
    columns = [pl.Series("at", times, TIME), *(pl.Series(name, cells, AMOUNT) for name, cells in amounts.items())]
    return pl.DataFrame([*columns, pl.Series("open_positions", [0] * count, pl.Int32), pl.Series("benchmark", values, AMOUNT)])


def fills(count: int = 2) -> pl.DataFrame:
    """Fills as the journal has them, with columns that only an account needs."""
    amounts = dict.fromkeys(("reference_price", "price", "quantity", "notional", "fee"), [Decimal("1.5")] * count)
    texts = {"fill_id": "f", "account": "demo", "symbol": "BTC/USDT", "client_order_id": "cw", "leg": "entry", "side": "buy"}
    texts |= {"phase": "open", "reason": "next open"}
    return pl.DataFrame(
        [
            *(pl.Series(name, [text] * count) for name, text in texts.items()),
            *(pl.Series(name, cells, AMOUNT) for name, cells in amounts.items()),
            pl.Series("sequence", range(1, count + 1), pl.Int64),
            pl.Series("bar_opened_at", [BEGUN] * count, TIME),
            pl.Series("realized_pnl", [None] * count, AMOUNT),
        ]
    )


def sets(numbers: range, chunk: int = 0) -> pl.DataFrame:
    """Sets of a sweep."""
    texts = [json.dumps({"fast": number}) for number in numbers]
    return pl.DataFrame(
        {"number": numbers, "parameters": texts, "objective": [number / 7 for number in numbers], "figures": texts},
        schema={"number": pl.Int64, "parameters": pl.String, "objective": pl.Float64, "figures": pl.String},
    ).with_columns(pl.lit(chunk, pl.Int32).alias("chunk"))


def windows(count: int = 2) -> pl.DataFrame:
    """Windows of a walk-forward."""
    starts = {"train_start": 0, "train_end": 10, "test_start": 10, "test_end": 12}
    times = [pl.Series(name, [BEGUN + (first + 2 * n) * HOUR for n in range(count)], TIME) for name, first in starts.items()]
    texts = [pl.Series(name, ['{"a":1}'] * count) for name in ("parameters", "in_sample", "out_of_sample")]
    return pl.DataFrame([pl.Series("number", range(1, count + 1), pl.Int64), *times, *texts])


def whole_outcome() -> Outcome:
    """Rows of every kind."""
    return Outcome(trades=trades(), fills=fills(), equity=equity(), sets=sets(range(3)), windows=windows())
