"""Which tests run in one process: those of a file, because they share what is dear to start, and those of files that share more.

pytest-xdist's own groups (`--dist loadgroup`) do nothing since pytest 9.2, silently: they wrote into a node id that is no more.
"""

import pytest

# Both use the `make serve` of tests/serve_fixture.py, which takes half a minute to start.
_TOGETHER = {"tests/test_schedule.py": "serve", "tests/test_serve.py": "serve"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Asked by pytest-xdist, where tests run in several processes."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        """Hands out whole files."""

        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return _TOGETHER.get(file, file)

    return ByFile(config, log)
