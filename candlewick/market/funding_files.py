"""One file of funding rates, Parquet, Feather or CSV, as it tells them. What can be read in two ways is refused, not guessed.

Columns, whatever their case: the time is one of the names of candle files, `funding_at`, `funding_time` or `calc_time`; the rate
(a share of the notional, not percent) is `funding_rate`, `rate` or `last_funding_rate`. freqtrade's
`*-8h-funding_rate.feather` has the columns of candles, and the rate is its `open`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from candlewick.errors import AmbiguousCandles, InvalidFunding
from candlewick.funding import RAW_FUNDING_SCHEMA
from candlewick.market.candle_files import TIME_NAMES, ReadingPlan, open_table, read_numbers, read_times

RATE_NAMES = ("funding_rate", "fundingrate", "rate", "last_funding_rate")
FUNDING_TIME_NAMES = (*TIME_NAMES, "funding_at", "funding_time", "fundingtime", "calc_time")
_FREQTRADE_NAME = re.compile(r"-\d+[mh]-funding_rate\.")


def read_funding_file(path: Path, plan: ReadingPlan) -> pl.DataFrame:
    """The file's rows in RAW_FUNDING_SCHEMA and in the file's order, not normalised.

    Raises AmbiguousCandles where several columns could be meant, InvalidFunding where one is absent, InvalidCandles where the
    file is no table or a value is no number or time, MarketUnavailable where it cannot be opened.
    """
    raw = open_table(path, plan)
    time = _column(path, raw.columns, plan.columns, "opened_at", FUNDING_TIME_NAMES)
    names: tuple[str, ...] = RATE_NAMES
    if _FREQTRADE_NAME.search(path.name) and not any(_plain(column) in RATE_NAMES for column in raw.columns):
        names = ("open",)
    rate = _column(path, raw.columns, plan.columns, "rate", names)
    columns = {"noted_at": read_times(path, raw[time], plan), "rate": read_numbers(path, raw[rate])}
    return pl.DataFrame(columns, schema=dict(RAW_FUNDING_SCHEMA))


def _column(path: Path, there: list[str], said: Mapping[str, str], name: str, accepted: tuple[str, ...]) -> str:
    fits = [said[name]] if name in said else [column for column in there if _plain(column) in accepted]
    if len(fits) > 1:
        raise AmbiguousCandles(f"{path.name} has the columns {fits} for {name}: choose one under `columns` in the mapping")
    if not fits or fits[0] not in there:
        raise InvalidFunding(
            f"{path.name} has no column {fits[0] if fits else f'for {name}'}; it has {there}: "
            "name it under `columns` in the mapping"
        )
    return fits[0]


def _plain(column: str) -> str:
    return re.sub(r"[\s-]+", "_", column.strip()).lower()
