"""How a search was cut, remembered: a re-run cuts it the same way, and so finds its finished chunks however busy the machine."""

import json
from dataclasses import dataclass
from pathlib import Path

from candlewick.backtesting.chunk_sizes import LARGEST, Pace
from candlewick.backtesting.set_files import digest_of
from candlewick.errors import UsageError
from candlewick.files import naming_what_failed, write_whole
from candlewick.json_text import Json, to_json


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """Sets in a chunk, and the pace that was measured before the first of them."""

    size: int
    pace: Pace


def plan_file(folder: Path, runner_key: str, search: Json) -> Path:
    """Where the plan of a search over a window is kept."""
    return folder / f"{digest_of([runner_key, search])}.plan.json"


def load_plan(path: Path, threads: int) -> ChunkPlan | None:
    """The plan that was kept; None where there is none that can be read."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        size, set_s = int(told["size"]), float(told["set_s"])
    except (OSError, ValueError, KeyError, TypeError):  # it is measured again
        return None
    return ChunkPlan(size, Pace(set_s, threads)) if 1 <= size <= LARGEST and set_s > 0 else None


def save_plan(path: Path, plan: ChunkPlan) -> None:
    """Keep a plan. Raises LakeError."""
    with naming_what_failed(path, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, to_json({"size": plan.size, "set_s": plan.pace.set_s}).encode())


def refuse_chunk(size: int | None) -> None:
    """Raises UsageError for a chunk size that makes no sense."""
    if size is not None and not 1 <= size <= LARGEST:
        raise UsageError(f"--chunk {size}: it must be a whole number from 1 to {LARGEST:,}")
