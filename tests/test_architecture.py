"""The walls between the packages: who may import whom, where time, environment and database may be touched, how long things get.

Imports are read from the source, those inside functions included, so a late import is no way around a wall.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("candlewick", "blocks", "tasks", "flows", "deployments", "tests")

# What a package must not import. `a` stands for a and everything below it.
WALLS = {
    "candlewick": ("blocks", "tasks", "flows", "deployments", "tests", "prefect", "ccxt"),
    "blocks": ("tasks", "flows", "deployments", "tests"),
    "tasks": ("flows", "deployments", "tests", "ccxt"),
    "flows": ("deployments", "tests", "ccxt", "duckdb"),
    "deployments": ("tasks", "flows", "tests", "ccxt", "duckdb"),
}
# The pure middle: no store, no settings, no clock, no environment, no network, no files of its own.
PURE = (
    "candlewick.engine",
    "candlewick.strategies",
    "candlewick.metrics",
    "candlewick.trades",
    "candlewick.figures",
    "candlewick.periods",
    "candlewick.indicators",
    "candlewick.indicators_trend",
    "candlewick.indicators_bands",
    "candlewick.crossing",
    "candlewick.moments",
    "candlewick.parameter_ranges",
    "candlewick.grids",
    "candlewick.search_space",
    "candlewick.walk_forward",
    "candlewick.overfitting",
    "candlewick.resampling",
    "candlewick.monitoring.regimes",
    "candlewick.monitoring.regime_fold",
    "candlewick.monitoring.signal_rules",
    "candlewick.monitoring.bus",
    "candlewick.monitoring.events",
    "candlewick.monitoring.interventions",
    "candlewick.monitoring.states",
    "candlewick.monitoring.supervision",
)
IMPURE = ("candlewick.store", "candlewick.settings", "candlewick.lake", "candlewick.market", "candlewick.cli", "duckdb")
CLOCK_AND_ENVIRONMENT = ("os", "time", "socket", "subprocess", "random", "secrets")
SEEDED = ("default_rng", "SeedSequence")
CLOCK_READERS = {"now", "utcnow", "today", "environ", "getenv"}
# Modules of the domain whose job is to print.
PRINTERS = (
    "candlewick.cli",
    "candlewick.tables",
    "candlewick.settings_report",
    "candlewick.store.reference",
    "candlewick.monitoring.catalogue",
)
# What importing a module must not bring along: a command's answer, and a worker's process, wait for it.
LIGHT = (
    ("candlewick.settings", ("prefect", "numba", "polars", "duckdb", "ccxt", "plotly")),
    ("candlewick.strategies.catalog", ("prefect", "numba", "duckdb", "ccxt", "plotly")),
    ("flows.accounts", ("prefect", "numba", "ccxt", "plotly")),
    ("flows.paper_trading", ("numba", "ccxt", "plotly")),
    ("flows.backtesting", ("numba", "ccxt", "plotly", "optuna", "dask")),
    ("flows.monitoring", ("prefect", "numba", "ccxt", "plotly", "prometheus_client", "redis")),
    ("deployments.serve", ("prefect", "polars", "numba", "duckdb")),
    ("deployments.dashboard.__main__", ("fastapi", "uvicorn", "polars", "duckdb")),
    ("deployments.dashboard.server", ("prefect", "numba", "ccxt", "plotly")),
)
LONGEST_FUNCTION, LONGEST_FILE, LONGEST_TEST_FILE = 70, 450, 700


@lru_cache(maxsize=1)
def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name; a package by the package's name."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def imports(module: str) -> tuple[str, ...]:
    """Dotted names that ``module`` imports anywhere; `a.b.c` for `from a.b import c`."""
    names = []
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import in line {node.lineno}"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


def is_below(name: str, *above: str) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in above)


def own_modules(*above: str) -> list[str]:
    return sorted(module for module in modules() if is_below(module, *above))


def reached(module: str) -> set[str]:
    """Modules of this project that ``module`` imports, directly or through each other."""
    seen: set[str] = set()
    frontier = {module}
    while frontier:
        seen |= frontier
        named = {name for one in frontier for name in imports(one)}
        frontier = {known for name in named for known in (name, name.rpartition(".")[0]) if known in modules()} - seen
    return seen


@pytest.mark.parametrize("package", WALLS)
def test_a_package_imports_only_what_its_wall_lets_through(package: str) -> None:
    broken = [
        f"{module} imports {name}"
        for module in own_modules(package)
        for name in imports(module)
        if is_below(name, *WALLS[package])
    ]
    assert broken == []


def test_only_the_store_imports_duckdb() -> None:
    doors = [
        module for module in own_modules("candlewick", "blocks", "tasks") if any(is_below(n, "duckdb") for n in imports(module))
    ]
    assert doors
    assert [module for module in doors if not is_below(module, "candlewick.store")] == []


def test_only_the_exchange_block_imports_ccxt() -> None:
    doors = [module for module in own_modules(*WALLS) if any(is_below(name, "ccxt") for name in imports(module))]
    assert doors
    assert [module for module in doors if not is_below(module, "blocks")] == []


def test_engine_strategies_and_metrics_reach_no_store_no_settings_and_no_market() -> None:
    broken = [f"{pure} reaches {one}" for pure in own_modules(*PURE) for one in reached(pure) if is_below(one, *IMPURE)]
    assert broken == []


def test_engine_strategies_and_metrics_read_no_clock_and_no_environment() -> None:
    broken = [f"{m} imports {name}" for m in own_modules(*PURE) for name in imports(m) if is_below(name, *CLOCK_AND_ENVIRONMENT)]
    for module in own_modules(*PURE):
        reads = (node for node in ast.walk(parsed(module)) if isinstance(node, ast.Attribute) and node.attr in CLOCK_READERS)
        broken += [f"{module}:{node.lineno} reads {ast.unparse(node)}" for node in reads]
    assert broken == []


def test_chance_comes_from_seeded_generators_only() -> None:
    """numpy's other random functions share one hidden state, and a generator without a seed is another one in every run."""
    broken = []
    for module in own_modules(*PURE):
        for node in ast.walk(parsed(module)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random"):
                broken += [] if node.attr in SEEDED else [f"{module}:{node.lineno} uses {ast.unparse(node)}"]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(SEEDED) and not node.args:
                broken.append(f"{module}:{node.lineno} draws without a seed")
        broken += [f"{module} imports {name}" for name in imports(module) if is_below(name, "numpy.random")]
    assert broken == []


def test_init_files_are_empty() -> None:
    folders = {path.parent for path in modules().values()}
    assert [str(folder.relative_to(ROOT)) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []
    assert [
        str(path.relative_to(ROOT)) for path in modules().values() if path.name == "__init__.py" and path.stat().st_size
    ] == []


def test_the_domain_prints_only_where_that_is_its_job() -> None:
    printing = {module for module in own_modules("candlewick") for node in ast.walk(parsed(module)) if _is_print(node)}
    assert printing - set(PRINTERS) == set()


def _is_print(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"


def functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(parsed(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_functions_and_files_stay_short_enough_to_be_read() -> None:
    long = []
    for module, path in modules().items():
        limit = LONGEST_TEST_FILE if is_below(module, "tests") else LONGEST_FILE
        lines = len(path.read_text(encoding="utf-8").splitlines())
        long += [f"{module}: {lines} lines, {limit} at the most"] if lines > limit else []
        for function in functions(module):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            long += [f"{module}.{function.name}: {lines} lines"] if lines > LONGEST_FUNCTION else []
    assert long == []


@pytest.mark.parametrize(("module", "heavy"), LIGHT, ids=[module for module, _ in LIGHT])
def test_importing_a_module_brings_nothing_heavy_along(module: str, heavy: tuple[str, ...]) -> None:
    script = f"import json, sys; import {module}; print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == []
