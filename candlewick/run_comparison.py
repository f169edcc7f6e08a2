"""Runs side by side: figures with the best marked, what they were given that differs, their curves, and the trades they share.

Pure functions over what the run store answers. Runs are named by their ids, and keep the order they are given in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce

import polars as pl

from candlewick.backtest_rows import BacktestRun
from candlewick.errors import UsageError
from candlewick.figures import FIGURES
from candlewick.json_text import Json, iso_utc, to_json
from candlewick.metrics import Measure
from candlewick.rows import AMOUNT, TEXT, TIME

_NO_FIGURE = Measure(None, "the run has no such figure")
_TRADE_KEY = ["symbol", "side", "opened_at"]
# A trade that begins like another is the same where it also ends like it.
_TRADE_CONTENT = ["closed_at", "quantity", "entry_price", "exit_price", "pnl"]
_CURVES = {"run_id": TEXT, "at": TIME, "growth": pl.Float64()}
TRADES_SCHEMA: Mapping[str, pl.DataType] = {
    "symbol": TEXT,
    "side": TEXT,
    "opened_at": TIME,
    "run_ids": pl.List(pl.String()),
    "pnl": pl.List(AMOUNT),
    "identical": pl.Boolean(),
}


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A run with its rows as `Backtests.equity` and `Backtests.trades` answer them."""

    run: BacktestRun
    equity: pl.DataFrame
    trades: pl.DataFrame


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One figure of every run. ``best`` marks the best ones; none where no way is better, all are equal or one is alone."""

    name: str
    title: str
    measures: tuple[Measure, ...]
    best: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that is not the same in all runs: one text a run, None where the run has no such setting."""

    name: str
    values: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class TradeCount:
    """Of a run's trades: how many there are, how many another run opened too, and how many no other run did."""

    run_id: str
    trades: int
    shared: int
    alone: int


@dataclass(frozen=True, slots=True)
class RunComparison:
    """What `compare_runs` found.

    ``equity``: run_id, at, growth (float, equity over the run's initial cash). ``common_equity``: at, and a column a run, growth
    since the beginning of the span that all curves have, at every time any of them has; no rows where there is no such span.
    ``trades`` (TRADES_SCHEMA): every trade once, in the order of time, with the runs that opened it (same symbol, side and
    bar), their pnl, and whether all of these also closed it alike.
    """

    runs: tuple[BacktestRun, ...]
    figures: tuple[FigureRow, ...]
    parameters: tuple[Difference, ...]
    rules: tuple[Difference, ...]
    notices: tuple[str, ...]
    equity: pl.DataFrame
    common_equity: pl.DataFrame
    trades: pl.DataFrame
    trade_counts: tuple[TradeCount, ...]


def compare_runs(compared: Sequence[ComparedRun]) -> RunComparison:
    """Compare two or more runs. Raises UsageError for fewer, and for one that is named twice."""
    runs = tuple(one.run for one in compared)
    if len(runs) < 2:
        raise UsageError(f"a comparison needs two runs or more, {len(runs)} given")
    repeated = [run.run_id for place, run in enumerate(runs) if run.run_id in {earlier.run_id for earlier in runs[:place]}]
    if repeated:
        raise UsageError(f"run {repeated[0]} is named twice; a comparison needs different ones")
    trades = _trades(compared)
    return RunComparison(
        runs=runs,
        figures=_figures(runs),
        parameters=_differences([run.parameters for run in runs]),
        rules=_differences([run.rules.to_document() for run in runs]),
        notices=(*_state_notices(runs), *_input_notices(runs)),
        equity=_growth(compared),
        common_equity=_common_equity(compared),
        trades=trades,
        trade_counts=tuple(_count(one, trades) for one in compared),
    )


# ------------------------------------------------------------------------------------------------- figures and settings


