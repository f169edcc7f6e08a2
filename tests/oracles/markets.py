"""The candles that the engines are compared on: real ones, and one that jumps so that every rule of the contract is used."""

import numpy as np
import polars as pl

from candlewick.candles import CANDLE_SCHEMA

REAL = (
    "binance_BTCUSDT_1h",
    "binance_ETHUSDT_15m",
    "binance_BNBUSDT_1h",
    "binance_XRPUSDT_4h",
    "binance_ETHUSDT_4h",
    "binance_SOLUSDT_1d",
    "bitstamp_BTCUSD_1h",
)
JUMPY = "made up, jumps at opens"


def jumpy_candles(bars: int = 6_000, seed: int = 7) -> pl.DataFrame:
    """Hourly candles whose open is up to some 5 % off the close before, as no exchange that never sleeps has them."""
    random = np.random.default_rng(seed)
    closes = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.01, bars)))
    opens = np.concatenate(([100.0], closes[:-1])) * np.exp(random.normal(0.0, 0.015, bars) * (random.random(bars) < 0.3))
    opens, closes = opens.round(2), closes.round(2)
    highs = (np.maximum(opens, closes) * np.exp(np.abs(random.normal(0.0, 0.006, bars)))).round(2)
    lows = (np.minimum(opens, closes) * np.exp(-np.abs(random.normal(0.0, 0.006, bars)))).round(2)
    hours = np.arange(bars, dtype=np.int64) * 3_600_000 + 1_735_689_600_000
    return pl.DataFrame(
        {
            "opened_at": pl.Series(hours).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"),
            "open": opens,
            "high": np.maximum.reduce([opens, highs, closes]),
            "low": np.minimum.reduce([opens, lows, closes]),
            "close": closes,
            "volume": np.full(bars, 1_000.0),
        },
        schema=dict(CANDLE_SCHEMA),
    )
