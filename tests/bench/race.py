"""The race of `make bench`: Candlewick beside other engines and beside what the machine can do, each run in a fresh process.

The contenders take turns, so that a machine that gets slower is slower for all; a figure is the median over the rounds. A race
between engines that do different work says nothing, so their trades and final equities are compared first.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench import markets
from tests.bench.contest import ALL_SETS, SETS

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
PEERS = ("raptorbt", "vectorbt", "backtesting")
Measured = dict[tuple[str, str], dict[str, float]]


@dataclass(frozen=True)
class Work:
    """A row: what is run, by whom, and what Candlewick's ``figure`` may be: ``reach`` times the bound's, or plainly ``reach``."""

    name: str
    text: str
    engines: tuple[str, ...]
    reach: float
    wish: float
    unit: str  # "×" of the bound, "s" or "MB"
    figure: str = "wall_s"


ALL = ("candlewick", "bound", *PEERS)
SWEEPERS = ("candlewick", "bound", "raptorbt", "vectorbt")
STARTERS = ("candlewick", "raptorbt", "vectorbt")
OWN = ("candlewick", "bound")
WORKS = (
    Work("single", "one SMA cross over a year of minutes, warm, with fills and metrics", ALL, 3, 2, "×"),
    Work("brackets", "the same with stop 2 % and target 4 % inside the bar", ALL, 4, 2, "×"),
    Work("symbols", "50 symbols × 8,760 hours (Candlewick: one account that shares its cash)", ALL, 3, 2, "×"),
    Work("sweep", "1,000 parameter sets over a year of minutes, all cores", SWEEPERS, 4, 1.8, "s"),
    Work("memory-1000-1", "peak memory of that sweep", OWN, 400, 400, "MB", "peak_mb"),
    Work("memory-1000-5", "the same over five years", OWN, 700, 700, "MB", "peak_mb"),
    Work("start", "process start to metrics of a year of minutes, compiled code cached", STARTERS, 1.5, 1, "s"),
)
# Sets of a sweep that Candlewick's memory is compared at: it must not grow with them.
FEW_SETS = Work("memory-100-1", "", ("candlewick",), 0, 0, "MB", "peak_mb")
FLAT_MB = 40.0
# R1 sweeps too, to show what SIMD brings; it bounds nothing.
SCALAR = Work("scalar_sweep", "", ("bound",), 0, 0, "s")
# By design these fill brackets otherwise (docs/agreement.md), which is other work by a little.
OTHER_WORK = frozenset({("brackets", "raptorbt"), ("brackets", "vectorbt")})
# One account whose symbols share its cash makes the trades of fifty accounts, in other sizes.
OTHER_CASH = frozenset({("symbols", "candlewick")})


def run(environment: Mapping[str, str], folder: Path) -> Measured:
    """Prepare the markets, compile once, and let the contenders take turns."""
    print("· making the markets of the race …", file=sys.stderr, flush=True)
    markets.prepare(folder)
    works = (*WORKS, FEW_SETS, SCALAR)
    turns = [(work, engine) for work in works for engine in work.engines]
    rounds: dict[tuple[str, str], list[dict[str, float]]] = {}
    for work, engine in turns:
        if engine in ("candlewick", "bound"):
            _contest(engine, work, environment, folder)  # leaves compiled code behind; not counted
    for number in range(ROUNDS):
        for work, engine in turns:
            print(f"· round {number + 1} of {ROUNDS}: {engine} {work.name} …", file=sys.stderr, flush=True)
            rounds.setdefault((work.name, engine), []).append(_contest(engine, work, environment, folder))
    return {key: {figure: statistics.median(one[figure] for one in many) for figure in many[0]} for key, many in rounds.items()}


def _contest(engine: str, work: Work, environment: Mapping[str, str], folder: Path) -> dict[str, float]:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.contest", engine, work.name, str(folder)],
        env=dict(environment),
        cwd=ROOT,
        capture_output=True,
        timeout=900,
        check=False,
    )
    process_s = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{engine} failed at {work.name}:\n{done.stderr.decode()[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.decode().strip().splitlines()[-1])
    return {"wall_s": process_s, **figures}


def report(measured: Measured) -> tuple[list[str], list[str]]:
    """The table's lines, and a sentence for everything that is not as it must be."""
    head = " | ".join(("what", "candlewick", "bound", *PEERS, "× bound", "reach", "wish", ""))
    lines = [f"| {head} |", f"|---|{'--:|' * 8}---|"]
    wrong = [sentence for work in WORKS for sentence in differences(work, measured)]
    for work in WORKS:
        own, bound = measured[work.name, "candlewick"][work.figure], measured.get((work.name, "bound"))
        ratio = None if bound is None else own / bound[work.figure]
        value = ratio if work.unit == "×" and ratio is not None else own
        verdict = "EXCEEDED" if value > work.reach else "wish kept" if value <= work.wish else "kept"
        cells = [work.text, *(_cell(work, measured.get((work.name, engine))) for engine in ALL)]
        cells += [
            "" if ratio is None else f"{ratio:.2f}",
            f"≤ {work.reach:g} {work.unit}",
            f"≤ {work.wish:g} {work.unit}",
            verdict,
        ]
        lines.append(f"| {' | '.join(cells)} |")
        wrong += [f"{work.text}: {value:.3g} {work.unit} is over {work.reach:g}"] if verdict == "EXCEEDED" else []
    grown = measured["memory-1000-1", "candlewick"]["peak_mb"] - measured["memory-100-1", "candlewick"]["peak_mb"]
    wrong += [f"a sweep's memory grows by {grown:.0f} MB from 100 to 1,000 sets, over {FLAT_MB:g}"] if grown > FLAT_MB else []
    own, bound, scalar = (measured[key] for key in (("sweep", "candlewick"), ("sweep", "bound"), ("scalar_sweep", "bound")))
    notes = (
        f"A sweep of 1,000 sets takes {grown:+.0f} MB beside one of 100. The bound of the sweep is R2 (SIMD); R1 takes "
        f"{scalar['wall_s']:.2f} s. CPU over wall seconds of the sweep: candlewick {_cores(own):.2f}, bound {_cores(bound):.2f}. "
        f"raptorbt and vectorbt sweep {SETS['raptorbt']} of the 1,000 sets, times {ALL_SETS // SETS['raptorbt']}."
    )
    return [*lines, "", notes], wrong


