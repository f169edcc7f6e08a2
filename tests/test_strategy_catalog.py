"""Strategies by name, import path and entry point; parameters from a command line; documents and code versions."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from candlewick.errors import UnknownStrategy
from candlewick.strategies import catalog
from candlewick.strategies.catalog import (
    describe_strategies,
    describe_strategy,
    load_strategy,
    strategy_code_version,
    strategy_document,
    strategy_name,
)
from candlewick.strategies.rsi_reversion import RsiReversion
from candlewick.strategies.sma_cross import SmaCross

OWN_STRATEGY = '''
from typing import Literal

from pydantic import Field

from candlewick.strategies.contract import Strategy
from own_pkg.levels import LEVEL


class Mine(Strategy):
    """Holds.

    More about it.
    """

    bars: int = Field(..., ge=1, description="bars to look at")
    mode: Literal["a", "b"] = "a"

    def signals(self, candles):
        return candles.select(action=__import__("polars").lit("HOLD"))


class Listed(Mine):
    levels: tuple[float, ...] = (1.0, 2.0)


class Silent(Strategy):
    pass
'''


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An importable package of the user's with a strategy, a module it needs, and a module that cannot be imported."""
    package = tmp_path / "own_pkg"
    package.mkdir()
    for name, text in {
        "__init__": "",
        "levels": "LEVEL = 1\n",
        "mine": OWN_STRATEGY,
        "broken": "1 / 0\n",
        "needy": "import a_module_that_is_missing\n",
    }.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for module in [module for module in sys.modules if module.split(".")[0] == "own_pkg"]:
        del sys.modules[module]


@pytest.mark.parametrize("name", catalog.BUILT_IN)
def test_a_strategy_and_its_document_are_each_others_inverse(name: str) -> None:
    strategy = load_strategy(name, {})
    assert strategy_name(strategy) == name == strategy.name
    assert load_strategy(name, strategy_document(strategy)) == strategy
    assert set(strategy_document(strategy)) == {parameter.name for parameter in describe_strategy(name).parameters}


def test_text_from_a_command_line_is_read_as_the_parameters_type() -> None:
    parameters = {"period": "10", "oversold": "25.5", "stop_loss_atr": "2", "take_profit_1_atr": "none"}
    assert load_strategy("rsi_reversion", parameters) == RsiReversion(period=10, oversold=25.5, stop_loss_atr=2.0)
    zone = load_strategy("fibonacci_golden_zone", {"one_entry_per_swing": "false", "confirmation": "none"})
    assert strategy_document(zone)["one_entry_per_swing"] is False
    assert strategy_document(zone)["confirmation"] == "none"


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("sma_crss", {}, "no strategy is called 'sma_crss'; did you mean sma_cross? known are fibonacci_golden_zone, sma_cross"),
        ("zzzz", {}, "no strategy is called 'zzzz'; known are"),
        ("not a path:X", {}, "is not an import path; write it as my_pkg.my_mod:MyStrategy"),
        ("a_module_that_is_missing:X", {}, "a_module_that_is_missing cannot be imported"),
        ("own_pkg.needy:X", {}, "No module named 'a_module_that_is_missing'"),
        ("own_pkg.broken:X", {}, "own_pkg.broken cannot be imported from"),
        ("own_pkg.mine:Yours", {"bars": 1}, "own_pkg.mine has no 'Yours'; it has Mine, Listed, Silent"),
        ("own_pkg.mine:LEVEL", {}, "1 is not a class derived from"),
        ("own_pkg.mine:Silent", {}, "Silent has no signals(candles)"),
        ("own_pkg.mine:Mine", {}, "parameter bars (a whole number, at least 1) must be given"),
        ("own_pkg.mine:Mine", {"bars": 1, "mode": "c"}, "mode is 'c'; it must be one of a, b"),
        ("sma_cross", {"fats": "5"}, "it has no parameter 'fats'; did you mean fast? it has fast, slow"),
        ("sma_cross", {"fast": "50"}, "strategy sma_cross: fast is 50 and slow is 30; fast must be below slow"),
        ("sma_cross", {"fast": "ten"}, "fast is 'ten'; it must be a whole number, at least 1 and at most 2000"),
        ("sma_cross", {"fast": True}, "fast is 'true'; it must be a whole number"),
        ("sma_cross", {"fast": 0, "slow": 1.5}, "at most 2000; slow is 1.5; it must be a whole number"),
        ("rsi_reversion", {"oversold": "nan"}, "oversold is 'nan'; it must be a number, above 0 and below 100"),
        ("fibonacci_golden_zone", {"one_entry_per_swing": "perhaps"}, "it must be true or false"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_plain_words(
    own_package: Path, name: str, parameters: dict[str, str | int | float | bool], message: str
) -> None:
    with pytest.raises(UnknownStrategy) as refusal:
        load_strategy(name, parameters)
    assert message in str(refusal.value)
    assert "pydantic" not in str(refusal.value)


def test_a_users_strategy_is_loaded_by_import_path_and_described(own_package: Path) -> None:
    strategy = load_strategy("own_pkg.mine:Mine", {"bars": "3"})
    assert strategy_document(strategy) == {"bars": 3, "mode": "a"}
    assert strategy_name(strategy) == "own_pkg.mine:Mine"
    description = describe_strategy("own_pkg.mine:Mine")
    assert description.summary == "Holds."
    assert [(p.name, p.requirement, p.required) for p in description.parameters] == [
        ("bars", "a whole number, at least 1", True),
        ("mode", "one of a, b", False),
    ]


def test_a_parameter_that_the_ledger_cannot_keep_is_refused(own_package: Path) -> None:
    with pytest.raises(UnknownStrategy, match=r"parameter levels is .* it must be a number, text or true/false"):
        strategy_document(load_strategy("own_pkg.mine:Listed", {"bars": 1}))


def announce(folder: Path, distribution: str, lines: str) -> None:
    """What installing a package with entry points leaves behind."""
    metadata = folder / f"{distribution}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[candlewick.strategies]\n{lines}\n")


