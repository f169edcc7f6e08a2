"""A run as it is shown and kept: the view that reports draw, the run's last word, and whether the store has the same run."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import polars as pl

from candlewick.backtest_rows import BacktestRun
from candlewick.backtesting.inputs import Inputs
from candlewick.backtesting.playing import Played
from candlewick.json_text import Json
from candlewick.moments import QUANTILES
from candlewick.periods import monthly_returns, symbol_table
from candlewick.reports.backtest_view import BacktestView, MonteCarlo, Parameter, RunFacts
from candlewick.reports.measures import measure_text
from candlewick.reports.numbers import format_count
from candlewick.resampling import EquityBands, OrderRisk
from candlewick.rows import AMOUNT
from candlewick.timeframes import timeframe_ms

_CURVES = ("places", "bands")
# Two runs of which all this is equal have computed the same.
_INPUTS = (
    "kind", "market", "timeframe", "detail_timeframe", "symbols", "quote", "strategy", "parameters", "rules", "instruments",
    "initial_cash", "since_at", "until_at", "code_version", "strategy_version", "candle_digests", "funding_digests",
)  # fmt: skip


def run_facts(run: BacktestRun, check: str, command: str = "") -> RunFacts:
    """What a report says of a run besides its numbers; ``check`` is the look-ahead verdict in a sentence."""
    assert run.since_at is not None
    assert run.until_at is not None
    rules = {name: "none" if value is None else str(value) for name, value in run.rules.to_document().items()}
    return RunFacts(
        run_id=run.run_id,
        kind=run.kind,
        title=f"{run.strategy} on {', '.join(run.symbols[:3])}" + (" and more" if len(run.symbols) > 3 else ""),
        market=run.market,
        timeframe=run.timeframe,
        detail_timeframe=run.detail_timeframe,
        symbols=run.symbols,
        quote=run.quote,
        strategy=run.strategy,
        parameters={name: value for name, value in run.parameters.items() if isinstance(value, Parameter)},
        rules=rules,
        since_at=run.since_at,
        until_at=run.until_at,
        initial_cash=run.initial_cash,
        code_version=run.code_version,
        candle_digests=run.candle_digests,
        notices=run.notices,
        check=check,
        check_passed=None if run.check_verdict is None else run.check_verdict == "passed",
        command=command,
    )


def backtest_view(run: BacktestRun, inputs: Inputs, played: Played, check: str, command: str) -> BacktestView:
    """The backtest as reports draw it. ``run`` with its notices."""
    facts = run_facts(run, check, command)
    return BacktestView(
        **{field.name: getattr(facts, field.name) for field in fields(RunFacts)},
        figures=played.figures,
        equity=played.equity,
        trades=played.trades,
        months=played.months,
        symbols_table=played.symbols,
        candles=inputs.candles,
        bands=_bands(played),
        monte_carlo=None if played.order_risk is None else _monte_carlo(played.order_risk),
    )


def concluded(run: BacktestRun, played: Played) -> BacktestRun:
    """The run with its figures and what chance says of them; the status is the caller's to set."""
    return replace(
        run,
        bars=int(played.simulation.tally[0]["bars"]),
        figures=dict(played.figures),
        statistics={
            "bootstrap": _without_curves(played.bands),
            "trade_order": None if played.order_risk is None else played.order_risk.to_document(),
        },
    )


def _without_curves(bands: EquityBands) -> dict[str, Json]:
    return {name: value for name, value in bands.to_document().items() if name not in _CURVES}


def _bands(played: Played) -> pl.DataFrame | None:
    """at, and the quantiles of equity; None where there are none."""
    bands = played.bands
    if not bands.places:
        return None
    return pl.DataFrame(
        {"at": played.day_ends_at.gather(list(bands.places)), **{name: list(values) for name, values in bands.bands.items()}}
    )


def _monte_carlo(risk: OrderRisk) -> MonteCarlo:
    drawdown = risk.max_drawdown
    row = {"figure": "max_drawdown", **{name: drawdown.quantiles[name].value for name in QUANTILES if name in drawdown.quantiles}}
    schema = {"figure": pl.String(), **dict.fromkeys(QUANTILES, AMOUNT)}
    as_deep = measure_text("win_rate", risk.as_deep_probability, "")
    observed = measure_text("max_drawdown", drawdown.observed, "")
    text = f"Between trades the account really fell {observed} at the most; {as_deep} of the orders fell at least as far."
    return MonteCarlo(
        draws=risk.draws,
        seed=risk.seed,
        quantiles=pl.DataFrame([row], schema=schema) if drawdown.quantiles else pl.DataFrame(schema=schema),
        text=text,
    )


def same_run(run: BacktestRun, kept: Sequence[BacktestRun]) -> BacktestRun | None:
    """The newest of the kept runs that was computed from exactly this, by this code, and came to its end."""
    return next(
        (one for one in kept if one.status == "success" and one.run_id != run.run_id and same_inputs(run, one)),
        None,
    )


def same_inputs(run: BacktestRun, other: BacktestRun) -> bool:
    """Whether both were, or are to be, computed from the same candles, terms, strategy and code."""
    return all(_equal(run, other, name) for name in _INPUTS)


def _equal(run: BacktestRun, other: BacktestRun, name: str) -> bool:
    ours, theirs = getattr(run, name), getattr(other, name)
    return dict(ours) == dict(theirs) if isinstance(ours, Mapping) else bool(ours == theirs)


def repetition_notice(run: BacktestRun, before: BacktestRun) -> str:
    """What is said of a run that the store had already: whether its figures are the same, as they must be."""
    differing = [name for name in run.figures if run.figures[name] != before.figures.get(name)]
    if differing:
        return (
            f"run {before.run_id} had the same inputs and the same code, and yet {format_count(len(differing), 'figure')} differ "
            f"({', '.join(differing)}): the strategy does not always decide the same"
        )
    return f"the same run is in the store already: {before.run_id} (same inputs, same code, same figures)"


def kept_check_text(run: BacktestRun) -> str:
    """The look-ahead verdict of a run that is in the store."""
    return {"passed": "passed before the run", "failed": "failed before the run"}.get(run.check_verdict or "", "not done")


def kept_view(run: BacktestRun, equity: pl.DataFrame, trades: pl.DataFrame) -> BacktestView:
    """A run of the store as it is shown: without candles, bands and the order of the trades. ``trades`` in TRADE_SCHEMA."""
    facts = run_facts(run, kept_check_text(run))
    return BacktestView(
        **{field.name: getattr(facts, field.name) for field in fields(RunFacts)},
        figures=run.figures,
        equity=equity,
        trades=trades,
        months=monthly_returns(equity, run.initial_cash, timeframe_ms(run.timeframe)),
        symbols_table=symbol_table(trades, run.symbols).drop("exposure"),
        candles={},
    )
