"""Datasets: what the settings declare is turned into series that are to be collected, and into a schedule."""

from candlewick.market_data.schedules import AUTO, NO_SCHEDULE, check_cron, derived_schedule
from candlewick.market_data.wanted import Wanted, wanted_series
from candlewick.settings_datasets import DatasetSettings


def dataset_wanted(dataset: DatasetSettings) -> tuple[Wanted, ...]:
    """Every series of a dataset: markets × symbols × kinds × timeframes, in that order, each once.

    Timeframes that a market lacks are made of finer ones.
    """
    markets = dict.fromkeys(dataset.markets)
    return tuple(
        wanted
        for market in markets
        for wanted in wanted_series(market, dataset.symbols, dataset.timeframes, dataset.kinds, dataset.since, resample=True)
    )


def dataset_schedule(dataset: DatasetSettings) -> str | None:
    """When a dataset is brought up to date, as a cron text in UTC; None: only by hand."""
    if dataset.schedule == NO_SCHEDULE:
        return None
    if dataset.schedule == AUTO:
        return derived_schedule(dataset.timeframes, dataset.kinds)
    return check_cron(dataset.schedule)