def _figures(runs: Sequence[BacktestRun]) -> tuple[FigureRow, ...]:
    known = dict.fromkeys(name for run in runs for name in run.figures)
    names = [name for name in FIGURES if name in known] + [name for name in known if name not in FIGURES]
    of_one_account = len({(run.quote, run.initial_cash) for run in runs}) == 1
    rows = []
    for name in names:
        measures = tuple(run.figures.get(name, _NO_FIGURE) for run in runs)
        meaning = FIGURES.get(name)
        title = name.replace("_", " ").capitalize() if meaning is None else meaning.title
        is_comparable = meaning is not None and (of_one_account or meaning.unit != "quote")
        better = meaning.better if meaning is not None and is_comparable else "neither"
        rows.append(FigureRow(name, title, measures, _best([one.value for one in measures], better)))
    return tuple(rows)


def _best(values: Sequence[Decimal | None], better: str) -> tuple[bool, ...]:
    known = [value for value in values if value is not None]
    if better == "neither" or len(known) < 2 or len(set(known)) == 1:
        return (False,) * len(values)
    best = max(known) if better == "higher" else min(known)
    return tuple(value == best for value in values)


def _differences(settings: Sequence[Mapping[str, Json]]) -> tuple[Difference, ...]:
    """Settings that are not the same everywhere; 10 and 10.0 are the same, 1 and true are not."""
    found = []
    for name in dict.fromkeys(name for own in settings for name in own):
        kinds = {(isinstance(own.get(name), bool), name in own) for own in settings}
        if len(kinds) > 1 or any(own[name] != settings[0][name] for own in settings[1:]):
            found.append(Difference(name, tuple(_text(own[name]) if name in own else None for own in settings)))
    return tuple(found)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else to_json(value)


# ------------------------------------------------------------------------------------------------- notices


def _state_notices(runs: Sequence[BacktestRun]) -> list[str]:
    """What makes one run's figures worth less than another's, whatever it was given."""
    found = []
    for run in runs:
        if run.status != "success":
            cause = f": {run.error}" if run.error else ""
            found.append(f"{run.run_id} did not complete ({run.status}{cause}); its figures, if any, are of a part")
        if run.check_verdict == "failed":
            found.append(f"the strategy of {run.run_id} failed its look-ahead check: its figures may know the future")
    return found


def _input_notices(runs: Sequence[BacktestRun]) -> list[str]:
    """What the runs were given that differs, in words, each with the runs on either side."""
    facts: Mapping[str, Callable[[BacktestRun], str | None]] = {
        "are of different kinds": lambda run: run.kind,
        "run different strategies": lambda run: run.strategy,
        "are of different markets": lambda run: run.market,
        "have bars of different length": lambda run: run.timeframe,
        "look into their bars differently": lambda run: (
            f"by {run.detail_timeframe} bars" if run.detail_timeframe else "not at all"
        ),
        "count in different currencies": lambda run: run.quote,
        "began with different cash": lambda run: f"{format(run.initial_cash.normalize(), 'f')} {run.quote}",
        "cover different spans": _span,
        "act on symbols in different order": lambda run: ", ".join(run.symbols) if same_symbols else None,
        "come from different code": lambda run: run.code_version,
        "come from different code of the strategy": lambda run: run.strategy_version if same_strategy else None,
    }
    same_symbols = len({frozenset(run.symbols) for run in runs}) == 1
    same_strategy = len({run.strategy for run in runs}) == 1
    found = []
    for words, fact in facts.items():
        groups = _groups({run.run_id: fact(run) for run in runs})
        if len(groups) > 1:
            found.append(f"these runs {words}: " + "; ".join(f"{value} ({_named(ids)})" for value, ids in groups.items()))
    return [*found, *_symbol_notices(runs), *_rule_notice(runs)]


def _symbol_notices(runs: Sequence[BacktestRun]) -> list[str]:
    why = "" if len({_span(run) for run in runs}) == 1 else ", as their spans differ"
    found = []
    for symbol in dict.fromkeys(symbol for run in runs for symbol in run.symbols):
        having = [run for run in runs if symbol in run.symbols]
        if len(having) < len(runs):
            found.append(f"{symbol} is traded only by {_named([run.run_id for run in having])}")
        facts = {
            f"saw different candles of {symbol}{why}": {run.run_id: run.candle_digests.get(symbol) for run in having},
            f"saw different funding of {symbol}{why}": {run.run_id: run.funding_digests.get(symbol) for run in having},
            f"traded {symbol} by different exchange rules or fees": {run.run_id: _instrument(run, symbol) for run in having},
        }
        for words, values in facts.items():
            groups = _groups(values)
            if len(groups) > 1:
                found.append(f"these runs {words}: " + " | ".join(_named(ids) for ids in groups.values()))
    return found


