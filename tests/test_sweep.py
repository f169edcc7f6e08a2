"""Sweeps: chunks that are kept, figures that are those of a run, interruptions, processes."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candlewick.backtesting.believing import judge_search
from candlewick.backtesting.chunk_sizes import LARGEST, Pace, Progress, seconds_text
from candlewick.backtesting.chunks import Chunk, measure_pace, read_chunk
from candlewick.backtesting.objectives import objective_names, read_objective
from candlewick.backtesting.search_plans import ChunkPlan, load_plan, refuse_chunk, save_plan
from candlewick.backtesting.search_table import SearchTable
from candlewick.backtesting.set_files import SET_SCHEMA, load_sets, save_sets, set_frame, skipped_row
from candlewick.backtesting.set_runner import SetRunner
from candlewick.backtesting.simulation import backtest
from candlewick.engine.grids import Integers
from candlewick.errors import GridTooLarge, LakeError, SearchInterrupted, UsageError
from candlewick.grids import parse_grid
from candlewick.json_text import to_json
from candlewick.rules import Rules
from candlewick.store.backtests import Backtests
from candlewick.store.database import Database
from candlewick.strategies.sma_cross import SmaCross
from flows.grid_chunks import grid_chunks
from flows.search_steps import SearchResult
from tests.paper_flow import Workplace
from tests.searches import asked, chunk_files, run_search, search_window, write_market

ROOT = Path(__file__).resolve().parents[1]
GRID = parse_grid(SmaCross, {"fast": "5,10,20", "slow": "10,20,40,80"})


@pytest.fixture(scope="module")
def runner() -> SetRunner:
    return SetRunner(search_window())


def chunk_of(size: int = 12) -> Chunk:
    return next(iter(grid_chunks(GRID, size)))


# ------------------------------------------------------------------------------------------------- sets and files


def test_every_set_has_the_figures_of_a_backtest_with_its_parameters(runner: SetRunner) -> None:
    window, sets = search_window(), runner.compute(chunk_of().judged)
    computed = sets.filter(pl.col("skipped").is_null())
    assert computed.height == 9
    for row in computed.iter_rows(named=True):
        strategy = SmaCross.model_validate_json(row["parameters"])
        simulation = backtest(window.terms, strategy, window.candles, since_ms=window.since_ms, until_ms=window.until_ms)
        assert row["figures"] == to_json(dict(simulation.figures()))
        assert row["day_equity"] == simulation.day_equity.tolist()
        sharpe = simulation.figures()["sharpe"].value
        assert row["sharpe"] == (None if sharpe is None else float(sharpe))


def test_impossible_combinations_are_kept_with_their_reason_and_without_figures(runner: SetRunner) -> None:
    sets = runner.compute(chunk_of().judged)
    skipped = sets.filter(pl.col("skipped").is_not_null())
    assert skipped["skipped"].to_list() == [
        "fast is 10 and slow is 10; fast must be below slow",
        "fast is 20 and slow is 10; fast must be below slow",
        "fast is 20 and slow is 20; fast must be below slow",
    ]
    assert skipped["figures"].is_null().all()
    assert skipped["day_equity"].list.len().sum() == 0


def test_threads_and_other_chunks_change_no_set(runner: SetRunner) -> None:
    alone = pl.concat([runner.compute(chunk.judged, 1) for chunk in grid_chunks(GRID, 5)])
    assert alone.equals(runner.compute(chunk_of().judged, 4))


def test_a_finished_chunk_is_taken_from_its_file(runner: SetRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = chunk_of().finish(runner, tmp_path)
    before = read_chunk(first, chunk_of().numbers)
    monkeypatch.setattr(SetRunner, "compute", lambda *_: pytest.fail("computed again"))
    again = chunk_of().finish(SetRunner(search_window()), tmp_path)
    assert (first["kept"], again["kept"], again["path"]) == (False, True, first["path"])
    assert read_chunk(again, chunk_of().numbers).equals(before)


@pytest.mark.parametrize("harm", ["cut short", "empty", "flipped"])
def test_a_damaged_chunk_is_computed_again_and_that_is_said(runner: SetRunner, tmp_path: Path, harm: str) -> None:
    done = chunk_of().finish(runner, tmp_path)
    path, content = Path(done["path"]), Path(done["path"]).read_bytes()
    if harm == "flipped":
        sets = read_chunk(done, chunk_of().numbers)
        changed = sets.with_columns(pl.col("figures").str.replace("9", "8"))
        changed.write_parquet(path, metadata=pl.read_parquet_metadata(path))
    else:
        path.write_bytes(content[: len(content) // 2] if harm == "cut short" else b"")
    again = chunk_of().finish(runner, tmp_path)
    assert not again["kept"]
    assert again["notice"] is not None
    assert path.name in again["notice"]
    assert chunk_of().finish(runner, tmp_path)["kept"]


def test_candles_rules_spans_sets_and_code_each_name_another_file(
    runner: SetRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = search_window()
    others = [
        search_window(bars=1_400),
        search_window(rules=Rules(slippage_bps=Decimal(3))),
        replace(window, since_ms=window.since_ms + 3_600_000),
        replace(window, strategy="macd_trend"),
        replace(window, digests={"candles": {"BTC/USDT": "other"}}),
    ]
    paths = [chunk_of().path(SetRunner(one), tmp_path) for one in (window, *others)]
    paths.append(chunk_of(5).path(runner, tmp_path))
    monkeypatch.setattr("candlewick.backtesting.set_runner.code_version", lambda: "another release")
    paths.append(chunk_of().path(SetRunner(window), tmp_path))
    assert len(set(paths)) == len(paths)
    assert paths[0] == chunk_of().path(runner, tmp_path)


def test_another_process_computes_the_same_from_shipped_candles(runner: SetRunner, tmp_path: Path) -> None:
    runner.ship(tmp_path)
    try:
        elsewhere = pickle.loads(pickle.dumps(runner))
        assert len(pickle.dumps(runner)) < 20_000
        assert elsewhere.compute(chunk_of().judged, 1).equals(runner.compute(chunk_of().judged, 1))
    finally:
        runner.unship()
    assert list(tmp_path.iterdir()) == []


def test_sets_are_kept_in_their_schema_whatever_the_number_of_days(tmp_path: Path) -> None:
    rows = [{"number": 1, "parameters": "{}", "figures": "{}", "day_equity": np.arange(days)} for days in (3, 3)]
    for frame in (set_frame(rows), set_frame([*rows, skipped_row(2, {"fast": 1}, "no")]), set_frame([])):
        assert dict(frame.schema) == dict(SET_SCHEMA)
        save_sets(tmp_path / "one.parquet", frame)
        assert isinstance(load_sets(tmp_path / "one.parquet", frame["number"].to_list()), pl.DataFrame)


def test_a_file_of_other_sets_and_no_file_are_told_apart(tmp_path: Path) -> None:
    save_sets(tmp_path / "one.parquet", set_frame([skipped_row(2, {"fast": 1}, "no")]))
    assert load_sets(tmp_path / "one.parquet", [3]) == "it holds 1 rows of other sets"
    assert load_sets(tmp_path / "none.parquet", [3]) is None


# ------------------------------------------------------------------------------------------------- plans and objectives


def test_chunks_take_about_two_seconds_whatever_a_set_costs() -> None:
    assert Pace(0.002, 2).chunk_size() == 1024
    assert Pace(1.0, 2).chunk_size() == 4
    assert Pace(1e-9, 2).chunk_size() == LARGEST
    assert Pace(0.5, 2).expected_s(1_000) == 250


def test_a_plan_is_remembered_and_nonsense_in_its_place_is_not_believed(tmp_path: Path, runner: SetRunner) -> None:
    path = tmp_path / "some.plan.json"
    assert load_plan(path, 2) is None
    sets = [one for one in chunk_of().judged if not hasattr(one, "reason")]
    plan = ChunkPlan(64, measure_pace(runner, sets, 2))  # type: ignore[arg-type]
    save_plan(path, plan)
    assert load_plan(path, 2) == plan
    for nonsense in ("", "[]", '{"size": 0, "set_s": 1}', '{"size": "x", "set_s": 1}'):
        path.write_text(nonsense)
        assert load_plan(path, 2) is None


def test_progress_says_what_is_done_how_fast_and_what_is_left() -> None:
    assert Progress(512, 1_000, 0, 1.0).text() == "512 of 1,000 sets, 512 sets/s, 1 s left"
    assert Progress(600, 1_000, 600, 0.0).text() == "600 of 1,000 sets (600 from finished chunks)"
    assert [seconds_text(one) for one in (0.2, 59.5, 185, 7_800)] == ["1 s", "1 min 00 s", "3 min 05 s", "2 h 10 min"]


def test_an_objective_is_a_figure_of_which_more_or_less_is_better() -> None:
    assert read_objective("sharpe").best([1.0, None, 3.0, 3.0]) == 2
    assert read_objective("max_drawdown").best([0.3, None, 0.1, 0.1]) == 2
    assert read_objective("sharpe").best([None, None]) is None
    assert read_objective("max_drawdown").ranked([0.3, None, 0.1, 0.1]) == [2, 3, 0]
    with pytest.raises(UsageError, match=r"'sharp' is not known; did you mean sharpe\? choose one of final_equity, "):
        read_objective("sharp")
    with pytest.raises(UsageError, match="--objective trades: neither more nor less"):
        read_objective("trades")
    assert "exposure" not in objective_names()


@pytest.mark.parametrize("size", [0, -1, LARGEST + 1])
def test_a_senseless_chunk_size_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"--chunk {size}: it must be a whole number from 1 to 4,096"):
        refuse_chunk(size)


# ------------------------------------------------------------------------------------------------- luck


def days(seed: int, drift: float = 0.0, count: int = 400) -> Integers:
    steps = np.random.default_rng(seed).normal(drift, 0.01, count)
    return np.rint(1e12 * np.exp(np.cumsum(steps))).astype(np.int64)


def test_luck_explains_the_best_of_many_sets_without_skill_and_not_one_with_skill() -> None:
    def judged(last_drift: float) -> tuple[float, float]:
        equities = [days(seed) for seed in range(60)] + [days(99, last_drift)]
        returns = [np.diff(one) / one[:-1] for one in equities]
        sharpes = [float(one.mean() / one.std(ddof=1) * np.sqrt(365)) for one in returns]
        belief = judge_search(sharpes, int(np.argmax(sharpes)), lambda places: [equities[place] for place in places])
        deflated, overfit = belief.deflated_sharpe.value, belief.overfit_probability.value
        assert deflated is not None
        assert overfit is not None
        return float(deflated), float(overfit)

    lucky, skilled = judged(0.0), judged(0.005)
    assert lucky[0] < 0.9 < skilled[0]
    assert skilled[1] < 0.05 < lucky[1]


def test_of_many_sets_only_a_thousand_and_the_chosen_one_are_read() -> None:
    read: list[int] = []

    def equities(places: Sequence[int]) -> list[Integers]:
        read.extend(places)
        return [days(place % 40, count=40) for place in places]

    belief = judge_search([0.1 * (place % 40) for place in range(3_000)], 7, equities)
    assert len(read) == 1_001
    assert belief.to_document()["overfitting"]["sets"] == 3_000  # type: ignore[index,call-overload]


def test_what_cannot_be_judged_has_a_reason() -> None:
    lost = np.array([100, 50, 0, 0], dtype=np.int64)
    nobody = judge_search([None, None], None, lambda places: [lost for _ in places])
    assert nobody.deflated_sharpe.reason == "no set was chosen"
    assert nobody.overfit_probability.reason == "0 of the sets kept their equity above zero; a choice needs two"
    assert "fell to zero" in str(judge_search([1.0], 0, lambda places: [lost for _ in places]).deflated_sharpe.reason)


# ------------------------------------------------------------------------------------------------- the flow


def swept(**options: object) -> SearchResult:
    from flows.sweep import sweep

    result = run_search(sweep, **options)
    assert isinstance(result, SearchResult)
    return result


def store_of(place: Workplace) -> Backtests:
    return Backtests(Database(str(place.directory / "ledger.duckdb")))


def test_a_sweep_is_kept_ranked_drawn_and_told(workplace: Workplace) -> None:
    result = swept(**asked(write_market(workplace.directory / "market"), chunk=4, top=3))
    run, view = result.run, result.view
    assert view is not None
    assert (run.status, run.kind, run.sets, run.sets_done, run.objective) == ("success", "sweep", 12, 0, "sharpe")
    kept, sets = store_of(workplace).find(run.run_id), store_of(workplace).sets(run.run_id)
    assert (kept.status, kept.sets_done, sets.height) == ("success", 9, 9)
    best = sets.sort("objective", descending=True).row(0, named=True)
    assert kept.statistics["best"] == json.loads(best["parameters"])
    assert to_json(dict(kept.figures)) == best["figures"]
    assert sum(view.skipped.values()) == 3  # type: ignore[union-attr]
    assert result.report is not None
    assert "Sharpe" in Path(result.report).read_text()


def test_the_same_command_takes_finished_chunks_and_makes_the_same(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    options = asked(write_market(workplace.directory / "market"), chunk=4)
    first, files = swept(**options), chunk_files(workplace.directory / "lake")
    monkeypatch.setattr(SetRunner, "compute", lambda *_: pytest.fail("computed again"))
    again = swept(**options)
    assert again.run.run_id != first.run.run_id
    assert chunk_files(workplace.directory / "lake") == files
    assert len(files) == 3
    store = store_of(workplace)
    assert store.sets(first.run.run_id).equals(store.sets(again.run.run_id))
    assert (again.run.figures, again.run.statistics) == (first.run.figures, first.run.statistics)


def test_processes_of_dask_make_the_same_to_the_bit(workplace: Workplace) -> None:
    market = write_market(workplace.directory / "market")
    here = swept(**asked(market, chunk=4))
    files = chunk_files(workplace.directory / "lake")
    for name in files:
        (workplace.directory / "lake" / "sweeps" / name).unlink()
    there = swept(**asked(market, chunk=4, runner="dask"))
    rewritten = chunk_files(workplace.directory / "lake")
    assert {name: content for name, (_, content) in rewritten.items()} == {name: content for name, (_, content) in files.items()}
    store = store_of(workplace)
    assert store.sets(here.run.run_id).equals(store.sets(there.run.run_id))
    assert not list((workplace.directory / "lake" / "sweeps" / "windows").iterdir())


def test_a_grid_by_mistake_is_told_with_its_size_and_time_before_it_begins(workplace: Workplace) -> None:
    options = asked(write_market(workplace.directory / "market"))
    options["parameters"] = {"fast": "1:400", "slow": "401:800"}
    with pytest.raises(GridTooLarge, match=r"160,000 parameter sets \(400 fast × 400 slow\), about .*add --yes"):
        swept(**options)
    assert store_of(workplace).list_runs() == ()


def test_a_strategy_that_fails_on_a_set_fails_the_sweep_and_leaves_that_in_the_store(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = asked(write_market(workplace.directory / "market"), chunk=4)
    computed = SetRunner.compute

    def failing(self: SetRunner, judged: Sequence[object], threads: int | None = None) -> pl.DataFrame:
        if any(getattr(one, "index", 0) == 9 for one in judged) and threads is None:
            raise LakeError("the disk is full")
        return computed(self, judged, threads)  # type: ignore[arg-type]

    monkeypatch.setattr(SetRunner, "compute", failing)
    failed = swept(**options)
    kept = store_of(workplace).find(failed.run.run_id)
    assert (failed.view, kept.status, kept.error, kept.sets_done) == (None, "failure", "the disk is full", 7)
    monkeypatch.setattr(SetRunner, "compute", computed)
    again = swept(**options)
    assert again.run.run_id == failed.run.run_id
    assert store_of(workplace).find(failed.run.run_id).sets_done == 9


# ------------------------------------------------------------------------------------------------- interruptions


def begin_process(workplace: Workplace, market: str) -> subprocess.Popen[str]:
    """A sweep of a few hundred sets in chunks of four, in a process of its own."""
    command = [sys.executable, "-m", "flows.backtesting", "sweep", "--market", market, "--symbols", "BTC/USDT"]
    command += ["--timeframe", "1h", "--strategy", "fibonacci_golden_zone", "--param", "lookback_bars=20:60:1", "--chunk", "4"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=workplace.directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_chunks(workplace: Workplace, process: subprocess.Popen[str], count: int) -> None:
    deadline = time.monotonic() + 120
    while len(list((workplace.directory / "lake" / "sweeps").glob("*.parquet"))) < count:
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the sweep made no chunk:\n{process.communicate()[0][-2_000:]}")
        time.sleep(0.02)


OPTIONS = {"strategy": "fibonacci_golden_zone", "parameters": {"lookback_bars": "20:60:1"}, "chunk": 4}


def test_a_sweep_that_is_killed_goes_on_with_its_finished_chunks(workplace: Workplace) -> None:
    market = write_market(workplace.directory / "market", 20_000)
    process = begin_process(workplace, market)
    wait_for_chunks(workplace, process, 2)
    process.kill()
    process.wait(20)
    files = chunk_files(workplace.directory / "lake")
    killed = store_of(workplace).latest("sweep")
    assert killed is not None
    assert killed.status == "interrupted"
    result = swept(**asked(market, **OPTIONS))
    after = chunk_files(workplace.directory / "lake")
    assert {name: after[name] for name in files} == files
    assert len(after) == 11
    assert result.run.run_id == killed.run_id
    assert any(f"goes on with run {killed.run_id}" in notice for notice in result.run.notices)
    assert store_of(workplace).find(killed.run_id).sets_done == 41


def test_control_c_keeps_what_is_done_and_says_how_to_go_on(workplace: Workplace) -> None:
    process = begin_process(workplace, write_market(workplace.directory / "market", 20_000))
    wait_for_chunks(workplace, process, 2)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[0]
    assert process.returncode == SearchInterrupted.exit_code
    assert "sets are done and kept; the same command goes on from there:\n  python -m flows.backtesting sweep --market" in told
    run = store_of(workplace).latest("sweep")
    assert run is not None
    assert (run.status, run.error) == ("interrupted", "interrupted")
    assert run.sets_done >= 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--objective", "luck"], "--objective 'luck' is not known"),
        (["--param", "fast=5:1"], "begins above its end"),
        (["--param", "quick=5"], "has no parameter 'quick'"),
        (["--param", "fast=50", "--param", "slow=10,20"], "none of the grid's 2 parameter sets is valid"),
        (["--param", "fast=5,10", "--top", "0"], "--top 0: it must be 1 or more"),
        (["--param", "fast=5,10", "--chunk", "0"], "--chunk 0"),
        ([], "nothing to sweep"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    from candlewick.cli import run_command
    from flows.backtesting import app

    monkeypatch.chdir(tmp_path)
    given = options if "--param" in options or not options else [*options, "--param", "fast=5,10"]
    assert run_command(app, ["sweep", "--strategy", "sma_cross", *given]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_table_reads_days_of_the_sets_that_are_asked_for(runner: SetRunner, tmp_path: Path) -> None:
    table = SearchTable(GRID.names)
    for chunk in grid_chunks(GRID, 5):
        done = chunk.finish(runner, tmp_path)
        table.add(read_chunk(done, chunk.numbers), Path(done["path"]))
    whole = runner.compute(chunk_of().judged).filter(pl.col("skipped").is_null())
    assert [one.tolist() for one in table.day_equities([7, 0])] == [whole["day_equity"][place].to_list() for place in (7, 0)]
    assert to_json(table.measures(7)) == whole["figures"][7]
    assert table.frame()["slow"].to_list() == [json.loads(text)["slow"] for text in whole["parameters"]]
    assert (table.sets, table.rows, table.skipped().count) == (9, 12, 3)
