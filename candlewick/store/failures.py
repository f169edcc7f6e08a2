"""What DuckDB reports, as the ledger's named errors: what happened, to which file, and what to do next.

DuckDB has few exception classes and says the rest in its text, so the text is matched here and nowhere else; a test
provokes each failure for real, so that a new DuckDB that words it otherwise is noticed.
"""

import errno
import re
from pathlib import Path

import duckdb

from candlewick.errors import InvariantViolated, LedgerBusy, LedgerError, LedgerTooNew, LedgerUnreadable, LedgerUnwritable

_HELD = ("Could not set lock on file", "different configuration than existing connections", "already attached")
_UNWRITABLE = (
    "No space left",
    "File too large",
    "Disk quota exceeded",
    "Could not write",
    "Permission denied",
    "Read-only file system",
)
_UNREADABLE = (
    "not a valid DuckDB database",
    "Could not read",
    "Corrupt",
    "checksum",
    "Failed to deserialize",
    "Failure while replaying WAL",
)
_TOO_NEW = ("database file with version number", "storage version", "newer version of DuckDB")
_PID = re.compile(r"held in (?P<program>.+) \(PID (?P<pid>\d+)\)")
_WRITING_IS_REFUSED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EEXIST,
}


def held_by_another(error: duckdb.Error) -> bool:
    """Another program has the file open; worth waiting for."""
    return any(text in str(error) for text in _HELD)


def named_failure(error: duckdb.Error, path: Path, waited_s: float = 0.0) -> LedgerError | None:
    """The named error for what DuckDB raised on the ledger at ``path``; None when it is no failure of the file but a bug."""
    text = str(error)
    if held_by_another(error):
        return LedgerBusy(_busy(text, path, waited_s))
    if any(sign in text for sign in _UNWRITABLE):
        return unwritable(path, text)
    if any(sign in text for sign in _TOO_NEW):
        return LedgerTooNew(f"ledger {path} was written by a newer DuckDB than {duckdb.__version__}: upgrade Candlewick. {text}")
    if any(sign in text for sign in _UNREADABLE) or isinstance(error, duckdb.FatalException | duckdb.SerializationException):
        return unreadable(path, text)
    if isinstance(error, duckdb.ConstraintException):
        return InvariantViolated(f"ledger {path}: {text}. Nothing was written")
    if isinstance(error, duckdb.OutOfMemoryException):
        return LedgerError(
            f"ledger {path}: the transaction needs more memory than the ledger may use. Nothing was written. {text}"
        )
    return None


def unwritable(path: Path, reason: str) -> LedgerUnwritable:
    """No space, or no permission."""
    return LedgerUnwritable(
        f"ledger {path} cannot be written: {reason}. Nothing of this transaction was written; "
        f"free space, allow writing to {path.parent}, or set another store.url"
    )


def unreadable(path: Path, reason: str) -> LedgerUnreadable:
    """Not a ledger, truncated or corrupt."""
    return LedgerUnreadable(
        f"ledger {path} cannot be read: {reason}. The file was left as it is; "
        "move it away and restore a backup, or set another store.url"
    )


def refused_by_system(error: OSError) -> bool:
    """The operating system refuses to write here (permission, space, no folder or a file in its place)."""
    return error.errno in _WRITING_IS_REFUSED


def _busy(text: str, path: Path, waited_s: float) -> str:
    found = _PID.search(text)
    holder = f"process {found['pid']} ({found['program']})" if found else f"another program ({text})"
    return f"ledger {path} is held by {holder}: waited {waited_s:.1f} s. Close that program, or raise the lock time-out"
