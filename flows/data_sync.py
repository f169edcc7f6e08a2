"""The flow of a sync: every declared dataset is brought up to date, each series from where the lake ends."""

from dataclasses import replace
from typing import Annotated

import polars as pl
from cyclopts import App, Parameter
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from candlewick.cli import JsonFlag
from candlewick.errors import UsageError
from candlewick.lake_opening import open_lake
from candlewick.market_data.datasets import dataset_wanted
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.wanted import CollectOptions, CollectReport, Wanted
from candlewick.settings import Settings, load_settings
from candlewick.store.data_runs import DataStore
from candlewick.store.database import Database
from flows.collecting import collect_all
from flows.collection import Collection
from flows.command import result_of, run_flow
from flows.data_backfill import show_collected, split_names

SAMPLE = "sample"


def _run_name() -> str:
    named = flow_run.parameters.get("datasets")
    return f"sync {', '.join(named) if named else 'all datasets'}"


@flow(name="sync", flow_run_name=_run_name, persist_result=False)
async def sync(datasets: list[str] | None = None, known: bool = False, side_by_side: int = 4) -> State[CollectReport]:
    """Fetch what the lake lacks of the named datasets (all of the settings where none is named).

    ``known``: of every series of an exchange that the lake has, too. Ends Completed, or Failed where a series could not be
    completed; both carry the CollectReport. Raises UsageError where there is nothing to sync.
    """
    collection = Collection("sync", CollectOptions(side_by_side=side_by_side))
    return await collect_all(collection, find_wanted(collection.settings, datasets, known))


def find_wanted(settings: Settings, named: list[str] | None, known: bool) -> tuple[Wanted, ...]:
    """The series of the named datasets, each once, from the earliest date that any of them gives.

    Raises UsageError for a name that is not declared, and where there is nothing.
    """
    unknown = [name for name in named or () if name not in settings.datasets]
    if unknown:
        declared = ", ".join(settings.datasets) or "none"
        raise UsageError(f"dataset {unknown[0]!r} is not declared in candlewick.yaml: declared are {declared}")
    chosen = [settings.datasets[name] for name in named] if named else list(settings.datasets.values())
    wanted = [one for dataset in chosen for one in dataset_wanted(dataset)]
    if known:
        wanted += known_wanted(settings)
    if not wanted:
        raise UsageError(
            "no dataset is declared: write a section `datasets:` into candlewick.yaml (docs/data.md shows one), "
            "or add --known to bring up to date what was collected before"
        )
    earliest: dict[Wanted, Wanted] = {}
    for one in sorted(wanted, key=lambda each: each.since_ms):
        earliest.setdefault(replace(one, since_ms=0), one)
    return tuple(earliest.values())


def known_wanted(settings: Settings) -> list[Wanted]:
    """Every series that was collected from an exchange before, from where its coverage begins."""
    lake = open_lake(settings.lake)
    states = DataStore(Database(settings.store.url, settings.store.lock_timeout_s)).series_states()
    found = []
    for market, symbol, part in states.filter(pl.col("chunks") > 0).select("market", "symbol", "timeframe").iter_rows():
        series = DataSeries.from_part(market, symbol, part)
        spans = lake.coverage(series).spans
        if spans and market != SAMPLE:
            found.append(Wanted(market.removesuffix("-sandbox"), symbol, series.kind, series.timeframe, spans[0].since_ms))
    return found


def add_sync_command(app: App) -> None:
    """Give ``app`` the command of this module."""
    app.command(sync_command, name="sync")


def sync_command(
    *datasets: Annotated[str, Parameter(help="Names of datasets in candlewick.yaml. [all]")],
    known: Annotated[bool, Parameter(help="Also every series of an exchange that was collected before.")] = False,
    side_by_side: Annotated[int, Parameter(help="Series that are fetched at the same time.")] = 4,
    json: JsonFlag = False,
) -> int:
    """Bring every declared dataset up to date, each series from where the lake ends; holes are filled, too."""
    named = split_names(datasets)
    CollectOptions(side_by_side=side_by_side)
    find_wanted(load_settings(), named, known)
    return show_collected(run_flow(result_of(sync(named or None, known, side_by_side, return_state=True))), json)
