"""The environment in which `make serve` runs Prefect's server, worker and commands."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

_DAY_S = 86_400
HEARTBEAT_S = 30

# What a user may have said otherwise in the environment is kept.
_DEFAULTS: Mapping[str, str] = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_COLORS": "false",
    # What a cycle announces is among its run's logs in the UI.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "candlewick",
    # Prefect deletes nothing but events unless told to; a database that only grows gets slow.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs,orphans",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(60 * _DAY_S),
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P7D",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES": json.dumps({"prefect.flow-run.heartbeat": _DAY_S}),
    # A concurrency slot's lease must outlive the server that gave it, or a killed server leaks the slot:
    # the deployment's limit of one would then cancel every later run.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # How fast a run that stopped without a word is seen (deployments/register.py makes the automation).
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
    # A worker asks more often than the default of 10 s and looks further ahead, so that a run's imports are over when it is due.
    "PREFECT_WORKER_QUERY_SECONDS": "5",
    "PREFECT_WORKER_PREFETCH_SECONDS": "15",
    "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES": "false",
}


def prefect_home(directory: Path, inherited: Mapping[str, str] = os.environ) -> Path:
    """Where the server's database is: PREFECT_HOME where the user has set it, `data/prefect` otherwise."""
    chosen = inherited.get("PREFECT_HOME")
    return Path(chosen).expanduser() if chosen else directory / "data" / "prefect"


def prefect_environment(directory: Path, port: int, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Environment for everything that `make serve` starts: a server on loopback ``port``, and clients that use it."""
    bin_directory = str(Path(sys.executable).parent)
    return {
        **_DEFAULTS,
        **inherited,
        "PREFECT_HOME": str(prefect_home(directory, inherited)),
        "PREFECT_API_URL": api_url(port),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PATH": os.pathsep.join([bin_directory, inherited.get("PATH", os.defpath)]),
        # The server is on this machine: a proxy that the environment names has no part in reaching it.
        "NO_PROXY": _without_proxy(inherited, "NO_PROXY"),
        "no_proxy": _without_proxy(inherited, "no_proxy"),
        "PYTHONUNBUFFERED": "1",
    }


def _without_proxy(inherited: Mapping[str, str], name: str) -> str:
    hosts = [host for host in inherited.get(name, "").split(",") if host]
    return ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))


def ui_url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def api_url(port: int) -> str:
    return f"{ui_url(port)}/api"
