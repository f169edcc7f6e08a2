"""One file of candles, Parquet, Feather or CSV, into CANDLE_SCHEMA. What can be read in two ways is refused, not guessed.

Columns, whatever their case: the open time is `ts`, `timestamp`, `time`, `date`, `datetime`, `open_time`, `opened_at` or
`unix`; then `open`, `high`, `low`, `close`; the volume in base currency is `volume` or, for BTC/USDT, `Volume BTC`.
A quote volume (`quote_volume`, `Volume USDT`) is only used to notice that the two are swapped.

Times are datetimes (UTC where they name no zone), ISO 8601 text, or numbers since 1970 in seconds, ms, us or ns, told
apart by their size: 1e8 to 1e11 are seconds (1973 to 5138), and so on by thousands. All rows of a file use one unit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from candlewick.candles import CANDLE_SCHEMA, PRICE_COLUMNS
from candlewick.errors import AmbiguousCandles, InvalidCandles, MarketUnavailable

TimeUnit = Literal["s", "ms", "us", "ns"]

SUFFIXES = (".parquet", ".feather", ".arrow", ".ipc", ".csv", ".csv.gz")
TIME_NAMES = ("ts", "timestamp", "time", "date", "datetime", "open_time", "opened_at", "unix")
QUOTE_VOLUME_NAMES = ("quote_volume", "quote_asset_volume")
MS_PER_UNIT: Mapping[TimeUnit, float] = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}

_SMALLEST_TIME: Mapping[TimeUnit, float] = {"s": 1e8, "ms": 1e11, "us": 1e14, "ns": 1e17}
_ISO_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M%#z", "%Y-%m-%d %H:%M:%S%.f%#z")
_TIME = pl.Datetime("ms", "UTC")
# A bar's mean price is within its low and high; rounded volumes blur that, swapped ones miss it by the price squared.
_QUOTE_VOLUME_SLACK = 10.0


@dataclass(frozen=True, slots=True)
class ReadingPlan:
    """What a user said about one file. ``columns`` maps this project's names to the file's; ``time_unit`` is s, ms, us or ns."""

    columns: Mapping[str, str] = field(default_factory=dict)
    time_unit: TimeUnit | None = None
    time_format: str | None = None
    skip_rows: int = 0


def read_candle_file(path: Path, symbol: str, plan: ReadingPlan) -> pl.DataFrame:
    """The file's rows in CANDLE_SCHEMA and in the file's order, not validated otherwise. ``symbol`` as BASE/QUOTE.

    Raises AmbiguousCandles where the file can be read in two ways, InvalidCandles where it cannot be read as candles,
    MarketUnavailable where it cannot be opened.
    """
    raw = open_table(path, plan)
    found = _recognise(path, raw.columns, symbol, plan)
    times = read_times(path, raw[found["opened_at"]], plan)
    numbers = [read_numbers(path, raw[found[name]]).alias(name) for name in (*PRICE_COLUMNS, "volume")]
    candles = pl.DataFrame([times.alias("opened_at"), *numbers], schema=dict(CANDLE_SCHEMA))
    if "quote_volume" in found:
        _refuse_swapped_volumes(path, candles, read_numbers(path, raw[found["quote_volume"]]), found)
    return candles


def price_decimals(path: Path, symbol: str, plan: ReadingPlan) -> int:
    """Decimals of the finest price in the file, 8 at most. Raises like ``read_candle_file``."""
    raw = open_table(path, plan)
    found = _recognise(path, raw.columns, symbol, plan)
    return decimals_of(pl.concat([read_numbers(path, raw[found[name]]).alias("price") for name in PRICE_COLUMNS]))


def decimals_of(prices: pl.Series) -> int:
    """Decimals of the finest of some prices, 8 at most."""
    known = prices.drop_nulls()
    for decimals in range(8):
        scaled = known * 10.0**decimals
        if ((scaled - scaled.round(0)).abs() <= 1e-9 * scaled.abs()).all():
            return decimals
    return 8


def open_table(path: Path, plan: ReadingPlan) -> pl.DataFrame:
    """The file's rows as they are. Raises InvalidCandles where it is no table or empty, MarketUnavailable."""
    try:
        if path.name.endswith((".csv", ".csv.gz")):
            frame = pl.read_csv(path, infer_schema=False, skip_rows=plan.skip_rows, glob=False)
        elif path.suffix == ".parquet":
            frame = pl.read_parquet(path, glob=False, hive_partitioning=False)
        else:
            frame = pl.read_ipc(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).strip().splitlines()[0]
        hint = "lines above a CSV's header are skipped by the mapping's skip_rows"
        raise InvalidCandles(f"{path.name} cannot be read ({reason}); {hint}") from error
    except OSError as error:
        raise MarketUnavailable(f"{path} cannot be opened: {error.strerror or error}") from error
    if frame.is_empty():
        raise InvalidCandles(f"{path.name} has no rows")
    return frame


