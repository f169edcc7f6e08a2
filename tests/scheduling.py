"""Which tests run in one process: those of a file, because they share what is dear to start, and those of files that share more.

pytest-xdist's own groups (`--dist loadgroup`) do nothing since pytest 9.2, silently: they wrote into a node id that is no more.
"""

import pytest

# The files that take longest come first, so that no worker is left with one of them at the end: seconds, roughly, on two cores.
_SECONDS = {
    "tests/test_lookahead.py": 180,
    "tests/test_audit.py": 180,
    "tests/test_real_input.py": 160,
    "tests/test_parity.py": 130,
    "tests/test_agreement.py": 130,
    "tests/test_schedule.py": 120,
    "tests/test_ledger_store.py": 115,
    "tests/test_strategies.py": 110,
    "tests/test_real_year.py": 100,
    "tests/test_backtest_reports.py": 80,
    "tests/test_concurrency.py": 70,
    "tests/test_ledger_faults.py": 60,
    "tests/test_engine_properties.py": 60,
    "tests/test_exchange_manners.py": 60,
    "tests/test_crash.py": 60,
    "tests/test_monitor_flow.py": 60,
    "tests/test_monitor_chaos.py": 60,
    "tests/test_backtest_run.py": 50,
    "tests/test_sweep.py": 45,
    "tests/test_monitor_desk.py": 40,
    "tests/test_dashboard.py": 40,
    "tests/test_paper_flow.py": 40,
    "tests/test_session_store.py": 35,
    "tests/test_outbox.py": 35,
    "tests/test_backfill_flow.py": 35,
    "tests/test_backfill_crash.py": 35,
}
# Both use the `make serve` of tests/serve_fixture.py, which takes half a minute to start.
_TOGETHER = {"tests/test_schedule.py": "serve", "tests/test_serve.py": "serve"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first; within a file, and among the others, the order stays."""
    items.sort(key=lambda item: -_SECONDS.get(item.nodeid.split("::", 1)[0], 0))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Asked by pytest-xdist, where tests run in several processes."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        """Hands out whole files."""

        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return _TOGETHER.get(file, file)

    config.option.loadscopereorder = False  # it would order by the number of tests
    return ByFile(config, log)
