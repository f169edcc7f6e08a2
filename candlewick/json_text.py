"""JSON the way every command prints it: amounts as text, times in UTC with Z, fields in their declared order."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel, SecretStr

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def to_json(value: object, indent: int | None = None) -> str:
    """One JSON text. The same value gives the same text: fields and mappings keep their order, sets are sorted.

    Decimals become plain text (nothing is rounded), aware times ISO 8601 in UTC with Z, a float that is not finite null,
    a secret ``**********``. Raises TypeError for what has no JSON form, ValueError for a time without a zone.

    >>> to_json({"cash": Decimal("10.50"), "at": datetime(2026, 1, 31, 16, tzinfo=UTC)})
    '{"cash": "10.50", "at": "2026-01-31T16:00:00Z"}'
    """
    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def plain(value: object) -> Json:
    """The value made of JSON's own types only; as ``to_json``."""
    if value is None or (isinstance(value, bool | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, int | float):
        return value if isinstance(value, int) or math.isfinite(value) else None
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else None
    if isinstance(value, date):
        return iso_utc(value) if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, Path | SecretStr):
        return str(value)
    if isinstance(value, BaseModel):
        return {info.serialization_alias or name: plain(getattr(value, name)) for name, info in type(value).model_fields.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    if isinstance(value, set | frozenset):
        return [plain(member) for member in sorted(value)]
    raise TypeError(f"{type(value).__name__} has no JSON form here: {value!r:.80}")


def iso_utc(moment: datetime) -> str:
    """`2026-01-31T16:00:00Z`; a fraction of a second only where there is one. Raises ValueError for a time without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
