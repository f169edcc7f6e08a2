"""A schedule makes runs that really happen and reach the ledger; runs that were cut off do not keep later ones out."""

from collections.abc import Iterator

import polars as pl
import pytest

from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from deployments.server_api import ServerApi
from tests.prefect_server import api_client
from tests.serve_fixture import ServeProcess, wait_for

INTERVAL_S = 15
RUN_LIMIT_S = 180.0


@pytest.fixture
def scheduled_deployment(serve_process: ServeProcess) -> Iterator[str]:
    """paper-4h once more, for an account of its own, every few seconds; returns the deployment's id."""
    serve_process.running()
    (model,) = serve_process.rows("/deployments/filter", {"deployments": {"name": {"any_": ["paper-4h"]}}})
    copied = ("flow_id", "entrypoint", "pull_steps", "path", "work_pool_name", "parameter_openapi_schema", "concurrency_options")
    body = {name: model[name] for name in copied} | {
        "name": "every-few-seconds",
        "parameters": {"account": "scheduled", "market": "sample", "timeframe": "4h"},
        "concurrency_limit": 1,
        "schedules": [{"schedule": {"interval": INTERVAL_S}, "active": True, "slug": "often"}],
    }
    with api_client(f"http://127.0.0.1:{serve_process.port}/api") as client:
        deployment = client.post("/deployments/", json=body).raise_for_status().json()
        yield deployment["id"]
        client.delete(f"/deployments/{deployment['id']}").raise_for_status()


def runs_of(serve: ServeProcess, deployment_id: str, state: str) -> list[dict[str, object]]:
    body: dict[str, object] = {
        "deployments": {"id": {"any_": [deployment_id]}},
        "flow_runs": {"state": {"type": {"any_": [state]}}},
    }
    return serve.rows("/flow_runs/filter", body)


@pytest.mark.xdist_group("serve")
def test_a_scheduled_run_happens_and_reaches_the_ledger(serve_process: ServeProcess, scheduled_deployment: str) -> None:
    def completed() -> list[dict[str, object]]:
        return runs_of(serve_process, scheduled_deployment, "COMPLETED")

    def what() -> str:
        log = serve_process.directory / "data" / "serve" / "worker.log"
        return f"no completed run of the schedule; the worker says:\n{log.read_text(encoding='utf-8')[-3000:]}"

    wait_for(lambda: bool(completed()), RUN_LIMIT_S, what)
    run = completed()[-1]
    assert run["auto_scheduled"] is True
    assert "auto-scheduled" in run["tags"]  # type: ignore[operator]

    ledger = Ledger(Database(str(serve_process.directory / "data" / "ledger.duckdb")))
    written = ledger.export_rows("scheduled")["runs"]
    ours = written.filter(pl.col("flow_run_id") == run["id"])
    assert ours["status"].to_list() == ["success"], written
    assert ledger.load_account("scheduled") is not None


@pytest.mark.xdist_group("prefect_server")
def test_a_run_that_was_cut_off_lets_go_of_its_slot_when_serve_starts_again(prefect_server: str) -> None:
    with api_client(prefect_server) as client:

        def post(path: str, body: dict[str, object]) -> dict[str, object]:
            return dict(client.post(path, json=body).raise_for_status().json())

        post("/work_pools/", {"name": "cut-off", "type": "process"})
        flow = post("/flows/", {"name": "cut-off"})
        terms = {"concurrency_limit": 1, "concurrency_options": {"collision_strategy": "CANCEL_NEW"}}
        deployment = post("/deployments/", {"name": "cut-off", "flow_id": flow["id"], "work_pool_name": "cut-off"} | terms)

        def begin() -> tuple[str, object]:
            """A run of the deployment and the state it got when a worker took it."""
            run = post(f"/deployments/{deployment['id']}/create_flow_run", {})
            answer = post(f"/flow_runs/{run['id']}/set_state", {"state": {"type": "PENDING"}})
            return str(run["id"]), answer["state"]["type"]  # type: ignore[index]

        first, taken = begin()
        assert taken == "PENDING"
        assert begin()[1] == "CANCELLED", "the slot is not held, so this test shows nothing"
        post(f"/flow_runs/{first}/set_state", {"state": {"type": "RUNNING"}})

        assert ServerApi(prefect_server).crash_abandoned_runs("cut-off") == 1
        assert client.get(f"/flow_runs/{first}").json()["state"]["type"] == "CRASHED"
        assert begin()[1] == "PENDING"
