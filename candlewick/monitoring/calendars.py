"""Trading hours: when a symbol's market is open. Symbols without a calendar are always open.

The calendars are those of the library exchange_calendars, mended where an exchange publishes other hours (globex.py). Importing
it takes a second (it brings pandas), so that happens once a calendar is asked for; a calendar is built once in a process.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from candlewick.errors import UsageError
from candlewick.timeframes import floor_to_bar, format_utc, timeframe_ms, utc

IntArray = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Openings:
    """When an exchange is open: from ``opens[i]`` until just before ``closes[i]``, int64 milliseconds UTC, ascending, apart.

    Lunch breaks are between two openings; sessions that touch are one. Known from ``since_ms`` until before ``until_ms``; around
    the years ``first_year`` to ``last_year`` there is a year more on either side, where the calendar goes as far.
    """

    first_year: int
    last_year: int
    since_ms: int
    until_ms: int
    opens: IntArray
    closes: IntArray


ALWAYS_OPEN = "24/7"
# Every calendar that was asked for in this process, by the library's name of it.
_BUILT: dict[str, Openings] = {}


class TradingHours:
    """The trading hours of symbols, from settings such as ``("AAPL=XNYS", "XAU/USD=CMES")``.

    What stands before the `=` is a symbol as ccxt writes it, or a symbol's base currency (`XAU`); the symbol goes first. Raises
    UsageError for a calendar that does not exist, naming those that are spelt alike, and for a symbol that has two.
    """

    __slots__ = ("_calendars",)

    def __init__(self, calendars: Sequence[str] = ()) -> None:
        self._calendars: dict[str, str] = {}
        for pair in calendars:
            key, _, name = pair.partition("=")
            calendar = _resolved(key, name)
            if calendar == ALWAYS_OPEN:
                continue
            if self._calendars.setdefault(key, calendar) != calendar:
                raise UsageError(
                    f"{key} has two calendars, {self._calendars[key]} and {calendar}; leave one in signals.calendars"
                )

    def calendar(self, symbol: str) -> str | None:
        """The name of a symbol's calendar, such as XNYS; None for a symbol that is always open."""
        return self._calendars.get(symbol) or self._calendars.get(symbol.partition("/")[0])

    def is_open(self, symbol: str, at_ms: int) -> bool:
        """Whether the market is open at that moment: at its opening it is, at its close it is not any more."""
        calendar = self.calendar(symbol)
        return calendar is None or _overlaps(_openings(calendar, at_ms, at_ms), at_ms, at_ms + 1)

    def next_open_ms(self, symbol: str, at_ms: int) -> int | None:
        """The first opening after ``at_ms``, also while the market is open; None where it never closes or no more is known."""
        calendar = self.calendar(symbol)
        return None if calendar is None else _first_after(_openings(calendar, at_ms, at_ms).opens, at_ms)

    def next_close_ms(self, symbol: str, at_ms: int) -> int | None:
        """The first close after ``at_ms``, also while the market is closed; None where it never closes or no more is known."""
        calendar = self.calendar(symbol)
        return None if calendar is None else _first_after(_openings(calendar, at_ms, at_ms).closes, at_ms)

    def bar_is_in_session(self, symbol: str, opened_at_ms: int, timeframe_ms: int) -> bool:
        """Whether the market is open at any moment of the bar, so that the bar may have traded."""
        calendar, until_ms = self.calendar(symbol), opened_at_ms + timeframe_ms
        return calendar is None or _overlaps(_openings(calendar, opened_at_ms, until_ms), opened_at_ms, until_ms)

    def expected_bars(self, symbol: str, timeframe: str, since_ms: int, until_ms: int) -> IntArray:
        """Open times, ``since_ms <= time < until_ms``, of the bars in which the market is open; int64 milliseconds, ascending.

        Whether a bar has closed yet is not looked at. Raises UsageError for a timeframe that is none.
        """
        length_ms = timeframe_ms(timeframe)
        first_ms = floor_to_bar(since_ms - 1, timeframe) + length_ms
        bars = np.arange(first_ms, max(until_ms, first_ms), length_ms, dtype=np.int64)
        calendar = self.calendar(symbol)
        if calendar is None or bars.size == 0:
            return bars
        hours = _openings(calendar, first_ms, int(bars[-1]) + length_ms)
        begun = np.searchsorted(hours.opens, bars + length_ms)  # openings before the bar's end
        ended = np.searchsorted(hours.closes, bars, side="right")  # closes until its beginning
        return bars[begun > ended]


