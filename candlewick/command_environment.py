"""The environment in which a command runs Prefect: said once, before Prefect is imported, because it reads it only then.

What the user has set is kept. Without a server of the user's own, Prefect keeps its database, results and blocks in
`data/prefect` beside the ledger, the same that `make serve` uses.
"""

import atexit
import os
import signal
import sys
from collections.abc import MutableMapping
from pathlib import Path

from candlewick.cli import DEBUG_VARIABLE, leave_at_once
from candlewick.serving import running_api_url

_OWN_SERVER = ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_HOME")
_USER_PROFILES = Path("~/.prefect/profiles.toml")


def prepare_command(module_name: str, environment: MutableMapping[str, str] = os.environ, directory: Path | None = None) -> None:
    """Called first by a command's module with its ``__name__``; does nothing when the module is only imported."""
    if module_name != "__main__":
        return
    atexit.register(leave_at_once)
    # Otherwise a terminated command leaves Prefect's temporary server behind: it is stopped by an exit handler.
    signal.signal(signal.SIGTERM, _exit_when_terminated)
    here = directory or Path.cwd()
    environment.setdefault("DO_NOT_TRACK", "1")
    environment.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    # The command tells what it does in its own words; Prefect's are in its UI, and here with --debug.
    quiet = "WARNING" if environment.get(DEBUG_VARIABLE) or "--debug" in sys.argv else "CRITICAL"
    environment.setdefault("PREFECT_LOGGING_LEVEL", quiet)
    environment.setdefault("PREFECT_SERVER_LOGGING_LEVEL", quiet)
    # Prefect's own services also speak through a logger outside its name ("EventsWorker - Still processing items").
    environment.setdefault("PREFECT_LOGGING_ROOT_LEVEL", "WARNING" if environment.get(DEBUG_VARIABLE) else "ERROR")
    # On a busy machine the temporary server needs longer than Prefect's 20 s.
    environment.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
    if any(environment.get(name) for name in _OWN_SERVER) or _USER_PROFILES.expanduser().exists():
        return
    environment["PREFECT_HOME"] = str(_made(here / "data" / "prefect"))
    served = running_api_url(here)
    if served is not None:
        environment["PREFECT_API_URL"] = served


def _made(folder: Path) -> Path:
    """The folder; Prefect makes its home, but not what is above it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(
            f"Error: {folder} cannot be made ({error.strerror}); Candlewick keeps its data in the working directory"
        ) from None
    return folder


def _exit_when_terminated(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
