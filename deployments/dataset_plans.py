"""What the datasets of the settings are as deployments of the flow `sync`, in prefect.yaml's format. Read without Prefect."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from candlewick.errors import UsageError
from candlewick.market_data.datasets import dataset_schedule, dataset_wanted
from candlewick.market_data.wanted import Wanted
from candlewick.settings import Settings

ENTRYPOINT = "flows/data_sync.py:sync"
TAG = "candlewick-dataset"
"""Deployments with this tag are made, changed and removed by what the settings say."""
SLUG = "dataset"
_MANY = 6
_HEADER = """# Deployments of the datasets in candlewick.yaml: `prefect --no-prompt deploy --all --prefect-file {name}`.
# Written by `python -m deployments.datasets write`, which writes it again: change the section `datasets` instead.
"""


@dataclass(frozen=True, slots=True)
class PlannedDataset:
    """One dataset and its deployment. ``schedule`` is a cron text in UTC, None where it is only brought up to date by hand."""

    dataset: str
    series: tuple[Wanted, ...]
    schedule: str | None
    work_pool: str

    @property
    def name(self) -> str:
        """The deployment's name."""
        return f"sync-{self.dataset}"

    @property
    def description(self) -> str:
        """What it does, for people."""
        markets, symbols, timeframes, kinds = (
            _listed(tuple(dict.fromkeys(filter(None, texts))))
            for texts in zip(*((one.market, one.symbol, one.timeframe, one.kind) for one in self.series), strict=True)
        )
        lengths = f" ({timeframes})" if timeframes else ""
        return f"Keeps dataset {self.dataset} complete and up to date: {kinds}{lengths} of {symbols} from {markets}."

    def document(self) -> dict[str, object]:
        """The deployment as prefect.yaml has them. No `active`: deploying again keeps what was paused in the UI paused."""
        schedule = {"slug": SLUG, "cron": self.schedule, "timezone": "UTC"}
        return {
            "name": self.name,
            "description": self.description,
            "entrypoint": ENTRYPOINT,
            "tags": ["candlewick", TAG],
            "parameters": {"datasets": [self.dataset]},
            "schedules": [] if self.schedule is None else [schedule],
            "concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW"},
            "work_pool": {"name": self.work_pool},
        }


def plan_datasets(settings: Settings) -> list[PlannedDataset]:
    """A deployment for every dataset, in the settings' order."""
    return [
        PlannedDataset(name, dataset_wanted(dataset), dataset_schedule(dataset), settings.serve.work_pool)
        for name, dataset in settings.datasets.items()
    ]


def datasets_file(planned: list[PlannedDataset], name: str) -> str:
    """The text of a file that `prefect deploy --prefect-file` takes. Raises UsageError where there is nothing to deploy."""
    if not planned:
        raise UsageError("no dataset is declared: write a section `datasets:` into candlewick.yaml (docs/data.md shows one)")
    document: Mapping[str, object] = {"name": "candlewick", "deployments": [one.document() for one in planned]}
    return _HEADER.format(name=name) + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)


def write_datasets_file(planned: list[PlannedDataset], path: Path) -> None:
    """Write the file, whole or not at all. Raises UsageError where there is nothing to deploy."""
    text = datasets_file(planned, path.name)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(words) if len(words) <= _MANY else f"{', '.join(words[: _MANY - 1])} and {len(words) - _MANY + 1} more"
