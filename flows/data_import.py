"""The flow of an import: a user's own files of candles, trades or funding into the lake."""

import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import SyncClientContext
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from candlewick.cli import FAILURE, PARTIAL, SUCCESS, JsonFlag
from candlewick.code_version import code_version
from candlewick.errors import CandlewickError
from candlewick.json_text import to_json
from candlewick.lake import Lake
from candlewick.lake_opening import open_lake
from candlewick.logs import bind_correlation_id
from candlewick.market_data.importing_asked import AskedImport, ImportOptions, ImportResult, RefusedFile, read_asked
from candlewick.market_data.importing_report import ImportReport
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.rows import DataRun
from candlewick.settings import Settings, load_settings
from candlewick.store.data_runs import DataStore
from candlewick.store.database import Database
from candlewick.store.quality import QualityStore
from candlewick.tables import print_rows
from candlewick.timeframes import utc
from candlewick.validation import Finding
from flows.command import ending, result_of, run_flow
from tasks.importing import check_import, import_one_file, make_candles, record_import

_NOTE_COLUMNS = {"topic": "about", "found": "found", "done": "done", "rows": "rows"}


@flow(name="import-files", flow_run_name="import {symbol} into {market}", persist_result=False)
async def import_files(
    files: list[str],
    market: str,
    symbol: str,
    timeframe: str | None = None,
    kind: str = "ohlcv",
    schema_file: str | None = None,
    source: str | None = None,
    dry_run: bool = False,
    resolve: str | None = None,
    drop_broken: bool = False,
    candles: list[str] | None = None,
) -> State[ImportResult]:
    """Ends Completed, or Failed where some of several files were refused; both carry the ImportResult.

    Raises what was wrong where no file could be imported; nothing was written then.
    """
    options = ImportOptions(
        files=files, market=market, symbol=symbol, timeframe=timeframe, kind=kind, schema=schema_file, source=source,
        resolve=resolve, drop_broken=drop_broken, candles=candles or (),
    )  # fmt: skip
    asked, settings, started_at = read_asked(options, round(time.time() * 1000)), load_settings(), datetime.now(UTC)
    run_id = f"import-{started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    with SyncClientContext.get_or_create(), bind_correlation_id(run_id):
        reports, refused = await _import_all(asked, None if dry_run else open_lake(settings.lake))
        if not dry_run:
            await _record(settings, _run(run_id, started_at, asked, reports, refused), reports)
    result = ImportResult(None if dry_run else run_id, reports, refused)
    sentence = f"{len(reports)} of {len(asked.paths)} files {'judged' if dry_run else 'imported'}"
    return ending(Failed(message=sentence, data=result) if refused else Completed(message=sentence, data=result))


async def _import_all(asked: AskedImport, lake: Lake | None) -> tuple[tuple[ImportReport, ...], tuple[RefusedFile, ...]]:
    """File after file: they may speak of the same series. Raises the first one's error where all are refused."""
    reports: list[ImportReport] = []
    errors: list[tuple[Path, CandlewickError]] = []
    for path in asked.paths:
        try:
            report = await import_one_file(path, asked.request, lake)
            reports.append(report if lake is None else await _complete(asked, report, lake))
        except CandlewickError as error:
            errors.append((path, error))
    if errors and not reports:
        raise errors[0][1]
    return tuple(reports), tuple(RefusedFile(path.name, str(error)) for path, error in errors)


async def _complete(asked: AskedImport, report: ImportReport, lake: Lake) -> ImportReport:
    """What follows on the rows in the lake: candles of trades, and a look over the series."""
    made = await make_candles(report, asked.candles, lake) if asked.candles else report
    return await check_import(made, lake)


