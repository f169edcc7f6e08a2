"""What a backfill or a sync did, for the terminal and for Prefect's artifact."""

from candlewick.market_data.progress import duration_text
from candlewick.market_data.wanted import Collected, CollectReport
from candlewick.timeframes import format_utc


def collected_lines(report: CollectReport) -> list[str]:
    """The report as lines of text; readable at 80 columns and without colour."""
    took = duration_text(report.seconds)
    lines = [f"{_verdict(report)}  {report.kind} of {len(report.series)} series: {report.rows:,} rows in {took}"]
    for one in report.series:
        lines.append(f"  {one.series}: {_sentence(one)}")
        lines += [f"    {note}" for note in one.notes]
    lines += [f"  {notice}" for notice in report.notices]
    return [*lines, f"  run {report.run_id}: `python -m flows.market_data status` shows the lake"]


def collected_rows(report: CollectReport) -> list[dict[str, object]]:
    """One row a series, for a table artifact."""
    return [
        {
            "series": one.series,
            "outcome": one.outcome,
            "rows added": one.rows,
            "from": "–" if one.first_at is None else format_utc(round(one.first_at.timestamp() * 1000)),
            "to": "–" if one.last_at is None else format_utc(round(one.last_at.timestamp() * 1000)),
            "chunks": one.chunks,
            "requests": one.requests,
            "findings": one.findings,
            "error": one.error or "",
        }
        for one in report.series
    ]


def _verdict(report: CollectReport) -> str:
    if not report.failed:
        return "DONE"
    return "FAILED" if len(report.failed) == len(report.series) else "PARTIAL"


def _sentence(one: Collected) -> str:
    if one.outcome == "failed":
        return f"FAILED: {one.error}"
    if one.first_at is None or one.last_at is None:
        return "there is nothing"
    span = " to ".join(format_utc(round(moment.timestamp() * 1000)) for moment in (one.first_at, one.last_at))
    added = f"{one.rows:,} rows added" if one.rows else "nothing new"
    found = f", {one.findings:,} findings" if one.findings else ""
    return f"{added}, now {span}{found}"