def _recognise(path: Path, columns: list[str], symbol: str, plan: ReadingPlan) -> dict[str, str]:
    """The file's column for each of this project's names. What the user named outranks what is recognised."""
    absent = [column for column in plan.columns.values() if column not in columns]
    if absent:
        raise InvalidCandles(f"{path.name} has no columns {absent} that the mapping names; it has {columns}")
    base, _, quote = symbol.partition("/")
    quote = quote.partition(":")[0]
    names = {
        "opened_at": TIME_NAMES,
        **{name: (name,) for name in PRICE_COLUMNS},
        "volume": ("volume", f"volume_{base.lower()}"),
        "quote_volume": (*QUOTE_VOLUME_NAMES, f"volume_{quote.lower()}"),
    }
    found = dict(plan.columns)
    for name, accepted in names.items():
        fits = [column for column in columns if re.sub(r"[\s-]+", "_", column.strip()).lower() in accepted]
        if name in found or (name == "quote_volume" and len(fits) > 1):
            continue
        if len(fits) > 1:
            raise AmbiguousCandles(f"{path.name} has the columns {fits} for {name}: choose one under `columns` in the mapping")
        if fits:
            found[name] = fits[0]
    missing = ", ".join(name for name in CANDLE_SCHEMA if name not in found)
    if missing:
        raise InvalidCandles(
            f"{path.name} has no column for {missing}; it has {columns}: name them under `columns` in the mapping"
        )
    return found


def read_numbers(path: Path, column: pl.Series) -> pl.Series:
    """A column as float64; empty text is null. Raises InvalidCandles for other text."""
    if column.dtype.is_numeric():
        return column.cast(pl.Float64())
    text = column.cast(pl.String()).str.strip_chars()
    numbers = text.cast(pl.Float64(), strict=False)
    strange = numbers.is_null() & text.is_not_null() & (text != "")
    if strange.any():
        first = text.filter(strange)[0]
        raise InvalidCandles(f"{path.name}: column {column.name!r} has {first!r} in {strange.sum()} rows, not a number")
    return numbers


def read_times(path: Path, column: pl.Series, plan: ReadingPlan) -> pl.Series:
    """A column as datetimes in UTC milliseconds. Raises InvalidCandles where that takes a guess."""
    if column.null_count():
        raise InvalidCandles(f"{path.name}: column {column.name!r} has no time in {column.null_count()} rows")
    if column.dtype.is_temporal():
        return _whole_ms(path, column.cast(pl.Datetime("us")) if column.dtype == pl.Date() else column)
    if column.dtype.is_numeric():
        return _numeric_times(path, column, plan)
    text = column.cast(pl.String()).str.strip_chars()
    numeric = text.str.contains(r"^[+-]?\d+(\.\d*)?([eE]\+?\d+)?$")
    if numeric.all():
        whole = text.cast(pl.Int64(), strict=False)
        return _numeric_times(path, text.cast(pl.Float64()) if whole.null_count() else whole, plan)
    if numeric.any():
        count = int(numeric.sum())
        raise InvalidCandles(
            f"{path.name}: column {column.name!r} has {count} numbers and {text.len() - count} texts: use one form"
        )
    return _text_times(path, text, plan)


def _numeric_times(path: Path, column: pl.Series, plan: ReadingPlan) -> pl.Series:
    units = unit_of_times(column)
    counts = {unit: int((units == unit).sum()) for unit in _SMALLEST_TIME}
    likely = [f"{count:,} rows look like {unit}" for unit, count in counts.items() if count]
    unit = plan.time_unit
    if unit is None:
        if len(likely) > 1:
            raise InvalidCandles(f"{path.name}: column {column.name!r} mixes units: {', '.join(likely)}")
        unit = next((unit for unit, count in counts.items() if count == column.len()), None)
        if unit is None:
            strange = f"{path.name}: column {column.name!r} has times such as {column[0]}"
            raise InvalidCandles(f"{strange}, which are no s, ms, us or ns of our time: set time_unit in the mapping")
    if column.dtype.is_integer() and (unit == "us" or unit == "ns"):
        return _whole_ms(path, column.cast(pl.Int64()).cast(pl.Datetime(unit)))
    time_ms = column.cast(pl.Float64()) * MS_PER_UNIT[unit]
    # A second with decimals is not exact in binary: what is within a microsecond of a millisecond is meant to be it.
    if not (time_ms.is_finite() & ((time_ms - time_ms.round(0)).abs() < 1e-3)).all():
        raise InvalidCandles(f"{path.name}: column {column.name!r} has times that are no whole milliseconds")
    return time_ms.round(0).cast(pl.Int64()).cast(_TIME)


