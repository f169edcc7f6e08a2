"""Logs: text for people or one JSON object a line, each with the correlation id of the cycle that wrote it.

A line of JSON has ``time`` (UTC, ISO 8601), ``level``, ``logger``, ``message``, ``correlation_id``, and whatever the
caller or Prefect gave as extra fields (``flow_run_id``, ``task_run_name``, …); ``exception`` where there was one.
"""

import json
import logging
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

from candlewick.json_text import iso_utc

_FIXED = ("time", "level", "logger", "message", "correlation_id", "exception")
_OF_EVERY_RECORD = {*logging.LogRecord("", 0, "", 0, "", None, None).__dict__, "message", "asctime", "taskName", "correlation_id"}
# Text and JSON lines replace each other on these loggers' stream handlers: the root carries Prefect's runs too.
_LOGGERS = ("", "prefect", "prefect._internal", "uvicorn", "fastapi", "candlewick")
_LEVELLED = ("candlewick", "prefect.flow_runs", "prefect.task_runs")

_correlation_id: ContextVar[str | None] = ContextVar("candlewick_correlation_id", default=None)


def current_correlation_id() -> str | None:
    """The correlation id of what runs now; None outside of ``bind_correlation_id``."""
    return _correlation_id.get()


@contextmanager
def bind_correlation_id(correlation_id: str | None = None) -> Iterator[str]:
    """Everything logged inside carries this id (a new one where none is given), in tasks and threads started from here too.

    A thread of one's own needs ``contextvars.copy_context().run``; asyncio and Prefect do that by themselves.
    """
    chosen = correlation_id or uuid.uuid4().hex
    token = _correlation_id.set(chosen)
    try:
        yield chosen
    finally:
        _correlation_id.reset(token)


class JsonLines(logging.Formatter):
    """One JSON object a line, in ASCII: no text can break the line. Extra fields that have no JSON form become their text."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, object] = {
            "time": iso_utc(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "correlation_id": getattr(record, "correlation_id", None) or current_correlation_id(),
        }
        extras = {key: value for key, value in record.__dict__.items() if key not in _OF_EVERY_RECORD}
        line.update({f"extra_{key}" if key in _FIXED else key: value for key, value in extras.items()})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, skipkeys=True)


class TextLines(logging.Formatter):
    """`16:00:00 | INFO | candlewick.market | message [correlation id]`, times in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text; a traceback follows on its own lines."""
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        correlation_id = getattr(record, "correlation_id", None) or current_correlation_id()
        text = f"{time} | {record.levelname} | {record.name} | {record.getMessage()}" + (
            f" [{correlation_id}]" if correlation_id else ""
        )
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure_logging(level: str, json_lines: bool, stream: TextIO | None = None) -> None:
    """Log from ``level`` on, to standard error unless ``stream`` is given. Call it again to change the level.

    Where somebody (Prefect) has set up handlers, those stay, and with ``json_lines`` write JSON: call this after importing
    Prefect. Handlers that send records elsewhere (Prefect's API) keep their own form. Prefect's own chatter keeps its
    level (PREFECT_LOGGING_LEVEL); its flow and task run loggers take this one.
    """
    root = logging.getLogger()
    if not any(isinstance(handler, logging.StreamHandler) for handler in root.handlers):
        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(TextLines())
        root.addHandler(handler)
    for name in _LEVELLED:
        logging.getLogger(name).setLevel(level)
    if json_lines:
        write_json_lines()


def write_json_lines() -> None:
    """Make every stream handler of the root, Prefect's and the servers' loggers write JSON lines. Twice is as good as once."""
    for name in _LOGGERS:
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler.formatter, JsonLines):
                handler.setFormatter(JsonLines())