def _rule_notice(runs: Sequence[BacktestRun]) -> list[str]:
    names = [one.name for one in _differences([run.rules.to_document() for run in runs])]
    return [f"these runs have different rules: {', '.join(names)}"] if names else []


def _groups(values: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Ids by what is said of their runs; runs of which nothing is known are left out."""
    found: dict[str, list[str]] = {}
    for run_id, value in values.items():
        if value is not None:
            found.setdefault(value, []).append(run_id)
    return found


def _instrument(run: BacktestRun, symbol: str) -> str | None:
    return next((to_json(one) for one in run.instruments if one.symbol == symbol), None)


def _span(run: BacktestRun) -> str | None:
    if run.since_at is None or run.until_at is None:
        return None
    return f"{iso_utc(run.since_at)} to {iso_utc(run.until_at)}"


def _named(ids: Sequence[str]) -> str:
    return " and ".join(ids) if len(ids) < 3 else f"{', '.join(ids[:-1])} and {ids[-1]}"


# ------------------------------------------------------------------------------------------------- equity


def _growth(compared: Sequence[ComparedRun]) -> pl.DataFrame:
    curves = [_curve(one).select(pl.lit(one.run.run_id, TEXT).alias("run_id"), "at", "growth") for one in compared]
    return pl.concat(curves)


def _curve(one: ComparedRun) -> pl.DataFrame:
    """at, growth of one run, from its initial cash."""
    growth = (pl.col("equity").cast(pl.Float64) / float(one.run.initial_cash)).alias("growth")
    return one.equity.select("at", growth).sort("at")


def _common_equity(compared: Sequence[ComparedRun]) -> pl.DataFrame:
    """Curves beside each other from the first to the last time that lies in all of them, each 1 at the first.

    A curve keeps its last value where only another one has a time.
    """
    curves = {one.run.run_id: _curve(one) for one in compared}
    empty = pl.DataFrame(schema={"at": TIME, **dict.fromkeys(curves, pl.Float64())})
    if any(curve.is_empty() for curve in curves.values()):
        return empty
    first = max(curve["at"][0] for curve in curves.values())
    last = min(curve["at"][-1] for curve in curves.values())
    if first >= last:
        return empty
    times = pl.concat([curve.select("at") for curve in curves.values()]).unique().sort("at")
    wide = times.filter(pl.col("at").is_between(first, last))
    wide = reduce(
        lambda found, named: found.join_asof(named[1].rename({"growth": named[0]}), on="at", strategy="backward"),
        curves.items(),
        wide,
    )
    return wide.with_columns(pl.col(name) / pl.col(name).first() for name in curves)


# ------------------------------------------------------------------------------------------------- trades


def _trades(compared: Sequence[ComparedRun]) -> pl.DataFrame:
    parts = [
        one.trades.select(*_TRADE_KEY, *_TRADE_CONTENT).with_columns(
            pl.lit(one.run.run_id, TEXT).alias("run_id"),
            # One bar may open the same side twice: the first of one run is then the first of the other.
            pl.int_range(pl.len()).over(_TRADE_KEY).alias("turn"),
        )
        for one in compared
    ]
    alike = pl.all_horizontal((pl.col(name).n_unique() == 1) for name in _TRADE_CONTENT)
    together = pl.concat(parts).group_by([*_TRADE_KEY, "turn"], maintain_order=True)
    rows = together.agg(pl.col("run_id").alias("run_ids"), pl.col("pnl"), alike.alias("identical"))
    order = ["opened_at", "symbol", "side", "turn"]
    return rows.sort(order, maintain_order=True).select(pl.col(name).cast(kind) for name, kind in TRADES_SCHEMA.items())


def _count(one: ComparedRun, trades: pl.DataFrame) -> TradeCount:
    own = trades.filter(pl.col("run_ids").list.contains(one.run.run_id))
    shared = own.filter(pl.col("run_ids").list.len() > 1).height
    return TradeCount(one.run.run_id, own.height, shared, own.height - shared)
