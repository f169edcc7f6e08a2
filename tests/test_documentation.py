"""README and docs are true: their examples run, their commands, settings, links and names exist, and nothing is left unsaid."""

import ast
import asyncio
import importlib
import inspect
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import yaml
from cyclopts import App
from prefect import Flow

from candlewick.code_version import RELEASE
from candlewick.market.files import FilesMapping, FilesMarket
from candlewick.market.sample import SampleMarket
from candlewick.settings import load_settings
from candlewick.strategies.catalog import StrategyDescription, describe_strategies, load_strategy
from candlewick.strategies.contract import BUY, SELL, SIGNAL_SCHEMA, complete_signals
from candlewick.timeframes import DAY_MS, parse_utc
from deployments.prefect_environment import prefect_environment

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGE_NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
PACKAGES = ("flows", "tasks", "blocks", "candlewick/strategies")
NOW_MS = parse_utc("2026-01-02")
# Commands with a parser of the standard library; they take no options.
WITHOUT_OPTIONS = {"deployments.serve", "deployments.register"}


@dataclass(frozen=True)
class Example:
    """A fenced block of a page. ``heading`` is what its first line says it is a file of, "" where it does not."""

    page: str
    language: str
    text: str

    @property
    def heading(self) -> str:
        first = re.match(r"# (\S+\.(?:py|yaml))$", self.text.splitlines()[0])
        return first.group(1) if first else ""


