"""One chunk of a search: a few parameter sets that are computed together and kept together."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TypedDict

import polars as pl

from candlewick.backtesting.chunk_sizes import Pace
from candlewick.backtesting.set_files import digest_of, load_sets, save_sets, set_file
from candlewick.backtesting.set_runner import SetRunner
from candlewick.errors import LakeError
from candlewick.grids import GridSet, SkippedSet
from candlewick.json_text import Json, plain

_MEASURED_SETS = 4
_LONGEST_MEASUREMENT_S = 3.0


class ChunkDone(TypedDict):
    """JSON-ready word on a finished chunk: where its sets are, whether they were there already, how long computing took."""

    number: int
    path: str
    kept: bool
    seconds: float
    notice: str | None


class Chunk:
    """Consecutive combinations, judged. Not a dataclass: Prefect would search a task's dataclass arguments for futures."""

    def __init__(self, number: int, judged: Sequence[GridSet | SkippedSet]) -> None:
        self.number = number
        self.judged = tuple(judged)
        first, last = self.numbers[0], self.numbers[-1]
        self.title = f"{first:,}" if first == last else f"{first:,} to {last:,}"

    @property
    def numbers(self) -> list[int]:
        """Numbers of the sets, the skipped ones included."""
        return [one.index for one in self.judged]

    def path(self, runner: SetRunner, folder: Path) -> Path:
        """The file that holds exactly these sets over exactly the runner's window."""
        sets: list[Json] = [[one.index, plain(one.values)] for one in self.judged]
        return set_file(folder, digest_of([runner.key, sets]))

    def finish(self, runner: SetRunner, folder: Path, threads: int | None = None) -> ChunkDone:
        """Take the sets from the chunk's file, or compute them and write it. Raises LakeError, and what computing raises."""
        path, started = self.path(runner, folder), perf_counter()
        there = load_sets(path, self.numbers)
        kept = isinstance(there, pl.DataFrame)
        if not kept:
            save_sets(path, runner.compute(self.judged, threads))
        notice = f"{path.name} was damaged ({there}): its sets were computed again" if isinstance(there, str) else None
        return ChunkDone(number=self.number, path=str(path), kept=kept, seconds=perf_counter() - started, notice=notice)


def read_chunk(done: ChunkDone, numbers: Sequence[int]) -> pl.DataFrame:
    """A finished chunk in SET_SCHEMA. Raises LakeError."""
    sets = load_sets(Path(done["path"]), numbers)
    if not isinstance(sets, pl.DataFrame):
        raise LakeError(f"{done['path']} was finished a moment ago and is {sets or 'gone'}: run the same command again")
    return sets


def measure_pace(runner: SetRunner, sets: Sequence[GridSet], threads: int) -> Pace:
    """Time a few sets, one after the other, after one that compiles what is to be compiled. Raises what computing raises."""
    runner.compute(sets[:1], 1)
    spread = sets[:: max(1, len(sets) // _MEASURED_SETS)][:_MEASURED_SETS]
    began, measured = perf_counter(), 0
    for one in spread:
        runner.compute([one], 1)
        measured += 1
        if perf_counter() - began > _LONGEST_MEASUREMENT_S:
            break
    return Pace((perf_counter() - began) / measured, threads)
