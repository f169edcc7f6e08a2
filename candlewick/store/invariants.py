"""The ledger's invariants, as SQL over one account, checked inside every transaction before it commits.

What the transaction wrote is checked row by row (its orders, fills, transactions and equity rows), so that the cost follows
the cycle and not the account's age. Balances are folds over *all* postings of the account every time: a balance that is
carried along could be wrong for ever, and DuckDB sums a million postings in milliseconds. `audit` checks everything.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from candlewick.amounts import from_units, plain
from candlewick.engine.layout import CASH_DECIMALS
from candlewick.errors import InvariantViolated
from candlewick.store.database import Connection

CASH_ACCOUNT = "assets:cash"
Cell = str | int | Decimal | datetime | None


@dataclass(frozen=True, slots=True)
class Invariant:
    """``query`` answers the offending rows, its columns fill ``message``; `{scope_<table>}` is the rows to look at.

    It can only be broken by writing to one of ``tables``, and is asked only then; always, where none is named.
    """

    name: str
    tables: tuple[str, ...]
    message: str
    query: str


_INVARIANTS = (
    Invariant(
        "postings balance",
        ("postings",),
        "transaction {0}: its {1} postings sum to {2} instead of 0",
        """SELECT transaction_id, asset, sum(amount) FROM {scope_postings}
           GROUP BY ALL HAVING sum(amount) <> 0 ORDER BY ALL""",
    ),
    Invariant(
        "positions are what was posted",
        (),
        "{0}: postings hold {1}, positions {2}",
        """SELECT coalesce(p.asset, q.asset), coalesce(p.held, 0), coalesce(q.held, 0)
           FROM (SELECT asset, sum(amount) AS held FROM postings
                 WHERE account = $account AND starts_with(ledger_account, 'assets:')
                 AND asset <> (SELECT quote FROM accounts WHERE account = $account) GROUP BY asset) p
           FULL JOIN (SELECT split_part(symbol, '/', 1) AS asset,
                             sum(CASE WHEN side = 'short' THEN -quantity ELSE quantity END) AS held FROM positions
                      WHERE account = $account GROUP BY 1) q ON p.asset = q.asset
           WHERE coalesce(p.held, 0) <> coalesce(q.held, 0) ORDER BY 1""",
    ),
    Invariant(
        "equity is cash plus positions",
        ("equity",),
        "equity at {0}: {1} is not cash {2} + positions {3}",
        """SELECT "at", equity, cash, position_value FROM {scope_equity}
           WHERE equity <> cash + position_value ORDER BY 1""",
    ),
    Invariant(
        "cash is never negative",
        ("equity",),
        "equity at {0}: cash is {1}",
        'SELECT "at", cash FROM {scope_equity} WHERE cash < 0 ORDER BY 1',
    ),
    Invariant(
        "no order without its signal",
        ("orders",),
        "order {0}: its signal {1} is not in the ledger",
        """SELECT client_order_id, signal_id FROM {scope_orders} o
           WHERE signal_id NOT IN (SELECT signal_id FROM signals WHERE account = $account) ORDER BY 1""",
    ),
    Invariant(
        "no fill without its order",
        ("fills",),
        "fill {0}: its order {1} is not in the ledger",
        """SELECT fill_id, client_order_id FROM {scope_fills} f
           WHERE client_order_id NOT IN (SELECT client_order_id FROM orders WHERE account = $account) ORDER BY 1""",
    ),
    Invariant(
        "no more is filled than was ordered",
        ("fills", "orders"),
        "order {0}: filled {1} of {2}",
        """SELECT o.client_order_id, sum(f.quantity), any_value(o.quantity) FROM fills f JOIN orders o USING (client_order_id)
           WHERE f.account = $account AND (f.client_order_id IN (SELECT client_order_id FROM {scope_fills} s)
                 OR o.client_order_id IN (SELECT client_order_id FROM {scope_orders} s))
           GROUP BY o.client_order_id HAVING sum(f.quantity) > any_value(o.quantity) ORDER BY 1""",
    ),
    *(
        Invariant(
            "sequence numbers are used once and increase",
            (table,),
            f"{table}: number {{0}} of this transaction is used twice or not above {{1}}, the last one before it",
            f"""SELECT sequence, last FROM (SELECT sequence, count(*) OVER (PARTITION BY sequence) AS uses,
                  (SELECT coalesce(max(sequence), 0) FROM {table}
                   WHERE account = $account AND $run_id <> '' AND run_id <> $run_id) AS last FROM {{scope_new_{table}}} s)
                WHERE uses > 1 OR sequence <= last ORDER BY 1""",
        )
        for table in ("orders", "fills", "events")
    ),
)
# A fill in the bar that is still forming comes after the last equity row (whose time is a close); it is in the cash already.
# Funding that was due inside the last bar comes before that row, though after the bar's open, which is the watermark.
_CASH = f"""SELECT
    (SELECT coalesce(sum(amount), 0) FROM postings WHERE account = $account AND ledger_account = '{CASH_ACCOUNT}'
        AND asset = (SELECT quote FROM accounts WHERE account = $account)),
    (SELECT cash FROM equity WHERE account = $account ORDER BY "at" DESC LIMIT 1),
    (SELECT coalesce(sum(amount), 0) FROM postings WHERE account = $account AND ledger_account = '{CASH_ACCOUNT}'
        AND market_at >= (SELECT max("at") FROM equity WHERE account = $account)),
    (SELECT state::VARCHAR FROM checkpoints WHERE account = $account)"""


def check_written(connection: Connection, account: str, run_id: str, written: Mapping[str, int]) -> None:
    """Check what this transaction staged and wrote (rows by table), and the account's balances. Raises InvariantViolated."""
    keys = {"orders": "client_order_id", "fills": "fill_id", "postings": "transaction_id"}
    scopes = {
        f"scope_{table}": f"(SELECT * FROM {table} WHERE account = $account AND {key} IN (SELECT {key} FROM new_{table}))"
        for table, key in keys.items()
    }
    scopes["scope_equity"] = '(SELECT * FROM equity WHERE account = $account AND "at" IN (SELECT "at" FROM new_equity))'
    for table in ("orders", "fills", "events"):
        scopes[f"scope_new_{table}"] = f"(SELECT * FROM {table} WHERE account = $account AND run_id = $run_id)"
    concerned = [one for one in _INVARIANTS if not one.tables or any(written.get(table) for table in one.tables)]
    _check(connection, account, run_id, concerned, scopes)


