"""The hours of CME Globex as CME publishes them, where exchange_calendars (4.13) has others. Imports that library: it is slow.

https://www.cmegroup.com/trading-hours.html: Sunday to Friday 17:00 to 16:00 Chicago time, and a break from 16:00 to 17:00 every
day. The library has no break and is open until 17:00 on Fridays (mended after 4.13: its pull request 594). On Juneteenth, a
holiday since 2022, CME halts at 12:00, as on the other federal holidays; the library does not know it.
"""

from datetime import time

from exchange_calendars.exchange_calendar import HolidayCalendar
from exchange_calendars.exchange_calendar_cmes import CMESExchangeCalendar
from exchange_calendars.us_holidays import USJuneteenth

HALT = time(12)


class Globex(CMESExchangeCalendar):  # type: ignore[misc]  # the library has no types
    """`CMES` with the daily break and Juneteenth. Other holidays are the library's: the earliest close of all products."""

    close_times = ((None, time(16)),)

    @property
    def special_closes(self) -> list[tuple[time, HolidayCalendar]]:
        """Times at which trading ends early, Chicago time, and the days on which it does."""
        return [*super().special_closes, (HALT, HolidayCalendar([USJuneteenth]))]
