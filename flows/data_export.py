"""The flow of an export: series of the lake as Parquet, CSV or Feather files."""

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from cyclopts import App, Parameter
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from candlewick.cli import FAILURE, PARTIAL, SUCCESS, JsonFlag
from candlewick.errors import CandlewickError
from candlewick.json_text import to_json
from candlewick.lake import Lake
from candlewick.lake_opening import open_lake
from candlewick.market_data.exporting import Exported, ExportRequest, export_requests, failed_export
from candlewick.market_data.kinds import Kind
from candlewick.settings import load_settings
from candlewick.tables import print_rows
from flows.command import ending, result_of, run_announced, run_flow
from tasks.exporting import write_export

Write = Callable[[Lake, ExportRequest], Awaitable[Exported]]

_COLUMNS = {
    "series": "Series", "outcome": "Outcome", "rows": "Rows", "first_at": "First", "last_at": "Last", "made_of": "Made of",
    "digest": "Digest", "path": "File",
}  # fmt: skip


@flow(name="export", flow_run_name="export {market}", persist_result=False)
async def export_data(
    market: str,
    symbols: list[str],
    to: str,
    timeframes: list[str] | None = None,
    kind: Kind = "ohlcv",
    since: str | None = None,
    until: str | None = None,
    form: str | None = None,
    overwrite: bool = False,
    allow_missing: bool = False,
) -> State[tuple[Exported, ...]]:
    """Write symbols × timeframes of one kind to files. Ends Completed, or Failed where one of several could not be written."""
    first = ExportRequest(market, "", kind, "", to, form, since, until, overwrite, "allow" if allow_missing else "raise")
    exported = await _export_each(export_requests(symbols, timeframes or (), first), write_export)
    failed = [one.series for one in exported if one.outcome == "failed"]
    if failed:
        return ending(Failed(message=f"not exported: {', '.join(failed)}", data=exported))
    return ending(Completed(message=f"{len(exported)} files, {sum(one.rows for one in exported):,} rows", data=exported))


async def _export_each(requests: Sequence[ExportRequest], write: Write) -> tuple[Exported, ...]:
    """One after the other. What fails among several is said and left out; what fails alone raises."""
    lake = open_lake(load_settings().lake)
    exported = []
    for request in requests:
        try:
            exported.append(await write(lake, request))
        except CandlewickError as error:
            if len(requests) == 1:
                raise
            exported.append(failed_export(request, error))
    return tuple(exported)


def add_export_command(app: App) -> None:
    """Give ``app`` the command of this module."""
    app.command(export_command, name="export")


def export_command(
    *,
    market: Annotated[str, Parameter(help="A ccxt exchange id such as binance, files:DIR, or sample.")],
    symbols: Annotated[tuple[str, ...], Parameter(help="Symbols, separated by commas, such as BTC/USDT,ETH/USDT.")],
    to: Annotated[str, Parameter(help="A folder, or a file that ends in .parquet, .csv or .feather.")],
    timeframes: Annotated[
        tuple[str, ...],
        Parameter(
            name=("--timeframe", "--timeframes"), help="Lengths of candles, such as 1h; those the lake lacks are made, 1M too."
        ),
    ] = (),
    kind: Annotated[Kind, Parameter(help="What is exported.")] = "ohlcv",
    since: Annotated[str | None, Parameter(help="From when on (UTC), such as 2024-01-01. [all there is]")] = None,
    until: Annotated[str | None, Parameter(help="Until when (UTC). [all there is]")] = None,
    form: Annotated[str | None, Parameter(name="--format", help="parquet, csv or feather. [as --to says, else parquet]")] = None,
    overwrite: Annotated[bool, Parameter(help="Replace files that have other content.")] = False,
    allow_missing: Annotated[bool, Parameter(help="Export what there is although a part was not downloaded.")] = False,
    json: JsonFlag = False,
) -> int:
    """Write series of the lake to Parquet, CSV or Feather files, which the market files:DIR reads, too.

    Where a Prefect server is known (`make serve`, PREFECT_API_URL) this is a run of the flow `export` there; without one it is
    done here, without the wait for a temporary server.
    """
    first = ExportRequest(market, "", kind, "", to, form, since, until, overwrite, "allow" if allow_missing else "raise")
    requests = export_requests(symbols, timeframes, first)
    if os.environ.get("PREFECT_API_URL"):
        call = export_data(
            market, list(symbols), to, list(timeframes), kind, since, until, form, overwrite, allow_missing, return_state=True
        )  # fmt: skip
        exported = run_flow(result_of(call))
    else:
        exported = run_announced(_export_each(requests, write_export.fn), f"exporting {len(requests)} series to {to}")
    return _show(exported, json)


def _show(exported: Sequence[Exported], as_json: bool) -> int:
    failed = [one for one in exported if one.outcome == "failed"]
    if as_json:
        print(to_json(exported, indent=2))
    else:
        rows = [{name: getattr(one, name) for name in _COLUMNS} | {"digest": one.digest[:12]} for one in exported]
        made = any(one.made_of for one in exported)
        print_rows(rows, {key: title for key, title in _COLUMNS.items() if made or key != "made_of"}, json=False)
        for one in failed:
            print(f"{one.series}: {one.error}")
    if not failed:
        return SUCCESS
    return FAILURE if len(failed) == len(exported) else PARTIAL
