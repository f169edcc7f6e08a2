"""A ledger as the first version of Candlewick left it: schema version 1, an engine's state with fewer fields, one open position.

`golden/version_1_ledger.json` holds the rows of two cycles of commit e20c460 (`fibonacci_golden_zone` on two symbols of the
market `sample`, every value as DuckDB writes it as text).
"""

import json
from pathlib import Path

import duckdb

from candlewick.store.migrations import MIGRATIONS

ROWS = Path(__file__).parent / "golden" / "version_1_ledger.json"
LAST_CYCLE = "2026-01-30T01:00"


def write_version_1(path: Path) -> None:
    """Write the ledger's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tables = json.loads(ROWS.read_text(encoding="utf-8"))
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY, name VARCHAR NOT NULL, applied_at TIMESTAMPTZ NOT NULL)"
        )
        for statement in MIGRATIONS[0].statements:
            connection.execute(statement)
        for table, found in tables.items():
            names = ", ".join(f'"{name}"' for name in found["columns"])
            marks = ", ".join("?" * len(found["columns"]))
            if found["rows"]:
                connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", found["rows"])
