"""Searches as tests make them: a small made-up window, and the flows in this process against the session's Prefect server."""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import polars as pl

from candlewick.backtesting.set_runner import SearchWindow
from candlewick.candles import candle_digest, opened_at_ms
from candlewick.engine.bars import Beside
from candlewick.engine.terms import Terms
from candlewick.instruments import Instrument
from candlewick.rules import Rules
from tests.backtest_views import walked

HOUR_MS = 3_600_000
BTC = Instrument("BTC/USDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"))
ETH = Instrument("ETH/USDT", "ETH", "USDT", Decimal("0.01"), Decimal("0.0001"))


def search_window(bars: int = 1_500, rules: Rules | None = None, strategy: str = "sma_cross") -> SearchWindow:
    """Two symbols of hourly random walks."""
    candles = {"BTC/USDT": walked(bars, "1h", 3), "ETH/USDT": walked(bars, "1h", 4)}
    times = opened_at_ms(candles["BTC/USDT"])
    return SearchWindow(
        terms=Terms("1h", Decimal(10_000), (BTC, ETH), rules or Rules(max_position_share=Decimal("0.5"))),
        strategy=strategy,
        candles=candles,
        beside=Beside(),
        digests={"candles": {symbol: candle_digest(frame) for symbol, frame in candles.items()}},
        since_ms=int(times[0]),
        until_ms=int(times[-1]) + HOUR_MS,
    )


def write_market(folder: Path, bars: int = 1_500) -> str:
    """A files market with hourly BTC/USDT; its name."""
    folder.mkdir(parents=True, exist_ok=True)
    walked(bars, "1h", 3).write_parquet(folder / "made_BTCUSDT_1h.parquet")
    return f"files:{folder}"


def run_search(flow: object, **options: object) -> object:
    """One run of a searching flow, its result. Raises what the flow raised."""
    from prefect.context import SyncClientContext

    from flows.command import result_of

    with SyncClientContext.get_or_create():
        return asyncio.run(result_of(flow(**options, return_state=True)))  # type: ignore[operator]


def asked(market: str, **more: object) -> dict[str, object]:
    """A sweep of twelve combinations, three of them impossible."""
    parameters: Mapping[str, str] = {"fast": "5,10,20", "slow": "10,20,40,80"}
    return {
        "market": market, "symbols": ["BTC/USDT"], "timeframe": "1h", "strategy": "sma_cross", "parameters": parameters, **more,
    }  # fmt: skip


def chunk_files(lake: Path) -> dict[str, tuple[int, bytes]]:
    """Finished chunks by name: when each was made (its inode) and what is in it."""
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in sorted((lake / "sweeps").glob("*.parquet"))}


def without(sets: pl.DataFrame, *names: str) -> pl.DataFrame:
    """Sets without what differs from run to run."""
    return sets.drop(names)
