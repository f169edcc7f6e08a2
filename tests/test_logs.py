"""Logs: one JSON object a line, the cycle's correlation id on each, also where Prefect has set up the handlers."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from candlewick.logs import JsonLines, TextLines, bind_correlation_id, configure_logging, current_correlation_id, write_json_lines

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """What the logger `candlewick.test` writes as JSON lines."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("candlewick.test")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield stream
    logger.removeHandler(handler)


LOGGER = logging.getLogger("candlewick.test")


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_time_level_logger_message_and_correlation_id(out: io.StringIO) -> None:
    with bind_correlation_id("cycle-7"):
        LOGGER.warning("%s waited %d s", "BTC/USDT", 3)
    (line,) = lines(out)
    moment = datetime.fromisoformat(str(line.pop("time")))
    assert moment.utcoffset() == timedelta(0)
    assert line == {
        "level": "WARNING",
        "logger": "candlewick.test",
        "message": "BTC/USDT waited 3 s",
        "correlation_id": "cycle-7",
    }


def test_the_time_is_the_moment_in_utc_with_z() -> None:
    record = logging.LogRecord("candlewick", logging.INFO, "", 0, "x", None, None)
    record.created = 1767312000.25
    assert json.loads(JsonLines().format(record))["time"] == "2026-01-02T00:00:00.250000Z"
    assert TextLines().format(record) == "00:00:00 | INFO | candlewick | x"


def test_extra_fields_are_fields_and_never_replace_the_fixed_ones(out: io.StringIO) -> None:
    LOGGER.info("x", extra={"symbol": "BTC/USDT", "path": Path("a/b"), "level": "mine", "time": 1})
    (line,) = lines(out)
    assert (line["symbol"], line["path"], line["extra_level"], line["extra_time"]) == ("BTC/USDT", "a/b", "mine", 1)
    assert line["level"] == "INFO"


def test_text_of_any_kind_and_tracebacks_stay_on_one_line(out: io.StringIO) -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        LOGGER.exception("a\nb\r\u2028 €")
    (line,) = lines(out)
    assert line["message"] == "a\nb\r\u2028 €"
    assert "ValueError: first\nsecond" in str(line["exception"])
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().isascii()


def test_outside_of_a_cycle_there_is_no_correlation_id_and_inside_the_innermost_holds(out: io.StringIO) -> None:
    LOGGER.info("before")
    with bind_correlation_id() as outer:
        with bind_correlation_id("inner"):
            LOGGER.info("inside")
        LOGGER.info("between")
    LOGGER.info("after")
    assert [line["correlation_id"] for line in lines(out)] == [None, "inner", outer, None]
    assert outer
    assert current_correlation_id() is None


def test_two_cycles_at_once_keep_their_own_ids(out: io.StringIO) -> None:
    async def cycle(name: str) -> None:
        with bind_correlation_id(name):
            for _ in range(3):
                await asyncio.sleep(0)
                await asyncio.to_thread(LOGGER.info, name)

    async def both() -> None:
        await asyncio.gather(cycle("a"), cycle("b"))

    asyncio.run(both())
    assert len(lines(out)) == 6
    assert all(line["message"] == line["correlation_id"] for line in lines(out))


def test_a_thread_with_the_copied_context_keeps_the_id(out: io.StringIO) -> None:
    with bind_correlation_id("a"), ThreadPoolExecutor(1) as pool:
        pool.submit(copy_context().run, LOGGER.info, "x").result()
    assert lines(out)[0]["correlation_id"] == "a"


def test_text_lines_end_with_the_id() -> None:
    record = logging.LogRecord("candlewick", logging.INFO, "", 0, "x", None, None)
    with bind_correlation_id("a"):
        assert TextLines().format(record).endswith("| INFO | candlewick | x [a]")


