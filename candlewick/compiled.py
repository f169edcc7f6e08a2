"""`njit`: the one place that configures numba.

Numba's own on-disk cache looks at the file of the compiled function only. A function that was compiled together with a callee,
or with a constant, of another module keeps its old machine code when that other module changes: stale numbers, silently. So the
cache folder of this project is named after the content of every source file that compiled code can reach.

Importing this module imports numba (about half a second): flows import modules with compiled code inside functions.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import ParamSpec, TypeVar

import numba

from candlewick.sources import digest_sources, reached_sources

P = ParamSpec("P")
R = TypeVar("R")

PACKAGE_FOLDER = Path(__file__).resolve().parent
# A folder nobody has used for a week belongs to no running process: one that still compiles would fail to save into it.
UNUSED_AFTER_S = 7 * 86_400
_FOLDER_PREFIX = "numba-"
_NUMBA_CONFIG = vars(numba.config)  # numba fills this module at run time, so its attributes have no declared type


def njit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile ``function`` with numba, without fastmath, so that its results are the same bits in every run.

    It lets other threads run meanwhile: a sweep uses them.

    The machine code of this package's functions is cached on disk; that of functions elsewhere (a user's own strategy) is not,
    because the cache's key does not cover files outside the package.
    """
    return _compile(function, for_python=True)


def njit_inner(function: Callable[P, R]) -> Callable[P, R]:
    """As ``njit``, for functions that only compiled code calls: the way in from Python is left out.

    For functions that take records and arrays it would be a third of the time to compile. They must not allocate: without
    counting references to the arrays they are handed, they take two thirds of the time to run.
    """
    return _compile(function, for_python=False)


def njit_inline(function: Callable[P, R]) -> Callable[P, R]:
    """As ``njit_inner``, and written out where it is called: handing twenty arrays to a function takes longer than its work.

    For functions that are called in one or two places.
    """
    return _compile(function, for_python=False, inline=True)


def njit_small(function: Callable[P, R]) -> Callable[P, R]:
    """As ``njit``, and written out where compiled code calls it: a divisor that is a constant there needs no division."""
    return _compile(function, for_python=True, inline=True)


def _compile(function: Callable[P, R], *, for_python: bool, inline: bool = False) -> Callable[P, R]:
    folder = cache_folder() if function.__module__.split(".")[0] == PACKAGE_FOLDER.name else None
    if folder is None:
        uncached: Callable[P, R] = numba.njit(cache=False, nogil=True)(function)
        return uncached
    before = _NUMBA_CONFIG["CACHE_DIR"]
    _NUMBA_CONFIG["CACHE_DIR"] = str(folder)  # read at decoration only, and restored for other users of numba in this process
    try:
        # numba's stubs do not know the options that leave out ways in.
        compiled: Callable[P, R] = numba.njit(  # type: ignore[call-overload]
            cache=True, nogil=True, no_cfunc_wrapper=True, no_cpython_wrapper=not for_python, _nrt=for_python, forceinline=inline
        )(function)
    finally:
        _NUMBA_CONFIG["CACHE_DIR"] = before
    return compiled


@lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """Where this process keeps machine code: the first folder that can be written, or None (everything is compiled afresh).

    Tried in order: NUMBA_CACHE_DIR if the user set it, the package's `__pycache__`, the user's cache folder, a private folder
    among the temporary files. Folders of earlier versions of the source, unused for a week, are removed there.
    """
    name = _FOLDER_PREFIX + source_digest(PACKAGE_FOLDER)[:16]
    for parent in _parents():
        folder = parent / name
        if _is_ours_to_write(folder):
            prune(parent, keep=name)
            return folder
    return None


def _parents() -> Iterable[Path]:
    if _NUMBA_CONFIG["CACHE_DIR"]:
        yield Path(_NUMBA_CONFIG["CACHE_DIR"])
    yield PACKAGE_FOLDER / "__pycache__"
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "candlewick"
    yield Path(tempfile.gettempdir()) / f"candlewick-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"


def _is_ours_to_write(folder: Path) -> bool:
    """Create ``folder``, try to write into it and mark it as used. Machine code is never loaded from another user's folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            os.utime(folder)
        return not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()
    except OSError:
        return False


def prune(parent: Path, keep: str) -> None:
    """Remove the folders of other digests in ``parent`` that nobody has used for a week."""
    for folder in parent.glob(_FOLDER_PREFIX + "*"):
        if folder.name != keep and folder.is_dir() and time.time() - folder.stat().st_mtime > UNUSED_AFTER_S:
            shutil.rmtree(folder, ignore_errors=True)


def source_digest(package: Path) -> str:
    """SHA-256 over the source files of ``package`` that use `njit`, and over all that these import from the package.

    The imports count because compiled code freezes the constants it names.
    """
    user = f"{package.name}.{Path(__file__).stem}"
    roots = [path for path in package.rglob("*.py") if user in path.read_text(encoding="utf-8")]
    own = package / Path(__file__).name
    return digest_sources(reached_sources([*roots, own], package.parent), package.parent)


def is_compiled(module: str, function: str) -> bool:
    """Whether machine code of a function is in the cache, so that its first call is quick; ``module`` is its file's stem.

    >>> is_compiled("folding", "no_such_function")
    False
    """
    folder = cache_folder()
    return folder is not None and any(folder.rglob(f"{module}.{function}-*.nbi"))
