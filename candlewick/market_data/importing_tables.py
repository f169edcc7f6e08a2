"""A file of rows in batches, whatever its size: text with delimiters (packed or not), Parquet, Feather or Arrow.

A text's layout (lines above the header, delimiter, header) is found in its first lines. Every row knows its line in the file, so
that what is refused can be shown as it stands there; rows of other files are numbered from 1.
"""

import csv
import gzip
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from candlewick.errors import InvalidCandles, MarketUnavailable
from candlewick.market_data.importing_schema import ImportSchema

BATCH_ROWS = 50_000
_BLOCK_BYTES = 4_000_000
_SAMPLE_LINES = 200
_DELIMITERS = (",", ";", "\t", "|")
_BINARY = (".parquet", ".feather", ".arrow", ".ipc")
_NUMBER_OR_DATE = re.compile(r"[+-]?[\d.]+([eE][+-]?\d+)?|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file's rows are found. ``skipped`` are the lines above the header, ``delimiter`` is empty for a binary file."""

    columns: tuple[str, ...]
    delimiter: str = ""
    header: bool = True
    skipped: tuple[str, ...] = ()

    @property
    def first_line(self) -> int:
        """Line number of the first row."""
        return 1 + len(self.skipped) + self.header if self.delimiter else 1


@dataclass(slots=True)
class Torn:
    """Lines with another number of cells than the header, by line number; filled while the file is read."""

    lines: dict[int, str] = field(default_factory=dict)


def is_text(path: Path) -> bool:
    """Whether the file is one of text with delimiters; by its suffix."""
    return path.suffix not in _BINARY


def read_layout(path: Path, schema: ImportSchema) -> Layout:
    """The file's layout. Raises InvalidCandles for what is no table, MarketUnavailable where it cannot be opened."""
    try:
        if is_text(path):
            return _text_layout(path, schema)
        if path.suffix == ".parquet":
            return Layout(tuple(pyarrow.parquet.read_schema(path).names))
        with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
            return Layout(tuple(reader.schema.names))
    except (pa.ArrowException, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise InvalidCandles(f"{path.name} cannot be read: {str(error).strip().splitlines()[0]}") from error
    except OSError as error:
        raise MarketUnavailable(f"{path} cannot be opened: {error.strerror or error}") from error


def read_batches(path: Path, layout: Layout, columns: Iterable[str], torn: Torn) -> Iterator[pl.DataFrame]:
    """Frames with the named columns (a text's cells are strings, empty ones null) and ``line`` (UInt32), in the file's order.

    Lines that do not fit the header go to ``torn``. Raises InvalidCandles, MarketUnavailable.
    """
    wanted = list(dict.fromkeys(columns))
    try:
        yield from _text_batches(path, layout, wanted, torn) if layout.delimiter else _binary_batches(path, wanted)
    except (pa.ArrowException, pl.exceptions.PolarsError, EOFError, gzip.BadGzipFile) as error:
        raise InvalidCandles(f"{path.name} cannot be read: {str(error).strip().splitlines()[0]}") from error
    except OSError as error:
        raise MarketUnavailable(f"{path} cannot be read: {error.strerror or error}") from error


def lines_at(path: Path, layout: Layout, lines: Iterable[int]) -> dict[int, str]:
    """Rows as they stand in the file, by line number."""
    wanted = set(lines)
    if not wanted:
        return {}
    if layout.delimiter:
        with _open_text(path) as file:
            numbered = itertools.islice(enumerate(file, 1), max(wanted))
            return {number: text.rstrip("\r\n") for number, text in numbered if number in wanted}
    found: dict[int, str] = {}
    for batch in _binary_batches(path, list(layout.columns)):
        for row in batch.filter(pl.col("line").is_in(list(wanted))).iter_rows(named=True):
            found[row["line"]] = ", ".join(f"{name}={value}" for name, value in row.items() if name != "line")
    return found


def _text_layout(path: Path, schema: ImportSchema) -> Layout:
    with _open_text(path) as file:
        lines = [line.rstrip("\r\n") for line in itertools.islice(file, _SAMPLE_LINES)]
    if not any(lines):
        raise InvalidCandles(f"{path.name} has no rows")
    given = lines[schema.skip_rows or 0 :]
    delimiter = schema.delimiter or _delimiter(given)
    cells = [next(csv.reader([line], delimiter=delimiter), []) for line in given]
    common = Counter(map(len, cells)).most_common(1)[0][0]
    if common < 2:
        raise InvalidCandles(f"{path.name} has no columns: its lines are like {given[-1][:80]!r}; set delimiter in the schema")
    above = 0 if schema.skip_rows is not None else next(at for at, row in enumerate(cells) if len(row) == common)
    first = [cell.strip() for cell in cells[above]]
    header = schema.header if schema.header is not None else not any(_NUMBER_OR_DATE.fullmatch(cell) for cell in first)
    names = first if header else [f"column_{number}" for number in range(1, len(first) + 1)]
    if len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1]
        raise InvalidCandles(f"{path.name} has several columns called {twice}: rename them")
    return Layout(tuple(names), delimiter, header, tuple(lines[: (schema.skip_rows or 0) + above]))


def _delimiter(lines: list[str]) -> str:
    """The one that cuts most lines into the same number of cells."""

    def agreement(delimiter: str) -> int:
        counts = Counter(line.count(delimiter) for line in lines)
        return max((lines_so for count, lines_so in counts.items() if count), default=0)

    return max(_DELIMITERS, key=agreement)


def _open_text(path: Path) -> TextIO:
    """The text without a byte order mark. Raises OSError."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _text_batches(path: Path, layout: Layout, columns: list[str], torn: Torn) -> Iterator[pl.DataFrame]:
    above = len(layout.skipped) + layout.header
    torn_rows: list[int] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        # Blank lines are no rows; both shift the numbers of the rows after them.
        torn_rows.append(row.number)
        if row.text.strip():
            torn.lines[row.number] = row.text
        return "skip"

    options = pyarrow.csv.ConvertOptions(
        include_columns=columns,
        column_types=dict.fromkeys(layout.columns, pa.string()),
        strings_can_be_null=True,
        null_values=[""],
    )
    reading = pyarrow.csv.ReadOptions(
        use_threads=False, block_size=_BLOCK_BYTES, skip_rows=above, column_names=list(layout.columns)
    )
    parsing = pyarrow.csv.ParseOptions(delimiter=layout.delimiter, invalid_row_handler=note, ignore_empty_lines=False)
    source = pa.CompressedInputStream(pa.OSFile(str(path)), "gzip") if path.suffix == ".gz" else pa.OSFile(str(path))
    with source, pyarrow.csv.open_csv(source, reading, parsing, options) as reader:
        good = 0
        for batch in reader:
            frame = pl.DataFrame(batch)
            at = np.arange(good, good + frame.height)
            # The n-th good row comes after as many torn ones as have a number at or below its own.
            torn_places = np.array(torn_rows, dtype=np.int64) - np.arange(len(torn_rows))
            before = np.searchsorted(torn_places, at + above + 1, side="right")
            good += frame.height
            numbered = frame.with_columns(pl.Series("line", at + above + 1 + before, dtype=pl.UInt32))
            yield numbered.filter(~pl.all_horizontal(pl.col(columns).is_null()))


def _binary_batches(path: Path, columns: list[str]) -> Iterator[pl.DataFrame]:
    line = 1
    for frame in _parquet_batches(path, columns) if path.suffix == ".parquet" else _arrow_batches(path, columns):
        yield frame.with_columns(pl.Series("line", np.arange(line, line + frame.height), dtype=pl.UInt32))
        line += frame.height


def _parquet_batches(path: Path, columns: list[str]) -> Iterator[pl.DataFrame]:
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=columns):
            yield pl.DataFrame(batch)


def _arrow_batches(path: Path, columns: list[str]) -> Iterator[pl.DataFrame]:
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number).select(columns)
            for start in range(0, batch.num_rows, BATCH_ROWS):
                yield pl.DataFrame(batch.slice(start, BATCH_ROWS))
