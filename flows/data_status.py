"""The flow of a status: what the lake has, how old it is, and what is known against it."""

from typing import Annotated

from cyclopts import App, Parameter
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from candlewick.cli import FAILURE, SUCCESS, JsonFlag
from candlewick.json_text import to_json
from candlewick.market_data.status import Chosen, SeriesStatus
from candlewick.settings import load_settings
from candlewick.tables import print_rows
from flows.command import ending, run_announced
from tasks.data_status import look_at_lake, publish_status

_EMPTY = (
    "The lake is empty. `python -m flows.market_data backfill --market binance --symbols BTC/USDT --timeframes 1h --since "
    "2024-01-01` fetches candles; a section `datasets:` in candlewick.yaml keeps them up to date."
)


@flow(name="data-status", flow_run_name="status of market data", persist_result=False)
async def data_status(
    market: str | None = None, symbol: str | None = None, timeframe: str | None = None, check: bool = False
) -> State[tuple[SeriesStatus, ...]]:
    """Publish the status as an artifact. Ends Completed; with ``check`` Failed where something is stale, damaged or wrong."""
    from candlewick.reports.data_status import totals_line

    series = await look_at_lake(load_settings(), Chosen(market, symbol, timeframe))
    await publish_status(series)
    wrong = check and any(one.is_wrong for one in series)
    return ending(
        Failed(message=totals_line(series), data=series) if wrong else Completed(message=totals_line(series), data=series)
    )


def add_status_command(app: App) -> None:
    """Give ``app`` the command of this module."""
    app.command(status_command, name="status")


def status_command(
    *,
    market: Annotated[str | None, Parameter(help="Only series of this market. [all]")] = None,
    symbol: Annotated[str | None, Parameter(help="Only series of this symbol. [all]")] = None,
    timeframe: Annotated[str | None, Parameter(help="Only series of this timeframe. [all]")] = None,
    check: Annotated[
        bool, Parameter(help="Exit with 1 where a series is stale, damaged or not started, or has an open error.")
    ] = False,
    json: JsonFlag = False,
) -> int:
    """What the lake has: span, rows, gaps, last sync, last validation, freshness, open findings. Needs no Prefect server."""
    from candlewick.reports.data_status import STATUS_COLUMNS, next_steps, status_document, status_row, totals_line

    chosen = Chosen(market, symbol, timeframe)
    series = run_announced(look_at_lake.fn(load_settings(), chosen), "looking at the lake")
    if json:
        print(to_json(status_document(series), indent=2))
    else:
        print_rows([status_row(one) for one in series], STATUS_COLUMNS, json=False, empty=_EMPTY)
        if series:
            print(f"\n{totals_line(series)}")
        for step in next_steps(series):
            print(f"next: {step}")
    return FAILURE if check and any(one.is_wrong for one in series) else SUCCESS
