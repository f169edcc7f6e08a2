"""Rows of a file that is larger than memory, sorted into days, months or years on disk, so that each is judged by itself."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl


class Spill:
    """Frames with the column ``ms`` (Int64), kept in ``folder`` by the day, month or year of their rows."""

    def __init__(self, folder: Path, by: str) -> None:
        """``by`` is `1d`, `1mo` or `1y`. The folder is there and empty, and is removed by whoever made it."""
        self._folder = folder
        self._by = by
        self._pieces: dict[int, list[Path]] = {}
        self._written = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Keep more rows."""
        border = pl.from_epoch("ms", "ms").dt.truncate(self._by).dt.epoch("ms")
        for key, part in rows.with_columns(border.alias("border")).partition_by("border", as_dict=True).items():
            self._pieces.setdefault(int(key[0]), []).append(self._write(part.drop("border")))

    def parts(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """Each day, month or year with rows: its key, and its rows as they were added. In order of time."""
        for key in sorted(self._pieces):
            yield key, pl.concat([pl.read_ipc(path) for path in self._pieces[key]])

    def replace(self, key: int, rows: pl.DataFrame) -> None:
        """Keep these rows in the place of those of a day, month or year."""
        path = self._write(rows)
        for old in self._pieces[key]:
            old.unlink()
        self._pieces[key] = [path]

    def _write(self, rows: pl.DataFrame) -> Path:
        self._written += 1
        path = self._folder / f"{self._written}.arrow"
        rows.write_ipc(path, compression="lz4")
        return path
