"""The candle lake: what passed the checks, in Parquet, readable by anything that reads Parquet.

    <url>/silver/exchange=binance/symbol=BTC-USDT/timeframe=1h/2026-01.parquet

One file per month, or per year (`2026.parquet`) for timeframes of a day and longer. Columns are those of CANDLE_SCHEMA
plus ``source`` (who said so) and ``fetched_at``. In folder names a symbol's `/` is written `-`, and any other character
than letters, digits, `.`, `_` and `~` as `%XX`.

A file is written to a temporary name in the same folder, synced and renamed, so that it is there whole or not at all
whenever a process is killed. Writers of one series queue at a lock file (``flock``: it ends with its process); readers
share that lock, so that they never see half of a write that spans files.
"""

import errno
import fcntl
import hashlib
import io
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import numpy as np
import polars as pl

from candlewick.candles import CANDLE_SCHEMA, FormingBar, Series, empty_candles
from candlewick.errors import LakeError, SettingsError
from candlewick.timeframes import DAY_MS, timeframe_ms, utc

LAKE_SCHEMA: Mapping[str, pl.DataType] = {**CANDLE_SCHEMA, "source": pl.String(), "fetched_at": pl.Datetime("us", "UTC")}
LOCK_TIMEOUT_S = 60.0

CANDLE_COLUMNS = tuple(CANDLE_SCHEMA)
LAKE_COLUMNS = tuple(LAKE_SCHEMA)

_PARTITION = re.compile(r"\d{4}(-\d\d)?\.parquet")
_NUMBERS = tuple(name for name in CANDLE_SCHEMA if name != "opened_at")
_LOCK = ".lock"
_FORMING = ".forming"
_FINGERPRINT = ".fingerprint"
_TEMPORARY = ".tmp"
_NOTE = ".note"
_NO_CONFLICTS = pl.DataFrame(schema={**CANDLE_SCHEMA, **{f"{name}_offered": pl.Float64() for name in _NUMBERS}})


@dataclass(frozen=True, slots=True)
class AppendReport:
    """What became of the rows offered.

    ``conflicting`` has ``opened_at``, the five numbers as kept, and as offered (`open_offered`, …).
    """

    added: int
    unchanged: int
    conflicting: pl.DataFrame


