"""What is being done right now, told to whoever watches: a terminal's progress line, the log, or nobody."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LOG = logging.getLogger(__name__)
_LISTENER: ContextVar[Callable[[str], None] | None] = ContextVar("candlewick_listener", default=None)


def announce(text: str) -> None:
    """Say what begins now, such as `fetching candles of 3 symbols`."""
    _LOG.info(text)
    listener = _LISTENER.get()
    if listener is not None:
        listener(text)


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Tell ``listener`` all announcements made inside, also those of tasks and threads that copy the context."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)
