"""A search's sets as they come in: their parameters and figures as numbers; everything else stays in the chunks' files."""

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl

from candlewick.backtesting.set_files import SET_SCHEMA, load_sets
from candlewick.engine.grids import Integers
from candlewick.errors import LakeError
from candlewick.figures import FIGURES
from candlewick.grids import SkippedSet, SkippedTally, tally_skipped
from candlewick.metrics import Measure
from candlewick.parameter_ranges import Value


class SearchTable:
    """Sets of a search in their order. Memory: a few hundred bytes a set, whatever the number of bars and days."""

    def __init__(self, names: Sequence[str]) -> None:
        """``names`` are the parameters that were given, in their order."""
        self.names = tuple(names)
        self._values: list[dict[str, Value]] = []
        self._figures: list[pl.DataFrame] = []
        self._skipped: list[SkippedSet] = []
        self._files: list[tuple[Path, list[int]]] = []
        self._places: list[tuple[int, int]] = []

    def add(self, sets: pl.DataFrame, path: Path) -> None:
        """A finished chunk in SET_SCHEMA, which is kept at ``path``."""
        number = len(self._files)
        self._files.append((path, sets["number"].to_list()))
        rows = zip(sets["number"].to_list(), sets["parameters"].to_list(), sets["skipped"].to_list(), strict=True)
        for row, (index, parameters, reason) in enumerate(rows):
            values: dict[str, Value] = json.loads(parameters)
            if reason is not None:
                self._skipped.append(SkippedSet(index, values, reason))
            else:
                self._values.append(values)
                self._places.append((number, row))
        self._figures.append(sets.filter(pl.col("skipped").is_null()).select("number", *FIGURES))

    @property
    def sets(self) -> int:
        """Sets that were computed."""
        return len(self._values)

    @property
    def rows(self) -> int:
        """Combinations seen, the skipped ones included."""
        return len(self._values) + len(self._skipped)

    def skipped(self) -> SkippedTally:
        """What was left out, by reason."""
        return tally_skipped(self._skipped)

    def scores(self, figure: str) -> list[float | None]:
        """A figure of every set; None: undefined."""
        return [] if not self._figures else pl.concat([part[figure] for part in self._figures]).to_list()

    def values(self, place: int) -> dict[str, Value]:
        """The parameters of the set at a place."""
        return self._values[place]

    def frame(self) -> pl.DataFrame:
        """number, a column a parameter, a column a figure (Float64, null: undefined); a row a computed set."""
        figures = pl.concat(self._figures) if self._figures else pl.DataFrame(schema={"number": SET_SCHEMA["number"]})
        columns = [
            pl.Series(name, [values.get(name) for values in self._values], strict=False)
            for name in self.names
            if name not in FIGURES
        ]
        return pl.DataFrame([figures["number"], *columns, *(figures[name] for name in FIGURES if name in figures.columns)])

    def measures(self, place: int) -> dict[str, Measure]:
        """The exact figures of the set at a place, from its file. Raises LakeError."""
        number, row = self._places[place]
        told = json.loads(self._read(number)["figures"][row])
        return {
            name: Measure(None if one["value"] is None else Decimal(one["value"]), one["reason"]) for name, one in told.items()
        }

    def day_equities(self, places: Sequence[int]) -> list[Integers]:
        """The days' equities of the sets at these places, from their files. Raises LakeError."""
        wanted: dict[int, list[int]] = {}
        for place in places:
            wanted.setdefault(self._places[place][0], []).append(place)
        found: dict[int, Integers] = {}
        for number, own in wanted.items():
            days = self._read(number)["day_equity"]
            found |= {place: np.asarray(days[self._places[place][1]].to_numpy(), dtype=np.int64) for place in own}
        return [found[place] for place in places]

    def _read(self, number: int) -> pl.DataFrame:
        path, numbers = self._files[number]
        sets = load_sets(path, numbers)
        if not isinstance(sets, pl.DataFrame):
            raise LakeError(f"{path} is {'gone' if sets is None else f'damaged ({sets})'}: run the same command again")
        return sets
