"""docs/backtesting.md tells what there is: every figure with its formula, every command and option; and its walkthrough runs."""

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from cyclopts import App

from candlewick.backtesting.objectives import objective_names
from candlewick.figures import FIGURES
from candlewick.rules import Sizing
from flows.backtesting import app
from tests.paper_flow import Workplace

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "backtesting.md").read_text(encoding="utf-8")
BETTER = {"higher": "more", "lower": "less", "neither": "–"}


def figures_table() -> str:
    """All figures as the page has to tell them."""
    head = "| `--objective` | Figure | Formula | Source | Better |\n| --- | --- | --- | --- | --- |\n"
    rows = (
        f"| `{name}` | {one.title} | {one.formula} | {one.source} | {BETTER[one.better]} |\n" for name, one in FIGURES.items()
    )
    return head + "".join(rows)


def commands() -> dict[str, App]:
    """The commands by name."""
    return {name: app[name] for name in app if not name.startswith("-")}


def shown() -> list[list[str]]:
    """The words of every command that the page's shell examples show."""
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)).splitlines()
    return [shlex.split(line)[3:] for line in lines if line.startswith("python -m flows.backtesting ")]


def test_the_page_tells_every_figure_with_its_formula_and_source() -> None:
    told = re.search(r"^<!-- figures: .*? -->\n(.*?)^<!-- end of figures -->$", PAGE, re.MULTILINE | re.DOTALL)
    assert told is not None
    assert told.group(1) == figures_table()


def test_what_a_search_can_go_by_is_what_the_table_says_has_a_better_way() -> None:
    told = re.findall(r"^\| `(\w+)` \| .* \| (?:more|less) \|$", PAGE, re.MULTILINE)
    assert tuple(told) == objective_names()


def test_the_page_tells_every_sizing_and_no_other() -> None:
    told = re.findall(r"^\| `(\w+)` \| [^|]* \| `\w+`(?:, `\w+`)* \|$", PAGE, re.MULTILINE)
    assert set(told) == set(Sizing.__args__)


def test_every_command_is_shown_with_an_example() -> None:
    assert {words[0] for words in shown()} == set(commands())


def test_every_option_is_told_and_every_option_told_exists() -> None:
    known = {name for one in commands().values() for argument in one.assemble_argument_collection() for name in argument.names}
    options = {name for name in known if name.startswith("--") and not name.startswith(("--no-", "--empty-"))}
    named = set(re.findall(r"(--[a-z][a-z-]+)", PAGE))
    assert options - named == set()
    assert named - options == set()


@pytest.fixture
def walkthrough() -> Iterator[ModuleType]:
    """docs/walkthrough.py as a module."""
    spec = importlib.util.spec_from_file_location("walkthrough", ROOT / "docs" / "walkthrough.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["walkthrough"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("walkthrough")


@pytest.mark.parametrize("days", [80, 180])
def test_every_step_of_the_walkthrough_is_a_command_that_is_understood(walkthrough: ModuleType, days: int) -> None:
    for step in walkthrough.steps(days, "mine"):
        step.app.parse_args(step.arguments, exit_on_error=False, print_error=False)


def test_the_walkthrough_goes_from_an_idea_to_an_account_that_did_what_the_backtest_says(
    walkthrough: ModuleType, workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert walkthrough.walk(80, "mine") == 0
    told = capsys.readouterr().out
    assert [line for line in told.splitlines() if re.match(r"[1-6]\. ", line)] == [s.title for s in walkthrough.steps(80, "mine")]
    assert re.search(r"account mine: one backtest of [\d,]+ bars .* that 2 cycles wrote, bit for bit", told)
    played, traded = re.search(r"Final equity .*\n +([\d,.]+)", told), re.findall(r"Equity +Cash .*\n +([\d,.]+) USDT", told)
    assert played is not None
    assert len(traded) == 2
    assert traded[1] == played.group(1)
