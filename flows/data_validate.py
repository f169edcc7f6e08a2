"""The flow of a validation: two sources of one market against each other, or a look over what the lake has."""

import asyncio
import secrets
import shlex
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import App, Parameter
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import SyncClientContext
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from candlewick.announcing import announce
from candlewick.cli import FAILURE, SUCCESS, JsonFlag
from candlewick.code_version import code_version
from candlewick.errors import UsageError
from candlewick.json_text import Json, to_json
from candlewick.lake_opening import open_lake
from candlewick.logs import bind_correlation_id
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.rows import DataRun, DataRunStatus
from candlewick.quality.comparison import Source
from candlewick.quality.request import SETTABLE, Comparing, Inspecting, ValidationOptions, read_validation
from candlewick.quality.thresholds import Thresholds
from candlewick.reports.validation_text import INSPECTED_COLUMNS, inspected_rows, inspection_sentence, render_validation
from candlewick.reports.validation_view import InspectedSeries, ValidationView
from candlewick.settings import Settings
from candlewick.store.data_runs import DataStore
from candlewick.store.database import Database
from candlewick.store.quality import QualityStore
from candlewick.tables import print_rows
from candlewick.timeframes import utc
from flows.command import ending, result_of, run_flow
from flows.validation_sources import FoundSources, ReachedSource, compared_span, complete_source, find_other, source_names
from tasks.market import FILES, MarketAccess, open_market
from tasks.validation import (
    Recorded,
    ValidationStores,
    compare_in_lake,
    inspect_in_lake,
    publish_inspection,
    publish_validation,
    record_comparison,
    write_validation,
)


@dataclass(frozen=True, slots=True)
class ComparedSources:
    """What a comparison came to: what is shown, where its report is, what the quality table took."""

    view: ValidationView
    report: Path
    recorded: Recorded

    @property
    def is_good(self) -> bool:
        """Whether the sources agree."""
        return self.view.judgement.verdict == "agree"

    def to_document(self) -> dict[str, Json]:
        """All of it, JSON-ready."""
        counts: dict[str, Json] = {"written": self.recorded.written, "settled": self.recorded.settled}
        return {**self.view.to_document(), "findings": counts, "report": str(self.report)}


@dataclass(frozen=True, slots=True)
class InspectedLake:
    """What a look over the lake came to, a row a series."""

    series: tuple[InspectedSeries, ...]

    @property
    def is_good(self) -> bool:
        """Whether no series has an error."""
        return not any(one.verdict == "errors" for one in self.series)

    def to_document(self) -> dict[str, Json]:
        """All of it, JSON-ready."""
        rows: list[Json] = [one.to_document() for one in self.series]
        return {"verdict": "clean" if self.is_good else "errors", "series": rows}


BATCH = 50
"""Series that are looked over in one task, and kept in one transaction."""
Validated = ComparedSources | InspectedLake
Answer = TypeVar("Answer", ComparedSources, InspectedLake)


def _run_name() -> str:
    given = flow_run.parameters
    named = " ".join(str(given[name]) for name in ("market", "symbol", "timeframe") if given.get(name)) or "the whole lake"
    return f"validate {named}" + (f" against {given['against']}" if given.get("against") else "")


@flow(name="validate", flow_run_name=_run_name, persist_result=False)
async def validate(
    market: str | None = None,
    against: str | None = None,
    symbol: str | None = None,
    timeframe: str | None = None,
    since: str | None = None,
    until: str | None = None,
    against_symbol: str | None = None,
    max_median_bps: float | None = None,
    max_p99_bps: float | None = None,
    max_missing_share: float | None = None,
) -> State[Validated]:
    """Compare a series with another source's; without ``against`` look over the series of the lake that fit what is given.

    Ends Completed where the sources agree (no series has an error), else Failed; both carry what was found.
    """
    limits = {"max_median_bps": max_median_bps, "max_p99_bps": max_p99_bps, "max_missing_share": max_missing_share}
    asked = read_validation(
        ValidationOptions(
            market=market, against=against, symbol=symbol, against_symbol=against_symbol, timeframe=timeframe, since=since,
            until=until, limits=limits,
        )
    )  # fmt: skip
    context = ValidationContext(asked.settings)
    with SyncClientContext.get_or_create(), bind_correlation_id(context.run_id):
        if isinstance(asked, Comparing):
            async with reaching(context, asked) as sources:
                answer: Validated = await context.booked(market, compare(context, asked, sources))
        else:
            answer = await context.booked(market, inspect(context, await chosen_series(context, asked)))
    return conclude_validation(answer)


