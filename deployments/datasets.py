"""Datasets as deployments: what candlewick.yaml declares is shown, written as a file for `prefect deploy`, or applied.

python -m deployments.datasets            # what would be made, changed and removed
python -m deployments.datasets write      # prefect.datasets.yaml
python -m deployments.datasets apply      # on the server of PREFECT_API_URL, or the one of `make serve`
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from cyclopts import Parameter

from candlewick.cli import SUCCESS, JsonFlag, command_app, main
from candlewick.errors import CandlewickError, UsageError
from candlewick.market_data.schedules import next_times, schedule_in_words
from candlewick.serving import running_api_url
from candlewick.settings import load_settings
from candlewick.tables import print_rows
from deployments.dataset_plans import SLUG, TAG, PlannedDataset, plan_datasets, write_datasets_file

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

DEFAULT_FILE = "prefect.datasets.yaml"
_DEPLOY_LIMIT_S = 300
_TITLES = {
    "deployment": "Deployment",
    "series": "Series",
    "schedule": "Schedule (UTC)",
    "words": "In words",
    "next": "Next runs (UTC)",
    "change": "Change",
}
_NO_SERVER = "no Prefect server is known: set PREFECT_API_URL, or start one with `make serve`"

app = command_app(
    "python -m deployments.datasets",
    "Turn the datasets of candlewick.yaml into deployments that keep them up to date: show what would be, write it as a file, "
    "or apply it.",
)


class ApplyError(CandlewickError):
    """Prefect did not take the deployments."""


@dataclass(frozen=True, slots=True)
class Change:
    """What applying does to one deployment; ``planned`` is None where it goes, ``deployment_id`` where it is new."""

    name: str
    what: str
    planned: PlannedDataset | None
    deployment_id: str | None

    @property
    def is_none(self) -> bool:
        """Whether the deployment is as it should be."""
        return self.what == "none"


@app.default
@app.command(name="show")
def show(*, json: JsonFlag = False) -> int:
    """Check the datasets and show their deployments: series, schedule, next runs, and what applying would change."""
    planned = plan_datasets(load_settings())
    changes = asyncio.run(find_changes(planned, Path.cwd())) if _find_server() else None
    _print_changes(planned, changes, json)
    return SUCCESS


@app.command(name="write")
def write(file: Annotated[Path, Parameter(help="Where to write.")] = Path(DEFAULT_FILE), /, *, json: JsonFlag = False) -> int:
    """Write the deployments as a file for `prefect --no-prompt deploy --all --prefect-file FILE`."""
    planned = plan_datasets(load_settings())
    write_datasets_file(planned, file)
    print_rows(
        [{"deployment": one.name, "file": str(file)} for one in planned], {"deployment": "Deployment", "file": "File"}, json
    )
    return SUCCESS


@app.command(name="apply")
def apply(*, json: JsonFlag = False) -> int:
    """Make, change and remove deployments so that they are what candlewick.yaml says. What was paused stays paused."""
    planned = plan_datasets(load_settings())
    if not _find_server():
        raise UsageError(_NO_SERVER)
    changes = asyncio.run(find_changes(planned, Path.cwd()))
    _print_changes(planned, changes, json)
    asyncio.run(apply_changes(changes, Path.cwd()))
    return SUCCESS


async def find_changes(planned: Sequence[PlannedDataset], directory: Path) -> list[Change]:
    """What applying would do, in the order of the settings; what goes comes last.

    A deployment goes if it has our tag and runs in ``directory``, and its dataset is gone.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    async with get_client() as client:
        tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
        there = {one.name: one for one in await client.read_deployments(deployment_filter=tagged)}
    changes = []
    for one in planned:
        known = there.pop(one.name, None)
        what = "new" if known is None else _difference(_facts(one, directory), _server_facts(known)) or "none"
        changes.append(Change(one.name, what, one, None if known is None else str(known.id)))
    gone = [one for one in there.values() if _folder(one) == str(directory)]
    return changes + [Change(one.name, "goes: its dataset is not declared", None, str(one.id)) for one in gone]


async def apply_changes(changes: Sequence[Change], directory: Path) -> None:
    """Deploy what is new or changed and remove what goes. Raises ApplyError; it may be repeated then."""
    from prefect.client.orchestration import get_client

    from deployments.register import ensure_work_pool

    touched = [one.planned for one in changes if one.planned is not None and not one.is_none]
    async with get_client() as client:
        for pool in dict.fromkeys(one.work_pool for one in touched):
            await ensure_work_pool(client, pool)
        for one in changes:
            if one.planned is None and one.deployment_id is not None:
                await client.delete_deployment(UUID(one.deployment_id))
            # Prefect's command leaves a schedule standing that its file no longer has.
            if one.planned is not None and one.planned.schedule is None and one.deployment_id is not None:
                await _remove_schedule(client, UUID(one.deployment_id))
    deploying = await _differing(touched, directory)
    if not deploying:
        return
    said = await asyncio.to_thread(_deploy, deploying, directory)
    left = await _differing(deploying, directory)
    if left:
        raise ApplyError(f"{left[0].name} is not as it should be after `prefect deploy`:\n{said}")


