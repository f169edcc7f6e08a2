"""A lake in a folder of this machine (or of a network file system that knows ``flock``).

A file is written to a temporary name in the same folder, synced and renamed, so that it is there whole or not at all
whenever a process is killed. Writers of one folder queue at a lock file (``flock``: it ends with its process); readers
share that lock, so that they never see half of a write that spans files.
"""

import fcntl
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from candlewick.errors import LakeError, SettingsError
from candlewick.files import TEMPORARY, naming_what_failed, sync_folder, write_whole
from candlewick.storage.contract import Held

LOCK_TIMEOUT_S = 60.0

Result = TypeVar("Result")
_LOCK = ".lock"


class LocalFolder:
    """Implements ``Held`` on a folder whose lock is held. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def address(self) -> str:
        """The folder's path."""
        return str(self._path)

    def names(self) -> list[str]:
        """The files that are there, and folders, sorted."""
        return sorted(os.listdir(self._path)) if self._path.is_dir() else []

    def size(self, name: str) -> int:
        """Bytes of a file that is there."""
        return os.stat(f"{self._path}/{name}").st_size  # paths of pathlib cost more than the call, over thousands of files

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none."""
        try:
            return (self._path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def ends(self, names: Sequence[str], length: int) -> list[bytes]:
        """The last bytes of files that are there."""
        return [self._end(name, length) for name in names]

    def _end(self, name: str, length: int) -> bytes:
        descriptor = os.open(f"{self._path}/{name}", os.O_RDONLY)
        try:
            return os.pread(descriptor, length, max(0, os.fstat(descriptor).st_size - length))
        finally:
            os.close(descriptor)

    def sources(self, names: Sequence[str]) -> list[Path] | list[bytes]:
        """The files' paths."""
        return [self._path / name for name in names]

    def write(self, name: str, content: bytes | memoryview, durable: bool = True) -> None:
        """Put a whole file in the place of what was there."""
        if durable:
            write_whole(self._path / name, content)
            sync_folder(self._path)
            return
        partial = self._path / f"{name}{TEMPORARY}"
        partial.write_bytes(content)
        partial.replace(self._path / name)

    def remove(self, name: str) -> None:
        """Take a file away; one that is not there is no error."""
        (self._path / name).unlink(missing_ok=True)
        sync_folder(self._path)

    def rename(self, name: str, new_name: str) -> None:
        """Give a file another name."""
        (self._path / name).replace(self._path / new_name)
        sync_folder(self._path)


class LocalStorage:
    """Implements ``Storage`` on the folder ``root``, which the first write makes."""

    def __init__(self, url: str) -> None:
        self.root = local_path(url)

    @property
    def url(self) -> str:
        """The folder's path."""
        return str(self.root)

    def writing(self, folder: str, operation: Callable[[Held], Result]) -> Result:
        """Run it alone. Raises LakeError."""
        path = self.root / folder
        with naming_what_failed(path, "written"):
            path.mkdir(parents=True, exist_ok=True)
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _acquire(lock, fcntl.LOCK_EX, path / _LOCK)
                for name in os.listdir(path):
                    if name.endswith(TEMPORARY):  # Whoever wrote it is dead: it held the lock that is held now.
                        (path / name).unlink()
                return operation(LocalFolder(path))
            finally:
                os.close(lock)

    def reading(self, folder: str, operation: Callable[[Held], Result]) -> Result:
        """Run it with other readers. Raises LakeError."""
        path = self.root / folder
        with naming_what_failed(path, "read"):
            try:
                lock = os.open(path / _LOCK, os.O_RDONLY)
            except FileNotFoundError:  # Never written by this lake, so nobody writes now.
                return operation(LocalFolder(path))
            try:
                _acquire(lock, fcntl.LOCK_SH, path / _LOCK)
                return operation(LocalFolder(path))
            finally:
                os.close(lock)

    def folders(self, below: str) -> list[str]:
        """Keys of the folders at any depth below one that directly hold Parquet files."""
        with naming_what_failed(self.root / below, "listed"):
            return sorted(
                Path(folder).relative_to(self.root).as_posix()
                for folder, _, names in os.walk(self.root / below)
                if any(name.endswith(".parquet") for name in names)
            )


def local_path(url: str) -> Path:
    """The folder that a path or a `file:` URL names. Raises SettingsError for any other address."""
    parts = urlsplit(url)
    if parts.scheme == "" and url:
        return Path(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return Path(unquote(parts.path))
    raise SettingsError(
        f"lake url {url!r} is not supported: use a folder's path (data/lake), a local file URL (file:///srv/lake), "
        "or an object store (s3://bucket/lake)"
    )


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
