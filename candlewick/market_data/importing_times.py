"""Times as files tell them, row by row: numbers since 1970 in any unit, ISO dates, AM and PM, days and months in either order.

Every text is cut into its parts by one expression; which part is the day is known where the year comes first, or where one of
the two is above 12 in some row of the file. What stays open is for the user to say.
"""

from dataclasses import dataclass, field, replace

import polars as pl

from candlewick.market.candle_files import MS_PER_UNIT, TimeUnit, parse_text_times, unit_of_times
from candlewick.market_data.importing_report import ROWS_SHOWN
from candlewick.market_data.importing_schema import ImportRequest
from candlewick.timeframes import DAY_MS

NUMBER = r"^[+-]?\d+(\.\d*)?([eE]\+?\d+)?$"
_TEXT = (
    r"^(?<a>\d{1,4})[-/.](?<b>\d{1,2})[-/.](?<c>\d{1,4})"
    r"(?:[T ]+(?<hour>\d{1,2})(?::(?<minute>\d{2})(?::(?<second>\d{2})(?<part>\.\d+)?)?)?(?:[- ]?(?<half>[AaPp])[Mm])?)?"
    r" ?(?<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})?$"
)
UNITS: tuple[TimeUnit, ...] = ("s", "ms", "us", "ns")
_FORM_TEXTS = {
    "s": "unix seconds", "ms": "unix milliseconds", "us": "unix microseconds", "ns": "unix nanoseconds",
    "iso": "ISO dates", "half": "dates with AM or PM", "parts": "day, month, year", "typed": "typed times",
    "own": "times of the schema's form",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TimeSurvey:
    """How one column's rows tell the time: rows by form, and the lines of those that cannot be read.

    ``first_day`` and ``second_day``: rows of day and month whose first or second number can only be the day.
    """

    forms: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    unreadable_lines: tuple[int, ...] = ()
    parts_lines: tuple[int, ...] = ()
    first_day: int = 0
    second_day: int = 0
    unzoned: int = 0

    @property
    def numeric(self) -> bool:
        """Whether most rows are numbers."""
        return 2 * sum(self.forms.get(unit, 0) for unit in UNITS) > sum(self.forms.values())

    @property
    def day_first(self) -> bool | None:
        """Which of the two numbers is the day; None where no row says it, or rows say both."""
        return None if bool(self.first_day) == bool(self.second_day) else bool(self.first_day)

    @property
    def text(self) -> str:
        """`28,584 rows in unix seconds, 7,478 in unix milliseconds`."""
        forms = sorted(self.forms.items(), key=lambda form: -form[1])
        told = [f"{rows:,} {'rows ' if at == 0 else ''}in {_FORM_TEXTS[name]}" for at, (name, rows) in enumerate(forms)]
        return ", ".join(told) or "no time at all"

    def with_batch(self, cells: pl.Series, lines: pl.Series, reader: "TimeReader") -> "TimeSurvey":
        """This and the rows of another batch."""
        read, turned = reader.read(cells, day_first=True), reader.read(cells, day_first=False)
        forms = dict(self.forms)
        for name, rows in read["form"].drop_nulls().value_counts().iter_rows():
            forms[name] = forms.get(name, 0) + rows
        parts = read["form"] == "parts"
        bad = lines.filter(read["ms"].is_null() & turned["ms"].is_null())
        return replace(
            self,
            forms=forms,
            unreadable=self.unreadable + bad.len(),
            unreadable_lines=(*self.unreadable_lines, *bad.head(ROWS_SHOWN).to_list())[:ROWS_SHOWN],
            parts_lines=(*self.parts_lines, *lines.filter(parts).head(ROWS_SHOWN).to_list())[:ROWS_SHOWN],
            first_day=self.first_day + int((parts & turned["ms"].is_null()).sum()),
            second_day=self.second_day + int((parts & read["ms"].is_null()).sum()),
            unzoned=self.unzoned + int((read["form"].is_in(["iso", "half", "parts", "own"]) & ~read["zoned"]).sum()),
        )


@dataclass(frozen=True, slots=True)
class TimeReader:
    """How an import reads times. ``cut``: what is finer than a millisecond is cut off (trades), else it cannot be read."""

    unit: TimeUnit | None
    form: str | None
    zone: str | None
    cut: bool

    def read(self, cells: pl.Series, day_first: bool) -> pl.DataFrame:
        """One row a cell: ``ms`` since 1970 UTC (null: it cannot be read), ``form``, and whether it names a ``zoned`` time."""
        if cells.dtype.is_temporal():
            return self._typed(cells)
        text = cells.cast(pl.String()).str.strip_chars()
        if self.form is not None:
            return self._by_format(text, self.form)
        if cells.dtype.is_numeric():
            return self._numbers(cells)
        numeric = text.str.contains(NUMBER).fill_null(False)
        if numeric.all():
            return self._numbers(_whole_or_float(text))
        told = self._texts(text, day_first)
        if not numeric.any():
            return told
        numbers = self._numbers(_whole_or_float(pl.select(pl.when(numeric).then(text)).to_series()))
        return pl.select(
            *(pl.when(numeric).then(numbers[name]).otherwise(told[name]).alias(name) for name in ("ms", "form", "zoned"))
        )

    def _numbers(self, numbers: pl.Series) -> pl.DataFrame:
        if self.unit is None:
            unit = unit_of_times(numbers)
        else:
            unit = pl.select(pl.when(numbers.is_not_null()).then(pl.lit(self.unit))).to_series()
        ms = pl.lit(None, pl.Int64())
        for name in UNITS:
            ms = pl.when(unit == name).then(self._whole_ms(numbers, name)).otherwise(ms)
        return pl.select(ms.alias("ms"), unit.alias("form"), pl.lit(True).alias("zoned"))

    def _whole_ms(self, numbers: pl.Series, unit: TimeUnit) -> pl.Expr:
        """Milliseconds. A second's decimals are not exact in binary: what is within half a microsecond of one is it."""
        if numbers.dtype.is_integer() and unit != "s" and unit != "ms":
            scale = 1_000 if unit == "us" else 1_000_000
            whole = pl.lit(numbers.cast(pl.Int64()))
            return pl.when((whole % scale == 0) | self.cut).then(whole // scale)
        exact = pl.lit(numbers.cast(pl.Float64())) * MS_PER_UNIT[unit]
        nearest = exact.round(0)
        is_whole = (exact - nearest).abs() < 5e-4
        ms = pl.when(is_whole).then(nearest).otherwise(exact.floor())
        return pl.when((is_whole | self.cut) & exact.is_finite()).then(ms.cast(pl.Int64(), strict=False))

    def _typed(self, cells: pl.Series) -> pl.DataFrame:
        zoned = isinstance(cells.dtype, pl.Datetime) and cells.dtype.time_zone is not None
        us = pl.lit((cells.dt.convert_time_zone("UTC") if zoned else cells.cast(pl.Datetime("us"))).dt.epoch("us"))
        ms = pl.select(pl.when((us % 1000 == 0) | self.cut).then(us // 1000)).to_series()
        return pl.DataFrame(
            {
                "ms": ms if zoned else _to_utc(ms, self.zone),
                "form": pl.select(pl.when(cells.is_not_null()).then(pl.lit("typed"))).to_series(),
                "zoned": pl.repeat(zoned, cells.len(), eager=True),
            }
        )

    def _by_format(self, text: pl.Series, form: str) -> pl.DataFrame:
        times = parse_text_times(text, form)
        zoned = isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone is not None
        known = pl.select(pl.when(times.is_not_null()).then(pl.lit("own"))).to_series()
        return self._typed(times).with_columns(known.alias("form"), pl.lit(zoned).alias("zoned"))

    def _texts(self, text: pl.Series, day_first: bool) -> pl.DataFrame:
        cut = pl.DataFrame({"text": text}).select(pl.col("text").str.extract_groups(_TEXT)).unnest("text")
        year_first = pl.col("a").str.len_chars() == 4
        known = year_first | (pl.col("c").str.len_chars() == 4)
        half = pl.col("half").str.to_lowercase()
        part = (pl.col("part").cast(pl.Float64()).fill_null(0.0) * 1e3).round(6)
        form = pl.when(~year_first).then(pl.lit("parts")).when(half.is_null()).then(pl.lit("iso")).otherwise(pl.lit("half"))
        time = _days_ms(day_first) + _clock_ms(half)
        read = cut.select(
            pl.when(known & ((part % 1 == 0) | self.cut)).then(time + part.floor().cast(pl.Int64())).alias("ms"),
            pl.when(known).then(form).alias("form"),
            pl.col("zone").is_not_null().alias("zoned"),
        )
        if self.zone in (None, "UTC"):
            return read
        local = _to_utc(read["ms"], self.zone)
        return read.with_columns(pl.when("zoned").then("ms").otherwise(local).alias("ms"))


def time_reader(request: ImportRequest) -> TimeReader:
    """The reader for what was asked."""
    schema = request.schema
    unit = None if schema.time_unit == "auto" else schema.time_unit
    return TimeReader(unit, schema.time_format, schema.timezone, cut=request.kind == "trades")


def _whole_or_float(text: pl.Series) -> pl.Series:
    whole = text.cast(pl.Int64(), strict=False)
    return text.cast(pl.Float64()) if whole.null_count() > text.null_count() else whole


def _days_ms(day_first: bool) -> pl.Expr:
    """Midnight of the date in milliseconds; null for a date that there is not."""
    day, month = ("a", "b") if day_first else ("b", "a")
    year_first = pl.col("a").str.len_chars() == 4
    date = pl.when(year_first).then(pl.format("{}-{}-{}", "a", "b", "c")).otherwise(pl.format("{}-{}-{}", "c", month, day))
    return date.str.to_date("%Y-%m-%d", strict=False).dt.epoch("d").cast(pl.Int64()) * DAY_MS


def _clock_ms(half: pl.Expr) -> pl.Expr:
    """The time of day in milliseconds, in UTC where a zone is named; null for one that there is not. ``half``: a, p or null."""
    hour, minute, second = (pl.col(name).cast(pl.Int64()).fill_null(0) for name in ("hour", "minute", "second"))
    of_day = pl.when(half.is_null()).then(hour).otherwise(hour % 12 + pl.when(half == "p").then(12).otherwise(0))
    sane = (minute < 60) & (second < 60) & pl.when(half.is_null()).then(hour < 24).otherwise(hour.is_between(1, 12))
    offset = pl.when(pl.col("zone").str.contains(r"\d")).then(_minutes(pl.col("zone"))).otherwise(0)
    return pl.when(sane).then(((of_day * 60 + minute - offset) * 60 + second) * 1000)


def _minutes(zone: pl.Expr) -> pl.Expr:
    """`-04:30` in minutes."""
    digits = zone.str.replace(":", "", literal=True)
    whole = digits.str.slice(1, 2).cast(pl.Int64(), strict=False) * 60 + digits.str.slice(3, 2).cast(pl.Int64(), strict=False)
    return pl.when(zone.str.starts_with("-")).then(-whole).otherwise(whole)


def _to_utc(ms: pl.Series, zone: str | None) -> pl.Series:
    """Times of a zone's clocks in UTC; null where the clocks show a time twice or never (they are put on or back)."""
    if zone is None:
        return ms
    local = ms.cast(pl.Datetime("ms")).dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    return local.dt.convert_time_zone("UTC").dt.epoch("ms")
