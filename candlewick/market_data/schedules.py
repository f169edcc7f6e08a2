"""When a dataset is brought up to date: cron schedules in UTC, checked, in words, and derived from what the dataset holds."""

from collections.abc import Sequence
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from candlewick.errors import UsageError
from candlewick.timeframes import DAY_MS, MINUTE_MS, timeframe_ms

AUTO, NO_SCHEDULE = "auto", "none"
_HOUR_MS = 60 * MINUTE_MS
# The shortest candle that each schedule is meant for. A little after the close: an exchange's newest bar needs a moment,
# and paper trading (prefect.yaml) asks in the same minutes.
_DERIVED: tuple[tuple[int, str], ...] = (
    (5 * MINUTE_MS, "*/5 * * * *"),
    (15 * MINUTE_MS, "1-59/15 * * * *"),
    (30 * MINUTE_MS, "1-59/30 * * * *"),
    (_HOUR_MS, "2 * * * *"),
    (4 * _HOUR_MS, "3 */4 * * *"),
    (8 * _HOUR_MS, "4 */8 * * *"),
    (DAY_MS, "5 0 * * *"),
    (7 * DAY_MS, "5 0 * * 1"),
)
_LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def derived_schedule(timeframes: Sequence[str], kinds: Sequence[str]) -> str:
    """The schedule that keeps the shortest of the timeframes fresh. Trades count as the shortest, funding as eight hours.

    >>> derived_schedule(("1h", "1d"), ("ohlcv",)), derived_schedule((), ("funding_rate",))
    ('2 * * * *', '4 */8 * * *')
    """
    lengths_ms = [timeframe_ms(timeframe) for timeframe in timeframes]
    lengths_ms += [MINUTE_MS] if "trades" in kinds else []
    shortest_ms = min(lengths_ms, default=8 * _HOUR_MS)
    often_enough = [cron for length_ms, cron in _DERIVED if length_ms <= shortest_ms]
    return often_enough[-1] if often_enough else _DERIVED[0][1]


def check_cron(text: str) -> str:
    """The cron text with single spaces. Raises UsageError where it is none of five fields, or never comes due."""
    fields = text.split()
    if len(fields) != 5:
        raise UsageError(f"{text!r} is no cron schedule: it has {len(fields)} fields, it needs 5 (minute hour day month weekday)")
    try:
        next(CronSim(" ".join(fields), _LONG_AGO))
    except CronSimError as problem:
        raise UsageError(f"{text!r} is no cron schedule: {str(problem).lower()}") from None
    except StopIteration:
        raise UsageError(f"{text!r} never comes due") from None
    return " ".join(fields)


def next_times(cron: str, after: datetime, number: int) -> list[datetime]:
    """The first ``number`` times after ``after`` (aware), in UTC."""
    moments = CronSim(cron, after.astimezone(UTC))
    return [next(moments) for _ in range(number)]


def schedule_in_words(cron: str) -> str:
    """What a cron text says.

    >>> schedule_in_words("*/5 * * * *")
    'Every fifth minute of every hour'
    """
    return CronSim(cron, _LONG_AGO).explain()
