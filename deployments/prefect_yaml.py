"""What prefect.yaml deploys, read without Prefect."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from candlewick.errors import UsageError


@dataclass(frozen=True, slots=True)
class PlannedDeployment:
    """One deployment of prefect.yaml: its name, and the work pool that its runs go to."""

    name: str
    work_pool: str


def planned_deployments(directory: Path) -> list[PlannedDeployment]:
    """The deployments of ``directory``'s prefect.yaml, in its order. Raises UsageError."""
    path = directory / "prefect.yaml"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no prefect.yaml in {directory}: run this in the folder of Candlewick's checkout") from None
    except yaml.YAMLError as problem:
        raise UsageError(f"prefect.yaml is not YAML: {problem}") from None
    entries = document.get("deployments") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UsageError("prefect.yaml has no deployments")
    return [_planned(entry, number) for number, entry in enumerate(entries, start=1)]


def _planned(entry: object, number: int) -> PlannedDeployment:
    if isinstance(entry, dict):
        name, pool = entry.get("name"), entry.get("work_pool")
        pool_name = pool.get("name") if isinstance(pool, dict) else None
        if isinstance(name, str) and isinstance(pool_name, str):
            return PlannedDeployment(name, pool_name)
    raise UsageError(f"prefect.yaml: deployment {number} needs a name and a work_pool with a name")
