"""Which tests run in one process: those of a file, because they share what is dear to start, and those of files that share more.

pytest-xdist's own groups (`--dist loadgroup`) do nothing since pytest 9.2, silently: they wrote into a node id that is no more.
"""

import pytest

# Both use the `make serve` of tests/serve_fixture.py, which takes half a minute to start.
_TOGETHER = {"tests/test_schedule.py": "serve", "tests/test_serve.py": "serve"}
# Few tests that take long: begun last, one process would work on them alone at the end.
_FIRST = ("tests/test_real_year.py", "serve", "tests/test_crash.py", "tests/test_real_input.py", "tests/test_ledger_faults.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Asked by pytest-xdist, where tests run in several processes."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        """Hands out whole files, the long ones first."""

        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return _TOGETHER.get(file, file)

        def _assign_work_unit(self, node: object) -> None:
            waiting = [scope for scope in _FIRST if scope in self.workqueue]
            if waiting:
                self.workqueue.move_to_end(waiting[0], last=False)
            super()._assign_work_unit(node)

    return ByFile(config, log)
