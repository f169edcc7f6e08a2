"""Walking forward: what the train window chose is played on the test window after it, and all test windows count as one.

A test window's signals know every candle before it; its engine starts flat at the window's first bar with the equity that the
window before ended with. A window whose train span has no set with a defined objective stays in cash.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import polars as pl

from candlewick.amounts import from_units
from candlewick.backtesting.objectives import Objective
from candlewick.backtesting.set_runner import SearchWindow
from candlewick.backtesting.simulation import Simulation, lay_out_span, said_of, simulate
from candlewick.backtesting.stitching import Stitched, stitch
from candlewick.backtesting.sweep import objective_of
from candlewick.candles import opened_at_ms
from candlewick.engine.grids import Integers
from candlewick.engine.layout import CASH_DECIMALS
from candlewick.errors import UsageError
from candlewick.figures import Figures, compute_figures
from candlewick.json_text import to_json
from candlewick.metrics import Measure, held_return
from candlewick.parameter_ranges import Value
from candlewick.periods import benchmark_curve
from candlewick.timeframes import timeframe_ms, utc
from candlewick.walk_forward import ParameterStability, Span, Window, WindowReturns


@dataclass(frozen=True, slots=True)
class Choice:
    """What a train window chose, and the figures that it was chosen for. ``score`` is the objective's."""

    values: Mapping[str, Value]
    score: float
    figures: Mapping[str, Measure]


@dataclass(frozen=True, slots=True)
class WalkedWindow:
    """One step: ``choice`` None: no set had a defined objective. ``test`` and its figures None: nothing was played.

    ``times`` int64 (bars,): open times of the test window's bars.
    """

    window: Window
    choice: Choice | None
    test: Simulation | None = None
    times: Integers | None = None
    figures: Figures | None = None


@dataclass(frozen=True, slots=True)
class Walked:
    """All windows, and the played ones as one. ``equity`` as the run store keeps it, with ``benchmark``."""

    windows: tuple[WalkedWindow, ...]
    stitched: Stitched
    figures: Figures
    equity: pl.DataFrame


def cut_window(whole: SearchWindow, span: Span) -> SearchWindow:
    """The span of a window, without any candle after its end: what comes later cannot be known there."""
    end = pl.lit(span.until_ms)
    candles = {symbol: frame.filter(pl.col("opened_at").dt.epoch("ms") < end) for symbol, frame in whole.candles.items()}
    return replace(whole, candles=candles, since_ms=span.since_ms, until_ms=span.until_ms)


def walk(whole: SearchWindow, windows: Sequence[Window], choices: Sequence[Choice | None]) -> Walked:
    """Play every chosen set on its test window. Raises UsageError where nothing could be played, and what playing raises."""
    cash, walked = whole.terms.initial_cash, list[WalkedWindow]()
    for window, choice in zip(windows, choices, strict=True):
        one = WalkedWindow(window, choice) if choice is None else _play(cut_window(whole, window.test), window, choice, cash)
        if one.test is not None:
            cash = from_units(int(one.test.state.account[0]["equity"]), CASH_DECIMALS)
        walked.append(one)
    played = [(one.test, one.times) for one in walked if one.test is not None and one.times is not None]
    if not played:
        raise UsageError("no test window could be played: no train window chose a set, or there are no candles to test on")
    span = Span(int(played[0][1][0]), int(played[-1][1][-1]) + timeframe_ms(whole.terms.timeframe))
    held = _within(whole, span)
    benchmark = held_return(held.values()).value
    stitched = stitch(
        [test for test, _ in played], [times for _, times in played], whole.terms.initial_cash,
        None if benchmark is None else float(benchmark),
    )  # fmt: skip
    curve = stitched.curve()
    length_ms = timeframe_ms(whole.terms.timeframe)
    curve = curve.with_columns(benchmark_curve(held, curve["at"], length_ms, whole.terms.initial_cash))
    return Walked(tuple(walked), stitched, compute_figures(stitched.inputs), curve)


