"""Times as files tell them, row by row: numbers since 1970 in any unit, ISO dates, AM and PM, days and months in either order.

Every text is cut into its parts by one expression; which part is the day is known where the year comes first, or where one of
the two is above 12 in some row of the file. What stays open is for the user to say.
"""

from dataclasses import dataclass, field, replace

import polars as pl

from candlewick.market.candle_files import MS_PER_UNIT, TimeUnit, parse_text_times, unit_of_times
from candlewick.market_data.importing_report import ROWS_SHOWN
from candlewick.market_data.importing_schema import ImportSchema
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

    def with_batch(self, cells: pl.Series, lines: pl.Series, schema: ImportSchema) -> "TimeSurvey":
        """This and the rows of another batch."""
        read = read_moments(cells, schema, day_first=True)
        turned = read_moments(cells, schema, day_first=False)
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


def read_moments(cells: pl.Series, schema: ImportSchema, day_first: bool) -> pl.DataFrame:
    """One row a cell: ``ms`` since 1970 UTC (null: it cannot be read), ``form``, and whether it names a ``zoned`` time."""
    if cells.dtype.is_temporal():
        return _typed(cells, schema)
    text = cells.cast(pl.String()).str.strip_chars()
    if schema.time_format is not None:
        return _by_format(text, schema)
    if cells.dtype.is_numeric():
        return _numbers(cells, schema)
    numeric = text.str.contains(NUMBER).fill_null(False)
    if numeric.all():
        return _numbers(_whole_or_float(text), schema)
    told = _texts(text, schema, day_first)
    if not numeric.any():
        return told
    numbers = _numbers(_whole_or_float(pl.select(pl.when(numeric).then(text)).to_series()), schema)
    return pl.select(
        *(pl.when(numeric).then(numbers[name]).otherwise(told[name]).alias(name) for name in ("ms", "form", "zoned"))
    )


def _whole_or_float(text: pl.Series) -> pl.Series:
    whole = text.cast(pl.Int64(), strict=False)
    return text.cast(pl.Float64()) if whole.null_count() > text.null_count() else whole


def _numbers(numbers: pl.Series, schema: ImportSchema) -> pl.DataFrame:
    if schema.time_unit == "auto":
        unit = unit_of_times(numbers)
    else:
        unit = pl.select(pl.when(numbers.is_not_null()).then(pl.lit(schema.time_unit))).to_series()
    ms = pl.lit(None, pl.Int64())
    for name in UNITS:
        ms = pl.when(unit == name).then(_whole_ms(numbers, name)).otherwise(ms)
    return pl.select(ms.alias("ms"), unit.alias("form"), pl.lit(True).alias("zoned"))


def _whole_ms(numbers: pl.Series, unit: TimeUnit) -> pl.Expr:
    """Milliseconds; null where the time is no whole one (a second's decimals are not exact in binary)."""
    if numbers.dtype.is_integer() and unit != "s" and unit != "ms":
        scale = 1_000 if unit == "us" else 1_000_000
        whole = pl.lit(numbers.cast(pl.Int64()))
        return pl.when(whole % scale == 0).then(whole // scale)
    exact = pl.lit(numbers.cast(pl.Float64())) * MS_PER_UNIT[unit]
    return pl.when(((exact - exact.round(0)).abs() < 1e-3) & exact.is_finite()).then(exact.round(0).cast(pl.Int64()))


def _typed(cells: pl.Series, schema: ImportSchema) -> pl.DataFrame:
    zoned = isinstance(cells.dtype, pl.Datetime) and cells.dtype.time_zone is not None
    us = (cells.dt.convert_time_zone("UTC") if zoned else cells.cast(pl.Datetime("us"))).dt.epoch("us")
    ms = pl.select(pl.when(pl.lit(us) % 1000 == 0).then(pl.lit(us) // 1000)).to_series()
    return pl.DataFrame(
        {
            "ms": ms if zoned else _to_utc(ms, schema.timezone),
            "form": pl.select(pl.when(cells.is_not_null()).then(pl.lit("typed"))).to_series(),
            "zoned": pl.repeat(zoned, cells.len(), eager=True),
        }
    )


def _by_format(text: pl.Series, schema: ImportSchema) -> pl.DataFrame:
    assert schema.time_format is not None
    times = parse_text_times(text, schema.time_format)
    zoned = isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone is not None
    form = pl.select(pl.when(times.is_not_null()).then(pl.lit("own"))).to_series()
    return _typed(times, schema).with_columns(form.alias("form"), pl.lit(zoned).alias("zoned"))


def _texts(text: pl.Series, schema: ImportSchema, day_first: bool) -> pl.DataFrame:
    cut = pl.DataFrame({"text": text}).select(pl.col("text").str.extract_groups(_TEXT)).unnest("text")
    year_first = pl.col("a").str.len_chars() == 4
    known = year_first | (pl.col("c").str.len_chars() == 4)
    day, month = ("a", "b") if day_first else ("b", "a")
    date = pl.when(year_first).then(pl.format("{}-{}-{}", "a", "b", "c")).otherwise(pl.format("{}-{}-{}", "c", month, day))
    hour, minute, second = (pl.col(name).cast(pl.Int64()).fill_null(0) for name in ("hour", "minute", "second"))
    half = pl.col("half").str.to_lowercase()
    of_day = pl.when(half.is_null()).then(hour).otherwise(hour % 12 + pl.when(half == "p").then(12).otherwise(0))
    sane = (minute < 60) & (second < 60) & pl.when(half.is_null()).then(hour < 24).otherwise(hour.is_between(1, 12))
    part = (pl.col("part").cast(pl.Float64()).fill_null(0.0) * 1e3).round(6)
    days = date.str.to_date("%Y-%m-%d", strict=False).dt.epoch("d").cast(pl.Int64())
    offset = pl.when(pl.col("zone").str.contains(r"\d")).then(_minutes(pl.col("zone"))).otherwise(0)
    ms = days * DAY_MS + ((of_day * 60 + minute - offset) * 60 + second) * 1000 + part.cast(pl.Int64())
    form = pl.when(~year_first).then(pl.lit("parts")).when(half.is_null()).then(pl.lit("iso")).otherwise(pl.lit("half"))
    read = cut.select(
        pl.when(known & sane & (part % 1 == 0)).then(ms).alias("ms"),
        pl.when(known).then(form).alias("form"),
        pl.col("zone").is_not_null().alias("zoned"),
    )
    if schema.timezone in (None, "UTC"):
        return read
    local = _to_utc(read["ms"], schema.timezone)
    return read.with_columns(pl.when("zoned").then("ms").otherwise(local).alias("ms"))


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
