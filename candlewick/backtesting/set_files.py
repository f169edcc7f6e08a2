"""Finished chunks of parameter sets on disk: one Parquet file each, named by everything it was computed from.

So a crash loses one chunk and a re-run takes the others from here; a file that other code, other candles or other rules made has
another name and is never looked at. A file is written whole or not at all, and carries a digest of its own content.
"""

import hashlib
import io
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from candlewick.backtesting.sweep import SetResult, objective_of
from candlewick.figures import FIGURES
from candlewick.files import naming_what_failed, write_whole
from candlewick.json_text import Json, to_json
from candlewick.parameter_ranges import Value

FOLDER = "sweeps"
_KEPT_S = 30 * 86_400
_CONTENT = "candlewick_content"
SET_SCHEMA: Mapping[str, pl.DataType] = {
    "number": pl.Int64(),
    "parameters": pl.String(),
    "skipped": pl.String(),
    "figures": pl.String(),
    "day_equity": pl.List(pl.Int64()),
    **dict.fromkeys(FIGURES, pl.Float64()),
}
"""A row a set, by number. ``parameters`` and ``figures`` are JSON, the figures once more as floats (null: undefined).

``skipped`` says why a combination was not computed (null: it was), and then it has neither figures nor days. ``day_equity``:
units of 1e-8 in quote currency, the last of each UTC day that has bars.
"""
_NO_DAYS = np.zeros(0, dtype=np.int64)


def digest_of(parts: Json) -> str:
    """40 hex digits of a document: what files and studies are named by."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()[:40]


def computed_row(number: int, values: Mapping[str, Value], result: SetResult) -> dict[str, object]:
    """A set that was computed, as a row of SET_SCHEMA."""
    figures = result.figures
    return {
        "number": number,
        "parameters": to_json(values),
        "figures": to_json(dict(figures)),
        "day_equity": result.day_equity,
        **{name: objective_of(figures, name) for name in FIGURES},
    }


def skipped_row(number: int, values: Mapping[str, Value], reason: str) -> dict[str, object]:
    """A combination that the strategy refuses, as a row of SET_SCHEMA."""
    return {"number": number, "parameters": to_json(values), "skipped": reason}


def set_frame(rows: Iterable[Mapping[str, object]]) -> pl.DataFrame:
    """Rows as a frame in SET_SCHEMA, in their order."""
    made = list(rows)
    columns = {name: [row.get(name) for row in made] for name in SET_SCHEMA if name != "day_equity"}
    series = {name: pl.Series(name, cells, dtype=SET_SCHEMA[name]) for name, cells in columns.items()}
    series["day_equity"] = _lists([row.get("day_equity", _NO_DAYS) for row in made])
    return pl.DataFrame([series[name] for name in SET_SCHEMA])


def _lists(arrays: Sequence[object]) -> pl.Series:
    """int64 arrays as a column of lists; polars would make another type of those that happen to be of one length."""
    ends = np.cumsum([0, *(np.size(array) for array in arrays)])  # type: ignore[arg-type]
    values = pa.array(np.concatenate([_NO_DAYS, *arrays]))
    made = pa.LargeListArray.from_arrays(pa.array(ends, type=pa.int64()), values)
    return pl.Series("day_equity", made, dtype=SET_SCHEMA["day_equity"])


def set_file(folder: Path, key: str) -> Path:
    """Where the chunk called ``key`` is kept."""
    return folder / f"{key}.parquet"


def save_sets(path: Path, sets: pl.DataFrame) -> None:
    """Write a finished chunk; the file appears whole or not at all. Raises LakeError."""
    buffer = io.BytesIO()
    sets.write_parquet(buffer, compression="zstd", metadata={_CONTENT: _content_digest(sets)})
    with naming_what_failed(path, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Named by the process: the same search may run twice at once, and then both write the same.
        mine = path.with_name(f"{path.stem}-{os.getpid()}")
        write_whole(mine, buffer.getbuffer())
        mine.replace(path)


def load_sets(path: Path, numbers: Sequence[int]) -> pl.DataFrame | str | None:
    """The finished chunk; None where there is none, and a text saying what is wrong with a file that cannot be used.

    ``numbers`` are those that the chunk must have. Raises LakeError where the folder cannot be read.
    """
    with naming_what_failed(path, "read"):
        try:
            content = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:
            return None
    try:
        frame = pl.read_parquet(io.BytesIO(content))
        said = pl.read_parquet_metadata(io.BytesIO(content)).get(_CONTENT)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        return str(error).splitlines()[0]
    if dict(frame.schema) != dict(SET_SCHEMA) or frame["number"].to_list() != list(numbers):
        return f"it holds {frame.height} rows of other sets"
    return frame if said == _content_digest(frame) else "its content is not what was written"


def prune_sets(folder: Path) -> int:
    """Remove files that nobody has written or read for 30 days; how many. Raises LakeError."""
    if not folder.is_dir():
        return 0
    oldest_s, gone = time.time() - _KEPT_S, 0
    with naming_what_failed(folder, "cleared"):
        for path in folder.rglob("*"):
            try:
                if path.is_file() and path.stat().st_mtime < oldest_s:
                    path.unlink()
                    gone += 1
            except FileNotFoundError:  # another run removed it meanwhile
                continue
    return gone


def _content_digest(sets: pl.DataFrame) -> str:
    """Of what a set's row is made of; the floats follow from the figures' text."""
    digest = hashlib.sha256(sets["number"].to_numpy().tobytes())
    for name in ("parameters", "skipped", "figures"):
        digest.update("\n".join(text or "" for text in sets[name]).encode() + b"\0")
    digest.update(sets["day_equity"].explode(empty_as_null=True).fill_null(0).to_numpy().tobytes())
    return digest.hexdigest()
