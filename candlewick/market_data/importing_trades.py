"""Rows with times, prices and amounts into trades: order within a millisecond, ids told twice, the taker's side."""

from dataclasses import dataclass, field

import polars as pl

from candlewick.market_data.importing_report import Note, Problem, numbered, rows_text
from candlewick.market_data.importing_schema import ImportRequest
from candlewick.market_data.schemas import TRADES_SCHEMA
from candlewick.timeframes import DAY_MS
from candlewick.validation import Finding

# What a column says of the taker's side. `true` under is_buyer_maker: the buyer waited, so the taker sold.
_SIDES = {"buy": "buy", "b": "buy", "bid": "buy", "sell": "sell", "s": "sell", "ask": "sell", "true": "sell", "false": "buy"}
_COMPARED = ("ms", "price", "amount")


@dataclass(slots=True)
class TradesJudged:
    """What was counted over all days; filled one by one."""

    kept: int = 0
    first_ms: int = 0
    last_ms: int = 0
    repeated: int = 0
    without_id: int = 0
    without_side: int = 0
    conflicting: int = 0
    conflict_lines: list[int] = field(default_factory=list)
    broken: int = 0
    broken_lines: list[int] = field(default_factory=list)
    future: int = 0
    future_lines: list[int] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def judge_trades(rows: pl.DataFrame, request: ImportRequest, newest_first: bool, judged: TradesJudged) -> pl.DataFrame:
    """The trades (TRADES_SCHEMA) of a day's rows in the order of trading; counts go to ``judged``. Days come in order.

    An id told twice with the same content is one trade. Trades without an id get `<ms>-<number within the millisecond>`.
    """
    ordered = rows.sort(["ms", "line"], descending=[False, newest_first])
    late = ordered.filter(pl.col("ms") > request.now_ms + DAY_MS)
    judged.future += late.height
    judged.future_lines.extend(late["line"].head(5).to_list())
    good = pl.all_horizontal(pl.col(name).is_finite() & (pl.col(name) > 0) for name in ("price", "amount")).fill_null(False)
    bad = ordered.filter(~good)
    if bad.height:
        judged.broken += bad.height
        judged.broken_lines.extend(bad["line"].head(5).to_list())
        text = f"{bad.height} trades of the imported file without price or amount left out"
        judged.findings.append(Finding("refused", "warning", int(bad["ms"][0]), int(bad["ms"][-1]) + 1, text))
    single = _single(_with_ids(ordered.filter(good), judged), request, judged)
    if single.height:
        judged.first_ms = judged.first_ms or int(single["ms"][0])
        judged.last_ms = int(single["ms"][-1])
    judged.kept += single.height
    time = pl.from_epoch("ms", "ms").dt.replace_time_zone("UTC").alias("traded_at")
    told = pl.col("side") if "side" in single.columns else pl.lit(None, pl.String())
    side = told.str.strip_chars().str.to_lowercase().replace_strict(_SIDES, default=None, return_dtype=pl.String())
    trades = single.select(time, "trade_id", "price", "amount", side.alias("side"))
    judged.without_side += trades["side"].null_count()
    return trades.select(pl.col(name).cast(kind) for name, kind in TRADES_SCHEMA.items())


def trade_problems(judged: TradesJudged, request: ImportRequest) -> list[Problem]:
    """What keeps the file out."""
    found = []
    if judged.future:
        text = f"times in the future in {rows_text(judged.future)}:"
        found.append(Problem("ambiguous", text, "say time_unit or timezone in the schema", numbered(judged.future_lines)))
    if judged.broken and not request.drop_broken:
        text = f"no price or amount above 0 in {rows_text(judged.broken)}:"
        advice = "correct the file, or leave them out with --drop-broken"
        found.append(Problem("broken", text, advice, numbered(judged.broken_lines)))
    if judged.conflicting and request.resolve is None:
        text = f"{judged.conflicting:,} ids are there with different trades:"
        advice = "settle it with --resolve first, last (in the order of the file) or drop (neither)"
        found.append(Problem("ambiguous", text, advice, tuple(judged.conflict_lines)))
    if not judged.kept and not found:
        found.append(Problem("broken", "no trade is left", "import another file"))
    return found


def trade_notes(judged: TradesJudged) -> list[Note]:
    """What was found in the trades and what was done."""
    notes = []
    if judged.repeated:
        notes.append(Note("duplicates", "trades whose id is there again", "dropped", judged.repeated))
    if judged.conflicting:
        notes.append(Note("conflicts", "ids with different trades", "settled as asked", judged.conflicting))
    if judged.without_id:
        notes.append(Note("ids", "trades without an id", "called by time and number", judged.without_id))
    if judged.without_side:
        notes.append(Note("side", "trades that do not say who took", "left open", judged.without_side))
    if judged.broken:
        notes.append(Note("broken", "trades without price or amount", "left out (asked)", judged.broken))
    return notes


def _with_ids(rows: pl.DataFrame, judged: TradesJudged) -> pl.DataFrame:
    if "trade_id" in rows.columns and not rows["trade_id"].null_count():
        return rows
    judged.without_id += rows.height
    number = pl.int_range(pl.len()).over("ms")
    return rows.with_columns(pl.format("{}-{}", "ms", number).alias("trade_id"))


def _single(rows: pl.DataFrame, request: ImportRequest, judged: TradesJudged) -> pl.DataFrame:
    again = pl.col("trade_id").is_duplicated()
    if not rows.select(again.any()).item():
        return rows
    differs = pl.any_horizontal(pl.col(name).n_unique().over("trade_id") > 1 for name in _COMPARED)
    pairs = rows.filter(again)
    agreeing, other = pairs.filter(~differs), pairs.filter(differs).sort("line")
    one = agreeing.unique("trade_id", keep="first", maintain_order=True)
    judged.repeated += agreeing.height - one.height
    chosen = other.unique("trade_id", keep="last" if request.resolve == "last" else "first", maintain_order=True)
    if chosen.height:
        judged.conflicting += chosen.height
        shown = other.filter(pl.col("trade_id") == other["trade_id"][0])["line"].to_list()
        judged.conflict_lines = judged.conflict_lines or shown
        times = chosen["ms"]
        text = f"{chosen.height} ids had different trades in the imported file; settled by the user: {request.resolve}"
        judged.findings.append(Finding("resolved_duplicate", "warning", int(times.min()), int(times.max()) + 1, text))  # type: ignore[arg-type]
    if request.resolve == "drop":
        chosen = chosen.head(0)
    return pl.concat([rows.filter(~again), one, chosen]).sort("ms", maintain_order=True)
