"""How long a task waits before it asks an exchange again: what may pass is asked for again, as the exchange wants it."""

import random
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from candlewick.errors import InvalidCandles, InvalidFunding, MarketUnavailable, RateLimited
from candlewick.market.retry import retry_delay_s
from tasks.market import MarketAccess

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")
Condition = Callable[[Task[..., Any], TaskRun, State[Any]], Awaitable[bool]]

# A longer pause is left to the next cycle: waiting for it would keep the account, and a schedule, standing.
LONGEST_PAUSE_S = 120.0


def patient(asking: Task[Arguments, Answer], access: MarketAccess) -> Task[Arguments, Answer]:
    """A copy of a task that is tried as often, and with such pauses, as the exchange's settings say."""
    return asking.with_options(retries=access.max_attempts - 1, retry_condition_fn=_may_pass(access))


def _may_pass(access: MarketAccess) -> Condition:
    """A retry condition that also sets the delay: Prefect reads the delay after it has asked the condition."""

    async def may_pass(copy: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
        error = await state.aresult(raise_on_failure=False)
        pause_s = error.retry_after_s if isinstance(error, RateLimited) else None
        if not isinstance(error, MarketUnavailable | InvalidCandles | InvalidFunding) or (pause_s or 0) > LONGEST_PAUSE_S:
            return False
        delay_s = retry_delay_s(max(run.run_count, 1), pause_s, access.retry_base_s, access.retry_max_s, random.random())
        copy.retry_delay_seconds = [delay_s]
        return True

    return may_pass
