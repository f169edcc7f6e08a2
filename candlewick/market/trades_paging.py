"""Walking through a market's pages of trades. Pure: it is given each page and says what to ask next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from candlewick.errors import MarketUnavailable
from candlewick.market_data.schemas import TRADES_SCHEMA, empty_trades
from candlewick.timeframes import format_utc

_told_at = pl.col("traded_at").dt.epoch("ms")
_NUMBER = pl.col("trade_id").cast(pl.Int64)


def parse_trades(raw: object) -> pl.DataFrame:
    """One answer of ccxt's trade structures, in TRADES_SCHEMA.

    Raises MarketUnavailable where the answer is not a list of trades with time, id, price and amount.
    """
    if not isinstance(raw, Sequence) or isinstance(raw, str | bytes):
        raise MarketUnavailable(f"answered with {type(raw).__name__} where a list of trades was expected")
    names = ("timestamp", "id", "price", "amount", "side")
    for row in raw:
        if not isinstance(row, Mapping) or any(row.get(name) is None for name in names[:4]):
            raise MarketUnavailable(f"answered with a row that is no trade: {str(row)[:80]}")
    columns = {column: [row.get(name) for row in raw] for column, name in zip(TRADES_SCHEMA, names, strict=True)}
    try:
        return pl.DataFrame(columns, schema_overrides={"trade_id": pl.String(), "side": pl.String()}).cast(
            pl.Schema(TRADES_SCHEMA)
        )
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise MarketUnavailable(f"answered with trades that are none ({type(error).__name__})") from None


@dataclass(slots=True)
class TradeWalk:
    """The state of one walk over the trades with ``since_ms <= traded_at < until_ms``, in answers of at most ``page_limit``.

    Ask for trades from ``from_id`` on or, where that is None, from ``cursor_ms`` on (within ``window_ms``, if any), hand the
    answer to ``take``, until ``done``. With ``has_ids`` the exchange numbers its trades and gives them from a number on; without,
    they are asked for by their time, and what comes twice is dropped. An empty answer is believed when it comes twice; any other
    ``take`` moves on, ends the walk or raises.
    """

    since_ms: int
    until_ms: int
    page_limit: int
    has_ids: bool
    window_ms: int | None = None
    cursor_ms: int = field(init=False)
    from_id: int | None = field(init=False, default=None)
    done: bool = field(init=False)
    _pages: list[pl.DataFrame] = field(init=False, default_factory=list)
    _was_empty: bool = field(init=False, default=False)
    _seen_at_cursor: frozenset[str] = field(init=False, default=frozenset())

    def __post_init__(self) -> None:
        self.cursor_ms = self.since_ms
        self.done = self.since_ms >= self.until_ms

    @property
    def ask_until_ms(self) -> int | None:
        """Time of the last trade to ask for, both ends inclusive; None where the exchange is asked without an end."""
        return None if self.window_ms is None or self.from_id is not None else self.cursor_ms + self.window_ms - 1

    def take(self, answer: pl.DataFrame) -> None:
        """Take one answer in TRADES_SCHEMA. Raises MarketUnavailable where it repeats old trades or cannot be walked on."""
        if answer.is_empty():
            self._take_nothing()
            return
        self._was_empty = False
        if self.has_ids:
            self._take_numbered(answer)
        else:
            self._take_timed(answer)

    def trades(self) -> pl.DataFrame:
        """What was walked over, in TRADES_SCHEMA, each trade once, by time and then by id."""
        told = pl.concat([empty_trades(), *self._pages]).unique("trade_id", keep="first", maintain_order=True)
        return told.sort("traded_at", pl.col("trade_id").str.len_chars(), "trade_id")

    def _take_nothing(self) -> None:
        if not self._was_empty:
            self._was_empty = True
        elif self.from_id is not None or self.window_ms is None:
            self.done = True
        else:
            self._was_empty = False
            self.cursor_ms += self.window_ms
            self.done = self.cursor_ms >= self.until_ms

    def _take_numbered(self, answer: pl.DataFrame) -> None:
        try:
            numbers = answer.select(_NUMBER)["trade_id"]
        except pl.exceptions.PolarsError:
            raise MarketUnavailable(f"was asked for numbered trades and told one called {answer['trade_id'][0]!r}") from None
        first = 0 if self.from_id is None else self.from_id
        fresh = answer.filter(numbers >= first).filter(_told_at >= self.since_ms)
        if fresh.is_empty():
            self._refuse_repeat(answer)
        self._keep(fresh)
        self.from_id = int(numbers.max()) + 1  # type: ignore[arg-type]

    def _take_timed(self, answer: pl.DataFrame) -> None:
        fresh = answer.filter((_told_at >= self.cursor_ms) & ~pl.col("trade_id").is_in(self._seen_at_cursor))
        if fresh.is_empty():
            if answer.height >= self.page_limit:
                self._refuse_repeat(answer)
            self.done = True
            return
        self._keep(fresh)
        last = fresh.filter(_told_at == _told_at.max())
        last_ms = int(last.select(_told_at).item(0, 0))
        seen = self._seen_at_cursor if last_ms == self.cursor_ms else frozenset[str]()
        self.cursor_ms, self._seen_at_cursor = last_ms, seen | frozenset(last["trade_id"].to_list())

    def _keep(self, fresh: pl.DataFrame) -> None:
        within = fresh.filter(_told_at < self.until_ms)
        self._pages.append(within)
        self.done = within.height < fresh.height

    def _refuse_repeat(self, answer: pl.DataFrame) -> None:
        what = f"number {self.from_id}" if self.from_id is not None else f"{format_utc(self.cursor_ms)} UTC"
        raise MarketUnavailable(f"was asked for trades from {what} on and repeated {answer.height} old ones")
