"""The quality table: what was found about the data, and what became of it.

A finding is `open` until somebody settles it: `explained` (so it was in the market) or `repaired` (it is so no longer). The
same finding has the same id for ever, and is told again by everything that looks at the same data:

- one that is open takes the state it is told with, and stays open where that is `open`;
- one that is explained stays explained;
- one that is repaired and told again as `open` is reopened, and says that it was repaired before.

A gap whose cause was found (`gap_outage`, `not_listed` and so on) explains the finding `gap`, severity info, that lies within
it: what a fetch remarks on before anybody looks into it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

import polars as pl

from candlewick.candles import Series
from candlewick.errors import UsageError
from candlewick.market_data.coverage import Span
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.rows import SERIES_KEY, AnySeries, FindingState, keyed, series_rows
from candlewick.rows import TEXT, TIME
from candlewick.store.database import Connection, Database
from candlewick.store.tables import TABLES, quoted
from candlewick.store.writing import append, refuse_other_content, stage
from candlewick.timeframes import utc
from candlewick.validation import Finding, finding_rows

CLASSIFIED_GAPS = ("gap_outage", "gap_no_trades", "gap_not_downloaded", "not_listed", "delisted")
_QUALITY = TABLES["quality"]
_TYPES = {**_QUALITY.content, "recorded_at": TIME, "settled_at": TIME}

# What is told again, in SQL about `old` and `new`.
_REOPENED = "(old.state = 'repaired' AND new.state = 'open' AND coalesce(old.settled_at, old.recorded_at) < new.recorded_at)"
_SETTLED_NOW = "(old.state = 'open' AND new.state <> 'open')"
_TELL_AGAIN = f"""UPDATE quality old SET
        severity = new.severity,
        state = CASE WHEN {_REOPENED} OR {_SETTLED_NOW} THEN new.state ELSE old.state END,
        explanation = CASE
            WHEN {_REOPENED} THEN 'found again on ' || strftime(new.recorded_at, '%Y-%m-%d %H:%M') || ' UTC; it was repaired'
                || coalesce(' on ' || strftime(old.settled_at, '%Y-%m-%d'), '') || coalesce(': ' || old.explanation, '')
            WHEN {_SETTLED_NOW} THEN new.explanation ELSE old.explanation END,
        settled_at = CASE WHEN {_REOPENED} THEN NULL WHEN {_SETTLED_NOW} THEN new.recorded_at ELSE old.settled_at END
    FROM new_quality new
    WHERE old.finding_id = new.finding_id AND (old.severity <> new.severity OR {_REOPENED} OR {_SETTLED_NOW})"""
_EXPLAIN_GAPS = f"""UPDATE quality gap SET state = 'explained', explanation = cause.kind || ': ' || cause.evidence,
        settled_at = cause.recorded_at
    FROM quality cause
    WHERE gap.kind = 'gap' AND gap.state = 'open' AND gap.severity = 'info' AND cause.kind IN {CLASSIFIED_GAPS}
        AND {" AND ".join(f"gap.{name} = cause.{name}" for name in SERIES_KEY)}
        AND cause.span_start <= gap.span_start AND gap.span_end <= cause.span_end
        AND EXISTS (SELECT 1 FROM new_quality new WHERE {" AND ".join(f"new.{name} = gap.{name}" for name in SERIES_KEY)})"""


def append_findings(connection: Connection, staged: int) -> int:
    """Insert the staged findings, and tell those that are known again, as the module says. The number of rows written."""
    if not staged:
        return 0
    inserted = append(connection, _QUALITY, staged)
    if inserted < staged:
        refuse_other_content(connection, _QUALITY, _QUALITY.fixed, "TRUE")
        inserted += _changed(connection, _TELL_AGAIN)
    connection.execute(_EXPLAIN_GAPS)
    return inserted


class QualityStore:
    """The findings in one database. Holds no connection; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        """``database`` is the ledger's file; it need not exist yet."""
        self.database = database

    def record(self, series: AnySeries, findings: Iterable[Finding], recorded_at: datetime) -> int:
        """Write findings of one series; the number of rows written or changed. Nothing is opened where there is none."""
        return self.record_all({series: findings}, recorded_at)

    def record_all(
        self,
        findings: Mapping[Series, Iterable[Finding]]
        | Mapping[DataSeries, Iterable[Finding]]
        | Mapping[AnySeries, Iterable[Finding]],
        recorded_at: datetime,
    ) -> int:
        """Write findings of many series in one transaction; the number of rows written or changed."""
        frames = [finding_rows(keyed(series), tuple(told), recorded_at) for series, told in findings.items()]
        return self.record_rows(pl.concat(frames) if frames else pl.DataFrame(), recorded_at)

    def record_rows(self, rows: pl.DataFrame, recorded_at: datetime) -> int:
        """As ``record_all``, for findings that are rows already (candlewick/validation.py, ``finding_rows``)."""
        if rows.is_empty():
            return 0
        with self.database.write() as connection:
            return append_findings(connection, stage(connection, _QUALITY, rows, "", recorded_at))

    def findings(
        self,
        series: AnySeries | Iterable[AnySeries] | None = None,
        state: FindingState | None = None,
        kinds: Iterable[str] | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> pl.DataFrame:
        """Findings whose span has a part in [since_ms, until_ms), all columns of the table, by span; times in microseconds UTC.

        No rows where there is no ledger. Raises LedgerError.
        """
        if not self.database.exists():
            return pl.DataFrame(schema=_TYPES)
        terms, values = ["TRUE"], dict[str, object]()
        if state is not None:
            terms, values = [*terms, "state = $state"], values | {"state": state}
        if kinds is not None:
            terms, values = [*terms, "list_contains($kinds, kind)"], values | {"kinds": list(kinds)}
        if since_ms is not None:
            terms, values = [*terms, "span_end > $since"], values | {"since": utc(since_ms)}
        if until_ms is not None:
            terms, values = [*terms, "span_start < $until"], values | {"until": utc(until_ms)}
        with self.database.read() as connection:
            if series is not None:
                connection.register("asked", series_rows(series).to_arrow())
                terms.append(f"({', '.join(SERIES_KEY)}) IN (SELECT {', '.join(SERIES_KEY)} FROM asked)")
            return _read(connection, " AND ".join(terms), values)

    def open_within(self, series: AnySeries | Iterable[AnySeries], span: Span) -> pl.DataFrame:
        """Findings of the series that are open and have a part in the span, as ``findings`` answers them."""
        return self.findings(series, state="open", since_ms=span.since_ms, until_ms=span.until_ms)

    def whole_ids(self, beginnings: Iterable[str]) -> tuple[str, ...]:
        """The ids that begin so, each of one finding alone. Raises UsageError naming the first that is none's or several's."""
        known, whole = self.findings()["finding_id"].to_list(), []
        for beginning in beginnings:
            found = [one for one in known if beginning and one.startswith(beginning)]
            if len(found) != 1:
                raise UsageError(
                    f"{beginning!r} is the beginning of {len(found) or 'no'} finding's id: "
                    "`python -m flows.market_data repair --dry-run` lists the open ones"
                )
            whole += found
        return tuple(whole)

    def settle(self, finding_ids: Iterable[str], state: FindingState, explanation: str, at: datetime) -> int:
        """Say what became of findings; the number of rows changed. ``open`` opens them again.

        Raises UsageError for a state that there is not, or an id that there is not: nothing is written then.
        """
        return self.settle_all(dict.fromkeys(finding_ids, (state, explanation)), at)

    def settle_all(self, settled: Mapping[str, tuple[FindingState, str]], at: datetime) -> int:
        """As ``settle``, for many findings in one transaction: state and explanation by id."""
        strange = sorted({state for state, _ in settled.values()} - {"open", "explained", "repaired"})
        if strange:
            raise UsageError(f"a finding is open, explained or repaired; not {', '.join(strange)}")
        if not settled:
            return 0
        cells = [(one, *said) for one, said in settled.items()]
        told = pl.DataFrame(cells, schema=dict.fromkeys(("finding_id", "state", "explanation"), TEXT), orient="row")
        with self.database.write() as connection:
            connection.register("settled", told.to_arrow())
            unknown = connection.execute(
                "SELECT finding_id FROM settled WHERE finding_id NOT IN (SELECT finding_id FROM quality) ORDER BY 1"
            ).fetchall()
            if unknown:
                raise UsageError(
                    f"there is no finding {unknown[0][0]!r}: `python -m flows.market_data repair --dry-run` lists the open ones"
                )
            return _changed(
                connection,
                """UPDATE quality old SET state = new.state, explanation = new.explanation,
                    settled_at = CASE WHEN new.state = 'open' THEN NULL ELSE $at END
                FROM settled new WHERE old.finding_id = new.finding_id
                    AND (old.state IS DISTINCT FROM new.state OR old.explanation IS DISTINCT FROM new.explanation)""",
                {"at": at},
            )


def finding_span(row: Mapping[str, object]) -> Span:
    """Where a row of ``findings`` says something about; of no length where it is about a moment: a millisecond then."""
    start, end = row["span_start"], row["span_end"]
    assert isinstance(start, datetime), f"{row} is no finding"
    assert isinstance(end, datetime), f"{row} is no finding"
    since_ms = round(start.timestamp() * 1000)
    return Span(since_ms, max(since_ms + 1, round(end.timestamp() * 1000)))


def finding_series(row: Mapping[str, object]) -> Series:
    """The series of a row of ``findings``, as the tables name it."""
    return Series(str(row["market"]), str(row["symbol"]), str(row["timeframe"]))


def _read(connection: Connection, where: str, values: Mapping[str, object]) -> pl.DataFrame:
    columns, order = ", ".join(map(quoted, _TYPES)), ", ".join(map(quoted, (*_QUALITY.order[:1], *SERIES_KEY, "finding_id")))
    query = f"SELECT {columns} FROM quality WHERE {where} ORDER BY {order}"
    frame = pl.DataFrame(connection.sql(query, params=dict(values)).to_arrow_table())
    return frame.with_columns(pl.col(name).cast(kind) for name, kind in _TYPES.items())


def _changed(connection: Connection, statement: str, values: Mapping[str, object] | None = None) -> int:
    return int(connection.execute(statement, dict(values or {})).fetchall()[0][0])
