"""One contender at one work in its own process: `python -m tests.bench.contest ENGINE WORK FOLDER` prints one JSON object."""

import importlib
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.contender import Figures

ENGINES = {
    "bound": "tests.bench.with_references",
    "candlewick": "tests.bench.own",
    "raptorbt": "tests.bench.with_raptorbt",
    "vectorbt": "tests.bench.with_vectorbt",
    "backtesting": "tests.bench.with_backtesting",
}
# Nobody waits for a thousand runs of these: they run so many sets, and the time is scaled up.
SETS = {"raptorbt": 40, "vectorbt": 40, "backtesting": 1}
ALL_SETS = 1_000
# A warm-up run is not timed. Event loops in plain Python have nothing to warm up that their seconds would show.
WARMED = frozenset(ENGINES) - {"backtesting"}
_FEWEST_RUNS, _MOST_RUNS, _ENOUGH_S = 1, 15, 1.5


def main(engine: str, work: str, folder: Path) -> dict[str, float]:
    """Figures of one work. Times are medians; `cpu_s` is of all threads, so a parallel run has more of it than of `wall_s`."""
    from tests.bench import markets

    module = importlib.import_module(ENGINES[engine])
    if work == "start":
        return _answer([module.single(module.table(markets.minutes(folder)), False)])
    if work in ("single", "brackets"):
        table = module.table(markets.minutes(folder))
        return _timed(engine, lambda: [module.single(table, work == "brackets")])
    if work == "symbols":
        tables = [module.table(market) for market in markets.hours(folder)]
        return _timed(engine, lambda: module.symbols(tables))
    if work.startswith("memory"):
        table = module.table(markets.minutes(folder, int(work.split("-")[2])))
        answer = _answer(module.sweep(table, markets.parameter_sets(int(work.split("-")[1]))))
        return {**answer, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    table, sets = module.table(markets.minutes(folder)), markets.parameter_sets(SETS.get(engine, ALL_SETS))
    sweep = module.scalar_sweep if work == "scalar_sweep" else module.sweep
    if engine in WARMED:
        sweep(table, sets[:2])
    measured = _timed(engine, lambda: sweep(table, sets), warm=False)
    scale = ALL_SETS / len(sets)
    return {**measured, "wall_s": measured["wall_s"] * scale, "cpu_s": measured["cpu_s"] * scale}


def _timed(engine: str, run: Callable[[], list[Figures]], warm: bool = True) -> dict[str, float]:
    if warm and engine in WARMED:
        run()
    walls, cpus = [], []
    answer: list[Figures] = []
    while len(walls) < _FEWEST_RUNS or (len(walls) < _MOST_RUNS and sum(walls) < _ENOUGH_S):
        wall, cpu = time.perf_counter(), time.process_time()
        answer = run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {**_answer(answer), "wall_s": statistics.median(walls), "cpu_s": statistics.median(cpus)}


def _answer(figures: list[Figures]) -> dict[str, float]:
    return {
        "trades": sum(one.trades for one in figures),
        "final_equity": sum(one.final_equity for one in figures),
        "max_drawdown": min(one.max_drawdown for one in figures),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
    sys.stdout.flush()
    os._exit(0)
