"""Findings that were open and are found no longer when the same is looked at again."""

from collections.abc import Iterable

import polars as pl

# What a look over a series alone decides. Other kinds may have been told by another source, or by an answer that is gone.
LOOKED_FOR = ("gap", "gap_not_downloaded", "stale", "resampling", "partial_candle", "damaged_file")


def found_no_longer(known: pl.DataFrame, told: Iterable[str], since_ms: int | None = None) -> list[str]:
    """Ids of open findings of LOOKED_FOR that end after ``since_ms`` (None: all of them) and were not ``told`` again.

    ``known``: rows of the quality table of one series.
    """
    gone = known.filter(pl.col("state") == "open", pl.col("kind").is_in(LOOKED_FOR), ~pl.col("finding_id").is_in(list(told)))
    if since_ms is not None:
        gone = gone.filter(pl.col("span_end").dt.epoch("ms") > since_ms)
    return gone["finding_id"].to_list()
