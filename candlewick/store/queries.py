"""Reading the ledger: whole accounts in one transaction each, as frames, views and documents."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import polars as pl

from candlewick.account import Account, read_account
from candlewick.engine.state import EngineState
from candlewick.errors import UnknownAccount
from candlewick.monitoring.interventions import Intervention
from candlewick.monitoring.row_frames import interventions_of
from candlewick.rebuilding import is_outdated
from candlewick.reports.view import AccountView, told_by_events
from candlewick.rows import AMOUNT, TIME
from candlewick.seen import forming_opens
from candlewick.store.database import Connection, Database
from candlewick.store.tables import JSON_COLUMNS, TABLES, quoted
from candlewick.store.writing import OPEN

JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"

EXPORTED = ("orders", "fills", "postings", "positions", "equity", "signals", "interventions", "runs", "events", "terms")
"""Tables of an export. Rows are ordered by the columns `Table.order` of candlewick/store/tables.py names."""

_LIST = """SELECT a.account, a.market, a.timeframe, a.symbols::VARCHAR AS symbols, t.strategy, a.quote, a.initial_cash,
        coalesce(e.equity, a.initial_cash) AS equity, coalesce(e.cash, a.initial_cash) AS cash,
        coalesce(e.open_positions, 0) AS open_positions, c.watermark_at, r.completed_at AS last_run_at, r.status AS last_status
    FROM accounts a LEFT JOIN checkpoints c USING (account)
    LEFT JOIN (SELECT account, arg_max(strategy, version) AS strategy FROM terms GROUP BY account) t USING (account)
    LEFT JOIN (SELECT account, last(equity ORDER BY "at") AS equity, last(cash ORDER BY "at") AS cash,
               last(open_positions ORDER BY "at") AS open_positions FROM equity GROUP BY account) e USING (account)
    LEFT JOIN (SELECT account, max(completed_at) AS completed_at, arg_max(status, completed_at) AS status
               FROM runs GROUP BY account) r USING (account)
    ORDER BY a.account"""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An account's state after its last committed cycle. ``seen`` and ``candle_digests`` as the cycle wrote them, by symbol.

    ``forming_opens``: opens that the state has acted on although their bar is not closed, by symbol. ``state`` None: an older
    version of the engine wrote it (`candlewick/rebuilding.py`).
    """

    version: int
    watermark_ms: int | None
    seen: Mapping[str, JsonValue]
    forming_opens: Mapping[str, float]
    state: EngineState | None
    candle_digests: Mapping[str, str]
    run_id: str


@dataclass(frozen=True, slots=True)
class LoadedAccount:
    """What a cycle starts from. ``open_orders`` has the content columns of `orders`; ``interventions`` by bar and symbol."""

    account: Account
    checkpoint: Checkpoint | None
    open_orders: pl.DataFrame
    interventions: tuple[Intervention, ...]


@contextmanager
def known_account(database: Database, account: str) -> Iterator[Connection]:
    """A reading transaction on a ledger that has the account. Raises UnknownAccount naming those there are."""
    if not database.exists():
        raise UnknownAccount(
            f"there is no account {account!r}: ledger {database.path} does not exist yet. Run `make paper` first"
        )
    with database.read() as connection:
        names = [str(row[0]) for row in connection.execute("SELECT account FROM accounts ORDER BY account").fetchall()]
        if account not in names:
            raise UnknownAccount(f"there is no account {account!r} in {database.path}; there are: {', '.join(names) or 'none'}")
        yield connection


def refuse_unknown(database: Database, account: str) -> None:
    """Raises UnknownAccount where the ledger has no such account."""
    with known_account(database, account):
        return


def load_account(database: Database, account: str) -> LoadedAccount | None:
    """See `Ledger.load_account`."""
    return load_accounts(database, (account,)).get(account)


def load_accounts(database: Database, accounts: Iterable[str]) -> dict[str, LoadedAccount]:
    """See `Ledger.load_accounts`."""
    if not database.exists():
        return {}
    wanted = list(dict.fromkeys(accounts))
    with database.read() as connection:
        found = read_rows(connection, "accounts", wanted)
        terms = _by_account(read_rows(connection, "terms", wanted))
        checkpoints = _by_account(read_rows(connection, "checkpoints", wanted))
        orders = read_rows(connection, "orders", wanted, f"status = '{OPEN}'").select(*TABLES["orders"].content)
        interventions = read_rows(connection, "interventions", wanted)
    open_orders, none_open = _by_account(orders), orders.clear()
    replaced, none_replaced = _by_account(interventions), interventions.clear()
    return {
        name: LoadedAccount(
            read_account(row, terms[name].to_dicts()),
            _checkpoint(checkpoints[name]) if name in checkpoints else None,
            open_orders.get(name, none_open),
            interventions_of(replaced.get(name, none_replaced)),
        )
        for row in found.to_dicts()
        for name in [str(row["account"])]
    }


