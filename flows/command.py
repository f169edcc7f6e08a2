"""What the commands of all flows share: running a flow, with progress on the terminal while Prefect starts and works."""

import asyncio
import os
from collections.abc import Awaitable, Coroutine
from contextlib import ExitStack
from contextvars import ContextVar
from typing import TypeVar, cast

from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun, MissingResult

from candlewick.announcing import listening
from candlewick.cli import progress

Result = TypeVar("Result")
_answers: ContextVar[list[object] | None] = ContextVar("answers", default=None)


class ProgressLine:
    """Turns announcements into progress lines: each one ends the one before.

    Announcements with the same beginning up to a colon, such as `sweeping: 10 of 50 sets`, are one line that moves on.
    """

    def __init__(self) -> None:
        self._line = ExitStack()
        self._text = ""

    def say(self, text: str) -> None:
        """Begin a new line, or go on with the last one."""
        head, colon, _ = text.partition(": ")
        goes_on = bool(colon) and self._text.startswith(f"{head}: ")
        if not goes_on:
            self._line.close()
        self._text = text
        if not goes_on:
            self._line.enter_context(progress(lambda: self._text))

    def end(self) -> None:
        """End the last line."""
        self._line.close()
        self._text = ""


def run_flow(call: Coroutine[None, None, Result]) -> Result:
    """Run an async flow to its end, showing what happens. A temporary server is said to be one: it takes its time."""
    return run_announced(
        call,
        f"asking Prefect's server at {os.environ['PREFECT_API_URL']}"
        if os.environ.get("PREFECT_API_URL")
        else "starting Prefect's temporary server (up to half a minute; `make serve` keeps one running)",
    )


def run_announced(call: Coroutine[None, None, Result], first: str) -> Result:
    """Run to the end, showing what happens; ``first`` is said at once."""
    line = ProgressLine()
    try:
        with listening(line.say):
            line.say(first)
            return asyncio.run(call)
    finally:
        line.end()


def ending(state: State[Result]) -> State[Result]:
    """A flow's own final state, as it is. What it carries is remembered for ``result_of`` in this process."""
    box = _answers.get()
    if box is not None:
        box.append(state.data)
    return state


async def result_of(flow: Awaitable[State[State[Result]]]) -> Result:
    """The result that a flow's final state carries. Raises what the flow raised.

    A server that is slow to book the final state is asked again, and then answers with the state that it has booked, which
    carries nothing. The flow has done its work then: its answer is the one that it ended with.
    """
    box: list[object] = []
    token = _answers.set(box)
    try:
        state = await flow
    finally:
        _answers.reset(token)
    try:
        # A flow that ends with a state of its own making has that state's data for its result.
        answer = cast("Result | BaseException | None", await state.aresult(raise_on_failure=False))
    except MissingResult as missing:
        answer = missing
    if isinstance(answer, MissingResult | FailedRun) and box:
        answer = cast("Result", box[-1])
    if isinstance(answer, BaseException):
        raise answer
    assert answer is not None, f"the flow ended without a result: {state.name}"
    return answer
