"""Datasets: what may be declared, which series that is, and the deployments that keep them up to date."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path

import httpx
import pytest

from candlewick.cli import run_command
from candlewick.errors import SettingsError, UsageError
from candlewick.market_data.datasets import dataset_schedule, dataset_wanted
from candlewick.market_data.schedules import check_cron
from candlewick.market_data.wanted import Wanted
from candlewick.settings import Settings, load_settings
from candlewick.timeframes import parse_utc
from deployments.dataset_plans import datasets_file, plan_datasets
from deployments.datasets import Change, app, apply_changes, find_changes
from tests.prefect_server import api_client

CHECKOUT = Path(__file__).resolve().parents[1]
MAJORS = """datasets:
  majors:
    markets: [binance]
    symbols: [BTC/USDT, ETH/USDT]
    timeframes: [1m, 1h]
    kinds: [ohlcv, funding_rate]
    since: 2020-01-01
"""


def settings_of(text: str, folder: Path) -> Settings:
    (folder / "candlewick.yaml").write_text(text, encoding="utf-8")
    return load_settings(environment={}, directory=folder)


def refusal(text: str, folder: Path) -> list[str]:
    """The lines of the refusal, without its heading."""
    with pytest.raises(SettingsError) as refused:
        settings_of(text, folder)
    lines = str(refused.value).splitlines()
    return [line.strip() for line in (lines[1:] if len(lines) > 1 else lines)]


def changed(**values: str | None) -> str:
    """MAJORS with other values, or (None) without a key."""
    lines = []
    for line in MAJORS.splitlines():
        key = line.strip().partition(":")[0]
        if key not in values:
            lines.append(line)
        elif values[key] is not None:
            lines.append(f"    {key}: {values[key]}")
    lines += [f"    {key}: {value}" for key, value in values.items() if f"    {key}:" not in MAJORS]
    return "\n".join(lines) + "\n"


# -- what may be declared


@pytest.mark.parametrize(
    ("key", "value", "line", "said"),
    [
        ("kinds", "[ohlc]", 6, "kind 'ohlc' is unknown: use ohlcv, funding_rate, open_interest, trades"),
        ("kinds", "[]", 6, "it must be a list of ohlcv, funding_rate, open_interest, trades"),
        ("timeframes", "[1x]", 5, "timeframe '1x' is not understood"),
        ("timeframes", "[]", 6, "ohlcv comes in timeframes: name at least one"),
        ("symbols", "[]", 4, "it must be a list of symbols, BASE/QUOTE, not empty"),
        ("symbols", "[BTCUSDT]", 4, "'BTCUSDT' is not a symbol"),
        ("markets", "[]", 3, "it must be a list of markets, not empty"),
        ("since", "soon", 7, "'soon' is not a time"),
        ("schedule", '"*/5 * *"', 8, "it has 3 fields, it needs 5"),
        ("schedule", '"61 * * * *"', 8, "'61 * * * *' is no cron schedule: bad minute"),
        ("schedule", "hourly", 8, "'hourly' is no cron schedule"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(tmp_path, key, value, line, said):
    (problem,) = refusal(changed(**{key: value}), tmp_path)
    assert problem.startswith(f"datasets.majors.{'kinds' if 'comes in' in said else key} (candlewick.yaml:{line}): ")
    assert said in problem


@pytest.mark.parametrize("key", ["markets", "symbols", "since"])
def test_what_is_missing_is_named_with_the_dataset_it_lacks_in(tmp_path, key):
    (problem,) = refusal(changed(**{key: None}), tmp_path)
    assert problem.startswith(f"datasets.majors.{key} (candlewick.yaml:3): it is missing; give a")


def test_a_key_that_is_none_is_refused_with_the_nearest(tmp_path):
    assert refusal(changed(timeframe="1h"), tmp_path) == [
        "datasets.majors.timeframe (candlewick.yaml:8): there is no such setting; did you mean datasets.majors.timeframes?"
    ]


def test_a_datasets_name_fits_into_a_variable_and_a_deployments_name(tmp_path):
    (problem,) = refusal(MAJORS.replace("majors", "My Majors"), tmp_path)
    assert "a dataset's name is up to 64 small letters, digits, _ and -" in problem


def test_lists_may_be_written_with_commas_and_variables_change_single_keys(tmp_path):
    (tmp_path / "candlewick.yaml").write_text(changed(symbols="BTC/USDT, ETH/USDT"), encoding="utf-8")
    loaded = load_settings(environment={"CANDLEWICK_DATASETS__MAJORS__TIMEFRAMES": "4h,1d"}, directory=tmp_path)
    majors = loaded.datasets["majors"]
    assert (majors.symbols, majors.timeframes) == (("BTC/USDT", "ETH/USDT"), ("4h", "1d"))


def test_the_settings_show_a_dataset(tmp_path, monkeypatch, capsys):
    from candlewick.settings_report import main

    settings_of(MAJORS, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["--json"]) == 0
    shown = {row["key"]: row["value"] for row in json.loads(capsys.readouterr().out)}
    assert shown["datasets.majors.symbols"] == ["BTC/USDT", "ETH/USDT"]
    assert shown["datasets.majors.schedule"] == "auto"


# -- which series that is


def test_a_dataset_is_every_market_with_every_symbol_in_every_kind_and_timeframe(tmp_path):
    dataset = settings_of(changed(markets="[binanceusdm, binanceusdm, kraken]"), tmp_path).datasets["majors"]
    since_ms = parse_utc("2020-01-01")
    assert dataset_wanted(dataset) == tuple(
        Wanted(market, symbol, kind, timeframe, since_ms, resample=True)
        for market in ("binanceusdm", "kraken")
        for symbol in ("BTC/USDT", "ETH/USDT")
        for kind, timeframe in (("ohlcv", "1m"), ("ohlcv", "1h"), ("funding_rate", ""))
    )


@pytest.mark.parametrize(
    ("timeframes", "kinds", "cron"),
    [
        ("[1m, 1d]", "[ohlcv]", "*/5 * * * *"),
        ("[15m]", "[ohlcv]", "1-59/15 * * * *"),
        ("[1h, 4h]", "[ohlcv]", "2 * * * *"),
        ("[4h]", "[ohlcv]", "3 */4 * * *"),
        ("[1d]", "[ohlcv]", "5 0 * * *"),
        ("[1w]", "[ohlcv]", "5 0 * * 1"),
        ("[1d]", "[trades]", "*/5 * * * *"),
        ("[]", "[funding_rate]", "4 */8 * * *"),
    ],
)
def test_a_schedule_is_derived_from_the_shortest_timeframe(tmp_path, timeframes, kinds, cron):
    dataset = settings_of(changed(timeframes=timeframes, kinds=kinds), tmp_path).datasets["majors"]
    assert dataset_schedule(dataset) == cron
    assert check_cron(cron) == cron


@pytest.mark.parametrize(
    ("given", "cron"), [('"*/7  1 * * MON"', "*/7 1 * * MON"), ("none", None), ("null", None), ("auto", "*/5 * * * *")]
)
def test_a_schedule_may_be_said_or_be_none(tmp_path, given, cron):
    assert dataset_schedule(settings_of(changed(schedule=given), tmp_path).datasets["majors"]) == cron


# -- the file


def test_the_written_file_is_what_prefects_own_loader_reads(tmp_path):
    from prefect.cli.deploy._config import _load_deploy_configs_and_actions
    from rich.console import Console

    planned = plan_datasets(
        settings_of(MAJORS + MAJORS.replace("datasets:\n", "").replace("majors", "by-hand") + "    schedule: none\n", tmp_path)
    )
    (tmp_path / "prefect.datasets.yaml").write_text(datasets_file(planned, "prefect.datasets.yaml"), encoding="utf-8")
    said = Console(file=StringIO())
    read, _ = _load_deploy_configs_and_actions(tmp_path / "prefect.datasets.yaml", console=said)
    assert said.file.getvalue() == ""  # type: ignore[attr-defined]
    assert [one["name"] for one in read] == ["sync-majors", "sync-by-hand"]
    assert read[0]["parameters"] == {"datasets": ["majors"]}
    assert read[0]["concurrency_limit"]["limit"] == 1
    assert [schedule["cron"] for schedule in read[0]["schedules"]] == ["*/5 * * * *"]
    assert read[1]["schedules"] == []


def test_the_flow_that_is_deployed_takes_the_parameters_it_is_given(tmp_path):
    from flows.data_sync import sync

    (planned,) = plan_datasets(settings_of(MAJORS, tmp_path))
    document = planned.document()
    assert document["entrypoint"] == f"{sync.fn.__module__.replace('.', '/')}.py:{sync.fn.__name__}"
    assert isinstance(document["parameters"], Mapping)
    assert set(document["parameters"]) <= set(sync.parameters.properties)
    assert sync.validate_parameters(dict(document["parameters"]))["datasets"] == ["majors"]


def test_the_command_writes_the_file_and_refuses_where_nothing_is_declared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command(app, ["write"]) == UsageError.exit_code
    assert "no dataset is declared" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    settings_of(MAJORS, tmp_path)
    assert run_command(app, ["write", "mine.yaml"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["candlewick.yaml", "mine.yaml"]


# -- on a server


@pytest.fixture
def api(prefect_server: str):
    with api_client(prefect_server) as client:
        yield client


def deployments_of(api: httpx.Client) -> dict[str, dict[str, object]]:
    filters = {"deployments": {"tags": {"all_": ["candlewick-dataset"]}}}
    return {row["name"]: row for row in api.post("/deployments/filter", json=filters).raise_for_status().json()}


def scheduled_runs(api: httpx.Client, deployment_id: object) -> list[object]:
    filters = {"deployments": {"id": {"any_": [deployment_id]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    return list(api.post("/flow_runs/filter", json=filters).raise_for_status().json())


def wait_for(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come to be"
        time.sleep(0.2)


def apply_settings(text: str, folder: Path) -> list[Change]:
    """Apply a settings file; what was changed."""

    async def all_of_it() -> list[Change]:
        changes = await find_changes(plan_datasets(settings_of(text, folder)), CHECKOUT)
        await apply_changes(changes, CHECKOUT)
        return [one for one in changes if not one.is_none]

    return asyncio.run(all_of_it())


TWO = MAJORS + "  days: {markets: [sample], symbols: [BTC/USDT], timeframes: [1d], since: 2026-01-01}\n"


@pytest.mark.xdist_group("prefect_server")
def test_datasets_become_deployments_whose_schedules_create_runs_and_go_with_their_datasets(api, tmp_path):
    assert [(one.name, one.what) for one in apply_settings(TWO, tmp_path)] == [("sync-majors", "new"), ("sync-days", "new")]
    made = deployments_of(api)
    assert {name: row["parameters"] for name, row in made.items()} == {
        "sync-majors": {"datasets": ["majors"]},
        "sync-days": {"datasets": ["days"]},
    }
    wait_for(lambda: all(scheduled_runs(api, row["id"]) for row in made.values()))

    assert apply_settings(TWO, tmp_path) == []
    assert {name: row["updated"] for name, row in deployments_of(api).items()} == {
        name: row["updated"] for name, row in made.items()
    }

    # Paused in the UI, changed in the settings; the other dataset is gone.
    majors_id, (schedule,) = made["sync-majors"]["id"], made["sync-majors"]["schedules"]
    api.patch(f"/deployments/{majors_id}/schedules/{schedule['id']}", json={"active": False}).raise_for_status()
    (change, going) = apply_settings(changed(schedule='"7 * * * *"'), tmp_path)
    assert change.what == "schedule: */5 * * * * → 7 * * * *"
    assert (going.name, going.what) == ("sync-days", "goes: its dataset is not declared")
    (left,) = deployments_of(api).values()
    ((cron, active),) = [(one["schedule"]["cron"], one["active"]) for one in left["schedules"]]
    assert (left["id"], cron, active) == (majors_id, "7 * * * *", False)

    assert [one.what for one in apply_settings(changed(schedule="none"), tmp_path)] == ["schedule: 7 * * * * → none"]
    assert deployments_of(api)["sync-majors"]["schedules"] == []
    assert [one.name for one in apply_settings("", tmp_path)] == ["sync-majors"]
    assert deployments_of(api) == {}
