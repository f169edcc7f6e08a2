"""Finding strategies by name, and describing them: built in, by import path, or announced by an installed package.

A package announces its strategies with an entry point in the group ``candlewick.strategies``. Nothing is imported before it is
asked for.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

from pydantic import ValidationError

from candlewick.errors import UnknownStrategy
from candlewick.sources import digest_sources, reached_sources
from candlewick.strategies.contract import Strategy
from candlewick.strategies.parameters import ParameterDescription, describe_parameters, explain_refusal, read_texts

Scalar = str | int | float | bool

ENTRY_POINT_GROUP = "candlewick.strategies"
BUILT_IN: Mapping[str, str] = {
    "fibonacci_golden_zone": "candlewick.strategies.fibonacci_golden_zone:FibonacciGoldenZone",
    "sma_cross": "candlewick.strategies.sma_cross:SmaCross",
    "rsi_reversion": "candlewick.strategies.rsi_reversion:RsiReversion",
    "donchian_breakout": "candlewick.strategies.donchian_breakout:DonchianBreakout",
    "macd_trend": "candlewick.strategies.macd_trend:MacdTrend",
    "bollinger_reversion": "candlewick.strategies.bollinger_reversion:BollingerReversion",
    "supertrend": "candlewick.strategies.supertrend:SuperTrend",
    "buy_and_hold": "candlewick.strategies.buy_and_hold:BuyAndHold",
}
_ALWAYS_SOURCES = (
    "candlewick.strategies.contract",
    "candlewick.indicators",
    "candlewick.indicators_trend",
    "candlewick.indicators_bands",
    "candlewick.crossing",
)
_VERSIONED_PACKAGES = ("polars", "numpy", "numba")


@dataclass(frozen=True, slots=True)
class StrategyDescription:
    """One strategy as lists and reference pages show it; ``summary`` is the first line of its docstring."""

    name: str
    summary: str
    parameters: tuple[ParameterDescription, ...]


def load_strategy(name: str, parameters: Mapping[str, Scalar | None]) -> Strategy:
    """The strategy called ``name`` with these parameters, the others at their defaults.

    ``name`` is a built-in (``sma_cross``), an import path (``my_pkg.my_mod:MyStrategy``) or an entry point's name. Text is read
    as the parameter's type, so that values may come from a command line. Raises UnknownStrategy: no such strategy (with the
    near matches and the list), or refused parameters (each with its value and bound).
    """
    strategy = strategy_class(name)
    try:
        return strategy.model_validate(read_texts(strategy, parameters))
    except ValidationError as refusal:
        raise UnknownStrategy(f"strategy {name}: {explain_refusal(strategy, refusal)}") from None


def strategy_names() -> tuple[str, ...]:
    """Names of the built-in strategies and of those that installed packages announce."""
    announced = {entry.name for entry in metadata.entry_points(group=ENTRY_POINT_GROUP)}
    return (*BUILT_IN, *sorted(announced - BUILT_IN.keys()))


def describe_strategies() -> tuple[StrategyDescription, ...]:
    """Every strategy that has a name, with its parameters. Imports all of them; raises UnknownStrategy if one cannot be."""
    return tuple(describe_strategy(name) for name in strategy_names())


def describe_strategy(name: str) -> StrategyDescription:
    """One strategy by name or import path. Raises UnknownStrategy."""
    strategy = strategy_class(name)
    summary = (strategy.__doc__ or "").strip().split("\n")[0]
    return StrategyDescription(name, summary, describe_parameters(strategy))


def strategy_name(strategy: Strategy) -> str:
    """The name that `load_strategy` finds this strategy's class by again."""
    path = f"{type(strategy).__module__}:{type(strategy).__qualname__}"
    return next((name for name, built_in in BUILT_IN.items() if built_in == path), path)


