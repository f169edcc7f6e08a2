"""What an audit found: for the terminal, for programs, and for Prefect's artifact."""

from collections.abc import Iterator

from candlewick.audit import AuditReport
from candlewick.json_text import Json, plain
from candlewick.reports.numbers import format_count, format_time


def audit_verdict(report: AuditReport) -> str:
    """One sentence: whether the replay gives what the ledger has."""
    bars = format_count(report.bars, "bar")
    span = f"{bars} to {format_time(report.watermark_at)} UTC" if report.watermark_at else "no bar yet"
    if not report.differences:
        rows = sum(comparison.stored for comparison in report.comparisons)
        return f"account {report.account}: the replay of {span} gives every one of the ledger's {rows:,} rows"
    return (
        f"account {report.account}: {format_count(report.differences, 'difference')} between the ledger and the replay of {span}"
    )


def audit_lines(report: AuditReport) -> Iterator[str]:
    """Broken invariant, the first differences, and notices, a line each."""
    if report.broken is not None:
        yield report.broken
    yield from map(str, report.first)
    named = len(report.first) + (report.broken is not None)
    if report.differences > named:
        yield f"... and {format_count(report.differences - named, 'more difference')}"
    yield from (f"Note: {notice}" for notice in report.notices)


def table_rows(report: AuditReport) -> list[dict[str, object]]:
    """What was compared, one row a table."""
    return [
        {"table": one.table, "stored": one.stored, "replayed": one.replayed, "differences": one.differences}
        for one in report.comparisons
    ]


def audit_document(report: AuditReport) -> dict[str, Json]:
    """JSON-ready; ``differences`` are the first, ``difference_count`` counts all."""
    document = {
        "status": "failure" if report.differences else "success",
        "account": report.account,
        "watermark_at": report.watermark_at,
        "bars": report.bars,
        "compared": table_rows(report),
        "invariant_broken": report.broken,
        "difference_count": report.differences,
        "differences": report.first,
        "code_version": report.code_version,
        "notices": report.notices,
    }
    return {name: plain(value) for name, value in document.items()}


def audit_markdown(report: AuditReport) -> str:
    """The audit as a Markdown artifact."""
    lines = [
        f"## {'Differences' if report.differences else 'Clean'}: audit of account {report.account}",
        "",
        audit_verdict(report),
        "",
    ]
    lines += ["| Table | Ledger | Replay | Differences |", "|---|--:|--:|--:|"]
    lines += [f"| {one.table} | {one.stored:,} | {one.replayed:,} | {one.differences:,} |" for one in report.comparisons]
    lines += ["", *(f"- {line}" for line in audit_lines(report))]
    return "\n".join([*lines, "", f"Code `{report.code_version}`."]) + "\n"