def test_a_strategy_that_an_installed_package_announces_is_found_by_its_name(own_package: Path) -> None:
    announce(own_package.parent, "one", "holds = own_pkg.mine:Mine")
    assert strategy_name(load_strategy("holds", {"bars": 2})) == "own_pkg.mine:Mine"
    assert [description.name for description in describe_strategies()][-1] == "holds"
    with pytest.raises(UnknownStrategy, match="did you mean holds"):
        load_strategy("hold", {})


def test_a_name_that_two_packages_announce_differently_is_refused(own_package: Path) -> None:
    announce(own_package.parent, "one", "holds = own_pkg.mine:Mine")
    announce(own_package.parent, "two", "holds = own_pkg.mine:Listed")
    with pytest.raises(UnknownStrategy, match=r"several packages: own_pkg\.mine:Listed, own_pkg\.mine:Mine"):
        load_strategy("holds", {})


def test_every_built_in_strategy_and_parameter_is_described() -> None:
    descriptions = describe_strategies()[: len(catalog.BUILT_IN)]
    assert [description.name for description in descriptions] == list(catalog.BUILT_IN)
    for description in descriptions:
        assert description.summary.endswith(".")
        for parameter in description.parameters:
            assert parameter.description, f"{description.name}.{parameter.name}"
            assert parameter.bounds or parameter.kind == "true or false" or parameter.kind.startswith("one of")


def test_listing_and_loading_strategies_does_not_import_numba() -> None:
    probe = (
        "import sys; from candlewick.strategies import catalog; catalog.describe_strategies();"
        "catalog.strategy_code_version(catalog.load_strategy('sma_cross', {})); sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def code_version(name: str) -> str:
    """In a class loaded afresh, as a new process would."""
    for module in [module for module in sys.modules if module.split(".")[0] == "own_pkg"]:
        del sys.modules[module]
    return strategy_code_version(load_strategy(name, {"bars": 1}))


def test_the_code_version_changes_with_the_strategys_source_and_with_what_it_imports_from_its_package(own_package: Path) -> None:
    before = code_version("own_pkg.mine:Mine")
    assert code_version("own_pkg.mine:Mine") == before
    (own_package / "broken.py").write_text("unrelated = True\n")
    assert code_version("own_pkg.mine:Mine") == before
    (own_package / "levels.py").write_text("LEVEL = 2\n")
    after_import = code_version("own_pkg.mine:Mine")
    assert after_import != before
    (own_package / "mine.py").write_text(OWN_STRATEGY + "\n# changed\n")
    assert code_version("own_pkg.mine:Mine") not in (before, after_import)


def test_the_code_version_depends_on_the_class_and_not_on_its_parameters() -> None:
    assert strategy_code_version(SmaCross()) == strategy_code_version(SmaCross(fast=3))
    assert strategy_code_version(SmaCross()) != strategy_code_version(RsiReversion())


def test_the_code_version_changes_with_the_version_of_polars(monkeypatch: pytest.MonkeyPatch) -> None:
    before = catalog._code_version.__wrapped__(SmaCross)
    monkeypatch.setattr(catalog.metadata, "version", lambda package: "0.0" if package == "polars" else "1.0")
    other = catalog._code_version.__wrapped__(SmaCross)
    monkeypatch.setattr(catalog.metadata, "version", lambda package: "1.0")
    assert len({before, other, catalog._code_version.__wrapped__(SmaCross)}) == 3


def test_a_strategy_without_a_source_file_has_no_code_version(own_package: Path) -> None:
    strategy = load_strategy("own_pkg.mine:Mine", {"bars": 1})
    (own_package / "mine.py").unlink()
    with pytest.raises(UnknownStrategy, match=r"own_pkg\.mine has no source file"):
        strategy_code_version(strategy)