def test_handlers_that_send_records_elsewhere_keep_their_form() -> None:
    class Elsewhere(logging.Handler):
        """Stands for Prefect's API handler, which is no stream."""

    logger, elsewhere = logging.getLogger("prefect"), Elsewhere()
    logger.addHandler(elsewhere)
    try:
        write_json_lines()
        assert elsewhere.formatter is None
    finally:
        logger.removeHandler(elsewhere)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Logging is one a process, so these have one of their own."""
    settings = {"PYTHONPATH": str(ROOT), "HOME": environment.pop("HOME", "/nonexistent"), "DO_NOT_TRACK": "1", **environment}
    return subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True)


def test_without_prefect_text_or_json_goes_to_standard_error_from_the_level_on() -> None:
    code = (
        "import logging, sys\n"
        "from candlewick.logs import configure_logging\n"
        "configure_logging('INFO', json_lines=sys.argv[1:] == [])\n"
        "configure_logging('INFO', json_lines=sys.argv[1:] == [])\n"
        "logging.getLogger('candlewick.x').info('shown')\n"
        "logging.getLogger('candlewick.x').debug('not shown')\n"
        "logging.getLogger('somebody.else').info('not shown')\n"
    )
    ran = run(code)
    assert ran.stdout == ""
    assert [json.loads(line)["message"] for line in ran.stderr.splitlines()] == ["shown"]
    assert run("import sys; sys.argv.append('text')\n" + code).stderr.endswith(" | INFO | candlewick.x | shown\n")


PREFECT_RUN = """
import logging
CONFIGURE_FIRST
from prefect import flow
from prefect.logging.loggers import PrefectLogAdapter
from candlewick.logs import bind_correlation_id, configure_logging
configure_logging('INFO', json_lines=True)
runs = logging.getLogger('prefect.flow_runs')
assert [type(handler).__name__ for handler in runs.handlers] == ['APILogHandler']
assert type(runs.handlers[0].formatter).__name__ != 'JsonLines'
runs.handlers.clear()  # nothing of this test goes to a server
with bind_correlation_id('cycle-7'):
    run = PrefectLogAdapter(runs, extra={'flow_run_id': 'f1', 'flow_run_name': 'demo'})
    run.info('a run [bold] ' + 'x' * 300)
    logging.getLogger('candlewick.market').warning('a\\nb')
    logging.getLogger('prefect.client').warning('c')
"""


@pytest.mark.parametrize(
    "first", ["", "from candlewick.logs import configure_logging; configure_logging('INFO', json_lines=True)"]
)
def test_with_prefect_every_line_is_json_with_the_correlation_id_and_prefects_ids(first: str, tmp_path: Path) -> None:
    ran = run(PREFECT_RUN.replace("CONFIGURE_FIRST", first), HOME=str(tmp_path), PREFECT_HOME=str(tmp_path / "prefect"))
    written = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [line["message"] for line in written] == ["a run [bold] " + "x" * 300, "a\nb", "c"]
    assert {line["correlation_id"] for line in written} == {"cycle-7"}
    assert (written[0]["flow_run_id"], written[0]["flow_run_name"]) == ("f1", "demo")


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="Unknown level"):
        configure_logging("LOUD", json_lines=False)


CYCLE_BEGINS = """
from candlewick.announcing import announce
from candlewick.logs import bind_correlation_id
from candlewick.paper_request import PaperOptions, read_request
from flows.paper_trading import log_as_set
log_as_set(read_request(PaperOptions()))
with bind_correlation_id('cycle-7'):
    announce('reading account demo')
"""


def test_a_cycle_logs_its_steps_where_the_settings_say_something_of_logs_and_is_silent_otherwise(tmp_path: Path) -> None:
    kept = {"HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path / "prefect")}
    assert run(CYCLE_BEGINS, **kept).stderr == ""
    (line,) = run(CYCLE_BEGINS, CANDLEWICK_LOGGING__JSON="true", **kept).stderr.splitlines()
    assert (json.loads(line)["message"], json.loads(line)["correlation_id"]) == ("reading account demo", "cycle-7")
    assert run(CYCLE_BEGINS, CANDLEWICK_LOGGING__JSON="true", CANDLEWICK_LOGGING__LEVEL="error", **kept).stderr == ""
