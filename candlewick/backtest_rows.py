"""A backtest as it is kept: the run as a value and as a row, and its trades, fills, equity, sets and windows as rows.

Column names and types as in candlewick/store/migrations.py. JSON columns hold text here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from typing import Literal, cast

import polars as pl

from candlewick.instruments import Instrument
from candlewick.json_text import Json, to_json
from candlewick.metrics import Measure
from candlewick.rows import AMOUNT, NUMBER, TEXT, TIME, Schema
from candlewick.rules import Rules

RunKind = Literal["run", "sweep", "optimize", "walk-forward", "check"]
RunStatus = Literal["running", "success", "failure", "interrupted"]

BACKTEST_ROW: Schema = {
    **dict.fromkeys(("run_id", "kind", "parent_run_id", "flow_run_id", "correlation_id", "status", "error"), TEXT),
    **dict.fromkeys(("market", "timeframe", "detail_timeframe", "symbols", "quote", "strategy", "parameters"), TEXT),
    **dict.fromkeys(("grid", "rules", "instruments"), TEXT),
    "initial_cash": AMOUNT,
    **dict.fromkeys(("since_at", "until_at"), TIME),
    "objective": TEXT,
    **dict.fromkeys(("bars", "sets", "sets_done"), NUMBER),
    **dict.fromkeys(("code_version", "strategy_version", "candle_digests", "funding_digests"), TEXT),
    **dict.fromkeys(("figures", "statistics", "check_verdict", "notices", "durations_s", "report", "process"), TEXT),
    **dict.fromkeys(("started_at", "completed_at"), TIME),
}
BACKTEST_TRADE_ROW: Schema = {
    "run_id": TEXT,
    "number": NUMBER,
    "symbol": TEXT,
    "side": TEXT,
    **dict.fromkeys(("opened_at", "closed_at"), TIME),
    **dict.fromkeys(("quantity", "open_quantity", "entry_price", "exit_price", "cost", "fees", "funding"), AMOUNT),
    **dict.fromkeys(("pnl", "return_share"), AMOUNT),
    **dict.fromkeys(("entry_order", "entry_reason", "exit_legs", "exit_reasons", "fill_ids"), TEXT),
}
BACKTEST_FILL_ROW: Schema = {
    "run_id": TEXT,
    "sequence": NUMBER,
    **dict.fromkeys(("symbol", "leg", "side"), TEXT),
    "bar_opened_at": TIME,
    "phase": TEXT,
    **dict.fromkeys(("reference_price", "price", "quantity", "notional", "fee", "realized_pnl"), AMOUNT),
    "reason": TEXT,
}
BACKTEST_EQUITY_ROW: Schema = {
    "run_id": TEXT,
    "at": TIME,
    **dict.fromkeys(("equity", "cash", "position_value", "drawdown_share"), AMOUNT),
    "open_positions": pl.Int32(),
    "benchmark": AMOUNT,
}
BACKTEST_SET_ROW: Schema = {
    "run_id": TEXT,
    "number": NUMBER,
    "parameters": TEXT,
    "objective": pl.Float64(),
    "figures": TEXT,
    "chunk": pl.Int32(),
}
BACKTEST_WINDOW_ROW: Schema = {
    "run_id": TEXT,
    "number": NUMBER,
    **dict.fromkeys(("train_start", "train_end", "test_start", "test_end"), TIME),
    **dict.fromkeys(("parameters", "in_sample", "out_of_sample"), TEXT),
}
STRATEGY_CHECK_ROW: Schema = {
    **dict.fromkeys(("strategy", "parameters", "code_version", "strategy_version"), TEXT),
    **dict.fromkeys(("market", "timeframe", "verdict", "document"), TEXT),
    "checked_at": TIME,
}
_NAMED = ("parameters", "grid", "rules", "candle_digests", "funding_digests", "figures", "statistics", "durations_s")
_JSON_FIELDS = (*_NAMED, "symbols", "instruments", "notices")
_LISTS = ("exit_legs", "exit_reasons", "fill_ids")


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestRun:
    """One run of a backtesting flow, with what it was computed from and what came out; fields are columns of `backtests`.

    ``parameters`` holds the fixed ones, ``grid`` the values of those that vary; ``figures`` by their name; ``statistics`` is
    any JSON (deflated Sharpe ratio, bands, ...). ``since_at`` and ``until_at`` bound the candles; digests are by symbol.
    ``sets`` is how many are planned; ``sets_done`` and ``process`` (who computes it) are the store's own and ignored elsewhere.
    """

    run_id: str
    kind: RunKind
    correlation_id: str
    market: str
    timeframe: str
    symbols: tuple[str, ...]
    quote: str
    strategy: str
    parameters: Mapping[str, Json]
    rules: Rules
    instruments: tuple[Instrument, ...]
    initial_cash: Decimal
    code_version: str
    started_at: datetime
    status: RunStatus = "running"
    error: str | None = None
    parent_run_id: str | None = None
    flow_run_id: str | None = None
    detail_timeframe: str | None = None
    grid: Mapping[str, Json] | None = None
    since_at: datetime | None = None
    until_at: datetime | None = None
    objective: str | None = None
    bars: int | None = None
    sets: int | None = None
    sets_done: int = 0
    strategy_version: str | None = None
    candle_digests: Mapping[str, str] = field(default_factory=dict)
    funding_digests: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Measure] = field(default_factory=dict)
    statistics: Mapping[str, Json] = field(default_factory=dict)
    check_verdict: str | None = None
    notices: tuple[str, ...] = ()
    durations_s: Mapping[str, float] = field(default_factory=dict)
    report: str | None = None
    process: str | None = None
    completed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCheck:
    """What the look-ahead check said of a strategy with these parameters; other code may say something else."""

    strategy: str
    parameters: Mapping[str, Json]
    code_version: str
    strategy_version: str
    market: str
    timeframe: str
    verdict: str
    document: Mapping[str, Json]
    checked_at: datetime


def run_row(run: BacktestRun) -> pl.DataFrame:
    """The run as a row of `backtests`."""
    return _one_row({column.name: getattr(run, column.name) for column in fields(run)}, BACKTEST_ROW)


def read_run(row: Mapping[str, object]) -> BacktestRun:
    """The inverse of ``run_row``, from a row as the store answers it."""
    parsed = {name: json.loads("null" if row[name] is None else str(row[name])) for name in _JSON_FIELDS}
    figures = {name: _measure(figure) for name, figure in parsed["figures"].items()}
    built = {
        "symbols": tuple(parsed["symbols"]),
        "rules": Rules.from_document(parsed["rules"]),
        "instruments": tuple(Instrument.from_document(document) for document in parsed["instruments"]),
        "figures": figures,
        "notices": tuple(parsed["notices"]),
    }
    return BacktestRun(**{**row, **parsed, **built})


def check_row(check: KeptCheck) -> pl.DataFrame:
    """The check as a row of `strategy_checks`."""
    cells = {column.name: getattr(check, column.name) for column in fields(check)}
    return _one_row({**cells, "parameters": parameters_key(check.parameters)}, STRATEGY_CHECK_ROW)


def read_check(row: Mapping[str, object]) -> KeptCheck:
    """The inverse of ``check_row``."""
    parsed = {name: json.loads(str(row[name])) for name in ("parameters", "document")}
    return KeptCheck(**{**row, **parsed})


def parameters_key(parameters: Mapping[str, Json]) -> str:
    """Parameters as one text whatever their order: `{"fast": 10, "slow": 50}`."""
    return to_json(dict(sorted(parameters.items())))


def trade_rows(run_id: str, trades: pl.DataFrame) -> pl.DataFrame:
    """Trades (TRADE_SCHEMA of candlewick/trades.py) as rows of `backtest_trades`, numbered from 1."""
    texts = [
        pl.Series(name, [None if cell is None else to_json(cell) for cell in trades[name].to_list()], TEXT) for name in _LISTS
    ]
    numbered = trades.drop("holding_time").with_columns(*texts, pl.int_range(1, pl.len() + 1, dtype=NUMBER).alias("number"))
    return _of_run(run_id, numbered)


def read_trades(rows: pl.DataFrame) -> pl.DataFrame:
    """The inverse of ``trade_rows``: TRADE_SCHEMA, in the order the trades were given in."""
    lists = (pl.col(name).str.json_decode(pl.List(pl.String)) for name in _LISTS)
    held = (pl.col("closed_at") - pl.col("opened_at")).alias("holding_time")
    names = [name for name in BACKTEST_TRADE_ROW if name not in ("run_id", "number")]
    names.insert(names.index("closed_at") + 1, "holding_time")
    return rows.with_columns(*lists, held).select(names)


def fill_rows(run_id: str, fills: pl.DataFrame) -> pl.DataFrame:
    """Fills as the journal has them, as rows of `backtest_fills`; columns that only an account needs are left out."""
    return _of_run(run_id, fills).select(BACKTEST_FILL_ROW.keys())


def equity_rows(run_id: str, equity: pl.DataFrame) -> pl.DataFrame:
    """An equity curve as rows of `backtest_equity`; ``benchmark`` (an amount) may be left out, other columns are."""
    missing = [pl.lit(None, AMOUNT).alias("benchmark")] if "benchmark" not in equity.columns else []
    return _of_run(run_id, equity.with_columns(missing)).select(BACKTEST_EQUITY_ROW.keys())


def set_rows(run_id: str, sets: pl.DataFrame) -> pl.DataFrame:
    """Sets of a sweep as rows of `backtest_sets`; an objective that is not finite is undefined, so null."""
    finite = pl.when(pl.col("objective").is_finite()).then(pl.col("objective"))
    return _of_run(run_id, sets.with_columns(pl.col("objective").cast(pl.Float64)).with_columns(finite.alias("objective")))


def window_rows(run_id: str, windows: pl.DataFrame) -> pl.DataFrame:
    """Windows of a walk-forward as rows of `backtest_windows`."""
    return _of_run(run_id, windows)


def _of_run(run_id: str, frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.lit(run_id, TEXT).alias("run_id"))


def _one_row(cells: Mapping[str, object], schema: Schema) -> pl.DataFrame:
    columns = []
    for name, kind in schema.items():
        value = cells[name]
        structured = kind == TEXT and value is not None and not isinstance(value, str)
        columns.append(pl.Series(name, [to_json(value) if structured else value], dtype=kind))
    return pl.DataFrame(columns)


def _measure(figure: Mapping[str, Json]) -> Measure:
    value = figure["value"]
    return Measure(None if value is None else Decimal(str(value)), cast("str | None", figure["reason"]))