def _by_account(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The rows of each account, in their order."""
    return {str(name): part for (name,), part in rows.group_by("account", maintain_order=True)}


def _checkpoint(rows: pl.DataFrame) -> Checkpoint:
    row = rows.to_dicts()[0]
    state = json.loads(row["state"])
    return Checkpoint(
        version=row["version"],
        watermark_ms=rows["watermark_at"].dt.epoch("ms")[0],
        seen=json.loads(row["seen"]),
        forming_opens=forming_opens(json.loads(row["seen"])),
        state=None if is_outdated(state) else EngineState.from_document(state),
        candle_digests=json.loads(row["candle_digests"]),
        run_id=row["run_id"],
    )


def list_accounts(database: Database) -> pl.DataFrame:
    """Columns: account, market, timeframe, symbols (JSON), strategy, quote, initial_cash, equity, cash, open_positions,
    watermark_at, last_run_at, last_status.
    """
    if not database.exists():
        return pl.DataFrame()
    with database.read() as connection:
        accounts = pl.DataFrame(connection.sql(_LIST).to_arrow_table())
    return accounts.with_columns(pl.selectors.datetime().cast(TIME))


def read_rows(connection: Connection, table: str, account: str | Sequence[str], where: str = "TRUE") -> pl.DataFrame:
    """Rows of one account, or of several, in the table's order, all columns."""
    order = ", ".join(quoted(column) for column in TABLES[table].order)
    columns = ", ".join(quoted(column) for column in TABLES[table].columns)
    whose = "account = $account" if isinstance(account, str) else "account IN (SELECT unnest($account::VARCHAR[]))"
    query = f"SELECT {columns} FROM {table} WHERE {whose} AND ({where}) ORDER BY {order}"
    frame = pl.DataFrame(connection.sql(query, params={"account": account}).to_arrow_table())
    return frame.with_columns(pl.col(name).cast(kind) for name, kind in TABLES[table].content.items())


def view(database: Database, account: str, candles: Mapping[str, pl.DataFrame]) -> AccountView:
    """See `Ledger.view`."""
    names = ("signals", "orders", "fills", "positions", "equity", "runs")
    with known_account(database, account) as connection:
        found = read_rows(connection, "accounts", account)
        terms = read_rows(connection, "terms", account)
        checkpoints = read_rows(connection, "checkpoints", account)
        frames = {name: read_rows(connection, name, account) for name in names}
        events = read_rows(connection, "events", account, "kind IN ('funding', 'stop_moved')")
    row, current = found.to_dicts()[0], terms.to_dicts()[-1]
    return AccountView(
        account=account,
        market=row["market"],
        timeframe=row["timeframe"],
        symbols=tuple(json.loads(row["symbols"])),
        quote=row["quote"],
        initial_cash=row["initial_cash"],
        anchor_at=row["anchor_at"],
        watermark_at=checkpoints["watermark_at"][0] if checkpoints.height else None,
        strategy=current["strategy"],
        parameters=json.loads(current["parameters"]),
        candles=candles,
        **frames,
        **told_by_events(events),
    )


def account_rows(database: Database, account: str) -> dict[str, pl.DataFrame]:
    """Every row of the account by table, read in one transaction: what an audit works on. Raises UnknownAccount."""
    with known_account(database, account) as connection:
        return {table: read_rows(connection, table, account) for table in ("accounts", "checkpoints", *EXPORTED)}


def export_rows(database: Database, account: str) -> dict[str, pl.DataFrame]:
    """See `Ledger.export_rows`."""
    with known_account(database, account) as connection:
        return {table: read_rows(connection, table, account) for table in EXPORTED}


def export_parquet(database: Database, account: str, directory: Path) -> dict[str, Path]:
    """See `Ledger.export_parquet`. Each file is written under another name and renamed."""
    rows = export_rows(database, account)
    directory.mkdir(parents=True, exist_ok=True)
    written = {}
    for table, frame in rows.items():
        target = directory / f"{table}.parquet"
        fresh = target.with_suffix(".parquet.new")
        frame.write_parquet(fresh)
        written[table] = fresh.replace(target)
    return written


def export_document(database: Database, account: str) -> dict[str, JsonValue]:
    """See `Ledger.export_document`."""
    rows = export_rows(database, account)
    document: dict[str, JsonValue] = {"account": account}
    for table, frame in rows.items():
        document[table] = list(plain_rows(frame))
    return document


def plain_rows(frame: pl.DataFrame) -> list[dict[str, JsonValue]]:
    """Rows of a ledger frame, JSON-ready."""
    columns = [name for name in frame.columns if name in JSON_COLUMNS]
    rows: list[dict[str, JsonValue]] = frame.select(_plain(name, kind) for name, kind in frame.schema.items()).to_dicts()
    for row in rows:
        for name in columns:
            row[name] = json.loads(str(row[name]))
    return rows


def _plain(name: str, kind: pl.DataType) -> pl.Expr:
    if kind == AMOUNT:
        return pl.col(name).cast(pl.String).str.replace(r"\.?0+$", "")
    if kind == TIME:
        return pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").str.replace(".000000", "", literal=True)
    return pl.col(name)
