"""The standard result of a session: returned by the flow, shown as an artifact, printed by `--json`."""

from datetime import datetime
from typing import Literal

from candlewick.results import Record

SessionEnd = Literal["ended", "handed_over", "stopped", "stood_aside", "failure"]


class SessionResult(Record):
    """How a session ended. Counts are of this session; ``watermark_at``: open time of the last bar that every symbol has."""

    status: SessionEnd
    session_id: str
    name: str
    reason: str
    symbols: int
    bars: int
    signals: int
    rejections: int
    orders: int
    fills: int
    errors: int
    restarts: int
    quarantined: tuple[str, ...]
    watermark_at: datetime | None
    started_at: datetime
    ended_at: datetime
    lag_p50_s: float | None
    lag_p99_s: float | None
    error: str | None = None
