"""What a user says about a file of their own, where its names and numbers do not say it: the import's schema, in YAML.

    columns: {opened_at: unix, volume: Volume BTC}   # this project's name: the file's; without a header `column_1`, `column_2`
    delimiter: ";"
    decimal: ","                  # 1.234,5 is a bit more than a thousand
    skip_rows: 1                  # lines above the header, or above the first row where there is none
    header: true                  # whether the first line after those names the columns
    time_unit: auto               # s, ms, us, ns; auto: told by the size of each number
    time_format: "%d.%m.%Y %H:%M" # for times in a text that is read otherwise or in two ways
    day_first: true               # 03/04/2021 is the third of April
    timezone: Europe/Berlin       # of times that name no zone (default: UTC)
    newest_first: true            # rows go back in time; matters for trades of one millisecond
    volume: auto                  # base, quote, or {swapped_before: 2021-10-01}

Every key is optional. ``volume``: `auto` checks a base and a quote volume against the price, row by row; `base` believes the
columns' names; `quote` says that the volume counts quote currency (it is swapped with the other volume column, or, where there
is none, divided by the bar's mean price).
"""

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from candlewick.errors import SettingsError
from candlewick.market.candle_files import TimeUnit
from candlewick.market_data.kinds import Kind
from candlewick.timeframes import parse_utc

ImportColumn = Literal[
    "opened_at", "open", "high", "low", "close", "volume", "quote_volume", "symbol", "traded_at", "trade_id", "price",
    "amount", "side", "rate",
]  # fmt: skip
Resolve = Literal["first", "last", "drop"]
RESOLVES: tuple[Resolve, ...] = get_args(Resolve)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SwappedBefore(_Part):
    """Base and quote volume stand in each other's column in all rows before a date (UTC)."""

    swapped_before: date

    @property
    def before_ms(self) -> int:
        """The date's midnight, milliseconds UTC."""
        return parse_utc(self.swapped_before.isoformat())


class ImportSchema(_Part):
    """The schema; what is left out is found in the file."""

    columns: dict[ImportColumn, str] = {}
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    decimal: Literal[".", ","] = "."
    skip_rows: int | None = Field(default=None, ge=0)
    header: bool | None = None
    time_unit: Literal["auto"] | TimeUnit = "auto"
    time_format: str | None = None
    day_first: bool | None = None
    timezone: str | None = None
    newest_first: bool | None = None
    volume: Literal["auto", "base", "quote"] | SwappedBefore = "auto"

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        try:
            return name if name is None else ZoneInfo(name).key
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("is no time zone, such as UTC or Europe/Berlin") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """What is imported and how. ``source`` None: `import:<file>#<digest>`. ``now_ms``: this machine's clock.

    ``resolve`` settles two different rows for one time: the `first` or `last` one in the file, or neither (`drop`).
    ``drop_broken`` leaves broken rows out; the gap stays a gap.
    """

    market: str
    symbol: str
    kind: Kind
    timeframe: str
    now_ms: int
    schema: ImportSchema = field(default_factory=ImportSchema)
    source: str | None = None
    resolve: Resolve | None = None
    drop_broken: bool = False


def read_import_schema(path: Path | None) -> ImportSchema:
    """The schema in a file; None is the empty one. Raises SettingsError naming what is wrong."""
    if path is None:
        return ImportSchema()
    try:
        return ImportSchema.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except OSError as error:
        raise SettingsError(f"schema {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"schema {path} is not YAML: {str(error).splitlines()[0]}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"schema {path}: {where}: {first['msg']} (it is {first['input']!r})") from error
