"""What a download costs: a year of 1m candles (526 pages of 1,000) from an exchange on loopback, beside a plain ccxt loop and
freqtrade's `download-data`.

`python -m tests.bench.download FOLDER` prints one JSON object. Every contender is a process of its own, in turns; CPU time counts
from after its imports. "Beyond ccxt" is what a download takes more than the plain loop, which asks the same and keeps nothing.
freqtrade is measured where the variable FREQTRADE names its command; it wants an environment of its own.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.bounds import Bound

ROUNDS = 3
ROWS, PAGES = 525_600, 526
START_MS, MINUTE_MS = 1_672_531_200_000, 60_000  # 2023-01-01: a year of 365 days
FREQTRADE = "FREQTRADE"
_ROOT = Path(__file__).resolve().parents[2]
_EXCHANGE = "CANDLEWICK_EXCHANGES__BINANCE__"

BOUNDS = (
    Bound("download", "beyond_ccxt_ms", "download of a year of 1m candles: CPU time a page beyond a plain ccxt loop", 5.0, "ms"),
    Bound("download", "own_cpu_s", "CPU time of the whole download outside Prefect", None, "s"),
    Bound("download", "ccxt_cpu_s", "CPU time of the plain ccxt loop, which keeps nothing", None, "s"),
    Bound("download", "freqtrade_cpu_s", "CPU time of freqtrade's download-data, imports included", None, "s"),
    Bound("download", "own_s", "the download, from first request to complete lake", None, "s"),
    Bound("download", "ccxt_s", "the plain ccxt loop", None, "s"),
    Bound("download", "freqtrade_s", "freqtrade's download-data, start included", None, "s"),
    Bound("download", "requests", "requests for candles", None, ""),
    Bound("download", "peak_mb", "peak memory of the download, imports included", 500.0, "MB"),
)


def main(folder: Path) -> dict[str, float]:
    """All contenders in turns; medians."""
    exchange = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.download", "serve"], cwd=_ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert exchange.stdout is not None
        url = exchange.stdout.readline().strip()
        rounds = [_round(folder / str(number), url) for number in range(ROUNDS)]
    finally:
        exchange.terminate()
        exchange.wait(30)
    told = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    return {**told, "beyond_ccxt_ms": 1000 * (told["own_cpu_s"] - told["ccxt_cpu_s"]) / PAGES}


def _round(folder: Path, url: str) -> dict[str, float]:
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), f"{_EXCHANGE}API_URL": url, f"{_EXCHANGE}RATE_LIMIT": "false"}
    environment["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "false"  # looking for a saved block would start a server
    environment |= {"CANDLEWICK_LAKE__URL": str(folder / "lake"), "CANDLEWICK_STORE__URL": str(folder / "ledger.duckdb")}
    figures: dict[str, float] = {}
    for name in ("own", "ccxt"):
        command = [sys.executable, "-m", "tests.bench.download", name, url]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
        figures |= json.loads(done.stdout.splitlines()[-1])
    return figures | (_freqtrade(folder, url) if os.environ.get(FREQTRADE) else {})


def own(url: str) -> dict[str, float]:
    """The flow's body with its tasks called directly, into an empty lake."""
    import ccxt.async_support as ccxt

    import flows.data_backfill
    from candlewick.candles import Series
    from candlewick.lake import Lake
    from tests import crash_child

    assert ccxt.exchanges
    assert flows.data_backfill.backfill
    crash_child.call_tasks_directly()
    asked = {"market": "binance", "symbols": ["BTC/USDT"], "timeframes": ["1m"], "since": "2023-01-01", "until": "2024-01-01"}
    began, cpu = time.perf_counter(), time.process_time()
    answer = crash_child.run_backfill(asked)
    took = {"own_s": time.perf_counter() - began, "own_cpu_s": time.process_time() - cpu}
    series, lake = Series("binance", "BTC/USDT", "1m"), Lake(os.environ["CANDLEWICK_LAKE__URL"])
    assert (answer["status"], lake.overview(series).rows) == ("success", ROWS), answer
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**took, "peak_mb": peak_mb, "requests": float(lake.pages(series).height)}


def plain_ccxt(url: str) -> dict[str, float]:
    """ccxt as it is with the same questions, and nothing is kept."""
    import asyncio

    import ccxt.async_support as ccxt

    from blocks.exchange_client import replace_host

    spot = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False}

    async def walk() -> int:
        client, rows, since_ms = ccxt.binance({"enableRateLimit": False, "options": spot}), 0, START_MS
        client.urls = {**client.urls, "api": replace_host(client.urls["api"], url)}
        try:
            await client.load_markets()
            while since_ms < START_MS + ROWS * MINUTE_MS:
                page = await client.fetch_ohlcv("BTC/USDT", "1m", since_ms, 1000)
                rows, since_ms = rows + len(page), page[-1][0] + MINUTE_MS
        finally:
            await client.close()
        return rows

    began, cpu = time.perf_counter(), time.process_time()
    assert asyncio.run(walk()) == ROWS
    return {"ccxt_s": time.perf_counter() - began, "ccxt_cpu_s": time.process_time() - cpu}


def _freqtrade(folder: Path, url: str) -> dict[str, float]:
    """freqtrade's own command with its client led to the emulator."""
    api = dict.fromkeys(("public", "v1", "private"), f"{url}/api/v3")
    spot = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False}
    config = {
        "stake_currency": "USDT", "dry_run": True, "exchange": {
            "name": "binance", "pair_whitelist": ["BTC/USDT"], "enable_ws": False,
            "ccxt_config": {"urls": {"api": api}, "enableRateLimit": False, "options": spot},
        },
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    command = [
        os.environ[FREQTRADE], "download-data", "--config", "config.json", "--userdir", "user", "--pairs", "BTC/USDT",
        "--timeframes", "1m", "--timerange", "20230101-20240101",
    ]  # fmt: skip
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([command[0], "create-userdir", "--userdir", "user"], cwd=folder, capture_output=True, timeout=120, check=True)
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or not list(folder.glob("user/data/binance/BTC_USDT-1m.*")):
        raise SystemExit(f"freqtrade failed:\n{done.stderr[-2000:]}")
    return {"freqtrade_s": took, "freqtrade_cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def serve() -> None:
    """The exchange, until it is ended; its address is the first line."""
    import numpy as np

    from tests.emulator.candle_book import CandleBook
    from tests.emulator.server import Emulator

    number = np.arange(ROWS)
    open_ = 40_000.0 + number % 977
    columns = (START_MS + number * MINUTE_MS, open_, open_ + 2, open_ - 1, open_ + 1, 10.0 + number % 89)
    book = CandleBook()
    book.add("BTCUSDT", "1m", zip(*(column.tolist() for column in columns), strict=True))
    assert datetime.fromtimestamp(START_MS / 1000, UTC).year == 2023
    with Emulator(book) as exchange:
        print(exchange.url, flush=True)
        time.sleep(7_200)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    elif sys.argv[1] in ("own", "ccxt"):
        print(json.dumps(own(sys.argv[2]) if sys.argv[1] == "own" else plain_ccxt(sys.argv[2])))
    else:
        print(json.dumps(main(Path(sys.argv[1]))))
