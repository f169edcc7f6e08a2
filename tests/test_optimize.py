"""Optimisations: seeded trials that go on exactly where they stopped."""

import json
from pathlib import Path

import polars as pl
import pytest

from candlewick.backtesting.objectives import read_objective
from candlewick.backtesting.set_runner import SetRunner
from candlewick.backtesting.simulation import backtest
from candlewick.backtesting.trials import CHUNK_TRIALS, REPEATED, Trials, first_valid
from candlewick.errors import UsageError
from candlewick.json_text import to_json
from candlewick.search_space import parse_search_space
from candlewick.store.backtests import Backtests
from candlewick.store.database import Database
from candlewick.strategies.sma_cross import SmaCross
from flows.search_steps import SearchResult
from tests.paper_flow import Workplace
from tests.searches import asked, chunk_files, run_search, search_window, write_market

SPACE = {"fast": "5:60", "slow": "10:200:10", "stop_loss_bps": "50:500", "take_profit_1_bps": "none,100,200.5"}


@pytest.fixture(scope="module")
def runner() -> SetRunner:
    return SetRunner(search_window())


def tried(
    runner: SetRunner, folder: Path, trials: int, seed: int = 0, objective: str = "sharpe"
) -> tuple[pl.DataFrame, list[bool]]:
    """All trials in SET_SCHEMA, and which chunks were there already."""
    search = Trials(parse_search_space(SmaCross, SPACE), read_objective(objective), seed)
    done = [search.finish(runner, folder, first, min(CHUNK_TRIALS, trials - first)) for first in range(0, trials, CHUNK_TRIALS)]
    return pl.concat([pl.read_parquet(one["path"]) for one in done]), [one["kept"] for one in done]


def test_trials_that_go_on_are_those_that_would_have_been_made_without_a_stop(runner: SetRunner, tmp_path: Path) -> None:
    whole, _ = tried(runner, tmp_path / "whole", 52)
    tried(runner, tmp_path / "parts", 20)
    tried(runner, tmp_path / "parts", 36)
    parts, kept = tried(runner, tmp_path / "parts", 52)
    assert kept == [True, True, False, False]
    assert parts.equals(whole)


def test_another_seed_and_another_objective_make_other_trials(runner: SetRunner, tmp_path: Path) -> None:
    first, *others = (
        tried(runner, tmp_path, 32, seed, objective)[0]["parameters"].to_list()
        for seed, objective in ((0, "sharpe"), (1, "sharpe"), (0, "max_drawdown"))
    )
    assert all(one != first for one in others)


def test_impossible_and_repeated_trials_are_counted_and_not_computed(runner: SetRunner, tmp_path: Path) -> None:
    search = Trials(parse_search_space(SmaCross, {"fast": "5:8", "slow": "6,20"}), read_objective("sharpe"), 0)
    sets = pl.concat([pl.read_parquet(search.finish(runner, tmp_path, first, 16)["path"]) for first in (0, 16)])
    computed = sets.filter(pl.col("skipped").is_null())
    assert computed["parameters"].n_unique() == computed.height <= 5
    assert (sets["skipped"] == REPEATED).sum() > 10
    assert sets["skipped"].str.contains("fast must be below slow").any()


def test_what_is_tried_lies_within_the_ranges_and_on_their_steps(runner: SetRunner, tmp_path: Path) -> None:
    sets, _ = tried(runner, tmp_path, 48)
    for text in sets["parameters"]:
        values = json.loads(text)
        assert 5 <= values["fast"] <= 60
        assert values["slow"] in range(10, 201, 10)
        assert 50 <= values["stop_loss_bps"] <= 500
        assert values["take_profit_1_bps"] in (None, 100, 200.5)
    assert len({json.loads(text)["stop_loss_bps"] for text in sets["parameters"]}) > 20


def test_every_trial_has_the_figures_of_a_backtest_with_its_parameters(runner: SetRunner, tmp_path: Path) -> None:
    sets, window = tried(runner, tmp_path, 16)[0].filter(pl.col("skipped").is_null()), search_window()
    for row in sets.head(4).iter_rows(named=True):
        strategy = SmaCross.model_validate_json(row["parameters"])
        assert row["figures"] == to_json(dict(backtest(window.terms, strategy, window.candles).figures()))


def test_a_search_learns(runner: SetRunner, tmp_path: Path) -> None:
    sets, _ = tried(runner, tmp_path, 96)
    early, late = sets["sharpe"].head(32).median(), sets["sharpe"].tail(32).median()
    assert isinstance(early, float)
    assert isinstance(late, float)
    assert late > early


def test_the_first_valid_set_is_found_or_its_absence_explained() -> None:
    assert first_valid(parse_search_space(SmaCross, {"fast": "30:60", "slow": "10:200"})).values == {"fast": 30, "slow": 105}
    with pytest.raises(
        UsageError, match="no combination of the ends and middles of these ranges is valid; the first: fast is 30"
    ):
        first_valid(parse_search_space(SmaCross, {"fast": "30:60", "slow": "10:20"}))


def optimized(**options: object) -> SearchResult:
    from flows.optimize import optimize

    result = run_search(optimize, **options)
    assert isinstance(result, SearchResult)
    return result


def test_an_optimisation_is_kept_and_more_trials_go_on_from_it(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    options = asked(write_market(workplace.directory / "market"))
    options["parameters"] = {"fast": "5:60", "slow": "20:200"}
    first = optimized(**options, trials=32)
    files = chunk_files(workplace.directory / "lake")
    more = optimized(**options, trials=48)
    after = chunk_files(workplace.directory / "lake")
    assert (len(files), len(after)) == (2, 3)
    assert {name: after[name] for name in files} == files
    store = Backtests(Database(str(workplace.directory / "ledger.duckdb")))
    kept = store.find(more.run.run_id)
    assert (kept.kind, kept.status, kept.sets) == ("optimize", "success", 48)
    earlier = store.sets(first.run.run_id)
    assert store.sets(more.run.run_id).head(earlier.height).equals(earlier)
    assert more.view is not None
    assert more.report is not None
    assert Path(more.report).is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trials", "0"], "--trials 0: it must be a whole number from 1 to 100,000"),
        (["--objective", "trades"], "--objective trades: neither more nor less"),
        (["--top", "0"], "--top 0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    from candlewick.cli import run_command
    from flows.backtesting import app

    monkeypatch.chdir(tmp_path)
    assert run_command(app, ["optimize", "--strategy", "sma_cross", "--param", "fast=5:10", *options]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