def check_account(connection: Connection, account: str) -> None:
    """Check every row of the account. Raises InvariantViolated."""
    tables = ("orders", "fills", "postings", "equity", "events")
    scopes = {f"scope_{table}": f"(SELECT * FROM {table} WHERE account = $account)" for table in tables}
    scopes |= {f"scope_new_{table}": scopes[f"scope_{table}"] for table in ("orders", "fills", "events")}
    _check(connection, account, "", _INVARIANTS, scopes)


def _check(connection: Connection, account: str, run_id: str, invariants: Sequence[Invariant], scopes: Mapping[str, str]) -> None:
    for invariant in invariants:
        query = invariant.query.format(**scopes)
        names = {"account": account, "run_id": run_id}
        parameters = {name: value for name, value in names.items() if f"${name}" in query}
        rows = connection.execute(f"{query} LIMIT 1", parameters).fetchall()
        if rows:
            raise _violated(account, invariant.name, invariant.message.format(*map(_text, rows[0])))
    _check_cash(connection, account)


def _check_cash(connection: Connection, account: str) -> None:
    posted, last, forming, state = connection.execute(_CASH, {"account": account}).fetchall()[0]
    if state is None:
        raise _violated(account, "an account has a checkpoint", "there is none")
    cash = _checkpoint_cash(account, str(state))
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
