"""The flow of a backfill: named series from a date on, whole, in chunks that are never fetched twice."""

from typing import Annotated

from cyclopts import App, Parameter
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from candlewick.cli import FAILURE, PARTIAL, SUCCESS, JsonFlag
from candlewick.json_text import to_json
from candlewick.market_data.wanted import CollectOptions, CollectReport, wanted_series
from flows.collecting import collect_all
from flows.collection import Collection
from flows.command import result_of, run_flow

Names = Annotated[tuple[str, ...], Parameter(help="Symbols, separated by commas, such as BTC/USDT,ETH/USDT.")]
Timeframes = Annotated[tuple[str, ...], Parameter(help="Lengths of candles, separated by commas, such as 1m,1h.")]


def _run_name() -> str:
    given = flow_run.parameters
    return f"backfill {given.get('market')} {', '.join(given.get('symbols') or ())} {', '.join(given.get('timeframes') or ())}"


@flow(name="backfill", flow_run_name=_run_name, persist_result=False)
async def backfill(
    market: str,
    symbols: list[str],
    since: str,
    timeframes: list[str] | None = None,
    kinds: list[str] | None = None,
    until: str | None = None,
    chunks: str = "adaptive",
    chunk_bars: int | None = None,
    side_by_side: int = 4,
    resample: bool = False,
) -> State[CollectReport]:
    """Fetch what the lake lacks of symbols × kinds × timeframes from ``since`` on; what is there is not asked for again.

    Ends Completed, or Failed where a series could not be completed; both carry the CollectReport. Bad input raises before
    anything is written.
    """
    wanted = wanted_series(market, symbols, timeframes or (), kinds or ("ohlcv",), since, until, resample=resample)
    return await collect_all(Collection("backfill", CollectOptions(chunks, chunk_bars, side_by_side)), wanted)


def add_backfill_command(app: App) -> None:
    """Give ``app`` the command of this module."""
    app.command(backfill_command, name="backfill")


def backfill_command(
    *,
    market: Annotated[str, Parameter(help="A ccxt exchange id such as binance, files:DIR, or sample.")],
    symbols: Names,
    since: Annotated[str, Parameter(help="From when on (UTC), such as 2020-01-01.")],
    timeframes: Timeframes = (),
    kinds: Annotated[
        tuple[str, ...], Parameter(help="ohlcv, funding_rate, open_interest, trades; separated by commas. [ohlcv]")
    ] = ("ohlcv",),
    until: Annotated[str | None, Parameter(help="Until when (UTC). [now]")] = None,
    chunks: Annotated[str, Parameter(help="How the span is cut: adaptive, or fixed.")] = "adaptive",
    chunk_bars: Annotated[int | None, Parameter(help="Bars of a fixed chunk. [10000]")] = None,
    side_by_side: Annotated[int, Parameter(help="Series that are fetched at the same time.")] = 4,
    resample: Annotated[bool, Parameter(help="Make a timeframe that the market lacks of a finer one.")] = False,
    json: JsonFlag = False,
) -> int:
    """Fetch candles and other data from a date on. Stopped at any moment, the same command goes on where it was."""
    options = CollectOptions(chunks, chunk_bars, side_by_side)
    named, lengths, asked = (split_names(texts) for texts in (symbols, timeframes, kinds))
    wanted_series(market, named, lengths, asked, since, until, resample=resample)
    call = backfill(
        market=market, symbols=named, timeframes=lengths, kinds=asked, since=since, until=until, chunks=options.strategy,
        chunk_bars=chunk_bars, side_by_side=side_by_side, resample=resample, return_state=True,
    )  # fmt: skip
    return show_collected(run_flow(result_of(call)), json)


def split_names(texts: tuple[str, ...]) -> list[str]:
    """Names that are separated by commas or given one by one."""
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def show_collected(report: CollectReport, as_json: bool) -> int:
    """Print what became of the series; the command's exit code."""
    from candlewick.reports.collected import collected_lines

    if as_json:
        print(to_json(report, indent=2))
    else:
        for line in collected_lines(report):
            print(line)
    if not report.failed:
        return SUCCESS
    return FAILURE if len(report.failed) == len(report.series) else PARTIAL