class ValidationContext:
    """The tools of one run. Opens nothing: the store is made by the first write."""

    def __init__(self, settings: Settings) -> None:
        database = Database(settings.store.url, settings.store.lock_timeout_s)
        self.settings = settings
        self.stores = ValidationStores(open_lake(settings.lake), QualityStore(database), DataStore(database))
        self.started_at = datetime.now(UTC)
        self.run_id = f"validate-{self.started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"

    async def booked(self, market: str | None, work: Coroutine[None, None, Answer]) -> Answer:
        """Do the work as a run that is booked when it begins and when it ends, however it ends."""
        run = DataRun(
            run_id=self.run_id,
            kind="validate",
            code_version=code_version(),
            started_at=self.started_at,
            market=market,
            flow_run_id=flow_run.id,
        )
        await asyncio.to_thread(self.stores.data.begin, run)
        try:
            answer = await work
        except BaseException as error:
            how: DataRunStatus = "failure" if isinstance(error, Exception) else "interrupted"
            await self._end(replace(run, status=how, error=str(error) or type(error).__name__))
            raise
        await self._end(_ended(run, answer))
        return answer

    async def _end(self, run: DataRun) -> None:
        await asyncio.to_thread(self.stores.data.finish, replace(run, completed_at=datetime.now(UTC)))


def _ended(run: DataRun, answer: Validated) -> DataRun:
    if isinstance(answer, InspectedLake):
        return replace(run, status="success", series=len(answer.series), findings=sum(one.count for one in answer.series))
    span = answer.view.comparison.span
    ends = (None, None) if span is None else (utc(span.since_ms), utc(span.until_ms))
    return replace(run, status="success", series=2, since_at=ends[0], until_at=ends[1], findings=answer.recorded.written)


def conclude_validation(answer: Validated) -> State[Validated]:
    """The flow's final state."""
    said = answer.view.sentence if isinstance(answer, ComparedSources) else inspection_sentence(answer.series)
    return ending(Completed(message=said, data=answer) if answer.is_good else Failed(message=said, data=answer))


# ------------------------------------------------------------------------------------------------- two sources


@asynccontextmanager
async def reaching(context: ValidationContext, asked: Comparing) -> AsyncIterator[FoundSources]:
    """Both markets opened and the other's symbol found; nothing is written. Raises UsageError for names that there are not."""
    accesses: list[MarketAccess] = []
    try:
        for name in (asked.market, asked.against):
            accesses.append(await open_market(name, asked.settings, asked.until_ms))
        announce(f"looking for {asked.symbol} at {asked.against}")
        other, taken = await find_other(context.stores.lake, accesses[1], asked)
        yield FoundSources(ReachedSource(accesses[0], asked.symbol, asked.timeframe), other, taken)
    finally:
        for access in accesses:
            await access.market.close()


async def compare(context: ValidationContext, asked: Comparing, found: FoundSources) -> ComparedSources:
    """Complete both series, compare them, keep and show what was found."""
    lake, days = context.stores.lake, asked.settings.paper.history_days
    announce(f"completing {asked.market} {asked.symbol} {asked.timeframe}")
    late = await complete_source(lake, found.ours, (asked.since_ms, asked.until_ms), days)
    span, limited = await compared_span(lake, found.ours, asked)
    announce(f"completing {asked.against} {found.other.symbol} {asked.timeframe}")
    late_other = await complete_source(lake, found.other, (span.since_ms, span.until_ms), days)
    notices = [notice for notice in (found.taken, late, limited, late_other) if notice is not None]
    names = source_names(asked.market, asked.against)
    sources = Source(found.ours.series, names[0]), Source(found.other.series, names[1])
    announce(f"comparing {sources[0].label} with {sources[1].label}")
    view = await compare_in_lake(lake, sources, span, asked, notices, command_text(asked))
    recorded = await record_comparison(context.stores, view)
    report = await asyncio.to_thread(write_validation, view, Path(asked.settings.reports.directory))
    await publish_validation(view, report)
    return ComparedSources(view, report, recorded)


def command_text(asked: Comparing) -> str:
    """What does the same again."""
    options = {"market": asked.market, "against": asked.against, "symbol": asked.symbol, "timeframe": asked.timeframe}
    if asked.against_symbol is not None:
        options["against-symbol"] = asked.against_symbol
    for name, time_ms in (("since", asked.since_ms), ("until", asked.until_ms)):
        options |= {} if time_ms is None else {name: f"{utc(time_ms):%Y-%m-%dT%H:%M}"}
    usual, limits = Thresholds(), asked.limits
    for name in SETTABLE:
        value: float = getattr(limits, name)
        options |= {name.replace("_", "-"): f"{value:g}"} if value != getattr(usual, name) else {}
    words = (f"--{name} {shlex.quote(value)}" for name, value in options.items())
    return " ".join(["python -m flows.market_data validate", *words])


