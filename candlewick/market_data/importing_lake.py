"""An imported file into the lake: bronze keeps the file, silver its candles, trades or funding, coverage its span.

The span is the file's own, from its first row to the end of its last one, so that holes inside are gaps of the source. What is
written depends on the file alone: importing it again changes nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from candlewick.candles import RawPage, Series
from candlewick.funding import funding_at_ms, normalise_funding
from candlewick.funding_lake import append_funding
from candlewick.json_text import to_json
from candlewick.lake import Lake
from candlewick.market.candle_files import ReadingPlan
from candlewick.market.funding_files import read_funding_file
from candlewick.market_data.coverage import Span
from candlewick.market_data.importing import JudgedFile, file_digest, open_judged
from candlewick.market_data.importing_report import ImportReport, Note
from candlewick.market_data.importing_schema import ImportRequest
from candlewick.market_data.importing_spill import Spill
from candlewick.market_data.importing_tables import is_text
from candlewick.market_data.kinds import DataSeries
from candlewick.timeframes import format_utc, utc
from candlewick.validation import Finding

# Rows that are written into the lake at once, and the largest text that bronze keeps as it is.
_ROWS_AT_ONCE = 100_000
_LARGEST_BODY_BYTES = 32_000_000
_FUNDING_TIMEFRAME = "8h"


@dataclass(frozen=True, slots=True)
class _Kept:
    """Rows that were new, and those for which the lake has other content."""

    added: int
    differing: int
    first_differing_ms: int


def import_file(path: Path, request: ImportRequest, lake: Lake | None) -> ImportReport:
    """Import one file; with no ``lake`` it is judged and nothing is written.

    Raises AmbiguousImport, InvalidCandles, InvalidFunding, MarketUnavailable, LakeError; but for the last nothing was written.
    """
    series = DataSeries(request.market, request.symbol, request.kind, request.timeframe)
    if request.kind == "funding_rate":
        return _import_funding(path, request, series, lake)
    with open_judged(path, request) as judged:
        report = ImportReport(
            file=path.name,
            digest=judged.look.digest,
            series=series,
            source=request.source or f"import:{path.name}#{judged.look.digest[:8]}",
            dry_run=lake is None,
            rows=judged.rows,
            kept=judged.kept,
            added=0,
            first_ms=judged.first_ms,
            end_ms=judged.end_ms,
            notes=judged.notes,
            findings=judged.findings,
        )
        if lake is None:
            return report
        kept = _keep_beside_bronze(lake, path, report, lambda: _keep(lake, judged, report))
    return _with_kept(report, kept)


def _keep_beside_bronze(lake: Lake, path: Path, report: ImportReport, keep: Callable[[], _Kept]) -> _Kept:
    """Bronze first, so that rows in silver always have their file; an import that changes nothing writes nothing there."""
    span = Span(report.first_ms, report.end_ms)
    known = lake.coverage(report.series).covers(span)
    if not known:
        lake.put_pages(report.series, span, (_page(path, report),))
    kept = keep()
    if known and kept.added:
        lake.put_pages(report.series, span, (_page(path, report),))
    return kept


def _keep(lake: Lake, judged: JudgedFile, report: ImportReport) -> _Kept:
    """All rows, in order of time. The coverage grows with them, and reaches the file's end with the last ones."""
    added, differing, first_ms, since_ms = 0, 0, 0, report.first_ms
    fetched_at = utc(report.end_ms)
    for rows, is_last in _portions(judged.parts):
        last_ms = int(rows.to_series(0).dt.epoch("ms")[-1])
        span = Span(since_ms, report.end_ms if is_last else last_ms + 1)
        told = lake.append_rows(report.series, rows, span, report.source, fetched_at)
        added, since_ms = added + told.added, span.until_ms
        if told.conflicting.height:
            first_ms = first_ms or int(told.conflicting.to_series(0).dt.epoch("ms")[0])
            differing += told.conflicting.height
    return _Kept(added, differing, first_ms)


