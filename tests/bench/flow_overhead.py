"""What Prefect adds: `python -m flows.backtesting run` over a year of minutes less an empty flow's own run, on a running server.

`python -m tests.bench.flow_overhead FOLDER` (as `markets.prepare` leaves it; PREFECT_API_URL set) prints one JSON object.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.bench import markets

ROUNDS = 5
_ROOT = Path(__file__).resolve().parents[2]
_EMPTY = "import asyncio; from prefect import flow\n@flow\nasync def empty(): pass\nasyncio.run(empty())"


def main(folder: Path) -> dict[str, float]:
    """Whole processes in turns, the first round (which compiles) not counted; the difference of the medians."""
    files = folder / "files"
    files.mkdir(exist_ok=True)
    markets.prepare(folder)
    market = markets.minutes(folder)
    _candle_file(market, files / "made_S0-USDT_1m.parquet")
    run = [
        sys.executable, "-m", "flows.backtesting", "run", "--market", f"files:{files}", "--symbols", "S0/USDT",
        "--timeframe", "1m", "--strategy", "sma_cross", "--param", "fast=10", "--param", "slow=50",
        "--since", "2025-01-01", "--until", "2026-01-01",
    ]  # fmt: skip
    rounds = [(_seconds([sys.executable, "-c", _EMPTY], folder), _seconds(run, folder)) for _ in range(ROUNDS + 1)][1:]
    empty_s, run_s = (statistics.median(column) for column in zip(*rounds, strict=True))
    return {"empty_s": empty_s, "run_s": run_s, "added_s": run_s - empty_s}


def _candle_file(market: markets.Market, path: Path) -> None:
    import polars as pl

    columns = {name: getattr(market, name) for name in (*markets.COLUMNS, "volume")}
    pl.DataFrame({"ts": market.opened_at, **columns}).write_parquet(path)


def _seconds(command: list[str], folder: Path) -> float:
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "PREFECT_LOGGING_LEVEL": "CRITICAL"}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, timeout=300, check=False)
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{command[1:4]} failed:\n{done.stderr.decode()[-2000:]}")
    return took


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