def _play(cut: SearchWindow, window: Window, choice: Choice, cash: Decimal) -> WalkedWindow:
    strategy = cut.strategy_type.model_validate(dict(choice.values))
    if not any(frame.height for frame in _within(cut, window.test).values()):
        return WalkedWindow(window, choice)
    laid = lay_out_span(replace(cut.terms, initial_cash=cash), cut.candles, cut.since_ms, cut.until_ms, cut.beside)
    test = simulate(laid, laid.with_decisions(said_of(strategy, cut.candles)), "every bar", keeps_events=False)
    return WalkedWindow(window, choice, test, laid.market.times, test.figures())


def _within(whole: SearchWindow, span: Span) -> dict[str, pl.DataFrame]:
    found = {}
    for symbol, frame in whole.candles.items():
        first, last = np.searchsorted(opened_at_ms(frame), (span.since_ms, span.until_ms))
        found[symbol] = frame[int(first) : int(last)]
    return found


# ------------------------------------------------------------------------------------------------- as frames


def window_returns(walked: Walked) -> list[WindowReturns]:
    """What each played window promised and gave; those without a defined return are left out."""
    found = []
    for one in walked.windows:
        if one.choice is None or one.figures is None:
            continue
        promised, given = objective_of(one.choice.figures, "total_return"), objective_of(one.figures, "total_return")
        if promised is not None and given is not None:
            found.append(WindowReturns(promised, one.window.train.duration_ms, given, one.window.test.duration_ms))
    return found


def window_frame(walked: Walked, varied: Sequence[str], objective: Objective) -> pl.DataFrame:
    """A row a window as WalkForwardView.windows asks for."""
    rows = []
    for one in walked.windows:
        spans = {"train": one.window.train, "test": one.window.test}
        times = {
            f"{name}_{end}_at": utc(getattr(span, f"{end}_ms")) for name, span in spans.items() for end in ("since", "until")
        }
        chosen = {name: None if one.choice is None else one.choice.values[name] for name in varied}
        inside = None if one.choice is None else one.choice.figures
        results = {}
        for sample, figures in (("in_sample", inside), ("out_of_sample", one.figures)):
            for kind, figure in (("objective", objective.name), ("return", "total_return")):
                results[f"{sample}_{kind}"] = None if figures is None else objective_of(figures, figure)
        rows.append({**times, **chosen, **results})
    numbers = dict.fromkeys([name for name in rows[0] if name.startswith(("in_sample", "out_of_sample"))], pl.Float64)
    at = dict.fromkeys([name for name in rows[0] if name.endswith("_at")], pl.Datetime("us", "UTC"))
    return pl.DataFrame(rows, schema_overrides={**numbers, **at}, infer_schema_length=None, strict=False)


def kept_windows(walked: Walked) -> pl.DataFrame:
    """The windows as rows of the run store, without the run's id."""
    rows = [
        {
            "number": one.window.number,
            "train_start": utc(one.window.train.since_ms),
            "train_end": utc(one.window.train.until_ms),
            "test_start": utc(one.window.test.since_ms),
            "test_end": utc(one.window.test.until_ms),
            "parameters": to_json({} if one.choice is None else dict(one.choice.values)),
            "in_sample": to_json({} if one.choice is None else dict(one.choice.figures)),
            "out_of_sample": to_json({} if one.figures is None else dict(one.figures)),
        }
        for one in walked.windows
    ]
    times = dict.fromkeys(("train_start", "train_end", "test_start", "test_end"), pl.Datetime("us", "UTC"))
    return pl.DataFrame(rows, schema_overrides=times)


def stability_frame(parameters: Sequence[ParameterStability]) -> pl.DataFrame:
    """A row a parameter: how much its choice moved."""
    names = ("lowest", "highest", "mean", "coefficient_of_variation", "changed_share", "neighbour_share")
    schema = {"parameter": pl.String(), "distinct": pl.Int64(), **dict.fromkeys(names, pl.Float64())}
    rows = []
    for one in parameters:
        measures: dict[str, Measure] = {name: getattr(one, name) for name in names}
        numbers = {name: None if found.value is None else float(found.value) for name, found in measures.items()}
        rows.append({"parameter": one.name, "distinct": one.distinct, **numbers})
    return pl.DataFrame(rows, schema=schema)
