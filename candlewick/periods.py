"""An equity curve and its trades in parts: by month, by symbol, by drawdown, against holding; and the figures of ledger frames.

``equity`` has the ledger's columns (at, equity, open_positions), a row for every bar, ordered by ``at``, the bar's close. A bar
belongs to the UTC day and month in which it opens. Amounts are on the account's grid of 1e-8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import polars as pl

from candlewick.amounts import Units, from_units, to_units
from candlewick.figures import UNIT_DECIMALS, FigureInputs, Figures, compute_figures
from candlewick.metrics import AMOUNT, WIDE, ZERO, divide
from candlewick.timeframes import DAY_MS, utc

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DEEPEST = 5
_TIME = pl.Datetime("us", "UTC")
DRAWDOWN_SCHEMA: Mapping[str, pl.DataType] = {
    "share": AMOUNT,
    "started_at": _TIME,
    "trough_at": _TIME,
    "recovered_at": _TIME,
    "fall_days": pl.Float64(),
    "days": pl.Float64(),
}
SYMBOL_SCHEMA: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "trades": pl.Int64(),
    "win_rate": AMOUNT,
    "pnl": AMOUNT,
    "fees": AMOUNT,
    "funding": AMOUNT,
    "profit_factor": AMOUNT,
    "exposure": AMOUNT,
}


def amount_units(amounts: pl.Series) -> Units:
    """A DECIMAL column as int64 of 1e-8, exactly. Raises ValueError for an amount between two such units."""
    coarse = amounts.cast(pl.Decimal(38, UNIT_DECIMALS))
    finer = amounts.filter(coarse.cast(AMOUNT) != amounts.cast(AMOUNT))
    if finer.len():
        raise ValueError(f"{amounts.name} {finer[0]:f} is finer than the account's grid of {UNIT_DECIMALS} decimals")
    return coarse.to_physical().cast(pl.Int64).to_numpy()


def _units(amount: Decimal) -> int:
    units = to_units(amount, UNIT_DECIMALS, "ROUND_HALF_EVEN")
    if from_units(units, UNIT_DECIMALS) != amount:
        raise ValueError(f"{amount} is finer than the account's grid of {UNIT_DECIMALS} decimals")
    return units


def _total(amounts: pl.Series) -> int:
    """Sum of a DECIMAL column in units of 1e-8; a Python int, so nothing overflows."""
    return sum(amount_units(amounts.drop_nulls()).tolist())


# ------------------------------------------------------------------------------------------------- months


def monthly_returns(equity: pl.DataFrame, initial_cash: Decimal, timeframe_ms: int) -> pl.DataFrame:
    """Columns year (Int32), month (Int8, 1 to 12), return_share (DECIMAL): one row a month that has bars, in order.

    A month's return is its last equity over the last equity before it (the initial cash at first) - 1; null where that was not
    above zero. Works on a thinned curve as long as each month's last bar is in it.
    """
    opened = pl.col("at") - timedelta(milliseconds=timeframe_ms)
    ends = (
        equity.select(opened.dt.year().alias("year"), opened.dt.month().alias("month"), pl.col("equity"))
        .group_by("year", "month", maintain_order=True)
        .agg(pl.col("equity").last())
    )
    last: list[Decimal] = ends["equity"].to_list()
    shares = _returns(last, [initial_cash, *last][: len(last)])
    return ends.select("year", "month").with_columns(pl.Series("return_share", shares, dtype=AMOUNT))


def _returns(last: Sequence[Decimal], before: Sequence[Decimal]) -> list[Decimal | None]:
    with localcontext(WIDE):
        return [divide(value - earlier, earlier) if earlier > 0 else None for value, earlier in zip(last, before, strict=True)]


def month_table(months: pl.DataFrame) -> pl.DataFrame:
    """``monthly_returns`` as a row a year: year, jan to dec, total; null where there is no data.

    ``total`` compounds the year's months, so it is the year's own return; null where a month of it is.
    """
    with localcontext(WIDE):
        rows = [_year_row(year, own) for (year,), own in months.group_by("year", maintain_order=True)]
    schema = {"year": pl.Int32()} | dict.fromkeys((*MONTHS, "total"), AMOUNT)
    return pl.DataFrame(rows, schema=schema)


def _year_row(year: object, months: pl.DataFrame) -> dict[str, object]:
    row: dict[str, object] = {"year": year} | dict.fromkeys(MONTHS)
    grown: Decimal | None = Decimal(1)
    for month, share in months.select("month", "return_share").iter_rows():
        row[MONTHS[month - 1]] = share
        grown = grown * (1 + share) if grown is not None and share is not None else None
    return row | {"total": divide(grown - 1, Decimal(1)) if grown is not None else None}


# ------------------------------------------------------------------------------------------------- symbols


def symbol_table(trades: pl.DataFrame, symbols: Sequence[str], exposure: Mapping[str, Decimal] | None = None) -> pl.DataFrame:
    """SYMBOL_SCHEMA, a row for each of ``symbols`` in their order. ``trades`` is what ``pair_trades`` answers.

    ``trades``, ``win_rate``, ``pnl`` and ``profit_factor`` are of closed trades, ``fees`` and ``funding`` of open ones as well.
    Null: a rate without a trade, a profit factor without a loss, an ``exposure`` (a share by symbol) that is not known.
    """
    known = exposure or {}
    with localcontext(WIDE):
        rows = [_symbol_row(symbol, trades.filter(pl.col("symbol") == symbol), known.get(symbol)) for symbol in symbols]
    return pl.DataFrame(rows, schema=dict(SYMBOL_SCHEMA))


def _symbol_row(symbol: str, trades: pl.DataFrame, exposure: Decimal | None) -> dict[str, str | int | Decimal | None]:
    pnl: list[Decimal] = trades["pnl"].drop_nulls().to_list()
    gains, losses = sum((one for one in pnl if one > 0), ZERO), -sum((one for one in pnl if one < 0), ZERO)
    return {
        "symbol": symbol,
        "trades": len(pnl),
        "win_rate": divide(Decimal(sum(one > 0 for one in pnl)), Decimal(len(pnl))) if pnl else None,
        "pnl": gains - losses,
        "fees": sum(trades["fees"].to_list(), ZERO),
        "funding": sum(trades["funding"].to_list(), ZERO),
        "profit_factor": divide(gains, losses) if losses else None,
        "exposure": exposure,
    }


# ------------------------------------------------------------------------------------------------- drawdowns


@dataclass(frozen=True, slots=True)
class _Runs:
    """Stretches of closes below an earlier peak: rows ``begins`` to ``ends`` (exclusive), int64, with peak and lowest equity."""

    begins: Units
    ends: Units
    peaks: Units
    troughs: Units


def _drawdown_runs(values: Units, initial: int) -> _Runs:
    peaks = np.maximum.accumulate(np.concatenate([[initial], values]))[1:]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (values < peaks).astype(np.int8), [0]])))
    begins, ends = edges[::2], edges[1::2]
    # A sentinel behind the last row, because the last stretch may end there.
    padded = np.append(values, np.iinfo(np.int64).max)
    troughs = np.minimum.reduceat(padded, edges)[::2] if len(edges) else np.empty(0, np.int64)
    return _Runs(begins, ends, peaks[begins], troughs)


def _deepest(runs: _Runs, count: int) -> list[int]:
    """Places of the ``count`` deepest relative drawdowns, deepest first, the earlier of equal ones first."""
    positive = runs.peaks > 0
    shares = np.where(positive, (runs.peaks - runs.troughs) / np.where(positive, runs.peaks, 1), -1.0)
    if len(shares) > count:
        # Floats choose who may be among them, exact fractions decide.
        least = np.partition(shares, len(shares) - count)[len(shares) - count]
        chosen = np.flatnonzero(shares >= least * (1 - 1e-12))
    else:
        chosen = np.arange(len(shares))
    exact = {int(i): Fraction(int(runs.peaks[i]) - int(runs.troughs[i]), int(runs.peaks[i])) for i in chosen if runs.peaks[i] > 0}
    return sorted(exact, key=lambda place: (-exact[place], place))[:count]


def drawdown_table(equity: pl.DataFrame, initial_cash: Decimal, timeframe_ms: int, count: int = DEEPEST) -> pl.DataFrame:
    """The ``count`` deepest drawdowns in DRAWDOWN_SCHEMA, deepest first.

    ``share`` is (peak - trough) / peak, the initial cash being the first peak, with the first bar's open as its time.
    ``recovered_at`` is the first close at which equity is at the peak again, null: not yet. ``fall_days`` runs from the peak to
    the trough, ``days`` to the recovery, or to the last close.
    """
    if equity.is_empty():
        return pl.DataFrame(schema=dict(DRAWDOWN_SCHEMA))
    values, closes = amount_units(equity["equity"]), equity["at"].dt.epoch("ms").to_numpy()
    times = np.concatenate([[closes[0] - timeframe_ms], closes])  # of peaks: row r follows the peak at times[r]
    runs = _drawdown_runs(values, _units(initial_cash))
    rows = []
    for place in _deepest(runs, count):
        begin, end = int(runs.begins[place]), int(runs.ends[place])
        trough = begin + int(np.argmin(values[begin:end]))
        recovered = int(closes[end]) if end < len(closes) else None
        peak, started = int(runs.peaks[place]), int(times[begin])
        share = divide(Decimal(peak - int(runs.troughs[place])), Decimal(peak))
        until = recovered if recovered is not None else int(closes[-1])
        dates = [utc(started), utc(int(closes[trough])), utc(recovered) if recovered is not None else None]
        spans = [(int(closes[trough]) - started) / DAY_MS, (until - started) / DAY_MS]
        rows.append(dict(zip(DRAWDOWN_SCHEMA, [share, *dates, *spans], strict=True)))
    return pl.DataFrame(rows, schema=dict(DRAWDOWN_SCHEMA))


# ------------------------------------------------------------------------------------------------- holding


def benchmark_curve(candles: Mapping[str, pl.DataFrame], at: pl.Series, timeframe_ms: int, initial_cash: Decimal) -> pl.Series:
    """What holding every symbol in equal shares from its first open to its last close was worth at the times ``at``, no costs.

    ``candles`` in CANDLE_SCHEMA over the backtest's span; ``at`` are bar closes, ordered. A share lies in cash until its symbol's
    first open. A DECIMAL column ``benchmark`` in quote currency, rounded to 1e-8; nulls where no symbol has candles.
    """
    held = [frame for frame in candles.values() if frame.height]
    if not held:
        return pl.Series("benchmark", [None] * at.len(), dtype=AMOUNT)
    times = pl.DataFrame({"at": at.cast(_TIME)})
    growth = np.zeros(at.len())
    for frame in held:
        closed = (pl.col("opened_at") + timedelta(milliseconds=timeframe_ms)).cast(_TIME).alias("at")
        grown = frame.select(closed, (pl.col("close") / pl.col("open").first()).alias("growth"))
        growth += times.join_asof(grown, on="at")["growth"].fill_null(1.0).to_numpy()
    values = pl.Series("benchmark", growth / len(held) * float(initial_cash))
    return values.cast(pl.Decimal(38, UNIT_DECIMALS)).cast(AMOUNT)  # in one step a float's noise would show


# ------------------------------------------------------------------------------------------------- figures


def inputs_from_frames(
    equity: pl.DataFrame,
    fills: pl.DataFrame,
    trades: pl.DataFrame,
    initial_cash: Decimal,
    timeframe_ms: int,
    benchmark_return: float | None = None,
) -> FigureInputs:
    """What a fold would have kept, from the frames of an account or a backtest.

    ``trades`` is what ``pair_trades`` answers for ``fills``, open ones included: they hold the funding. Raises ValueError for an
    amount finer than the account's grid.
    """
    initial = _units(initial_cash)
    values = amount_units(equity["equity"])
    closes = equity["at"].dt.epoch("ms").to_numpy()
    runs = _drawdown_runs(values, initial)
    deepest = _deepest(runs, 1)
    closed = trades.filter(pl.col("closed_at").is_not_null())
    pnl, cost = amount_units(closed["pnl"]).tolist(), amount_units(closed["cost"]).tolist()
    return FigureInputs(
        initial_cash=initial,
        final_equity=int(values[-1]) if len(values) else initial,
        day_equity=_day_equity(values, closes, timeframe_ms),
        span_ms=int(closes[-1] - closes[0]) + timeframe_ms if len(closes) else 0,
        bars=equity.height,
        bars_exposed=int((equity["open_positions"] > 0).sum()),
        drawdown_peak=int(runs.peaks[deepest[0]]) if deepest else 0,
        drawdown_trough=int(runs.troughs[deepest[0]]) if deepest else 0,
        longest_drawdown_ms=_longest_ms(runs, closes, timeframe_ms),
        trades=len(pnl),
        wins=sum(one > 0 for one in pnl),
        gains=sum(one for one in pnl if one > 0),
        losses=-sum(one for one in pnl if one < 0),
        return_sum=float(sum(float(one) / float(max(entered, 1)) for one, entered in zip(pnl, cost, strict=True))),
        fees=_total(fills["fee"]),
        funding=_total(trades["funding"]),
        turnover=_total(fills["notional"]),
        benchmark_return=benchmark_return,
    )


def _day_equity(values: Units, closes: Units, timeframe_ms: int) -> Units:
    days = (closes - timeframe_ms) // DAY_MS
    return values[np.flatnonzero(np.append(np.diff(days) != 0, True))] if len(values) else values


def _longest_ms(runs: _Runs, closes: Units, timeframe_ms: int) -> int:
    if not len(runs.begins):
        return 0
    times = np.concatenate([[closes[0] - timeframe_ms], closes])
    return int((closes[np.minimum(runs.ends, len(closes) - 1)] - times[runs.begins]).max())


def figures_from_frames(
    equity: pl.DataFrame,
    fills: pl.DataFrame,
    trades: pl.DataFrame,
    initial_cash: Decimal,
    timeframe_ms: int,
    benchmark_return: float | None = None,
) -> Figures:
    """The figures of an account's or a backtest's frames: ``compute_figures`` of ``inputs_from_frames``."""
    return compute_figures(inputs_from_frames(equity, fills, trades, initial_cash, timeframe_ms, benchmark_return))