def strategy_document(strategy: Strategy) -> dict[str, Scalar | None]:
    """All parameters with their values, defaults included: what the ledger keeps and `load_strategy` reads again.

    Raises UnknownStrategy for a parameter that is not a number, text or true/false.
    """
    document: dict[str, Scalar | None] = {}
    for name, value in strategy.model_dump(mode="json").items():
        if value is not None and not isinstance(value, Scalar):
            raise UnknownStrategy(
                f"strategy {strategy_name(strategy)}: parameter {name} is {value!r}; it must be a number, text or true/false"
            )
        document[name] = value
    return document


def strategy_code_version(strategy: Strategy) -> str:
    """SHA-256 of all that decides its signals besides candles and parameters: part of the signal cache's key.

    Covered are the sources of the strategy's module, of what that imports from its own package or from modules beside it, of the
    contract and the indicators, and the versions of polars, numpy and numba. Other installed packages are not covered. Raises
    UnknownStrategy when the strategy has no source file (defined at a prompt).
    """
    return _code_version(type(strategy))


@lru_cache(maxsize=64)
def _code_version(strategy: type[Strategy]) -> str:
    """Once a process and class: what is on disk later is not what this process has imported."""
    modules = {base.__module__ for base in strategy.__mro__ if issubclass(base, Strategy)} | {*_ALWAYS_SOURCES}
    parts = [f"{package} {metadata.version(package)}" for package in _VERSIONED_PACKAGES]
    by_root: dict[Path, set[Path]] = {}
    for module in sorted(modules):
        source, import_root = _source_file(strategy, module)
        by_root.setdefault(import_root, set()).add(source)
    parts += sorted(digest_sources(reached_sources(files, root), root) for root, files in by_root.items())
    return digest_sources({Path("parts"): "\n".join(parts)}, Path())


def _source_file(strategy: type[Strategy], module: str) -> tuple[Path, Path]:
    """Source file of ``module``, and the folder from which it is imported by its name."""
    if module in sys.modules:
        file: str | None = getattr(sys.modules[module], "__file__", None)
    else:
        spec = find_spec(module)  # found, not imported: the indicators would bring numba along
        file = spec.origin if spec else None
    if file is None or not Path(file).is_file():
        raise UnknownStrategy(f"strategy {strategy.__qualname__}: {module} has no source file; put the strategy into a module")
    source = Path(file).resolve()
    above = module.count(".") + (1 if source.name == "__init__.py" else 0)
    return source, source.parents[above]


def strategy_class(name: str) -> type[Strategy]:
    """The class behind a name or import path, imported and checked. Raises UnknownStrategy."""
    path = BUILT_IN.get(name, name)
    found = _import_path(name, path) if ":" in path else _entry_point(name)
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise UnknownStrategy(f"strategy {name}: {found!r} is not a class derived from candlewick.strategies.contract.Strategy")
    if found.signals is Strategy.signals:
        raise UnknownStrategy(f"strategy {name}: {found.__qualname__} has no signals(candles)")
    return found


def _import_path(name: str, path: str) -> object:
    module_name, _, attribute = path.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise UnknownStrategy(f"strategy {name!r} is not an import path; write it as my_pkg.my_mod:MyStrategy")
    try:
        module = import_module(module_name)
    except Exception as problem:
        raise UnknownStrategy(
            f"strategy {name}: {module_name} cannot be imported from {Path.cwd()} or the installed packages: "
            f"{type(problem).__name__}: {problem}"
        ) from problem
    found: object = getattr(module, attribute, None)
    if found is None:
        classes = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, Strategy)]
        known = ", ".join(key for key in classes if key != "Strategy") or "no strategy"
        raise UnknownStrategy(f"strategy {name}: {module_name} has no {attribute!r}; it has {known}")
    return found


def _entry_point(name: str) -> object:
    entries = {entry.value: entry for entry in metadata.entry_points(group=ENTRY_POINT_GROUP) if entry.name == name}
    if len(entries) > 1:
        raise UnknownStrategy(
            f"strategy {name} is announced by several packages: {', '.join(sorted(entries))}; use an import path"
        )
    for value in entries:
        return _import_path(name, value)
    known = strategy_names()
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    raise UnknownStrategy(
        f"no strategy is called {name!r}{hint} known are {', '.join(known)}, or an import path such as my_pkg.my_mod:MyStrategy"
    )