async def _differing(planned: Sequence[PlannedDataset], directory: Path) -> list[PlannedDataset]:
    changes = await find_changes(planned, directory) if planned else []
    return [one.planned for one in changes if one.planned is not None and not one.is_none]


async def _remove_schedule(client: "PrefectClient", deployment_id: UUID) -> None:
    for schedule in await client.read_deployment_schedules(deployment_id):
        if schedule.slug == SLUG:
            await client.delete_deployment_schedule(deployment_id, schedule.id)


def _deploy(planned: list[PlannedDataset], directory: Path) -> str:
    """Hand the deployments to Prefect's own command; what it said. Raises ApplyError."""
    with tempfile.TemporaryDirectory(prefix="candlewick-datasets-") as folder:
        file = Path(folder) / DEFAULT_FILE
        write_datasets_file(planned, file)
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        try:
            done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=_DEPLOY_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise ApplyError(
                f"`prefect deploy` did not end within {_DEPLOY_LIMIT_S} s; try again, nothing is half done"
            ) from None
    said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
    if done.returncode != 0:
        raise ApplyError(f"`prefect deploy` failed (exit code {done.returncode}):\n{said}")
    return said


def _find_server() -> bool:
    """Whether a Prefect server is known: PREFECT_API_URL, the profile's, or the one that `make serve` runs here."""
    if not os.environ.get("PREFECT_API_URL") and (served := running_api_url(Path.cwd())) is not None:
        os.environ["PREFECT_API_URL"] = served  # before Prefect is imported: it reads it only then
    from prefect.settings import get_current_settings

    return get_current_settings().api.url is not None


def _print_changes(planned: Sequence[PlannedDataset], changes: Sequence[Change] | None, json: bool) -> None:
    by_name = {one.name: one.what for one in changes or ()}
    rows = [_row(one, by_name.pop(one.name, "unknown: no server")) for one in planned]
    rows += [
        {"deployment": name, **dict.fromkeys(("series", "schedule", "words", "next")), "change": what}
        for name, what in by_name.items()
    ]
    print_rows(rows, _TITLES, json)


def _row(planned: PlannedDataset, change: str) -> dict[str, object]:
    cron = planned.schedule
    times = [] if cron is None else next_times(cron, datetime.now(UTC), 2)
    return {
        "deployment": planned.name,
        "series": len(planned.series),
        "schedule": "none" if cron is None else cron,
        "words": "by hand" if cron is None else schedule_in_words(cron),
        "next": ", ".join(f"{time:%Y-%m-%d %H:%M}" for time in times),
        "change": change,
    }


def _difference(wanted: Mapping[str, object], found: Mapping[str, object]) -> str:
    return "; ".join(f"{name}: {found[name]} → {value}" for name, value in wanted.items() if found[name] != value)


def _facts(planned: PlannedDataset, directory: Path) -> dict[str, object]:
    document = planned.document()
    return {
        "schedule": planned.schedule or "none",
        "parameters": document["parameters"],
        "description": document["description"],
        "entrypoint": document["entrypoint"],
        "work pool": planned.work_pool,
        "runs at a time": "1, CANCEL_NEW",
        "folder": str(directory),
    }


def _server_facts(found: "DeploymentResponse") -> dict[str, object]:
    limit = found.global_concurrency_limit.limit if found.global_concurrency_limit else None
    strategy = found.concurrency_options.collision_strategy.value if found.concurrency_options else None
    return {
        "schedule": next((str(getattr(one.schedule, "cron", "")) for one in found.schedules if one.slug == SLUG), "none"),
        "parameters": found.parameters,
        "description": found.description,
        "entrypoint": found.entrypoint,
        "work pool": found.work_pool_name,
        "runs at a time": f"{limit}, {strategy}",
        "folder": _folder(found),
    }


def _folder(found: "DeploymentResponse") -> str | None:
    """The folder that a deployment's runs start in, as `prefect deploy` records it; None where it has another first step."""
    for step in found.pull_steps or ():
        for name, inputs in step.items():
            if name.endswith("set_working_directory") and isinstance(inputs, dict):
                return str(inputs.get("directory"))
    return None


if __name__ == "__main__":
    main(app)
