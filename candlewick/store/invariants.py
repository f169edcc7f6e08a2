"""The ledger's invariants, as SQL over one account or many, checked inside every transaction before it commits.

What the transaction wrote is checked row by row (its orders, fills, transactions and equity rows), so that the cost follows
the cycle and not the account's age. Balances are folds over *all* postings of the account every time: a balance that is
carried along could be wrong for ever, and DuckDB sums a million postings in milliseconds. `audit` checks everything.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl

from candlewick.amounts import from_units, plain
from candlewick.engine.layout import CASH_DECIMALS
from candlewick.errors import InvariantViolated
from candlewick.rows import TEXT
from candlewick.store.database import Connection

CASH_ACCOUNT = "assets:cash"
Cell = str | int | Decimal | datetime | None


@dataclass(frozen=True, slots=True)
class Invariant:
    """``query`` answers the offending rows: the account first, then what fills ``message``.

    `{scope_<table>}` is the rows to look at; the relation `checked_accounts` (account, run_id) says whose.
    It can only be broken by writing to one of ``tables``, and is asked only then; always, where none is named.
    """

    name: str
    tables: tuple[str, ...]
    message: str
    query: str


_THESE = "account IN (SELECT account FROM checked_accounts)"
_INVARIANTS = (
    Invariant(
        "postings balance",
        ("postings",),
        "transaction {0}: its {1} postings sum to {2} instead of 0",
        """SELECT account, transaction_id, asset, sum(amount) FROM {scope_postings}
           GROUP BY ALL HAVING sum(amount) <> 0 ORDER BY ALL""",
    ),
    Invariant(
        "positions are what was posted",
        (),
        "{0}: postings hold {1}, positions {2}",
        f"""SELECT coalesce(p.account, q.account), coalesce(p.asset, q.asset), coalesce(p.held, 0), coalesce(q.held, 0)
           FROM (SELECT account, asset, sum(amount) AS held FROM postings JOIN accounts USING (account)
                 WHERE {_THESE} AND starts_with(ledger_account, 'assets:') AND asset <> quote GROUP BY account, asset) p
           FULL JOIN (SELECT account, split_part(symbol, '/', 1) AS asset,
                             sum(CASE WHEN side = 'short' THEN -quantity ELSE quantity END) AS held FROM positions
                      WHERE {_THESE} GROUP BY 1, 2) q ON p.account = q.account AND p.asset = q.asset
           WHERE coalesce(p.held, 0) <> coalesce(q.held, 0) ORDER BY 1, 2""",
    ),
    Invariant(
        "equity is cash plus positions",
        ("equity",),
        "equity at {0}: {1} is not cash {2} + positions {3}",
        """SELECT account, "at", equity, cash, position_value FROM {scope_equity}
           WHERE equity <> cash + position_value ORDER BY 1, 2""",
    ),
    Invariant(
        "cash is never negative",
        ("equity",),
        "equity at {0}: cash is {1}",
        'SELECT account, "at", cash FROM {scope_equity} WHERE cash < 0 ORDER BY 1, 2',
    ),
    Invariant(
        "no order without its signal",
        ("orders",),
        "order {0}: its signal {1} is not in the ledger",
        """SELECT account, client_order_id, signal_id FROM {scope_orders} o
           WHERE NOT EXISTS (SELECT 1 FROM signals s WHERE s.signal_id = o.signal_id AND s.account = o.account) ORDER BY 1, 2""",
    ),
    Invariant(
        "no fill without its order",
        ("fills",),
        "fill {0}: its order {1} is not in the ledger",
        """SELECT account, fill_id, client_order_id FROM {scope_fills} f
           WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.client_order_id = f.client_order_id AND o.account = f.account)
           ORDER BY 1, 2""",
    ),
    Invariant(
        "no more is filled than was ordered",
        ("fills", "orders"),
        "order {0}: filled {1} of {2}",
        f"""SELECT any_value(f.account), o.client_order_id, sum(f.quantity), any_value(o.quantity)
           FROM fills f JOIN orders o USING (client_order_id)
           WHERE f.{_THESE} AND f.client_order_id IN (SELECT client_order_id FROM {{scope_fills}} s
                 UNION ALL SELECT client_order_id FROM {{scope_orders}} s)
           GROUP BY o.client_order_id HAVING sum(f.quantity) > any_value(o.quantity) ORDER BY 1, 2""",
    ),
    *(
        Invariant(
            "sequence numbers are used once and increase",
            (table,),
            f"{table}: number {{0}} of this transaction is used twice or not above {{1}}, the last one before it",
            f"""SELECT account, sequence, coalesce(last, 0)
                FROM (SELECT account, sequence, count(*) OVER (PARTITION BY account, sequence) AS uses
                      FROM {{scope_new_{table}}} s)
                LEFT JOIN (SELECT account, max(sequence) AS last FROM {table} old JOIN checked_accounts now USING (account)
                           WHERE now.run_id <> '' AND old.run_id <> now.run_id GROUP BY account) USING (account)
                WHERE uses > 1 OR sequence <= coalesce(last, 0) ORDER BY 1, 2""",
        )
        for table in ("orders", "fills", "events")
    ),
)
# A fill in the bar that is still forming comes after the last equity row (whose time is a close); it is in the cash already.
# Funding that was due inside the last bar comes before that row, though after the bar's open, which is the watermark.
# Of years of equity rows only the newest are read.
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_CASH = f"""
    WITH last AS (
        SELECT account, max("at") AS at, arg_max(cash, "at") AS cash FROM equity
        WHERE {_THESE} AND "at" >= $since GROUP BY account),
    posted AS (
        SELECT account, sum(amount) AS total, sum(amount) FILTER (market_at >= last.at) AS forming
        FROM postings JOIN accounts USING (account) LEFT JOIN last USING (account)
        WHERE {_THESE} AND ledger_account = '{CASH_ACCOUNT}' AND asset = quote GROUP BY account)
    SELECT account, coalesce(posted.total, 0), last.cash, coalesce(posted.forming, 0), state::VARCHAR
    FROM checked_accounts LEFT JOIN posted USING (account) LEFT JOIN last USING (account) LEFT JOIN checkpoints USING (account)
    ORDER BY account"""


def check_written(connection: Connection, run_ids: Mapping[str, str], written: Mapping[str, int]) -> None:
    """Check what this transaction staged and wrote (rows by table), and the balances of its accounts. Raises InvariantViolated.

    ``run_ids``: the run that wrote, by account.
    """
    keys = {"orders": "client_order_id", "fills": "fill_id", "postings": "transaction_id"}
    scopes = {
        f"scope_{table}": f"(SELECT * FROM {table} WHERE {_THESE} AND {key} IN (SELECT {key} FROM new_{table}))"
        for table, key in keys.items()
    }
    scopes["scope_equity"] = '(SELECT * FROM equity SEMI JOIN new_equity USING (account, "at"))'
    for table in ("orders", "fills", "events"):
        scopes[f"scope_new_{table}"] = f"(SELECT * FROM {table} SEMI JOIN checked_accounts USING (account, run_id))"
    concerned = [one for one in _INVARIANTS if not one.tables or any(written.get(table) for table in one.tables)]
    (since,) = connection.execute("SELECT min(watermark_at) FROM new_checkpoints").fetchall()[0]
    _check(connection, run_ids, concerned, scopes, since or _EVER)


def check_account(connection: Connection, account: str) -> None:
    """Check every row of the account. Raises InvariantViolated."""
    tables = ("orders", "fills", "postings", "equity", "events")
    scopes = {f"scope_{table}": f"(SELECT * FROM {table} WHERE {_THESE})" for table in tables}
    scopes |= {f"scope_new_{table}": scopes[f"scope_{table}"] for table in ("orders", "fills", "events")}
    _check(connection, {account: ""}, _INVARIANTS, scopes)


def _check(
    connection: Connection,
    run_ids: Mapping[str, str],
    invariants: Sequence[Invariant],
    scopes: Mapping[str, str],
    since: datetime = _EVER,
) -> None:
    """``since``: where the last equity rows of the accounts should be found; the older ones are looked at where one is not."""
    these = pl.DataFrame({"account": list(run_ids), "run_id": list(run_ids.values())}, schema={"account": TEXT, "run_id": TEXT})
    connection.register("checked_accounts", these.to_arrow())
    for invariant in invariants:
        rows = connection.execute(f"{invariant.query.format(**scopes)} LIMIT 1").fetchall()
        if rows:
            account, *cells = rows[0]
            raise _violated(account, invariant.name, invariant.message.format(*map(_text, cells)))
    balances = connection.execute(_CASH, {"since": since}).fetchall()
    if since > _EVER and any(last is None for _, _, last, _, _ in balances):
        balances = connection.execute(_CASH, {"since": _EVER}).fetchall()
    for account, posted, last, forming, state in balances:
        _check_cash(account, posted, last, forming, state)


def _check_cash(account: str, posted: Decimal, last: Decimal | None, forming: Decimal, state: str | None) -> None:
    """``posted``: sum of the cash postings; ``last``: cash of the last equity row; ``forming``: posted since that row."""
    if state is None:
        raise _violated(account, "an account has a checkpoint", "there is none")
    cash = _checkpoint_cash(account, state)
    if posted != cash:
        raise _violated(account, "cash is what was posted", f"postings hold {plain(posted)}, the checkpoint {plain(cash)}")
    if last is not None and last + forming != cash:
        text = f"the last equity row has {plain(last)}, fills after it {plain(forming)}, the checkpoint {plain(cash)}"
        raise _violated(account, "equity rows have the cash of the checkpoint", text)
    if cash < 0:
        raise _violated(account, "cash is never negative", f"the checkpoint's cash is {plain(cash)}")


def _checkpoint_cash(account: str, state: str) -> Decimal:
    """Cash in the engine's state (candlewick/engine/layout.py: units of 10^-CASH_DECIMALS of the quote currency)."""
    document = json.loads(state)
    try:
        return from_units(int(document["account"]["cash"]), CASH_DECIMALS)
    except (KeyError, TypeError, ValueError):
        raise _violated(account, "a checkpoint states its cash", "state.account.cash is missing or no integer") from None


def _violated(account: str, name: str, text: str) -> InvariantViolated:
    return InvariantViolated(f"account {account}: invariant '{name}' is broken: {text}. Nothing was written")


def _text(value: Cell) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else str(value)
