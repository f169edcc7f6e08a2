"""In which direction a file's rows go, and which of them do not keep to it."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from candlewick.market_data.importing_report import Note
from candlewick.validation import Finding

Times = npt.NDArray[np.int64]


@dataclass(slots=True)
class OrderSeen:
    """Filled batch by batch. ``late`` rows come after a later one, ``early`` ones after an earlier one."""

    rows: int = 0
    late: int = 0
    early: int = 0
    late_span: tuple[int, int] | None = None
    early_span: tuple[int, int] | None = None
    _highest: int = field(default=np.iinfo(np.int64).min)
    _lowest: int = field(default=np.iinfo(np.int64).max)

    def add(self, times: Times) -> None:
        """More rows' times in the file's order."""
        highest = np.maximum.accumulate(np.concatenate([[self._highest], times]))
        lowest = np.minimum.accumulate(np.concatenate([[self._lowest], times]))
        late, early = times[times < highest[:-1]], times[times > lowest[:-1]]
        self.rows += times.size
        self.late += late.size
        self.early += early.size
        self.late_span, self.early_span = _span(self.late_span, late), _span(self.early_span, early)
        self._highest, self._lowest = int(highest[-1]), int(lowest[-1])

    @property
    def newest_first(self) -> bool:
        """Whether the rows go back in time."""
        return self.late > self.early

    @property
    def strays(self) -> int:
        """Rows that do not keep to the file's direction."""
        return min(self.late, self.early)

    def note(self) -> Note:
        """What was found."""
        direction = "newest first" if self.newest_first else "oldest first"
        strays = f", {self.strays:,} rows out of order" if self.strays else ""
        return Note("order", f"{direction}{strays}", "sorted by time" if strays or self.newest_first else "", self.rows)

    def findings(self, length_ms: int) -> list[Finding]:
        """Strays as a finding; that a file is newest first is none."""
        span = self.early_span if self.newest_first else self.late_span
        if not self.strays or span is None:
            return []
        text = f"{self.strays} of {self.rows} rows of the imported file were out of order; sorted"
        return [Finding("out_of_order", "info", span[0], span[1] + length_ms, text)]


def _span(before: tuple[int, int] | None, times: Times) -> tuple[int, int] | None:
    if not times.size:
        return before
    first, last = int(times.min()), int(times.max())
    return (first, last) if before is None else (min(before[0], first), max(before[1], last))