def _run(
    run_id: str, started_at: datetime, asked: AskedImport, reports: Sequence[ImportReport], refused: Sequence[RefusedFile]
) -> DataRun:
    return DataRun(
        run_id=run_id,
        kind="import",
        code_version=code_version(),
        started_at=started_at,
        market=asked.request.market,
        series=1 + len(asked.candles),
        since_at=utc(min(report.first_ms for report in reports)),
        until_at=utc(max(report.end_ms for report in reports)),
        rows_added=sum(report.added + sum(report.made.values()) for report in reports),
        status="partial" if refused else "success",
        error="; ".join(f"{one.file}: {one.error}" for one in refused) or None,
        flow_run_id=flow_run.id,
    )


async def _record(settings: Settings, run: DataRun, reports: Sequence[ImportReport]) -> None:
    database = Database(settings.store.url, settings.store.lock_timeout_s)
    findings: dict[DataSeries, tuple[Finding, ...]] = {}
    for report in reports:
        findings[report.series] = tuple(dict.fromkeys((*findings.get(report.series, ()), *report.findings)))
    await record_import(DataStore(database), QualityStore(database), run, findings, datetime.now(UTC))


def add_import_command(app: App) -> None:
    """Give ``app`` the command of this module."""
    app.command(import_command, name="import")


def import_command(
    *files: Annotated[str, Parameter(help="CSV (also .gz), Parquet, Feather or Arrow files.")],
    market: Annotated[str, Parameter(help="Name in the lake; backtests reach it as lake:NAME.")],
    symbol: Annotated[str, Parameter(help="BASE/QUOTE, such as BTC/USDT.")],
    timeframe: Annotated[str | None, Parameter(help="Length of a candle, such as 1h.")] = None,
    kind: Annotated[str, Parameter(help="ohlcv, trades or funding_rate.")] = "ohlcv",
    schema: Annotated[str | None, Parameter(help="YAML file that says what the files do not.")] = None,
    source: Annotated[str | None, Parameter(help="Source of the rows in the lake. [import:FILE#DIGEST]")] = None,
    resolve: Annotated[
        str | None, Parameter(help="Which of two different rows for one time is kept: first, last or drop (neither).")
    ] = None,
    drop_broken: Annotated[bool, Parameter(help="Leave out rows whose values cannot be true; they become gaps.")] = False,
    candles: Annotated[tuple[str, ...], Parameter(help="Timeframes to make of trades, separated by commas.")] = (),
    dry_run: Annotated[bool, Parameter(help="Say what would be done and write nothing.")] = False,
    json: JsonFlag = False,
) -> int:
    """Import your own files. What can be read in two ways is refused with the rows shown, and nothing is written."""
    made = [part.strip() for text in candles for part in text.split(",") if part.strip()]
    read_asked(
        ImportOptions(
            files=files, market=market, symbol=symbol, timeframe=timeframe, kind=kind, schema=schema, source=source,
            resolve=resolve, drop_broken=drop_broken, candles=made,
        ),
        round(time.time() * 1000),
    )  # fmt: skip
    call = import_files(
        list(files), market, symbol, timeframe, kind, schema, source, dry_run, resolve, drop_broken, made, return_state=True
    )
    return show_imported(run_flow(result_of(call)), json)


def show_imported(result: ImportResult, as_json: bool) -> int:
    """Print what was found and done; the command's exit code."""
    if as_json:
        print(to_json(result.to_document(), indent=2))
    else:
        for report in result.reports:
            done = "judged, nothing was written" if report.dry_run else f"{report.added:,} new"
            print(f"{report.file} → {report.series}: {report.rows:,} rows, {report.kept:,} kept, {done}; {report.span_text} UTC")
            print_rows(
                [{name: getattr(note, name) for name in _NOTE_COLUMNS} for note in report.notes], _NOTE_COLUMNS, json=False
            )
            for length, bars in report.made.items():
                print(f"  {bars:,} new candles of {length} made of the trades")
        for one in result.refused:
            print(one.error)
    return PARTIAL if result.refused and result.reports else FAILURE if result.refused else SUCCESS
