"""How long each step of a run took."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Stopwatch:
    """Seconds by step, in the order in which the steps began; a step that comes again adds up."""

    def __init__(self) -> None:
        self.durations_s: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        started = perf_counter()
        self.durations_s.setdefault(name, 0.0)
        try:
            yield
        finally:
            self.durations_s[name] = round(self.durations_s[name] + perf_counter() - started, 6)
