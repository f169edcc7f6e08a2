"""Two versions of a ledger's rows, compared cell by cell. Bookkeeping columns are left out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import polars as pl

from candlewick.amounts import plain
from candlewick.store.tables import JSON_COLUMNS, Table

FIRST = 20
"""Differences that are named of each table; all are counted."""

Json = str | int | float | bool | list["Json"] | dict[str, "Json"] | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One cell, or one whole row (``column`` is empty), with both values as text; None where there is no such row."""

    table: str
    row: str
    column: str
    stored: str | None
    replayed: str | None

    def __str__(self) -> str:
        if self.stored is None:
            return f"{self.table} {self.row}: not in the ledger; the replay has {self.replayed}"
        if self.replayed is None:
            return f"{self.table} {self.row}: in the ledger ({self.stored}), but the replay does not give it"
        return f"{self.table} {self.row}: {self.column} is {self.stored} in the ledger, {self.replayed} in the replay"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One table: its numbers of rows, how many cells and rows differ, and the first of them."""

    table: str
    stored: int
    replayed: int
    differences: int
    first: tuple[Difference, ...]


def compare_rows(table: Table, stored: pl.DataFrame, replayed: pl.DataFrame) -> Comparison:
    """Rows of the same id are compared in every content column. Both frames have unique ids and the content's types."""
    content, key = list(table.content), list(table.key)
    ours, theirs = stored.select(content), replayed.select(content)
    missing = theirs.join(ours, on=key, how="anti", maintain_order="left")
    unexpected = ours.join(theirs, on=key, how="anti", maintain_order="left")
    both = ours.join(theirs, on=key, how="inner", suffix="|replayed", maintain_order="left")
    columns = [name for name in content if name not in key]
    differs = {name: pl.col(name).ne_missing(pl.col(f"{name}|replayed")) for name in columns}
    changed = both.filter(pl.any_horizontal(list(differs.values())))
    cells = _cells(table, changed)
    first = [
        *cells,
        *(Difference(table.name, _key(table, row), "", None, _summary(table, row)) for row in missing.head(FIRST).to_dicts()),
        *(Difference(table.name, _key(table, row), "", _summary(table, row), None) for row in unexpected.head(FIRST).to_dicts()),
    ]
    count = len(cells) + missing.height + unexpected.height
    return Comparison(table.name, stored.height, replayed.height, count, tuple(first[:FIRST]))


def compare_values(table: str, row: str, stored: Mapping[str, Json], replayed: Mapping[str, Json]) -> list[Difference]:
    """Fields of two documents; a field that is missing on one side is `nothing` there."""
    names = dict.fromkeys([*stored, *replayed])
    return [
        Difference(table, row, name, value_text(stored.get(name)), value_text(replayed.get(name)))
        for name in names
        if stored.get(name) != replayed.get(name)
    ]


def flatten(document: Json, path: str = "") -> dict[str, Json]:
    """Leaves of a JSON document by path: ``{"a": [{"b": 1}]}`` becomes ``{"a[0].b": 1}``."""
    if isinstance(document, dict):
        return {k: v for name, part in document.items() for k, v in flatten(part, f"{path}.{name}" if path else name).items()}
    if isinstance(document, list):
        return {k: v for number, part in enumerate(document) for k, v in flatten(part, f"{path}[{number}]").items()}
    return {path: document}


def value_text(value: Json | Decimal | datetime) -> str:
    """A value as differences show it: amounts without trailing zeros, times in UTC."""
    if value is None:
        return "nothing"
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}" if value.second == value.microsecond == 0 else value.isoformat(" ")
    return value if isinstance(value, str) else json.dumps(value)


def _cells(table: Table, changed: pl.DataFrame) -> list[Difference]:
    found: list[Difference] = []
    for row in changed.to_dicts():
        for name in table.content:
            if name in table.key or row[name] == row[f"{name}|replayed"]:
                continue
            if name in JSON_COLUMNS:
                pair = (flatten(json.loads(text)) for text in (row[name], row[f"{name}|replayed"]))
                found += _renamed(compare_values(table.name, _key(table, row), *pair), name)
            else:
                values = value_text(row[name]), value_text(row[f"{name}|replayed"])
                found.append(Difference(table.name, _key(table, row), name, *values))
    return found


def _renamed(differences: list[Difference], column: str) -> list[Difference]:
    return [Difference(one.table, one.row, f"{column}.{one.column}", one.stored, one.replayed) for one in differences]


def _key(table: Table, row: Mapping[str, str | int | datetime]) -> str:
    names = [name for name in table.key if name != "account"] or list(table.key)
    return " ".join(value_text(row[name]) for name in names)


def _summary(table: Table, row: Mapping[str, str | int | Decimal | datetime | None]) -> str:
    told = {name: value for name, value in row.items() if name not in (*table.key, "account") and value is not None}
    return ", ".join(f"{name}={value_text(value)}" for name, value in told.items())