def differences(work: Work, measured: Measured) -> list[str]:
    """Sentences about engines that did other work than the bound: in trades, or in equity and drawdown by more than 1e-6."""
    if work.name not in ("single", "brackets", "symbols", "sweep"):
        return []
    bound = measured[work.name, "bound"]
    sentences = []
    for engine in (engine for engine in work.engines if (work.name, engine) not in OTHER_WORK):
        theirs = measured[work.name, engine]
        figures = ("trades",) if (work.name, engine) in OTHER_CASH else ("trades", "final_equity", "max_drawdown")
        scaled = ALL_SETS // SETS.get(engine, ALL_SETS) if work.name == "sweep" else 1
        if scaled == 1 and any(abs(theirs[figure] / bound[figure] - 1.0) > 1e-6 for figure in figures):
            sentences.append(f"{engine} did other work than the bound at {work.name}: {theirs} against {bound}")
    return sentences


def _cell(work: Work, figures: dict[str, float] | None) -> str:
    if figures is None:
        return ""
    value = figures[work.figure]
    if work.figure == "peak_mb":
        return f"{value:.0f} MB"
    return f"{value * 1e3:.3g} ms" if value < 1.0 else f"{value:.3g} s"


def _cores(figures: dict[str, float]) -> float:
    return figures["cpu_s"] / figures["wall_s"]
