"""`make serve`, as a user meets it: one process that starts, says where it is, and takes everything along when it stops."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from candlewick.errors import UsageError
from candlewick.serving import Serving, read_serving, running_api_url, serving_file, write_serving
from candlewick.settings import ServeSettings
from deployments.prefect_environment import prefect_environment, prefect_home
from deployments.prefect_yaml import PlannedDeployment, planned_deployments
from deployments.processes import ProcessId, descendants, end, is_running, start_child, started_at, wait_gone
from deployments.serve import _check_work_pools
from deployments.serve_state import NamedProcess, clear_leftovers, remember, state_directory
from tests.prefect_server import api_client, free_port
from tests.serve_fixture import CHECKOUT, ServeProcess, wait_for, working_directory

NAMES = ["paper-15m", "paper-1h", "paper-4h", "paper-1d"]
SESSIONS = ["monitor", "monitor-control", "monitor-alert"]
MONITORING = ["monitor", "monitor-control", "monitor-alert"]
BY_HAND = ["backtest", "check-strategy", "sweep", "optimize", "walk-forward", "backfill", "sync", "validate", "repair"]


def deployment_ids(serve: ServeProcess) -> dict[str, object]:
    return {str(row["name"]): row["id"] for row in serve.rows("/deployments/filter", {}) if row["name"] in NAMES}


def pause_schedule(serve: ServeProcess, name: str) -> None:
    (row,) = serve.rows("/deployments/filter", {"deployments": {"name": {"any_": [name]}}})
    path = f"/deployments/{row['id']}/schedules/{row['schedules'][0]['id']}"  # type: ignore[index]
    with api_client(f"http://127.0.0.1:{serve.port}/api") as client:
        client.patch(path, json={"active": False}).raise_for_status()


def active_schedules(serve: ServeProcess) -> set[object]:
    rows = serve.rows("/deployments/filter", {"deployments": {"name": {"any_": NAMES}}})
    return {row["name"] for row in rows if any(schedule["active"] for schedule in row["schedules"])}  # type: ignore[attr-defined]


@pytest.mark.xdist_group("serve")
def test_serve_brings_up_server_worker_and_deployments_and_takes_all_of_it_down(serve_process: ServeProcess) -> None:
    serving = serve_process.running()
    assert running_api_url(serve_process.directory) == serving.api_url == f"http://127.0.0.1:{serve_process.port}/api"

    deployments = [row for row in serve_process.rows("/deployments/filter", {}) if row["name"] in NAMES]
    assert {row["name"] for row in deployments} == set(NAMES)
    for row in deployments:
        assert row["status"] == "READY"
        assert [schedule["active"] for schedule in row["schedules"]] == [True]  # type: ignore[attr-defined]
        assert row["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"  # type: ignore[index]
    (sessions,) = serve_process.rows("/deployments/filter", {"deployments": {"name": {"any_": ["monitor"]}}})
    assert [schedule["active"] for schedule in sessions["schedules"]] == [True]  # type: ignore[attr-defined]
    assert (sessions["global_concurrency_limit"] or {}).get("limit") == 2  # type: ignore[attr-defined]
    workers = serve_process.rows("/work_pools/candlewick/workers/filter", {})
    assert [worker["status"] for worker in workers] == ["ONLINE"]
    assert serve_process.rows("/block_types/filter", {"block_types": {"slug": {"any_": ["candlewick-exchange"]}}})
    assert len(serve_process.rows("/automations/filter", {})) == 4
    wait_for(lambda: "Ctrl-C" in serve_process.output, 10, lambda: serve_process.output)
    assert f"http://127.0.0.1:{serve_process.port}" in serve_process.output
    pause_schedule(serve_process, "paper-1d")
    before, family = deployment_ids(serve_process), serve_process.family()
    assert len(family) >= 2

    second = subprocess.run(
        [sys.executable, "-m", "deployments.serve"],
        cwd=serve_process.directory,
        env=serve_process.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 1
    assert f"already runs here (process {serving.pid}): {serving.ui_url}" in second.stderr

    assert serve_process.stop(signal.SIGINT) == 0, serve_process.output
    assert wait_gone(family, 5.0) == []
    assert "Traceback" not in serve_process.output
    assert not serving_file(serve_process.directory).exists()
    assert running_api_url(serve_process.directory) is None

    # Again: nothing changes, nothing doubles, and what was paused in the UI stays paused.
    serve_process.running()
    assert deployment_ids(serve_process) == before
    assert active_schedules(serve_process) == {"paper-15m", "paper-1h", "paper-4h"}
    assert len(serve_process.rows("/automations/filter", {})) == 4
    assert len(serve_process.rows("/work_pools/filter", {})) == 1

    # A child that dies takes the rest along, with its name and exit code 1.
    family = serve_process.family()
    worker = next(
        one
        for one in json.loads((state_directory(serve_process.directory) / "processes.json").read_text())
        if one["name"] == "worker"
    )
    os.kill(worker["pid"], signal.SIGKILL)
    assert serve_process.process is not None
    assert serve_process.process.wait(60) == 1
    assert "worker ended (signal SIGKILL)" in serve_process.output
    assert wait_gone(family, 5.0) == []


def test_a_port_that_is_taken_is_named_with_the_setting_that_changes_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        serve = ServeProcess(working_directory(tmp_path), int(taken.getsockname()[1]))
        process = serve.launch()
        assert process.wait(60) == 1
    assert f"port {serve.port} on 127.0.0.1 cannot be used" in serve.output
    assert "CANDLEWICK_SERVE__PORT=" in serve.output
    assert "Traceback" not in serve.output


def test_a_wrong_setting_ends_serve_with_exit_code_2_and_starts_nothing(tmp_path: Path) -> None:
    serve = ServeProcess(working_directory(tmp_path), 70000)
    assert serve.launch().wait(60) == 2
    assert "serve.port" in serve.output
    assert not (tmp_path / "data").exists()


def test_serve_outside_the_checkout_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no prefect\.yaml in"):
        planned_deployments(tmp_path)


def test_deployments_of_another_work_pool_than_the_workers_are_refused() -> None:
    with pytest.raises(UsageError, match=r"deployment paper-4h in prefect\.yaml uses work pool 'other'"):
        _check_work_pools([PlannedDeployment("paper-4h", "other")], ServeSettings())


def test_the_committed_prefect_yaml_has_a_deployment_for_each_timeframe_and_search_and_no_path_of_a_machine() -> None:
    planned = planned_deployments(CHECKOUT)
    assert [one.name for one in planned] == NAMES + SESSIONS + BY_HAND
    assert {one.work_pool for one in planned} == {ServeSettings().work_pool}
    assert str(CHECKOUT) not in (CHECKOUT / "prefect.yaml").read_text(encoding="utf-8")


def test_a_process_left_behind_by_a_killed_serve_is_ended_by_the_next(tmp_path: Path) -> None:
    child = start_child("server", ["sleep", "60"], dict(os.environ), tmp_path, tmp_path / "log")
    remember_in(tmp_path, NamedProcess("server", child.identity.pid, child.identity.started))
    assert [one.name for one in clear_leftovers(tmp_path)] == ["server"]
    assert not is_running(child.identity)
    child.process.wait()


def test_a_stranger_that_got_a_remembered_process_number_is_left_alone(tmp_path: Path) -> None:
    child = start_child("stranger", ["sleep", "60"], dict(os.environ), tmp_path, tmp_path / "log")
    remember_in(tmp_path, NamedProcess("server", child.identity.pid, "some other time"))
    assert clear_leftovers(tmp_path) == []
    assert is_running(child.identity)
    end([child.identity], signal.SIGKILL, 0.0)
    child.process.wait()


def remember_in(directory: Path, process: NamedProcess) -> None:
    state_directory(directory).mkdir(parents=True)
    remember(directory, [process])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child that its parent died")
def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, time; from pathlib import Path; from deployments.processes import start_child;"
        "child = start_child('c', ['sleep', '60'], os.environ, Path('.'), Path('log'));"
        "print(child.identity.pid, flush=True); time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    child = ProcessId(pid, started_at(pid) or "")
    assert is_running(child)
    assert child in descendants(parent.pid)
    parent.kill()
    parent.communicate()
    assert wait_gone([child], 10.0) == []


def test_a_serve_file_whose_process_is_gone_leads_nowhere(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    url = f"http://127.0.0.1:{free_port()}"
    serving_file(tmp_path).parent.mkdir()
    write_serving(tmp_path, Serving(f"{url}/api", url, gone.pid, "2026-01-01T00:00:00+00:00"))
    assert running_api_url(tmp_path) is None


def test_a_serve_file_whose_server_does_not_answer_leads_nowhere(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    serving_file(tmp_path).parent.mkdir()
    write_serving(tmp_path, Serving(f"{url}/api", url, os.getpid(), "2026-01-01T00:00:00+00:00"))
    assert read_serving(tmp_path) is not None
    assert running_api_url(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"api_url": 1}', '{"api_url": "x", "ui_url": "y", "pid": "1", "started_at": "z"}']
)
def test_a_broken_serve_file_is_as_none(tmp_path: Path, text: str) -> None:
    serving_file(tmp_path).parent.mkdir()
    serving_file(tmp_path).write_text(text, encoding="utf-8")
    assert running_api_url(tmp_path) is None


def test_prefects_home_is_under_data_unless_the_user_chose_one(tmp_path: Path) -> None:
    assert prefect_home(tmp_path, {}) == tmp_path / "data" / "prefect"
    assert prefect_home(tmp_path, {"PREFECT_HOME": "/elsewhere"}) == Path("/elsewhere")


def test_the_server_sends_nothing_home_listens_on_loopback_and_deletes_what_is_old(tmp_path: Path) -> None:
    environment = prefect_environment(tmp_path, 4200, {"PREFECT_API_URL": "http://elsewhere/api", "HTTP_PROXY": "http://proxy:1"})
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert environment["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert "127.0.0.1" in environment["NO_PROXY"]
    code = (
        "from prefect.settings import get_current_settings as s; v = s().server.services.db_vacuum;"
        "e = s().server.events; print(sorted(v.enabled_vacuum_types), v.retention_period.days, e.retention_period.days);"
        "print(s().flows.heartbeat_frequency, s().server.concurrency.lease_storage)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PREFECT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    retention, rest = said.stdout.splitlines()
    assert retention == "['events', 'flow_runs', 'orphans'] 60 7"
    assert rest == "30 prefect.server.concurrency.lease_storage.filesystem"
