"""The few questions `make serve` asks Prefect's REST API. Plain HTTP: importing Prefect's client takes seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

# Times come as ISO 8601 with a zone.
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """A deployment as the server sees it. ``next_run_at`` is None when no run is scheduled."""

    id: str
    name: str
    flow_name: str
    is_ready: bool
    schedule: str
    schedule_ids: tuple[str, ...]
    is_scheduled: bool
    next_run_at: datetime | None

    @property
    def full_name(self) -> str:
        return f"{self.flow_name}/{self.name}"


class ServerApi:
    """One server. Methods raise httpx.HTTPError when it does not answer, or not with success."""

    def __init__(self, api_url: str, auth_string: str | None = None) -> None:
        user, _, password = (auth_string or "").partition(":")
        auth = httpx.BasicAuth(user, password) if auth_string else None
        # trust_env: the server is on this machine, no proxy has a part in reaching it.
        self._client = httpx.Client(base_url=api_url, timeout=10.0, trust_env=False, auth=auth)

    def is_healthy(self) -> bool:
        try:
            return self._client.get("/health", timeout=2.0).text.strip() == "true"
        except httpx.HTTPError:
            return False

    def worker_is_online(self, pool: str, worker: str, since: datetime) -> bool:
        """Whether that worker said so after ``since``: an earlier one of the same name may still count as online."""
        rows = self._rows(f"/work_pools/{pool}/workers/filter", {})
        heartbeats = [
            _moment(row.get("last_heartbeat_time")) for row in rows if row.get("name") == worker and row.get("status") == "ONLINE"
        ]
        return any(heartbeat is not None and heartbeat >= since for heartbeat in heartbeats)

    def deployments(self, names: Sequence[str]) -> list[DeploymentState]:
        """Those of ``names`` that exist, in that order."""
        rows = self._rows("/deployments/filter", {"deployments": {"name": {"any_": list(names)}}})
        flow_names = {str(row["id"]): str(row["name"]) for row in self._rows("/flows/filter", {})}
        states = [self._state(row, flow_names) for row in rows]
        return sorted(states, key=lambda state: names.index(state.name))

    def has_deployments(self, tag: str) -> bool:
        """Whether there is any with that tag."""
        return bool(self._rows("/deployments/filter", {"deployments": {"tags": {"all_": [tag]}}, "limit": 1}))

    def _state(self, row: Json, flow_names: dict[str, str]) -> DeploymentState:
        schedules = _objects(row.get("schedules"))
        active = not row.get("paused") and any(schedule.get("active") for schedule in schedules)
        return DeploymentState(
            id=str(row["id"]),
            name=str(row["name"]),
            flow_name=flow_names.get(str(row["flow_id"]), "?"),
            is_ready=row.get("status") == "READY",
            schedule=", ".join(_schedule_text(schedule.get("schedule")) for schedule in schedules),
            schedule_ids=tuple(str(schedule["id"]) for schedule in schedules),
            is_scheduled=active,
            next_run_at=self._next_run(str(row["id"])) if active else None,
        )

    def _next_run(self, deployment_id: str) -> datetime | None:
        body = {
            "deployments": {"id": {"any_": [deployment_id]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
            "sort": "EXPECTED_START_TIME_ASC",
            "limit": 1,
        }
        rows = self._rows("/flow_runs/filter", body)
        return _moment(rows[0].get("expected_start_time")) if rows else None

    def pause_schedules(self, deployment: DeploymentState) -> None:
        for schedule_id in deployment.schedule_ids:
            self._client.patch(f"/deployments/{deployment.id}/schedules/{schedule_id}", json={"active": False}).raise_for_status()

    def crash_abandoned_runs(self, pool: str) -> int:
        """Mark runs of ``pool`` crashed that began and did not end. Call while no worker of the pool runs. Returns how many.

        It also frees the concurrency slots that they hold: with a limit of one they would keep every later run out.
        """
        body = {
            "work_pools": {"name": {"any_": [pool]}},
            "flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}},
        }
        rows = self._rows("/flow_runs/filter", body)
        state = {"type": "CRASHED", "name": "Crashed", "message": "Its process was gone when make serve started again."}
        for row in rows:
            self._client.post(f"/flow_runs/{row['id']}/set_state", json={"state": state}).raise_for_status()
        return len(rows)

    def _rows(self, path: str, body: dict[str, object]) -> list[Json]:
        return _objects(self._client.post(path, json=body).raise_for_status().json())


def _objects(value: object) -> list[Json]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _moment(value: object) -> datetime | None:
    return datetime.fromisoformat(value).astimezone(UTC) if isinstance(value, str) else None


def _schedule_text(schedule: object) -> str:
    if not isinstance(schedule, dict):
        return "?"
    if "cron" in schedule:
        return f"{schedule['cron']} {schedule.get('timezone') or 'UTC'}"
    return f"every {schedule['interval']:g} s" if "interval" in schedule else str(schedule.get("rrule", "?"))