def _portions(parts: Spill) -> Iterator[tuple[pl.DataFrame, bool]]:
    """Neighbouring parts together, as many as are written at once; and whether they are the last."""
    waiting: list[pl.DataFrame] = []
    for _, rows in parts.parts():
        if rows.is_empty():
            continue
        if waiting and sum(map(len, waiting)) + rows.height > _ROWS_AT_ONCE:
            yield pl.concat(waiting), False
            waiting = []
        waiting.append(rows)
    yield pl.concat(waiting), True


def _page(path: Path, report: ImportReport) -> RawPage:
    """The file itself where it is a text of some size; of others their name, size and digest."""
    size = path.stat().st_size
    if is_text(path) and path.suffix != ".gz" and size <= _LARGEST_BODY_BYTES:
        body = path.read_text(encoding="utf-8-sig")
    else:
        body = to_json({"file": path.name, "bytes": size, "sha256": report.digest})
    return RawPage(request=f"import {path.name}#{report.digest[:8]}", fetched_at=datetime.now(UTC), status=200, body=body)


def _with_kept(report: ImportReport, kept: _Kept) -> ImportReport:
    notes = [*report.notes, Note("lake", "rows that are new", "added", kept.added)]
    if not kept.differing:
        return replace(report, added=kept.added, notes=tuple(notes))
    text = f"{kept.differing} rows of {report.source} differ from what the lake has, first {format_utc(kept.first_differing_ms)}"
    finding = Finding("revised", "warning", report.first_ms, report.end_ms, f"{text}; the lake's were kept")
    notes.append(Note("lake", "rows for which the lake has other content", "the lake's kept", kept.differing))
    return replace(report, added=kept.added, notes=tuple(notes), findings=(*report.findings, finding))


def _import_funding(path: Path, request: ImportRequest, series: DataSeries, lake: Lake | None) -> ImportReport:
    """Funding files are small: read and normalised as a whole, as the `files:` market does."""
    schema = request.schema
    columns = {str(name): column for name, column in schema.columns.items()}
    unit = None if schema.time_unit == "auto" else schema.time_unit
    raw = read_funding_file(path, ReadingPlan(columns, unit, schema.time_format, schema.skip_rows or 0))
    funding = normalise_funding(raw, path.name)
    times, digest = funding_at_ms(funding), file_digest(path)
    jitter = int((funding["funding_at"].dt.epoch("ms") != funding["noted_at"].dt.epoch("ms")).sum())
    notes = [Note("funding", "payments", "", funding.height)]
    if jitter:
        notes.append(
            Note("time", "time stamps some milliseconds off the hour", "the hour is meant; the stamp is kept, too", jitter)
        )
    if raw.height > funding.height:
        notes.append(Note("duplicates", "payments that are told again", "dropped", raw.height - funding.height))
    report = ImportReport(
        file=path.name,
        digest=digest,
        series=series,
        source=request.source or f"import:{path.name}#{digest[:8]}",
        dry_run=lake is None,
        rows=raw.height,
        kept=funding.height,
        added=0,
        first_ms=int(times[0]),
        end_ms=int(times[-1]) + 1,
        notes=tuple(notes),
    )
    if lake is None:
        return report
    return _with_kept(report, _keep_beside_bronze(lake, path, report, lambda: _keep_funding(lake, funding, report)))


def _keep_funding(lake: Lake, funding: pl.DataFrame, report: ImportReport) -> _Kept:
    key = Series(report.series.market, report.series.symbol, _FUNDING_TIMEFRAME)
    told = append_funding(lake, key, funding, report.source, utc(report.end_ms))
    lake.cover(report.series, Span(report.first_ms, report.end_ms))
    first_ms = int(funding_at_ms(told.conflicting)[0]) if told.conflicting.height else 0
    return _Kept(told.added, told.conflicting.height, first_ms)
