"""Findings about candles, on their way from the lake to the ledger.

Candles enter the lake before the cycle that fetched them commits. Findings held only in that process would be lost if it
died in between, because nobody fetches those candles again. So they are noted beside the series first; every cycle that
trades the series writes what is noted there (what the ledger has already is no news), and drops the notes after its commit.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from candlewick.candles import Series
from candlewick.lake import Lake
from candlewick.validation import Finding, finding_rows


@dataclass(frozen=True, slots=True)
class NotedFindings:
    """``rows`` of `quality` (no column where there is none), and the names of the notes they came from, by series."""

    rows: pl.DataFrame
    notes: Mapping[Series, tuple[str, ...]]


def note_findings(lake: Lake, series: Series, findings: Iterable[Finding]) -> None:
    """Keep findings beside the series until the ledger has them. Raises LakeError."""
    document = [[f.kind, f.severity, f.span_start_ms, f.span_end_ms, f.evidence] for f in findings]
    if document:
        lake.put_note(series, json.dumps(document))


def noted_findings(lake: Lake, series: Iterable[Series], recorded_at: datetime) -> NotedFindings:
    """What is noted beside the series. Raises LakeError."""
    notes = {one: lake.notes(one) for one in series}
    frames = [
        finding_rows(one, tuple(Finding(*finding) for finding in json.loads(text)), recorded_at)
        for one, texts in notes.items()
        for text in texts.values()
    ]
    return NotedFindings(
        pl.concat(frames) if frames else pl.DataFrame(), {one: tuple(texts) for one, texts in notes.items() if texts}
    )


def drop_noted(lake: Lake, noted: NotedFindings) -> None:
    """Forget notes whose findings the ledger has. Raises LakeError."""
    for series, names in noted.notes.items():
        lake.drop_notes(series, names)
