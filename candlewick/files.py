"""Files that are there whole or not at all, and errors of the operating system said in the lake's words."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from candlewick.errors import LakeError

TEMPORARY = ".tmp"


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """All of it or nothing: temporary name, sync, rename. Raises OSError."""
    temporary = path.with_name(path.name + TEMPORARY)
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
