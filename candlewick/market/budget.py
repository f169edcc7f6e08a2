"""How many requests an exchange is asked, as arithmetic: one budget for everybody who asks it from one address.

The budget is a line at a counter. Each request takes a stretch of the line as long as its cost deserves and is sent when the
stretch is reached; a small burst may be sent ahead of it. That is the token bucket as a single time, known as the generic cell
rate algorithm (ITU-T I.371, annex A): nothing needs to be counted up meanwhile, and a state is a few numbers.

Granted in any stretch of time: the burst and the rate times the stretch, never more, whoever asks and in whatever order.
After a refusal (429, 418) the pace is halved, and it grows back evenly. Times are whole microseconds since 1970-01-01 UTC, as
the caller's clock says; candlewick/market/budget_file.py keeps the state where all processes of this machine find it.
"""

import math
from dataclasses import dataclass, replace

SECOND_US = 1_000_000
HEADROOM = 0.05
"""Share of an exchange's published budget that is kept for the burst: a window's burst and its even rate are together what is
published for a window."""
SLOWER = 0.5
"""What a refusal multiplies the pace with."""
SLOWEST = 1 / 16
"""The pace never falls below this share of the full rate."""
RECOVERY_S = 300
"""Time in which the pace grows by the whole rate; after one refusal at full pace it is full again in half of that."""
SAME_REFUSAL_S = 5
"""Refusals this soon after the one that slowed us down were under way with it: they tell nothing new."""
LONGEST_PAUSE_S = 3 * 86_400
"""The longest ban Binance gives ("from 2 minutes to 3 days"); a longer Retry-After, believed, would wedge the machine."""


@dataclass(frozen=True, slots=True)
class BudgetTerms:
    """What a request costs of the line: ``cost_us`` for a unit of cost, ``request_us`` at least. ``burst_us`` of the line may be
    taken at once."""

    cost_us: float
    burst_us: int
    request_us: int = 0

    def charge_us(self, cost: float) -> int:
        """The stretch of the line that a request takes at full pace, in microseconds."""
        return math.ceil(max(cost * self.cost_us, self.request_us))


@dataclass(frozen=True, slots=True)
class BudgetState:
    """Where the line stands. The default is a budget that nobody has used yet.

    ``seen_us`` is the clock of the last change, ``taken_until_us`` the end of the line, ``granted_us`` when the last request was
    to be sent. ``pace`` is the share of the full rate that held at ``slowed_us``; until ``paused_until_us`` nothing is sent.
    """

    seen_us: int = 0
    taken_until_us: int = 0
    granted_us: int = 0
    paused_until_us: int = 0
    slowed_us: int = 0
    pace: float = 1.0

    def pace_at(self, now_us: int) -> float:
        """The share of the full rate that holds now: from SLOWEST to 1.

        >>> BudgetState(pace=0.5, slowed_us=0).pace_at(75 * SECOND_US)
        0.75
        """
        return min(1.0, self.pace + max(0, now_us - self.slowed_us) / (RECOVERY_S * SECOND_US))

    def pause_left_us(self, now_us: int) -> int:
        """How long nothing is to be sent, because the exchange said so."""
        return max(0, at_clock(self, now_us).paused_until_us - now_us)


def terms_of(ms_per_cost: float, window_s: float, requests_per_s: float | None) -> BudgetTerms:
    """The terms of an exchange that publishes a budget of one unit of cost in ``ms_per_cost`` over windows of ``window_s``
    (0: it publishes none, and there is no burst). ``requests_per_s``: a limit of one's own, evenly spaced; the stricter holds.

    >>> binance = terms_of(50.0, 60.0, None)  # 1,200 units of cost a minute
    >>> round(binance.burst_us / binance.cost_us), round(60 * SECOND_US / binance.cost_us)
    (60, 1140)
    """
    cost_us = max(ms_per_cost, 0.0) * 1000 / (1 - HEADROOM)
    if requests_per_s is not None:
        return BudgetTerms(cost_us, 0, math.ceil(SECOND_US / requests_per_s))
    return BudgetTerms(cost_us, math.floor(window_s * SECOND_US * HEADROOM / (1 - HEADROOM)))


def at_clock(state: BudgetState, now_us: int) -> BudgetState:
    """The state as of now. A clock that was set back takes the state with it: nobody waits for the difference."""
    back_us = state.seen_us - now_us
    if back_us <= 0:
        return replace(state, seen_us=now_us)
    return BudgetState(
        now_us,
        state.taken_until_us - back_us,
        state.granted_us - back_us,
        state.paused_until_us - back_us,
        state.slowed_us - back_us,
        state.pace,
    )


def take(state: BudgetState, cost: float, terms: BudgetTerms, now_us: int) -> tuple[BudgetState, int]:
    """The state with a request of ``cost`` in the line, and how long that request is to wait, in microseconds.

    Requests are sent in the order in which they asked. A request that costs more than the burst waits for a full burst and is
    sent then. While a pause lasts nothing is charged and nothing waits: the request is not going to be sent.
    """
    state = at_clock(state, now_us)
    if state.paused_until_us > now_us:
        return state, 0
    charge_us = math.ceil(terms.charge_us(cost) / state.pace_at(now_us))
    ahead_us = max(terms.burst_us, charge_us)
    taken_until_us = max(now_us, state.taken_until_us) + charge_us
    granted_us = max(now_us, state.granted_us, taken_until_us - ahead_us)
    return replace(state, taken_until_us=taken_until_us, granted_us=granted_us), granted_us - now_us


def refuse(state: BudgetState, pause_s: float, terms: BudgetTerms, now_us: int) -> BudgetState:
    """The state after the exchange refused a request (429, 418) and asked for a pause of ``pause_s`` (0: it did not say).

    The pace is halved, once for all requests that were under way. After the pause nobody has a burst.
    """
    state = at_clock(state, now_us)
    is_new = now_us >= state.slowed_us + SAME_REFUSAL_S * SECOND_US
    pause_ends_us = now_us + math.ceil(min(max(pause_s, 0.0), LONGEST_PAUSE_S) * SECOND_US)
    return replace(
        state,
        taken_until_us=max(state.taken_until_us, pause_ends_us + terms.burst_us),
        paused_until_us=max(state.paused_until_us, pause_ends_us),
        pace=max(SLOWEST, state.pace_at(now_us) * SLOWER) if is_new else state.pace,
        slowed_us=pause_ends_us if is_new else max(state.slowed_us, pause_ends_us if pause_s > 0 else 0),
    )


def hold(state: BudgetState, until_us: int, now_us: int) -> BudgetState:
    """The state in which nothing more is granted before ``until_us``: others have used up what the address may ask for."""
    state = at_clock(state, now_us)
    return replace(state, granted_us=max(state.granted_us, until_us))