def unit_of_times(numbers: pl.Series) -> pl.Series:
    """Each number's unit by its size: `s`, `ms`, `us`, `ns`, or null for what is none of them in our time."""
    size = pl.lit(numbers.cast(pl.Float64()).abs())
    unit = pl.lit(None, pl.String())
    for name, least in _SMALLEST_TIME.items():
        unit = pl.when((size >= least) & (size < 1000 * least)).then(pl.lit(name)).otherwise(unit)
    return pl.select(unit.alias("unit")).to_series()


def _text_times(path: Path, text: pl.Series, plan: ReadingPlan) -> pl.Series:
    if plan.time_format is not None:
        times = parse_text_times(text, plan.time_format)
        missed = text.filter(times.is_null())
        if missed.len():
            strange = f"{missed.len()} times, such as {missed[0]!r}"
            raise InvalidCandles(f"{path.name}: {strange}, are not of the mapping's form {plan.time_format!r}")
        return _whole_ms(path, times)
    plain = text.str.replace("T", " ", literal=True).str.replace("Z$", "+00:00")
    best, missed = "", text
    for form in _ISO_FORMATS:
        times = parse_text_times(plain, form)
        if not times.null_count():
            return _whole_ms(path, times)
        if times.null_count() < missed.len():
            best, missed = form, text.filter(times.is_null())
    others = f"; the others are of the form {best!r}" if best else ""
    raise InvalidCandles(
        f"{path.name}: {missed.len()} of {text.len()} times are not ISO 8601 in one form, such as {missed[0]!r}{others}: "
        "set time_format in the mapping (%Y-%m-%d %I-%p reads 2019-10-17 09-AM)"
    )


def parse_text_times(text: pl.Series, form: str) -> pl.Series:
    """Times by a chrono format, null where it does not fit. A format without minutes is completed: the parser wants them."""
    if not re.search(r"%[HIMTRXcs+]", form):
        return text.str.to_date(form, strict=False).cast(pl.Datetime("us"))
    if re.search(r"%[HI]", form) and "%M" not in form:
        text, form = text + " 00", form + " %M"
    return text.str.to_datetime(form, time_unit="us", strict=False)


def _whole_ms(path: Path, times: pl.Series) -> pl.Series:
    """Datetimes in UTC milliseconds; those that name no zone are in UTC."""
    named = isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone is not None
    zoned = times.dt.convert_time_zone("UTC") if named else times.dt.replace_time_zone("UTC")
    whole = zoned.cast(_TIME)
    if not (whole.cast(zoned.dtype) == zoned).all():
        raise InvalidCandles(f"{path.name}: column {times.name!r} has times that are no whole milliseconds")
    return whole


def _refuse_swapped_volumes(path: Path, candles: pl.DataFrame, quote_volume: pl.Series, found: Mapping[str, str]) -> None:
    price, known = pl.col("quote_volume") / pl.col("volume"), (pl.col("volume") > 0) & (pl.col("quote_volume") > 0)
    far = (price > pl.col("high") * _QUOTE_VOLUME_SLACK) | (price < pl.col("low") / _QUOTE_VOLUME_SLACK)
    wrong = candles.with_columns(quote_volume.alias("quote_volume")).filter(known & far)
    if wrong.height:
        bar = wrong.row(0, named=True)
        volumes = f"{bar['quote_volume']:.12g} / {bar['volume']:.12g}"
        raise InvalidCandles(
            f"{path.name}: {found['volume']!r} and {found['quote_volume']!r} contradict the price in {wrong.height:,} of "
            f"{candles.height:,} rows, first at {bar['opened_at']:%Y-%m-%d %H:%M}: {volumes} "
            f"is not between {bar['low']:g} and {bar['high']:g}; base and quote volume may be swapped there"
        )