# ------------------------------------------------------------------------------------------------- the lake alone


async def inspect(context: ValidationContext, chosen: Sequence[DataSeries]) -> InspectedLake:
    """Look over series; findings and verdicts are kept."""
    now_ms = round(time.time() * 1000)
    looked: list[InspectedSeries] = []
    for start in range(0, len(chosen), BATCH):
        announce(f"looking over: {start:,} of {len(chosen):,} series")
        looked += await inspect_in_lake(context.stores, tuple(chosen[start : start + BATCH]), now_ms)
    await publish_inspection(tuple(looked))
    return InspectedLake(tuple(looked))


async def chosen_series(context: ValidationContext, asked: Inspecting) -> Sequence[DataSeries]:
    """The series that fit: all where nothing is named, none of an empty lake. Raises UsageError where nothing fits a name."""
    market = asked.market
    if market is not None and market.startswith(FILES):
        access = await open_market(market, asked.settings, None)
        market = access.market.series(asked.symbol or "", asked.timeframe or "1h").market
    there = await asyncio.to_thread(context.stores.lake.all_data_series)
    chosen = [
        series
        for series in there
        if market in (None, series.market) and asked.symbol in (None, series.symbol) and asked.timeframe in (None, series.part)
    ]
    if not chosen and (there or any((asked.market, asked.symbol, asked.timeframe))):
        markets = ", ".join(name for name, _ in Counter(series.market for series in there).most_common()) or "nothing"
        raise UsageError(f"the lake has no such series; it has {len(there):,} series, of {markets}")
    return chosen


# ------------------------------------------------------------------------------------------------- the command


def add_validate_command(app: App) -> None:
    """Give ``app`` the command of this module."""
    app.command(validate_command, name="validate")


def validate_command(
    *,
    market: Annotated[str | None, Parameter(help="Whose candles: a ccxt exchange id, files:DIR or files:DIR#EXCHANGE.")] = None,
    against: Annotated[str | None, Parameter(help="The other source to compare with. [none: the lake is looked over]")] = None,
    symbol: Annotated[str | None, Parameter(help="Such as BTC/USDT.")] = None,
    timeframe: Annotated[str | None, Parameter(help="Length of a candle, such as 1h.")] = None,
    since: Annotated[str | None, Parameter(help="From when on (UTC). [what the lake has]")] = None,
    until: Annotated[str | None, Parameter(help="Until when (UTC). [what the lake has]")] = None,
    against_symbol: Annotated[
        str | None, Parameter(help="The other source's symbol. [the same, else the same base in another dollar]")
    ] = None,
    max_median_bps: Annotated[float | None, Parameter(help="Largest median difference of closes of an agreement. [25]")] = None,
    max_p99_bps: Annotated[float | None, Parameter(help="Largest 99th percentile of the difference. [500]")] = None,
    max_missing_share: Annotated[float | None, Parameter(help="Largest share of bars that one of them lacks. [0.01]")] = None,
    json: JsonFlag = False,
) -> int:
    """Compare two sources of one market, or look over what the lake has; 1 where they do not agree, or a series has errors."""
    limits = {"max_median_bps": max_median_bps, "max_p99_bps": max_p99_bps, "max_missing_share": max_missing_share}
    read_validation(
        ValidationOptions(
            market=market, against=against, symbol=symbol, against_symbol=against_symbol, timeframe=timeframe, since=since,
            until=until, limits=limits,
        )
    )  # fmt: skip
    running = validate(
        market=market, against=against, symbol=symbol, timeframe=timeframe, since=since, until=until,
        against_symbol=against_symbol, **limits, return_state=True,
    )  # fmt: skip
    answer = run_flow(result_of(running))
    show_validation(answer, json)
    return SUCCESS if answer.is_good else FAILURE


def show_validation(answer: Validated, as_json: bool) -> None:
    """Print what was found."""
    if as_json:
        print(to_json(answer.to_document(), indent=2))
        return
    if isinstance(answer, InspectedLake):
        print(inspection_sentence(answer.series))
        print_rows(inspected_rows(answer.series), INSPECTED_COLUMNS, json=False)
        return
    from rich.console import Console

    Console().print(render_validation(answer.view, answer.report))
