"""Fixtures and hooks of several test files; each lives beside what it starts."""

from tests.cycle_processes import cycles, server_cycles
from tests.emulator_fixture import made_up_exchange, real_exchange, real_exchange_server
from tests.paper_flow import workplace
from tests.prefect_server import prefect_server, pytest_configure, pytest_unconfigure
from tests.scheduling import pytest_collection_modifyitems, pytest_xdist_make_scheduler
from tests.serve_fixture import serve_process

__all__ = [
    "cycles",
    "made_up_exchange",
    "prefect_server",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_unconfigure",
    "pytest_xdist_make_scheduler",
    "real_exchange",
    "real_exchange_server",
    "serve_process",
    "server_cycles",
    "workplace",
]