def _overlaps(hours: Openings, since_ms: int, until_ms: int) -> bool:
    """Whether the market is open at any moment of [since, until): more openings before its end than closes by its beginning."""
    return int(np.searchsorted(hours.opens, until_ms)) > int(np.searchsorted(hours.closes, since_ms, side="right"))


def _first_after(times: IntArray, at_ms: int) -> int | None:
    place = int(np.searchsorted(times, at_ms, side="right"))
    return int(times[place]) if place < times.size else None


def _resolved(key: str, name: str) -> str:
    """The library's own name of a calendar, which may be called by another (NYSE is XNYS)."""
    from exchange_calendars import get_calendar_names, resolve_alias

    known = get_calendar_names()
    if name not in known:
        near = difflib.get_close_matches(name.upper(), known, 3, 0.5)
        hint = f"near it are {', '.join(near)}" if near else "known are the names of exchange_calendars, such as XNYS or CMES"
        raise UsageError(f"signals.calendars: {key} has the calendar {name!r}, which does not exist; {hint}")
    return str(resolve_alias(name))


def _openings(calendar: str, since_ms: int, until_ms: int) -> Openings:
    """The openings around [since, until], built where they are not yet. Raises UsageError where the calendar does not reach."""
    hours = _BUILT.get(calendar)
    first, last = utc(since_ms).year, utc(until_ms).year
    if hours is None or first < hours.first_year or last > hours.last_year:
        if hours is not None:
            first, last = min(first, hours.first_year), max(last, hours.last_year)
        hours = _BUILT[calendar] = _build(calendar, first, last)
    if since_ms < hours.since_ms or until_ms > hours.until_ms:
        raise UsageError(
            f"calendar {calendar} knows no trading hours at {format_utc(since_ms)} UTC: it goes from "
            f"{format_utc(hours.since_ms)} to {format_utc(hours.until_ms)}; a newer exchange_calendars may know more"
        )
    return hours


def _build(calendar: str, first_year: int, last_year: int) -> Openings:
    """From a year before the first year to a year after the last, as far as the calendar goes. About 0.2 s, however many."""
    from exchange_calendars import get_calendar, register_calendar_type

    from candlewick.monitoring.globex import Globex

    register_calendar_type(Globex.name, Globex, force=True)
    whole = get_calendar(calendar)
    earliest, latest = whole.bound_min(), whole.bound_max()
    start, end = datetime(first_year - 1, 1, 1), datetime(last_year + 1, 12, 31)  # noqa: DTZ001  # days
    start, end = max(start, earliest or start), min(end, latest or end)
    if start > end:  # nothing of it is known: what is known is built, and `_openings` says that it ends before
        start, end = whole.first_session, whole.last_session
    since_ms, until_ms = (int(day.replace(tzinfo=UTC).timestamp()) * 1000 for day in (start, end + timedelta(days=1)))
    schedule = get_calendar(calendar, start=start, end=end).schedule
    times = [schedule[name].to_numpy("datetime64[ms]").astype(np.int64) for name in ("open", "break_start", "break_end", "close")]
    return Openings(first_year, last_year, since_ms, until_ms, *_merged(*times))


def _merged(opens: IntArray, break_starts: IntArray, break_ends: IntArray, closes: IntArray) -> tuple[IntArray, IntArray]:
    """Openings and closes of sessions with their breaks taken out, and those that touch put together. NaT where no break is."""
    has_break = break_starts != np.datetime64("NaT", "ms").astype(np.int64)
    begins = np.sort(np.concatenate([opens, break_ends[has_break]]))
    ends = np.sort(np.concatenate([closes, break_starts[has_break]]))
    apart = ends[:-1] < begins[1:]
    return begins[np.append(True, apart)], ends[np.append(apart, True)]
