"""Parity: an account's whole life as one backtest, compared row by row with what the ledger says it did (promise 1).

The audit asks whether the ledger can be replayed as it was written. This asks whether a backtest of the account's terms, over the
candles that it traded on, would have done the same: one fold from empty, by the functions that `flows.backtesting run` calls.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from candlewick.advancing import advance_account, engine_terms
from candlewick.audit import Stored, read_stored, strategy_signals
from candlewick.backtesting.simulation import lay_out_span, simulate
from candlewick.comparing import FIRST, Comparison, Difference, compare_rows
from candlewick.cycle import new_start, opening_rows
from candlewick.engine.bars import Beside
from candlewick.engine.state import EngineState
from candlewick.journal import Journal, Segment, write_journal
from candlewick.json_text import Json, plain
from candlewick.monitoring.interventions import intervened
from candlewick.reports.numbers import format_count, format_time
from candlewick.store.tables import TABLES

Frames = Mapping[str, pl.DataFrame]
COMPARED = ("signals", "orders", "fills", "postings", "equity")


@dataclass(frozen=True, slots=True)
class ParityReport:
    """``comparisons`` by table; ``cycles`` committed the account's ``bars`` bar times up to ``watermark_at``."""

    account: str
    watermark_at: datetime | None
    bars: int
    cycles: int
    comparisons: tuple[Comparison, ...]
    notices: tuple[str, ...]

    @property
    def differences(self) -> int:
        """Cells and rows that differ."""
        return sum(one.differences for one in self.comparisons)

    @property
    def first(self) -> tuple[Difference, ...]:
        """The first differences, table by table."""
        return tuple(difference for one in self.comparisons for difference in one.first)[:FIRST]


def prove_parity(rows: Frames, candles: Frames, beside: Beside) -> ParityReport:
    """Backtest the account and compare. ``rows`` as `queries.account_rows`; ``candles`` by symbol, anchor to watermark.

    ``beside`` holds the funding of perpetuals. Raises what the strategies and the engine raise.
    """
    stored = read_stored(rows)
    journal, bars = _backtest(stored, candles, beside)
    deposit = opening_rows(stored.account)[2]
    played: dict[str, pl.DataFrame] = {
        "signals": journal.signals,
        "orders": journal.orders,
        "fills": journal.fills,
        "postings": pl.concat([deposit, journal.postings]),
        "equity": journal.equity,
    }
    versions = len(stored.account.terms)
    cycles = rows["runs"].filter(pl.col("status") != "failure").height
    return ParityReport(
        account=stored.account.name,
        watermark_at=None if stored.watermark_ms is None else rows["checkpoints"]["watermark_at"][0],
        bars=bars,
        cycles=cycles,
        comparisons=tuple(compare_rows(TABLES[name], rows[name], played[name]) for name in COMPARED),
        notices=(f"its terms were amended {versions - 1} times; the backtest changes them at the same bars",)
        if versions > 1
        else (),
    )


def _backtest(stored: Stored, candles: Frames, beside: Beside) -> tuple[Journal, int]:
    """The journal of one backtest over the account's span, and the bars it played.

    An account that has acted on the open of a bar which is not closed yet is played up to that open.
    """
    account, until_ms = stored.account, stored.watermark_ms
    signals = {terms.version: intervened(strategy_signals(terms, candles), stored.interventions) for terms in account.terms}
    start = new_start(account)
    state, bars = start.state, 0
    segments: tuple[Segment, ...] = ()
    if len(account.terms) == 1 and until_ms is not None:
        state, segments, bars = _played(stored, candles, signals[account.current.version], beside)
    moved = advance_account(account, state, candles, signals, until_ms, stored.opens, beside)
    journal = write_journal(account.name, [*segments, *moved.segments], moved.state, start.open_orders)
    return journal, bars + moved.bars


def _played(stored: Stored, candles: Frames, signals: Frames, beside: Beside) -> tuple[EngineState, tuple[Segment, ...], int]:
    """One version of the terms: `simulate` over the whole span, as any backtest is."""
    account = stored.account
    assert stored.watermark_ms is not None
    terms = engine_terms(account, account.current)
    laid = lay_out_span(terms, candles, account.anchor_ms, stored.watermark_ms + 1, beside)
    simulation = simulate(laid, laid.with_decisions(signals), "every bar")
    segment = Segment(account.current.strategy, terms, signals, simulation.events, simulation.equity)
    return simulation.state, (segment,), len(laid.market.times)


def parity_verdict(report: ParityReport) -> str:
    """One sentence: whether one backtest gives what the cycles gave."""
    span = (
        f"{format_count(report.bars, 'bar')} to {format_time(report.watermark_at)} UTC" if report.watermark_at else "no bar yet"
    )
    rows = sum(one.stored for one in report.comparisons)
    by = format_count(report.cycles, "cycle")
    if not report.differences:
        return (
            f"account {report.account}: one backtest of {span} gives every one of the {rows:,} rows that {by} wrote, bit for bit"
        )
    return f"account {report.account}: {format_count(report.differences, 'difference')} between one backtest of {span} and {by}"


def parity_rows(report: ParityReport) -> list[dict[str, object]]:
    """What was compared, one row a table."""
    return [
        {
            "table": one.table,
            "account": one.stored,
            "backtest": one.replayed,
            "verdict": "equal" if not one.differences else format_count(one.differences, "difference"),
        }
        for one in report.comparisons
    ]


def parity_lines(report: ParityReport) -> list[str]:
    """The first differences, and notices, a line each."""
    lines = [str(one).replace("the replay", "the backtest") for one in report.first]
    if report.differences > len(lines):
        lines.append(f"... and {format_count(report.differences - len(lines), 'more difference')}")
    return [*lines, *(f"Note: {notice}" for notice in report.notices)]


def parity_document(report: ParityReport) -> dict[str, Json]:
    """JSON-ready."""
    document = {
        "status": "failure" if report.differences else "success",
        "account": report.account,
        "watermark_at": report.watermark_at,
        "bars": report.bars,
        "cycles": report.cycles,
        "compared": parity_rows(report),
        "difference_count": report.differences,
        "differences": report.first,
        "notices": report.notices,
    }
    return {name: plain(value) for name, value in document.items()}


def parity_markdown(report: ParityReport) -> str:
    """The comparison as a Markdown artifact."""
    title = "Differences" if report.differences else "Equal bit for bit"
    lines = [f"## {title}: account {report.account} and one backtest", "", parity_verdict(report), ""]
    lines += ["| Table | Account | Backtest | Verdict |", "|---|--:|--:|---|"]
    lines += [f"| {row['table']} | {row['account']:,} | {row['backtest']:,} | {row['verdict']} |" for row in parity_rows(report)]
    return "\n".join([*lines, "", *(f"- {line}" for line in parity_lines(report))]) + "\n"
