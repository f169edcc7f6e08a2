"""What the page shows, as JSON-ready documents: read from the store in short transactions, which it never writes to.

The store's file is opened only when it has changed since the last look, so an idle desk costs its session nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl

from candlewick.errors import CandlewickError, LedgerBusy
from candlewick.json_text import Json, plain
from candlewick.monitoring.liveness import Liveness, liveness, look_at_process, start_command
from candlewick.monitoring.status import SessionStatus, SymbolStatus
from candlewick.store.database import Database
from candlewick.store.desk_view import DeskView, look_at_desk
from candlewick.timeframes import timeframe_ms
from deployments.dashboard.curve import EquityCurve, oldest_drawn
from deployments.dashboard.feed import happenings

Document = Mapping[str, Json]
# Of a session that has not written its status yet.
_HEARTBEAT_S = 5.0
_TITLES = {
    "alive": "",
    "silent": "The session is silent",
    "crashed": "The session has crashed",
    "ended": "The session has ended",
}


@dataclass(slots=True)
class DeskReader:
    """Reads one desk. Not for two threads at once: `Watch` sees to that."""

    database: Database
    desk: str
    view: DeskView = field(default_factory=DeskView)
    curve: EquityCurve = field(default_factory=EquityCurve)
    trouble: str | None = None
    _title: str = ""
    _seen: tuple[tuple[int, int], ...] | None = None

    def read(self) -> Document:
        """The state of the desk now; of a store that does not answer, the last one known, saying so."""
        stamp = _stamp(self.database)
        if stamp != self._seen or self.trouble is not None:
            try:
                self._look()
                self._seen, self.trouble = stamp, None
            except CandlewickError as error:
                self.trouble = _trouble(error)
                self._title = "Waiting for the store" if isinstance(error, LedgerBusy) else "The store cannot be read"
        return self._document(datetime.now(UTC))

    def _look(self) -> None:
        """One look; of accounts that are new to the curve a second one, now that it is known how far back to look."""
        asked_from = oldest_drawn(self.view.status)
        self.view = look_at_desk(self.database, self.desk, self.curve.seen, asked_from)
        if asked_from is None and oldest_drawn(self.view.status) is not None:
            asked_from = oldest_drawn(self.view.status)
            self.view = look_at_desk(self.database, self.desk, self.curve.seen, asked_from)
        if self.view.status is not None:
            self.curve.add(self.view, self.view.status, asked_from)

    def _document(self, now: datetime) -> Document:
        view = self.view
        at, equity = self.curve.points
        return {
            "now": plain(now),
            "desk": self.desk,
            "store": {"reachable": self.trouble is None, "message": self.trouble, "title": self._title},
            "condition": _condition(self.desk, view, now, self.trouble is not None),
            "session": None if view.status is None else _session(view.status),
            "equity": {"at": list(at), "equity": list(equity)},
            "positions": _positions(view),
            "feed": [plain(one) for one in happenings(view)],
        }


def _stamp(database: Database) -> tuple[tuple[int, int], ...]:
    """When the ledger's file and its write-ahead log changed last, and their sizes."""
    found = []
    for path in (database.path, database.path.with_name(database.path.name + ".wal")):
        try:
            stat = path.stat()
        except OSError:
            continue
        found.append((stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def _trouble(error: CandlewickError) -> str:
    if isinstance(error, LedgerBusy):
        return "Another program holds it; this page asks again until it lets go, and shows what it knew last."
    return str(error)


def _condition(desk: str, view: DeskView, now: datetime, is_waiting: bool) -> dict[str, Json]:
    """``word``: the session's state, or none, waiting, silent, crashed, ended; ``text``: what to do, commands in backticks."""
    if view.session is None:
        if is_waiting:
            return _words("waiting", None, None)
        others = [name for name in view.desks if name != desk]
        known = f" Other desks had some: {', '.join(others)}; watch one with the setting monitoring.account." if others else ""
        text = f"No session of desk {desk} has run yet.{known} This page shows the first one as soon as it starts."
        return _words("none", "Nothing to watch yet", f"{text} Start it with `{start_command(desk)}`.")
    heartbeat_s = _HEARTBEAT_S if view.status is None else view.status.heartbeat_s
    found: Liveness = liveness(view.session, heartbeat_s, look_at_process(view.session, now), now)
    if found.verdict != "alive":
        return _words(found.verdict, _TITLES[found.verdict], _sentence(found))
    starting = None
    if not view.session.document:
        starting = "Its first heartbeat has not come yet." + (
            " Shown is what the one before it said last." if view.status else ""
        )
    return {**_words(view.session.state.lower(), "A session starts", starting), "is_alive": True}


def _words(word: str, title: str | None, text: str | None) -> dict[str, Json]:
    return {"word": word, "title": title, "text": text, "is_alive": False}


def _sentence(found: Liveness) -> str:
    """What to do, without the word that the title says already."""
    told = found.sentence.removeprefix(f"{found.verdict}: ")
    return told[:1].upper() + told[1:]


def _session(status: SessionStatus) -> dict[str, Json]:
    """The status with what the page would have to compute; of a symbol's stages only what is wrong with them."""
    told = plain(status)
    assert isinstance(told, dict)
    own: dict[str, Json] = {
        "timeframe_ms": timeframe_ms(status.timeframe),
        "healthy_symbols": status.healthy_symbols,
        "is_healthy": status.is_healthy,
        "symbols": [_symbol(one) for one in status.symbols],
    }
    return {**told, **own}


def _symbol(one: SymbolStatus) -> Json:
    told = plain(one.model_copy(update={"stages": ()}))
    assert isinstance(told, dict)
    ill = [stage for stage in one.stages if stage.state in ("ERROR", "RECOVERING")]
    trouble = ", ".join(f"{stage.stage} {stage.state.lower()}{f': {stage.error}' if stage.error else ''}" for stage in ill)
    return {**told, "trouble": trouble or None}


def _positions(view: DeskView) -> list[Json]:
    """Open positions by symbol, the result at the last price, before the exit's costs."""
    found: list[Json] = []
    for row in (
        view.positions.filter(pl.col("quantity") != 0).sort("symbol").iter_rows(named=True) if view.positions.width else ()
    ):
        sign = -1 if row["side"] == "short" else 1
        unrealized: Decimal = (row["last_price"] - row["entry_price"]) * row["quantity"] * sign
        names = ("account", "symbol", "side", "quantity", "entry_price", "last_price", "stop_loss", "take_profit_1", "opened_at")
        told = {name: _cell(row[name]) for name in names}
        found.append({**told, "unrealized_pnl": format(unrealized.quantize(Decimal("1e-8")), "f")})
    return found


def _cell(value: str | Decimal | datetime | None) -> Json:
    return format(value.normalize(), "f") if isinstance(value, Decimal) else plain(value)
