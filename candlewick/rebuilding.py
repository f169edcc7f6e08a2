"""A checkpoint whose state an older version of the engine wrote: recognised, and checked once it has been replayed.

The state is what the engine remembers; everything in it follows from the account's terms, candles and funding. So a state whose
fields have changed since is not converted: the account is replayed from its inputs, as an audit does, and goes on from there if
the replay ends where the ledger stands.
"""

import json
from collections.abc import Mapping
from decimal import Decimal

import polars as pl

from candlewick.amounts import from_units, plain
from candlewick.cycle import Decided
from candlewick.engine.layout import ACCOUNT, CASH_DECIMALS, POSITION
from candlewick.engine.state import EngineState
from candlewick.engine.terms import quantity_decimals
from candlewick.errors import HistoryChanged, StateOutdated
from candlewick.json_text import Json

REBUILT = "an older version of Candlewick wrote the account's state; it was replayed from its candles and agrees with the ledger"


def is_outdated(document: Mapping[str, Json]) -> bool:
    """Whether an older engine wrote the state: all that it says is known today, and something of today's is not in it."""
    account, positions = document.get("account"), document.get("positions")
    if not isinstance(account, dict) or not isinstance(positions, list) or not all(isinstance(one, dict) for one in positions):
        return False
    fields = [(set(account), set(ACCOUNT.names or ()))]
    fields += [(set(one), set(POSITION.names or ())) for one in positions if isinstance(one, dict)]
    return all(found <= known for found, known in fields) and any(found != known for found, known in fields)


def verified_state(rows: Mapping[str, pl.DataFrame], replayed: Decided) -> EngineState:
    """The replayed state, if it has the ledger's watermark, cash, quantities and number of events.

    ``rows`` as `queries.account_rows`. Raises HistoryChanged where the candles are not those the account traded on, and
    StateOutdated where the replay ends elsewhere.
    """
    account, state = replayed.start.account, replayed.advanced.state
    known: dict[str, str] = json.loads(rows["checkpoints"]["candle_digests"][0])
    changed = [symbol for symbol, digest in replayed.digests.items() if known.get(symbol, digest) != digest]
    if changed:
        raise HistoryChanged(
            f"account {account.name}: an older version of Candlewick wrote its state, and it cannot be replayed: the lake's "
            f"{', '.join(changed)} candles are not those it has traded on. Nothing was written. Restore the lake, or open a new "
            "account with --account"
        )
    replay, ledger = _stand(replayed), _ledger(rows)
    differing = [f"{name} is {ledger.get(name, 0)} in the ledger and {replay.get(name, 0)} in the replay" for name in
                 sorted(ledger.keys() | replay.keys()) if ledger.get(name, 0) != replay.get(name, 0)]  # fmt: skip
    if differing:
        raise StateOutdated(
            f"account {account.name}: an older version of Candlewick wrote its state, and a replay of its candles ends apart: "
            f"{'; '.join(differing)}. Nothing was written. It can be shown and exported; to trade on, open a new account with "
            f"--account, or use the version that wrote it ({rows['runs'].sort('started_at')['code_version'][-1]})"
        )
    return state


def _stand(replayed: Decided) -> dict[str, str]:
    """Where the replay ends, in words that can be compared."""
    state, instruments = replayed.advanced.state, replayed.start.account.current.instruments
    quantities = {
        f"the quantity of {instrument.symbol}": from_units(int(position["quantity"]), quantity_decimals(instrument))
        for instrument, position in zip(instruments, state.positions, strict=True)
    }
    cash = from_units(int(state.account["cash"][0]), CASH_DECIMALS)
    return _texts(cash, quantities, state.sequence)


def _ledger(rows: Mapping[str, pl.DataFrame]) -> dict[str, str]:
    postings = rows["postings"].filter(pl.col("ledger_account") == "assets:cash")
    held = rows["positions"].select("symbol", "quantity").iter_rows()
    quantities = {f"the quantity of {symbol}": quantity for symbol, quantity in held}
    return _texts(sum(postings["amount"], Decimal(0)), quantities, rows["events"].height)


def _texts(cash: Decimal, quantities: Mapping[str, Decimal], events: int) -> dict[str, str]:
    amounts = {name: plain(amount) for name, amount in quantities.items() if amount}
    return {"cash": plain(cash), "the number of events": str(events), **amounts}
