"""A ccxt client's place in the request budget that all processes of this machine share (candlewick/market/budget_file.py)."""

import asyncio
import time
from collections.abc import Mapping
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from candlewick.market.budget import terms_of
from candlewick.market.budget_file import SharedBudget, budget_name

_REFUSALS = (418, 429)
_USED_WEIGHT = "x-mbx-used-weight-1m"
# Beyond this share of the weight that an address may use in a minute, what is under way elsewhere may already reach the limit.
_FULL_SHARE = 0.97
_MINUTE_S = 60.0

sent_at_ms: ContextVar[float] = ContextVar("sent_at_ms")
"""When this task sent its last request, after its wait; milliseconds of this machine's clock."""


class SharesBudget:
    """Goes before StrictAnswers. ccxt asks ``throttle`` before each request, with its cost in the exchange's own weights where
    those are published; here that asks the shared budget. A client waits for one request at a time, so that many processes
    take turns, and one that is killed leaves at most one place in the line unused."""

    pause_ends_s: float
    budget: SharedBudget

    def join_budget(self, exchange_id: str, api_url: str | None, sandbox: bool, requests_per_s: float | None) -> None:
        """Find the budget. ``requests_per_s`` holds even where the exchange's own limit is switched off."""
        client: Any = self
        host = urlsplit(api_url).netloc if api_url else ""
        self.budget = SharedBudget(budget_name(exchange_id, host, sandbox))
        ms_per_cost = client.rateLimit if client.enableRateLimit else 0.0
        client.enableRateLimit = client.enableRateLimit or requests_per_s is not None
        self._terms = terms_of(ms_per_cost, client.rollingWindowSize / 1000, requests_per_s)
        self._turn = asyncio.Lock()
        self._weight_limit: int | None = None

    async def throttle(self, cost: float | None = None) -> None:
        """Wait until a request of ``cost`` (None: 1) may be sent."""
        async with self._turn:
            wait_s = self.budget.take(1.0 if cost is None else float(cost), self._terms)
            if wait_s > 0:
                await asyncio.sleep(wait_s)

    async def fetch(self, *request: Any, **named: Any) -> Any:
        """One request. A pause that another process was told holds this one too: StrictAnswers does not send it."""
        left_s = self.budget.pause_left_s()
        if left_s > 0:
            self.pause_ends_s = max(self.pause_ends_s, time.monotonic() + left_s)
        sent_at_ms.set(time.time() * 1000)
        return await super().fetch(*request, **named)  # type: ignore[misc]

    def handle_errors(self, code: int, reason: str, url: str, method: str, headers: dict[str, str], body: str, *rest: Any) -> Any:
        """ccxt calls this with every answer: what it tells of the budget is noted for all."""
        self._note_weight(headers, rest[0])
        try:
            return super().handle_errors(code, reason, url, method, headers, body, *rest)  # type: ignore[misc]
        finally:
            if code in _REFUSALS:
                self.budget.refuse(self.pause_ends_s - time.monotonic(), self._terms)

    def _note_weight(self, headers: Mapping[str, str], parsed: object) -> None:
        """Other programs at this address use the same budget; only the exchange knows how much of it. Binance counts in whole
        minutes of its clock (its documentation: "a 1 MINUTE interval starts every minute"), and says so with every answer."""
        self._weight_limit = published_weight(parsed) or self._weight_limit
        lower = {name.lower(): value for name, value in headers.items()}
        used = lower.get(_USED_WEIGHT, "")
        if self._weight_limit is not None and used.isdigit() and int(used) >= _FULL_SHARE * self._weight_limit:
            self.budget.hold(_MINUTE_S - _seconds_of_minute(lower.get("date")))


def published_weight(parsed: object) -> int | None:
    """The request weight a minute that Binance's exchangeInfo publishes (`rateLimits`), None in any other answer."""
    limits = parsed.get("rateLimits") if isinstance(parsed, dict) else None
    for limit in limits if isinstance(limits, list) else ():
        if limit.get("rateLimitType") == "REQUEST_WEIGHT" and (limit.get("interval"), limit.get("intervalNum")) == ("MINUTE", 1):
            return int(limit["limit"])
    return None


def _seconds_of_minute(date: str | None) -> float:
    """How far into its minute the exchange is, by the answer's date, or else by this machine's clock."""
    try:
        return parsedate_to_datetime(date or "").timestamp() % _MINUTE_S
    except ValueError:
        return time.time() % _MINUTE_S