def examples(language: str, heading: str = "") -> list[Example]:
    found = [
        Example(name, *block)
        for name, page in zip(PAGE_NAMES, PAGES, strict=True)
        for block in re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    ]
    return [one for one in found if one.language == language and heading in ("", one.heading)]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```\w+\n.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def everything() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def command_lines() -> list[tuple[str, Mapping[str, str], list[str]]]:
    """Each line of the shell examples: its page, its environment assignments, its words."""
    lines = []
    for example in examples("sh"):
        for line in example.text.splitlines():
            words = shlex.split(line, comments=True)
            words = words[1:] if words[:1] == ["export"] else words
            first = next((number for number, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), len(words))
            lines.append((example.page, dict(pair.split("=", 1) for pair in words[:first]), words[first:]))
    return lines


# The examples


@pytest.fixture
def my_strategies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """README's strategy as a module of the user's."""
    (example,) = examples("python", "my_strategies.py")
    (tmp_path / "my_strategies.py").write_text(example.text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_strategies", None)


def sample_candles() -> pl.DataFrame:
    return asyncio.run(SampleMarket(NOW_MS).fetch("BTC/USDT", "4h", NOW_MS - 90 * DAY_MS, NOW_MS)).candles


def test_the_readmes_strategy_decides_on_sample_candles(my_strategies: Path) -> None:
    strategy = load_strategy("my_strategies:Breakout", {"lookback_bars": "30"})
    signals = complete_signals(strategy, sample_candles())
    acting = signals.filter(pl.col("action") != "HOLD")
    assert set(acting["action"]) == {BUY, SELL}
    assert acting["reason"].null_count() == 0
    assert signals.filter(pl.col("action") == BUY)["stop_loss_atr"].unique().to_list() == [2.0]


def test_the_readmes_strategy_does_not_peek(my_strategies: Path) -> None:
    strategy, candles = load_strategy("my_strategies:Breakout", {}), sample_candles()
    whole = complete_signals(strategy, candles)
    for bars in (1, 15, 100, candles.height - 1):
        assert complete_signals(strategy, candles.head(bars)).equals(whole.head(bars)), bars


def test_every_python_example_is_one_that_a_test_runs() -> None:
    """The reader of external events is run by test_event_bus.py, against a real Redis."""
    run = [("README.md", "my_strategies.py"), ("docs/monitoring.md", "read_events.py")]
    assert [(example.page, example.heading) for example in examples("python")] == run


def test_every_settings_example_is_accepted(tmp_path: Path) -> None:
    found = examples("yaml", "candlewick.yaml")
    assert found
    for example in found:
        (tmp_path / "candlewick.yaml").write_text(example.text, encoding="utf-8")
        settings = load_settings(directory=tmp_path, environment={})
        document = yaml.safe_load(example.text)
        assert settings.exchanges.keys() == document.get("exchanges", {}).keys()
        assert settings.datasets.keys() == document.get("datasets", {}).keys()


def test_every_files_mapping_example_is_accepted(tmp_path: Path) -> None:
    found = examples("yaml", "candlewick-files.yaml")
    assert found
    for example in found:
        mapping = FilesMapping.model_validate(yaml.safe_load(example.text))
        (tmp_path / "candlewick-files.yaml").write_text(example.text, encoding="utf-8")
        rows = "unix,open,high,low,close,Volume BTC\n1735689600,1,2,0.5,1.5,10\n"
        (tmp_path / mapping.files[0].file).write_text(rows, encoding="utf-8")
        page = asyncio.run(FilesMarket.from_name(f"files:{tmp_path}", NOW_MS).fetch("BTC/USDT", "1h", 0, NOW_MS))
        assert page.candles["volume"].to_list() == [10.0]


def deployment_examples() -> list[dict[str, object]]:
    """prefect.yaml's deployments with those of the examples added below them, as the pages tell a user to."""
    text = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    added = "\n".join(example.text for example in examples("yaml", "prefect.yaml"))
    assert added
    deployments: list[dict[str, object]] = yaml.safe_load(f"{text}\n{added}")["deployments"]
    return deployments


def deployed_flow(deployment: Mapping[str, object]) -> Flow[..., object]:
    """The flow that a deployment starts."""
    path, _, name = str(deployment["entrypoint"]).partition(":")
    found = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    assert isinstance(found, Flow)
    return found


def test_every_deployment_example_is_one_that_the_flow_accepts(my_strategies: Path) -> None:
    for deployment in deployment_examples():
        parameters = deployment.get("parameters", {})
        assert isinstance(parameters, dict)
        flow = deployed_flow(deployment)
        flow.validate_parameters(parameters)
        if flow.name == "paper-trading":
            assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
            load_strategy(parameters.get("strategy", "buy_and_hold"), parameters.get("parameters", {}))


def test_every_yaml_example_says_which_file_it_is_of() -> None:
    known = {"candlewick.yaml", "candlewick-files.yaml", "prefect.yaml", "schema.yaml"}
    assert [(e.page, e.text.splitlines()[0]) for e in examples("yaml") if e.heading not in known] == []


# Commands


def app_of(module: str) -> App:
    """The app of a command's module; the one of the settings stands in another."""
    module = {"candlewick.settings": "candlewick.settings_report"}.get(module, module)
    (app,) = [value for value in vars(importlib.import_module(module)).values() if isinstance(value, App)]
    return app


def test_every_python_command_is_understood_by_the_command_it_names() -> None:
    named = [words[2:] for _, _, words in command_lines() if words[:2] == ["python", "-m"]]
    modules = {"flows.paper_trading", "flows.accounts", "flows.backtesting", "candlewick.settings"}
    assert {words[0] for words in named} >= modules
    for module, *tokens in named:
        if module in WITHOUT_OPTIONS:
            assert tokens == []
            assert callable(importlib.import_module(module).main)
        else:
            app_of(module).parse_args(tokens, exit_on_error=False, print_error=False)


def test_every_command_mentioned_in_a_sentence_exists() -> None:
    for module in set(re.findall(r"python -m ((?:\w+\.)*\w+)\b", everything())) - {"flows"}:
        assert importlib.util.find_spec(module) is not None, module


def test_every_subcommand_of_accounts_is_shown_with_an_example() -> None:
    shown = {words[3] for _, _, words in command_lines() if words[:3] == ["python", "-m", "flows.accounts"]}
    assert shown == {name for name in app_of("flows.accounts") if not name.startswith("-")}


def test_the_readme_shows_every_command_of_backtesting() -> None:
    lines = [words for page, _, words in command_lines() if page == "README.md"]
    shown = {words[3] for words in lines if words[:3] == ["python", "-m", "flows.backtesting"]}
    assert shown == {name for name in app_of("flows.backtesting") if not name.startswith("-")}


def test_every_option_of_the_paper_trading_command_is_in_its_help_and_every_option_named_exists() -> None:
    known = set()
    for module in (
        "flows.paper_trading", "flows.accounts", "flows.backtesting", "flows.market_data", "flows.monitoring",
        "candlewick.settings",
    ):  # fmt: skip
        app = app_of(module)
        for one in [app, *(app[name] for name in app if not name.startswith("-"))]:
            if one.default_command is not None:
                known |= {name for argument in one.assemble_argument_collection() for name in argument.names}
    assert {"--account", "--until", "--dry-run", "--json"} <= known
    others = {"--help", "--debug", "--write", "--all", "--no-prompt", "--pool", "--type", "--data", "--only"}
    others |= {"--live", "--factor"}
    named = {option for page in PAGES for option in re.findall(r"`[^`]*?(--[a-z][a-z0-9-]+)", prose(page))}
    assert named - known - others == set()


def test_every_make_target_named_exists_and_the_readme_names_every_target() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", everything(), re.MULTILINE))
    assert named - targets == set()
    assert targets - named - {"help", "clean"} == set()


def test_the_shell_examples_hold_no_other_commands() -> None:
    assert {words[0] for _, _, words in command_lines() if words} <= {"make", "python", "prefect"}


def test_prefect_commands_name_what_there_is() -> None:
    deployments = {f"{deployed_flow(one).name}/{one['name']}" for one in deployment_examples()}
    for _, _, words in command_lines():
        if words[:3] == ["prefect", "deployment", "run"]:
            assert words[3] in deployments
        if "--pool" in words:
            assert words[words.index("--pool") + 1] == load_settings(environment={}).serve.work_pool


# Settings


def test_every_settings_variable_named_exists() -> None:
    for page, assigned, _ in command_lines():
        own = {name: value for name, value in assigned.items() if name.startswith("CANDLEWICK_")}
        load_settings(environment=own)
        assert set(assigned) - set(own) <= {"PREFECT_API_URL"}, page
    for name in set(re.findall(r"`(CANDLEWICK_[A-Z_]+?)(?:=[^`]*)?`", everything())):
        assert name in {"CANDLEWICK_CONFIG", "CANDLEWICK_DEBUG"} or name.lower() in variables(), name


def variables() -> set[str]:
    """Names of all settings as environment variables in lower case, with the exchanges that the pages name."""
    keys = set(setting_keys())
    keys |= {"paper.parameters.fast"}  # a parameter of a strategy
    keys |= {key.replace(".ID.", f".{exchange}.") for key in keys for exchange in ("binance", "kraken")}
    keys |= {key.replace(".NAME.", ".majors.") for key in keys}
    return {f"candlewick_{key.replace('.', '__')}" for key in keys}


def setting_keys() -> list[str]:
    return re.findall(r"^\| `([a-z]+\.[\w.]+)` \|", (ROOT / "docs" / "settings.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_every_setting_named_in_a_sentence_exists() -> None:
    keys = setting_keys()
    sections = {key.partition(".")[0] for key in keys}
    for page in PAGES:
        named = re.findall(r"`([a-z]+)\.([a-z_0-9]+)`", prose(page))
        wrong = [f"{s}.{name}" for s, name in named if s in sections and f"{s}.{name}" not in keys and name not in ("py", "md")]
        assert wrong == [], page


def test_the_prefect_page_tells_the_settings_that_make_serve_sets() -> None:
    told = dict(re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)` \|", (ROOT / "docs" / "prefect.md").read_text("utf-8"), re.MULTILINE))
    given = prefect_environment(ROOT, 4200, inherited={})
    of_this_machine = {
        "PREFECT_HOME", "PREFECT_API_URL", "PREFECT_SERVER_API_HOST", "PREFECT_SERVER_API_PORT", "PATH", "NO_PROXY", "no_proxy",
        "PYTHONUNBUFFERED",
    }  # fmt: skip
    assert told == {name: value for name, value in given.items() if name not in of_this_machine}


# Links, images, paths


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place) if place else page
        assert file.is_file(), target
        assert not anchor or anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings have on the usual hosts."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_images_are_small_pictures_with_a_text() -> None:
    images = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(images) == 4
    for text, target in images:
        content = (ROOT / target).read_bytes()
        assert text
        assert content.startswith(b"\x89PNG")
        assert len(content) < 400_000, target


def test_every_path_named_in_a_sentence_exists() -> None:
    pattern = r"`((?:candlewick|flows|tasks|blocks|deployments|tests|docs)/[\w/.]*)`"
    named = {path for page in PAGES for path in re.findall(pattern, prose(page))}
    assert named
    # docs/benchmarks.md is written by `make bench BENCH=--write`.
    assert [path for path in sorted(named) if not (ROOT / path).exists() and path != "docs/benchmarks.md"] == []


def test_every_page_is_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {name for name in PAGE_NAMES if name.startswith("docs/")} - linked == set()


# Nothing unsaid


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).glob("*.py")) if path.stat().st_size]


@pytest.mark.parametrize("path", sources(), ids=[str(path.relative_to(ROOT)) for path in sources()])
def test_everything_public_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    bare = [f"{name}:{node.lineno}" for name, node in public(tree) if not ast.get_docstring(node)]
    assert bare == []


def public(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Public classes and functions of a module, and the public methods of those classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            for member in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not member.name.startswith("_"):
                    yield f"{node.name}.{member.name}", member


def prefect_names(package: str, kind: str) -> set[str]:
    """Names that a package gives its flows or tasks."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / package).glob("*.py"))
    return set(re.findall(rf"@{kind}\(\s*name=\"([\w-]+)\"", text))


def test_every_flow_task_block_strategy_and_deployment_is_named() -> None:
    text = everything()
    deployments = {str(one["name"]) for one in yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]}
    flows, tasks = prefect_names("flows", "flow"), prefect_names("tasks", "task")
    assert len(flows) >= 2
    assert len(tasks) >= 9
    names = flows | tasks | deployments | {one.name for one in describe_strategies()} | block_names()
    assert sorted(name for name in names if f"`{name}`" not in text) == []


def block_names() -> set[str]:
    from deployments.register import block_types

    return {block.__name__ for block in block_types()}


def described(strategy: StrategyDescription) -> Iterator[str]:
    for parameter in strategy.parameters:
        value = parameter.default
        text = "none" if value is None else json.dumps(value).strip('"')
        yield f"| `{parameter.name}` | `{text}` | {parameter.requirement} | {parameter.description} |"


@pytest.mark.parametrize("strategy", describe_strategies(), ids=lambda strategy: strategy.name)
def test_the_strategies_page_tells_every_strategy_and_parameter(strategy: StrategyDescription) -> None:
    page = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    section = page.partition(f"### {strategy.name}\n")[2].partition("\n#")[0]
    assert strategy.summary in section
    assert [line for line in section.splitlines() if line.startswith("| `")] == list(described(strategy))


def test_the_strategies_page_tells_every_column_of_a_signal() -> None:
    page = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    assert [column for column in SIGNAL_SCHEMA if f"`{column}`" not in page] == []


def test_the_glossary_is_in_order_and_says_each_word_once() -> None:
    words = re.findall(r"^\| ([^|]+?) \|", (ROOT / "docs" / "glossary.md").read_text("utf-8"), re.MULTILINE)[2:]
    assert [word.lower() for word in words] == sorted({word.lower() for word in words})


def test_the_changelog_begins_with_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    newest = re.search(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == project["version"] == RELEASE


def test_pages_name_no_path_of_a_machine() -> None:
    assert re.findall(r"(?<![\w.:/])/(?:work|home|root|tmp|Users)/\S*", everything()) == []


def test_the_help_of_the_flow_says_what_its_parameters_are_called() -> None:
    from flows.paper_trading import command, paper_trading

    flow, options = (set(inspect.signature(one).parameters) for one in (paper_trading.fn, command))
    assert flow - options == {"parameters", "rules"}
    assert options - flow == {"param", "rule", "json"}
