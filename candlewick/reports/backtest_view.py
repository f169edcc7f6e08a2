"""What the backtesting reports draw: runs, sweeps, walk-forwards and comparisons as plain values and frames.

Times are UTC, shares fractions of 1, amounts in quote currency. Amount and figure columns may be pl.Decimal or pl.Float64.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import polars as pl

from candlewick.metrics import Measure

Parameter = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What every run says of itself: enough to judge it and to repeat it.

    ``kind`` is run, sweep, optimize or walk-forward. ``symbols`` in the account's order; ``rules`` by name, as text;
    ``candle_digests`` by symbol; ``check`` is the verdict of the look-ahead check in one sentence and ``check_passed`` whether
    it holds (None: not checked); ``command`` repeats the run.
    """

    run_id: str
    kind: str
    title: str
    market: str
    timeframe: str
    detail_timeframe: str | None
    symbols: tuple[str, ...]
    quote: str
    strategy: str
    parameters: Mapping[str, Parameter]
    rules: Mapping[str, str]
    since_at: datetime
    until_at: datetime
    initial_cash: Decimal
    code_version: str
    candle_digests: Mapping[str, str]
    notices: tuple[str, ...]
    check: str
    check_passed: bool | None = None
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonteCarlo:
    """What shuffling the order of the trades does: ``quantiles`` has the columns figure, p05, p25, p50, p75, p95.

    ``figure`` is a name of candlewick/figures.py, such as max_drawdown; the same ``seed`` gives the same quantiles.
    """

    draws: int
    seed: int
    quantiles: pl.DataFrame
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestView(RunFacts):
    """One backtest.

    ``equity``: at, equity, drawdown_share (of the running peak), benchmark (an amount from the same cash; null or absent: none).
    ``trades``: TRADE_SCHEMA of candlewick/trades.py. ``months``: year, month, return_share.
    ``symbols_table``: symbol and any figures by their names. ``candles`` by symbol in CANDLE_SCHEMA, any length.
    ``bands``: at, p05, p25, p50, p75, p95 of bootstrapped equity, as amounts.
    """

    figures: Mapping[str, Measure]
    equity: pl.DataFrame
    trades: pl.DataFrame
    months: pl.DataFrame
    symbols_table: pl.DataFrame
    candles: Mapping[str, pl.DataFrame]
    bands: pl.DataFrame | None = None
    monte_carlo: MonteCarlo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepView(RunFacts):
    """Many parameter sets over the same candles. ``parameters`` holds those that did not vary, ``grid`` names those that did.

    ``results``: a row a set, the columns of ``grid`` and figures by name (null: undefined). ``objective`` is one of these
    figures, the higher the better unless ``lower_is_better``. ``skipped`` counts sets left out, by reason. ``deflated_sharpe``
    is a probability, ``sharpe_threshold`` the annualised Sharpe ratio that the best of so many sets reaches by luck alone,
    ``overfit_probability`` a share. ``texts`` explain them, with their sources.
    """

    grid: tuple[str, ...]
    results: pl.DataFrame
    objective: str
    top: int
    lower_is_better: bool = False
    skipped: Mapping[str, int]
    deflated_sharpe: Measure
    sharpe_threshold: Measure
    overfit_probability: Measure
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkForwardView(RunFacts):
    """Train windows choose, test windows count.

    ``windows``: train_since_at, train_until_at, test_since_at, test_until_at, the columns of ``grid`` (chosen values),
    in_sample_objective, out_of_sample_objective, in_sample_return, out_of_sample_return (nulls: undefined).
    ``equity`` and ``figures`` are those of the test windows stitched together, as in BacktestView.
    ``stability``: parameter and any columns that tell how steady it was. ``efficiency`` is the out-of-sample over the in-sample
    annualised return.
    """

    grid: tuple[str, ...]
    objective: str
    windows: pl.DataFrame
    equity: pl.DataFrame
    figures: Mapping[str, Measure]
    stability: pl.DataFrame
    efficiency: Measure
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonView:
    """Runs side by side; the first is what the others are compared with.

    ``equity``: run_id, at, growth (equity over initial cash, 1 at the start). ``figures`` by run_id, then by name.
    ``trade_counts``: run_id, trades, shared (opened by another run too), alone.
    """

    title: str
    runs: tuple[RunFacts, ...]
    equity: pl.DataFrame
    figures: Mapping[str, Mapping[str, Measure]]
    trade_counts: pl.DataFrame | None = None
    notices: tuple[str, ...] = ()
    command: str = ""