class Lake:
    """The lake at ``url``: a folder's path or a `file:` URL. The folder is made by the first write."""

    def __init__(self, url: str) -> None:
        self.root = _local_path(url)

    def append(self, series: Series, candles: pl.DataFrame, source: str, fetched_at: datetime) -> AppendReport:
        """Add the bars that are new. A bar that is there already stays as it is: with other content it is reported.

        ``candles`` in CANDLE_SCHEMA, validated. Doing it twice changes nothing. Raises LakeError.
        """
        _assert_candles(candles)
        added, unchanged, conflicts = 0, 0, []
        if candles.height:
            with writing(self.folder(series)) as folder:
                for name, offered in _outwards(_partitions(candles, series.timeframe), _partition_names(folder)):
                    kept = _read_partitions([folder / name], LAKE_COLUMNS) if (folder / name).exists() else None
                    new, known = (offered, None) if kept is None else _split(kept, offered)
                    if kept is not None and known is not None:
                        conflicts.append(_conflicts(kept, known))
                        unchanged += known.height - conflicts[-1].height
                    added += new.height
                    if new.height:
                        _write_partition(folder / name, _merge(kept, _with_source(new, source, fetched_at)))
        return AppendReport(added, unchanged, pl.concat([_NO_CONFLICTS, *conflicts]))

    def replace(self, series: Series, candles: pl.DataFrame, source: str, fetched_at: datetime) -> None:
        """Make ``candles`` all there is of the series (a user changed the file it came from). Files that agree stay untouched.

        The fingerprint is taken away first: after a crash in the middle it is missing, and the caller replaces again.
        Raises LakeError.
        """
        _assert_candles(candles)
        with writing(self.folder(series)) as folder:
            (folder / _FINGERPRINT).unlink(missing_ok=True)
            wanted = _partitions(candles, series.timeframe)
            for name, offered in wanted:
                if (folder / name).exists() and _read_partitions([folder / name], CANDLE_COLUMNS).equals(offered):
                    continue
                _write_partition(folder / name, _with_source(offered, source, fetched_at))
            for name in set(_partition_names(folder)) - {name for name, _ in wanted}:
                (folder / name).unlink()
            sync_folder(folder)

    def read(self, series: Series, since_ms: int | None = None, until_ms: int | None = None) -> pl.DataFrame:
        """Bars with ``since_ms <= opened_at < until_ms`` in CANDLE_SCHEMA, sorted; no rows where there are none.

        Raises LakeError.
        """
        with reading(self.folder(series)) as folder:
            first = "" if since_ms is None else _partition_name(since_ms, series.timeframe)
            last = "~" if until_ms is None else _partition_name(until_ms, series.timeframe)
            paths = [folder / name for name in _partition_names(folder) if first <= name <= last]
            if not paths:
                return empty_candles()
            candles = _read_partitions(paths, CANDLE_COLUMNS)
        times = _times(candles)
        start = 0 if since_ms is None else int(times.searchsorted(since_ms))
        end = candles.height if until_ms is None else int(times.searchsorted(until_ms))
        return candles[start : max(start, end)]

    def span(self, series: Series) -> tuple[int, int] | None:
        """Open times of the first and the last bar in milliseconds UTC, from two files at most; None where there is no bar."""
        with reading(self.folder(series)) as folder:
            names = _partition_names(folder)
            if not names:
                return None
            ends = names[:1] if len(names) == 1 else [names[0], names[-1]]
            times = _times(_read_partitions([folder / name for name in ends], ("opened_at",)))
        return int(times[0]), int(times[-1])

    def fingerprint(self, series: Series) -> str | None:
        """What ``set_fingerprint`` said last; None where nothing was said, or ``replace`` did not come to its end."""
        with reading(self.folder(series)) as folder:
            path = folder / _FINGERPRINT
            return path.read_text(encoding="utf-8") if path.exists() else None

    def set_fingerprint(self, series: Series, fingerprint: str) -> None:
        """Remember, beside the series, what its content was made of. Raises LakeError."""
        with writing(self.folder(series)) as folder:
            write_whole(folder / _FINGERPRINT, fingerprint.encode())
            sync_folder(folder)

    def forming(self, series: Series) -> FormingBar | None:
        """The forming bar that ``set_forming`` said last; None where nothing was said."""
        with reading(self.folder(series)) as folder:
            path = folder / _FORMING
            words = path.read_text(encoding="utf-8").split() if path.exists() else []
        # Not synced to disk when written: after a power failure it may be empty, and then it is asked for again.
        return FormingBar(int(words[0]), float(words[1])) if len(words) == 2 else None

    def set_forming(self, series: Series, bar: FormingBar) -> None:
        """Remember the open of the bar that is forming: it does not change, so nobody asks again. Raises LakeError."""
        with writing(self.folder(series)) as folder:
            partial = folder / f"{_FORMING}{_TEMPORARY}"
            partial.write_text(f"{bar.opened_at_ms} {bar.open!r}", encoding="utf-8")
            partial.replace(folder / _FORMING)

    def put_note(self, series: Series, content: str) -> None:
        """Keep a small text beside the series until ``drop_notes``; the same text twice is one note. Raises LakeError."""
        with writing(self.folder(series)) as folder:
            name = f"{hashlib.sha256(content.encode()).hexdigest()[:32]}{_NOTE}"
            write_whole(folder / name, content.encode())
            sync_folder(folder)

    def notes(self, series: Series) -> dict[str, str]:
        """The notes beside the series, by name. Raises LakeError."""
        with reading(self.folder(series)) as folder:
            names = sorted(name for name in os.listdir(folder) if name.endswith(_NOTE)) if folder.is_dir() else []
            return {name: (folder / name).read_text(encoding="utf-8") for name in names}

    def drop_notes(self, series: Series, names: Iterable[str]) -> None:
        """Forget notes; those that are gone already are no error. Raises LakeError."""
        with writing(self.folder(series)) as folder:
            for name in names:
                (folder / name).unlink(missing_ok=True)

    def folder(self, series: Series) -> Path:
        """Where the series' files are; it need not exist."""
        return self.symbol_folder(series) / f"timeframe={series.timeframe}"

    def symbol_folder(self, series: Series) -> Path:
        """Where all of the series' symbol is; it need not exist."""
        exchange, symbol = f"exchange={quote(series.market, safe='')}", f"symbol={_symbol_folder(series.symbol)}"
        return self.root / "silver" / exchange / symbol


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Hold a folder of the lake alone; it is made where it is not there. Raises LakeError."""
    with naming_what_failed(folder, "written"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _acquire(lock, fcntl.LOCK_EX, folder / _LOCK)
            for name in os.listdir(folder):
                if name.endswith(_TEMPORARY):  # Whoever wrote it is dead: it held the lock that is held now.
                    (folder / name).unlink()
            yield folder
        finally:
            os.close(lock)


@contextmanager
def reading(folder: Path) -> Iterator[Path]:
    """Hold a folder of the lake with other readers; it need not exist. Raises LakeError."""
    with naming_what_failed(folder, "read"):
        try:
            lock = os.open(folder / _LOCK, os.O_RDONLY)
        except FileNotFoundError:  # Never written by this lake, so nobody writes now.
            yield folder
            return
        try:
            _acquire(lock, fcntl.LOCK_SH, folder / _LOCK)
            yield folder
        finally:
            os.close(lock)


def _local_path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.scheme == "" and url:
        return Path(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return Path(unquote(parts.path))
    raise SettingsError(
        f"lake url {url!r} is not supported: use a folder's path (data/lake) or a local file URL (file:///srv/lake)"
    )


def _symbol_folder(symbol: str) -> str:
    return "-".join(quote(part, safe="").replace("-", "%2D") for part in symbol.split("/"))


def _partition_name(time_ms: int, timeframe: str) -> str:
    return utc(time_ms).strftime("%Y.parquet" if timeframe_ms(timeframe) >= DAY_MS else "%Y-%m.parquet")


def _partitions(candles: pl.DataFrame, timeframe: str) -> list[tuple[str, pl.DataFrame]]:
    """The frame cut at the files' borders, in order."""
    if candles.is_empty():
        return []
    times = _times(candles)
    first, last = (_partition_name(int(time_ms), timeframe) for time_ms in (times[0], times[-1]))
    if first == last:
        return [(first, candles)]
    border = pl.col("opened_at").dt.truncate("1y" if timeframe_ms(timeframe) >= DAY_MS else "1mo")
    parts = candles.with_columns(border.alias("border")).partition_by("border", maintain_order=True)
    return [(_partition_name(int(_times(part)[0]), timeframe), part.drop("border")) for part in parts]


