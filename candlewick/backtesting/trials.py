"""Trials of a search by optuna's TPE: each suggestion is a function of the seed, its number and the trials before it.

So a search that was interrupted goes on with exactly the trials that it would have made without the interruption: finished ones
are read from their files and told to a new study. Trials are suggested a few at a time, all of them before any is known, so that
they can run side by side; how many is fixed and not the machine's number of processors.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import product
from pathlib import Path
from time import perf_counter

import optuna
import polars as pl
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from candlewick.backtesting.chunks import ChunkDone
from candlewick.backtesting.objectives import Objective
from candlewick.backtesting.set_files import computed_row, digest_of, load_sets, save_sets, set_file, set_frame, skipped_row
from candlewick.backtesting.set_runner import SetRunner
from candlewick.backtesting.sweep import objective_of
from candlewick.errors import UsageError
from candlewick.grids import GridSet, SkippedSet, judge
from candlewick.json_text import plain, to_json
from candlewick.parameter_ranges import Value
from candlewick.search_space import ChoiceDimension, Dimension, FloatDimension, IntDimension, SearchSpace

AT_ONCE = 4
"""Trials that are suggested before any of them is known."""
CHUNK_TRIALS = 16
"""Trials that are kept together; a crash loses so many at the most."""
_STARTUP_TRIALS = 10
REPEATED = "the same parameters as an earlier trial"
"""Why a trial was not computed: its score is known."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Trials:
    """A study in memory, and what its trials came to."""

    def __init__(self, space: SearchSpace, objective: Objective, seed: int) -> None:
        self.space = space
        self.objective = objective
        self.seed = seed
        self._study = optuna.create_study(direction=objective.direction)
        self._distributions = {dimension.name: _distribution(dimension) for dimension in space.dimensions}
        self._scores: dict[str, float | None] = {}

    def file(self, runner: SetRunner, folder: Path, first: int, count: int) -> Path:
        """The file that holds the trials ``first`` to ``first + count - 1`` of exactly this search over the runner's window."""
        told = [self.space.space_key, self.objective.name, self.seed, AT_ONCE, optuna.__version__, first, count]
        return set_file(folder, digest_of([runner.key, plain(told)]))

    def finish(self, runner: SetRunner, folder: Path, first: int, count: int) -> ChunkDone:
        """The next ``count`` trials, from their file or computed and written to it. Raises LakeError, what computing raises."""
        path, started = self.file(runner, folder, first, count), perf_counter()
        there = load_sets(path, range(first, first + count))
        kept = isinstance(there, pl.DataFrame)
        if isinstance(there, pl.DataFrame):
            self._recall(there)
        else:
            save_sets(path, self._compute(runner, first, count))
        notice = f"{path.name} was damaged ({there}): its trials were computed again" if isinstance(there, str) else None
        return ChunkDone(number=first // CHUNK_TRIALS, path=str(path), kept=kept, seconds=perf_counter() - started, notice=notice)

    def _compute(self, runner: SetRunner, first: int, count: int) -> pl.DataFrame:
        rows: list[dict[str, object]] = []
        for number in range(first, first + count, AT_ONCE):
            asked = self._ask()[: first + count - number]
            values = [self._values(trial) for trial in asked]
            judged = [judge(self.space.strategy, number + place, one) for place, one in enumerate(values)]
            rows += self._play(runner, judged)
            for trial, one in zip(asked, judged, strict=True):
                score = self._score(one)
                self._study.tell(trial, score, state=TrialState.PRUNED if score is None else TrialState.COMPLETE)
        return set_frame(rows)

    def _play(self, runner: SetRunner, judged: Sequence[GridSet | SkippedSet]) -> list[dict[str, object]]:
        """Rows of SET_SCHEMA; what was computed before is not computed again."""
        new: dict[str, GridSet] = {}
        for one in judged:
            if isinstance(one, GridSet) and _key(one.values) not in self._scores:
                new.setdefault(_key(one.values), one)
        results = dict(zip(new, runner.sweeper().results([one.strategy for one in new.values()]), strict=True))
        self._scores |= {key: objective_of(result.figures, self.objective.name) for key, result in results.items()}
        rows = []
        for one in judged:
            if isinstance(one, SkippedSet):
                rows.append(skipped_row(one.index, one.values, one.reason))
            elif new.get(_key(one.values)) is one:
                rows.append(computed_row(one.index, one.values, results[_key(one.values)]))
            else:
                rows.append(skipped_row(one.index, one.values, REPEATED))
        return rows

    def _ask(self) -> list[optuna.Trial]:
        """The next trials, each by a sampler that knows nothing but the seed and the trials before."""
        asked = []
        for _ in range(AT_ONCE):
            self._study.sampler = self._sampler(len(self._study.get_trials(deepcopy=False)))
            trial = self._study.ask()
            for name, distribution in self._distributions.items():
                _suggest(trial, name, distribution)
            asked.append(trial)
        return asked

    def _sampler(self, number: int) -> optuna.samplers.TPESampler:
        seed = int.from_bytes(hashlib.sha256(f"{self.seed}:{number}".encode()).digest()[:4])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(n_startup_trials=_STARTUP_TRIALS, constant_liar=True, seed=seed)

    def _values(self, trial: optuna.Trial) -> dict[str, Value]:
        return {one.name: _decoded(one, trial.params[one.name]) for one in self.space.dimensions}

    def _score(self, judged: GridSet | SkippedSet) -> float | None:
        return self._scores[_key(judged.values)] if isinstance(judged, GridSet) else None

    def _recall(self, sets: pl.DataFrame) -> None:
        """Tell the study of trials that were finished before, as if it had just made them."""
        for row in sets.select("parameters", "skipped", self.objective.name).iter_rows():
            values: dict[str, Value] = json.loads(row[0])
            if row[1] is None:
                self._scores[_key(values)] = row[2]
            score = self._scores[_key(values)] if row[1] in (None, REPEATED) else None
            codes = {one.name: _coded(one, values[one.name]) for one in self.space.dimensions}
            state = TrialState.PRUNED if score is None else TrialState.COMPLETE
            self._study.add_trial(create_trial(state=state, value=score, params=codes, distributions=self._distributions))


def _key(values: Mapping[str, Value]) -> str:
    return to_json(values)


def _distribution(dimension: Dimension) -> BaseDistribution:
    """Values by their place, so that what is suggested is exactly a value; a continuous range as it is."""
    if isinstance(dimension, ChoiceDimension):
        return CategoricalDistribution(range(len(dimension.choices)))
    if isinstance(dimension, FloatDimension) and dimension.step is None:
        return FloatDistribution(dimension.low, dimension.high)
    return IntDistribution(0, (dimension.count or 1) - 1)


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> None:
    if isinstance(distribution, IntDistribution):
        trial.suggest_int(name, distribution.low, distribution.high)
    elif isinstance(distribution, FloatDistribution):
        trial.suggest_float(name, distribution.low, distribution.high)
    else:
        assert isinstance(distribution, CategoricalDistribution)
        trial.suggest_categorical(name, distribution.choices)


def _decoded(dimension: Dimension, code: int | float) -> Value:
    if isinstance(dimension, ChoiceDimension):
        return dimension.choices[int(code)]
    if isinstance(dimension, IntDimension):
        return dimension.low + int(code) * dimension.step
    if dimension.step is None:
        return float(code)
    return float(Decimal(repr(dimension.low)) + int(code) * Decimal(repr(dimension.step)))


def _coded(dimension: Dimension, value: Value) -> int | float:
    """The inverse of ``_decoded``."""
    if isinstance(dimension, ChoiceDimension):
        return next(place for place, one in enumerate(dimension.choices) if (type(one), one) == (type(value), value))
    assert isinstance(value, int | float)
    if isinstance(dimension, IntDimension):
        return (int(value) - dimension.low) // dimension.step
    if dimension.step is None:
        return float(value)
    return round((Decimal(repr(float(value))) - Decimal(repr(dimension.low))) / Decimal(repr(dimension.step)))


def first_valid(space: SearchSpace) -> GridSet:
    """A valid combination among the ends and middles of the ranges. Raises UsageError with a reason where there is none."""
    codes = [sorted({0, ((one.count or 3) - 1) // 2, (one.count or 3) - 1}) for one in space.dimensions]
    refused: SkippedSet | None = None
    for chosen in product(*codes):
        judged = judge(
            space.strategy, 0, {one.name: _place(one, code) for one, code in zip(space.dimensions, chosen, strict=True)}
        )
        if isinstance(judged, GridSet):
            return judged
        refused = refused or judged
    assert refused is not None
    raise UsageError(f"no combination of the ends and middles of these ranges is valid; the first: {refused.reason}")


def _place(dimension: Dimension, code: int) -> Value:
    if isinstance(dimension, FloatDimension) and dimension.step is None:
        return dimension.low + (dimension.high - dimension.low) * code / 2
    return _decoded(dimension, code)
