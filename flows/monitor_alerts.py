"""Alerts of a session: who is told when something needs a person."""

from collections.abc import Sequence

from candlewick.monitoring.rows import AlertRow


class Alerts:
    """Rows of alerts that the next commit takes along."""

    def __init__(self) -> None:
        self._rows: list[AlertRow] = []

    def take_rows(self) -> tuple[AlertRow, ...]:
        """What is new since it was last asked."""
        taken, self._rows = tuple(self._rows), []
        return taken

    def give_back(self, rows: Sequence[AlertRow]) -> None:
        """What was taken and could not be written."""
        self._rows[:0] = rows