def _outwards(parts: list[tuple[str, pl.DataFrame]], there: list[str]) -> list[tuple[str, pl.DataFrame]]:
    """Later ones forwards, then earlier ones backwards, so that a crash in between leaves no hole before what is there."""
    first = there[0] if there else ""
    return [part for part in parts if part[0] >= first] + [part for part in reversed(parts) if part[0] < first]


def _partition_names(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if _PARTITION.fullmatch(name)) if folder.is_dir() else []


def _times(candles: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Open times in milliseconds, shape (rows,), without copying: the column's own integers."""
    return candles["opened_at"].to_numpy().view(np.int64)


def _assert_candles(candles: pl.DataFrame) -> None:
    assert candles.schema == CANDLE_SCHEMA, f"the lake takes validated candles, not {candles.schema}"
    assert candles["opened_at"].null_count() == 0, "candles without an open time"
    assert (np.diff(_times(candles)) > 0).all(), "candles are not sorted and unique"


def _with_source(candles: pl.DataFrame, source: str, fetched_at: datetime) -> pl.DataFrame:
    return candles.with_columns(
        pl.lit(source, dtype=pl.String()).alias("source"), pl.lit(fetched_at).cast(LAKE_SCHEMA["fetched_at"]).alias("fetched_at")
    )


def _split(kept: pl.DataFrame, offered: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """The offered rows that are new, and those whose time is known; None where, as nearly always, all are later."""
    if _times(offered)[0] > _times(kept)[-1]:
        return offered, None
    return offered.join(kept, on="opened_at", how="anti", maintain_order="left"), offered.join(
        kept, on="opened_at", how="semi", maintain_order="left"
    )


def _merge(kept: pl.DataFrame | None, new: pl.DataFrame) -> pl.DataFrame:
    if kept is None:
        return new
    both = pl.concat([kept, new])
    return both if _times(new)[0] > _times(kept)[-1] else both.sort("opened_at")


def _conflicts(kept: pl.DataFrame, offered: pl.DataFrame) -> pl.DataFrame:
    both = kept.select(CANDLE_COLUMNS).join(offered, on="opened_at", suffix="_offered", maintain_order="right")
    differs = pl.any_horizontal([pl.col(name) != pl.col(f"{name}_offered") for name in _NUMBERS])
    return both.filter(differs).select(_NO_CONFLICTS.columns)


def _read_partitions(paths: list[Path], columns: tuple[str, ...]) -> pl.DataFrame:
    """The files' rows in the order of the files. Raises LakeError naming the file that is damaged."""
    try:
        frame = pl.read_parquet(paths, columns=list(columns), glob=False, hive_partitioning=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        if len(paths) > 1:
            return pl.concat([_read_partitions([path], columns) for path in paths])
        reason = str(error).splitlines()[0]
        raise LakeError(f"{paths[0]} is damaged ({reason}): move it away, and its candles are collected again") from error
    if any(frame.schema[name] != LAKE_SCHEMA[name] for name in columns) or frame.is_empty():
        raise LakeError(f"{paths[0]} has {frame.height} rows of {frame.schema}, not the lake's {dict(LAKE_SCHEMA)}: move it away")
    if not (np.diff(_times(frame)) > 0).all():
        names = ", ".join(path.name for path in paths)
        raise LakeError(
            f"{paths[0].parent}: open times in {names} are not in order: a file was renamed or is damaged; move it away"
        )
    return frame


def _write_partition(path: Path, frame: pl.DataFrame) -> None:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="lz4", statistics=True)
    write_whole(path, buffer.getbuffer())
    sync_folder(path.parent)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """All of it or nothing: temporary name, sync, rename. Raises OSError."""
    temporary = path.with_name(path.name + _TEMPORARY)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)  # A full disk needs the space back.
        raise OSError(error.errno, error.strerror, str(path)) from error  # A failed write does not say of what.


def sync_folder(folder: Path) -> None:
    """Make renames survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _acquire(lock: int, kind: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    pause_s = 0.0005
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LakeError(
                    f"{path} has been held by another process for {LOCK_TIMEOUT_S:g} s: end it, then run again"
                ) from None
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.05)


@contextmanager
def naming_what_failed(folder: Path, deed: str) -> Iterator[None]:
    """Turn what the operating system refuses into LakeError; ``deed`` is what was tried, such as `written`."""
    try:
        yield
    except OSError as error:
        path = error.filename or folder
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise LakeError(f"{path} cannot be {deed}: no space left ({error.strerror}); free some and run again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise LakeError(
                f"{path} cannot be {deed}: {error.strerror}; the lake's folder must be writable by this user"
            ) from error
        raise LakeError(f"{path} cannot be {deed}: {error.strerror or error}") from error
