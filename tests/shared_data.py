"""The real candles beside the checkout. Tests that need them skip, saying so, where they are absent."""

from functools import lru_cache
from pathlib import Path

import polars as pl
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@lru_cache(maxsize=16)
def real_candles(name: str) -> pl.DataFrame:
    """A file of ``shared/data/candles`` by its stem, in CANDLE_SCHEMA; skips the test where there is none."""
    path = SHARED / "data" / "candles" / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"the real candles {path.name} are not beside this checkout")
    return pl.read_parquet(path).rename({"ts": "opened_at"})
