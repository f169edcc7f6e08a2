"""`candlewick-files.yaml`: what a user says about candle and funding files whose names and columns do not say it."""

from decimal import Decimal
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from candlewick.errors import SettingsError
from candlewick.instruments import Kind
from candlewick.market.candle_files import TimeUnit

MAPPING_NAME = "candlewick-files.yaml"

Content = Literal["candles", "funding"]
Column = Literal["opened_at", "open", "high", "low", "close", "volume", "quote_volume", "rate"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Entry):
    """One file of the mapping."""

    file: str
    content: Content | None = None
    exchange: str | None = None
    symbol: str | None = None
    timeframe: str | None = None
    columns: dict[Column, str] = {}
    time_unit: TimeUnit | None = None
    time_format: str | None = None
    skip_rows: int = Field(default=0, ge=0)


class InstrumentEntry(_Entry):
    """The rules of one symbol in the mapping; None is the default."""

    price_tick: Decimal | None = Field(default=None, gt=0)
    quantity_step: Decimal = Field(default=Decimal("1e-8"), gt=0)
    min_quantity: Decimal = Field(default=Decimal(0), ge=0)
    min_notional: Decimal = Field(default=Decimal(0), ge=0)
    maker_fee_bps: Decimal = Decimal(10)
    taker_fee_bps: Decimal = Decimal(10)
    kind: Kind | None = None
    max_leverage: Decimal | None = Field(default=None, ge=1)
    maintenance_margin_share: Decimal | None = Field(default=None, ge=0, lt=1)
    funding_interval_h: int | None = Field(default=None, ge=1, le=24)


class FilesMapping(_Entry):
    """The mapping file."""

    files: tuple[FileEntry, ...] = ()
    instruments: dict[str, InstrumentEntry] = {}


def read_mapping(path: Path, required: bool) -> FilesMapping:
    """The mapping in a file; an empty one where there is none and none is ``required``. Raises SettingsError."""
    if not required and not path.exists():
        return FilesMapping()
    try:
        return FilesMapping.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except OSError as error:
        raise SettingsError(f"mapping {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"mapping {path} is not YAML: {str(error).splitlines()[0]}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"mapping {path}: {where}: {first['msg']} (it is {first['input']!r})") from error
