"""`files:DIR` and `files:DIR#EXCHANGE`: the user's own candle files, replayed by the clock.

A file's name says what it is: `binance_BTCUSDT_1h.parquet`, `kraken_BTC-USD_4h_2019.csv.gz` (exchange, symbol, timeframe, and
whatever else after another `_`). `BTC/USDT` is also found as `BTCUSDT`, `BTC-USDT` or `btc_usdt`. Suffixes are .parquet,
.feather, .arrow, .ipc, .csv, .csv.gz; how a file's columns and times are recognised is said in candle_files.py.
A row counts as closed once the clock has passed its bar's end.

For other names and columns there is a mapping, `candlewick-files.yaml` in the folder (every key but `file` is optional):

    files:
      - file: my-export.csv
        exchange: binance
        symbol: BTC/USDT
        timeframe: 1h
        columns: {opened_at: unix, volume: Volume BTC}
        time_unit: s                        # s, ms, us or ns
        time_format: "%Y-%m-%d %I-%p"       # for times in a text that is not ISO 8601
        skip_rows: 1                        # lines above a CSV's header
      - file: ../funding/sol.csv
        content: funding                    # candles, where neither this nor the name says otherwise
        symbol: SOL/USDT:USDT
        columns: {opened_at: paid, rate: share}
    instruments:
      BTC/USDT: {price_tick: 0.01, quantity_step: 0.00001, min_quantity: 0.00001, min_notional: 5, taker_fee_bps: 10}
      SOL/USDT:USDT: {max_leverage: 20, maintenance_margin_share: 0.01, funding_interval_h: 8}
      GOOG/USD: {kind: margin, max_leverage: 2}

`SOL/USDT:USDT` is the perpetual of SOL/USDT. Files of an exchange that trades perpetuals alone (`binanceusdm_SOLUSDT_5m.parquet`)
answer it and never SOL/USDT; so do files whose name or mapping says the whole symbol. `kind: spot`, `margin` or `perpetual` under
`instruments` decides for a symbol written without `:`. Funding rates are in `binanceusdm_SOLUSDT_funding_8h.parquet` or
freqtrade's `SOL_USDT_USDT-8h-funding_rate.feather` (funding_files.py).

Where several files answer one request, those the mapping lists outrank the others; if several are left, the request is
refused with their names. Rules the mapping does not give: the tick is the finest decimal of the symbol's prices (1e-8 at
the finest), the step 1e-8, no minimum, fees 10 bps; of perpetuals leverage up to 20, maintenance margin 1 %, funding every 8 h.
"""

import asyncio
import hashlib
from decimal import Decimal
from pathlib import Path

import polars as pl

from candlewick.candles import CandlePage, FormingBar, MarketClock, Series
from candlewick.errors import AmbiguousCandles, InvalidCandles, UnknownSymbol, UsageError
from candlewick.funding import normalise_funding, within
from candlewick.instruments import Instrument
from candlewick.market.candle_files import price_decimals, read_candle_file
from candlewick.market.declared import declared_entry, declared_instrument, declared_kind
from candlewick.market.file_names import CONTRACT_EXCHANGES, PERPETUAL_EXCHANGES, MarketFile, find_files, symbol_key
from candlewick.market.files_mapping import MAPPING_NAME, FilesMapping, read_mapping
from candlewick.market.funding_files import read_funding_file
from candlewick.market.perpetual_terms import refuse_other_contracts, split_symbol
from candlewick.timeframes import floor_to_bar, timeframe_ms

__all__ = ["MAPPING_NAME", "FilesMapping", "FilesMarket"]


class FilesMarket:
    """Candles from the files of one folder. ``now_ms`` is its clock, given by the edge; ``mapping`` is a file like
    `candlewick-files.yaml` that lies elsewhere.

    Raises UsageError for a folder that is not there, SettingsError for a mapping that cannot be used.
    """

    def __init__(self, directory: str, exchange: str | None, now_ms: int, mapping: Path | None = None) -> None:
        self.name = f"files:{directory}" + (f"#{exchange}" if exchange else "")
        self._now_ms = now_ms
        self._directory = Path(directory).expanduser()
        if not self._directory.is_dir():
            raise UsageError(f"{self.name}: {directory!r} is not a folder")
        self._exchange = exchange
        self._mapping = read_mapping(mapping or self._directory / MAPPING_NAME, required=mapping is not None)
        self._files = find_files(self._directory, self._mapping)
        self._frames: dict[Path, pl.DataFrame] = {}

    @staticmethod
    def from_name(name: str, now_ms: int, mapping: Path | None = None) -> "FilesMarket":
        """From what the user wrote: `files:DIR` or `files:DIR#EXCHANGE`. Raises UsageError, SettingsError."""
        directory, exchange = name.removeprefix("files:"), None
        if "#" in directory and not Path(directory).expanduser().is_dir():
            directory, _, exchange = directory.rpartition("#")
        if not name.startswith("files:") or not directory or exchange == "":
            raise UsageError(f"market {name!r} is not understood: use files:DIR or files:DIR#EXCHANGE")
        return FilesMarket(directory, exchange, now_ms, mapping)

    async def clock(self) -> MarketClock:
        """The time it was given; there is only one clock."""
        return MarketClock(self._now_ms)

    async def instruments(self, symbols: tuple[str, ...]) -> dict[str, Instrument]:
        """Trading rules by symbol. Raises UnknownSymbol; InvalidCandles where a tick has to come from a broken file."""
        return {symbol: await asyncio.to_thread(self._instrument, symbol) for symbol in symbols}

    def series(self, symbol: str, timeframe: str) -> Series:
        """The lake's key: `files-` and 8 hex digits of the folder's real path and the exchange."""
        origin = f"{self._directory.resolve()}#{(self._exchange or '').lower()}"
        return Series(f"files-{hashlib.sha256(origin.encode()).hexdigest()[:8]}", symbol, timeframe)

    def fingerprint(self, symbol: str, timeframe: str) -> str:
        """Which file answers, its size, change time and reading plan: another text means the candles may have changed.

        Raises UnknownSymbol, AmbiguousCandles.
        """
        return _fingerprint(self._file(symbol, timeframe))

    def funding_fingerprint(self, symbol: str) -> str:
        """The same of the file that has the symbol's funding. Raises UnknownSymbol, UsageError, AmbiguousCandles."""
        return _fingerprint(self._funding_file(symbol))

    async def fetch(self, symbol: str, timeframe: str, since_ms: int, now_ms: int) -> CandlePage:
        """Closed rows in the file's order, and the open of the bar that ``now_ms`` is in.

        Raises UnknownSymbol, AmbiguousCandles, InvalidCandles where the file is not readable as candles, MarketUnavailable.
        """
        return await asyncio.to_thread(self._page, symbol, timeframe, since_ms, now_ms)

    async def funding(self, symbol: str, since_ms: int, until_ms: int) -> pl.DataFrame:
        """Payments with ``since_ms <= funding_at < until_ms`` in FUNDING_SCHEMA.

        Raises UnknownSymbol where there is no file of it, UsageError for a symbol without funding, AmbiguousCandles,
        InvalidFunding, InvalidCandles where the file is not readable, MarketUnavailable.
        """
        file = self._funding_file(symbol)
        raw = await asyncio.to_thread(read_funding_file, file.path, file.plan)
        return within(normalise_funding(raw, f"{file.path.name}"), since_ms, until_ms)

    async def spreads_bps(self, symbols: tuple[str, ...]) -> dict[str, Decimal]:
        """None is known: files hold candles."""
        return {}

    async def close(self) -> None:
        """Forget what was read."""
        self._frames.clear()

    def _page(self, symbol: str, timeframe: str, since_ms: int, now_ms: int) -> CandlePage:
        length_ms = timeframe_ms(timeframe)
        file = self._file(symbol, timeframe)
        if file.path not in self._frames:
            self._frames[file.path] = read_candle_file(file.path, symbol, file.plan)
        rows = self._frames[file.path]
        time = pl.col("opened_at").dt.epoch("ms")
        closed = rows.filter(time.is_between(since_ms, now_ms - length_ms))
        opened_ms = floor_to_bar(now_ms, timeframe)
        opens = rows.filter(time == opened_ms)["open"].unique() if now_ms > opened_ms else rows["open"].head(0)
        if opens.len() > 1:
            raise InvalidCandles(f"{file.path.name}: the bar that forms now is there twice, with opens {opens.sort().to_list()}")
        price = opens[0] if opens.len() else None
        return CandlePage(closed, None if price is None or not price > 0 else FormingBar(opened_ms, price))

    def _file(self, symbol: str, timeframe: str) -> MarketFile:
        answering = self._answering(symbol)
        fits = [file for file in answering if timeframe_ms(file.timeframe) == timeframe_ms(timeframe)]
        if not fits:
            have = sorted({file.timeframe for file in answering}, key=timeframe_ms)
            raise UnknownSymbol(f"{self.name} has {symbol} in {', '.join(have)}, not in {timeframe}")
        return self._only(fits, f"{symbol} {timeframe}")

    def _funding_file(self, symbol: str) -> MarketFile:
        """The file with the symbol's funding, of an exchange that its candles are of."""
        if declared_kind(self._mapping, symbol) != "perpetual":
            raise UsageError(f"{self.name}: {symbol} is no perpetual and has no funding; a perpetual is written {symbol}:QUOTE")
        exchanges = {file.exchange.lower() for file in self._answering(symbol)}
        mine = [file for file in self._files_of("funding") if file.mapped or file.exchange.lower() in {*exchanges, ""}]
        base, quote, _ = split_symbol(symbol)
        fits = [file for file in mine if symbol_key(file.symbol) in (symbol_key(symbol), symbol_key(base + quote))]
        if not fits:
            raise UnknownSymbol(
                f"{self.name} has no funding of {symbol}, and an unknown rate is not a rate of zero: put it beside the candles "
                f"as EXCHANGE_{symbol_key(base + quote)}_funding_8h.parquet, or name its file in {MAPPING_NAME}"
            )
        return self._only(fits, f"the funding of {symbol}")

    def _only(self, files: list[MarketFile], request: str) -> MarketFile:
        """What the mapping lists outranks what is recognised by name. Raises AmbiguousCandles."""
        fits = [file for file in files if file.mapped] or files
        if len(fits) > 1:
            names = ", ".join(file.path.name for file in fits)
            exchanges = sorted({file.exchange for file in fits if file.exchange})
            hint = f"choose with #{' or #'.join(exchanges)}" if len(exchanges) > 1 else f"choose with {MAPPING_NAME}"
            raise AmbiguousCandles(f"{request} is answered by {len(fits)} files of {self.name}: {names}; {hint}")
        return fits[0]

    def _files_of(self, content: str) -> list[MarketFile]:
        wanted = None if self._exchange is None else self._exchange.lower()
        return [file for file in self._files if file.content == content and wanted in (None, file.exchange.lower())]

    def _answering(self, symbol: str) -> list[MarketFile]:
        """The candle files of the symbol, in every timeframe. Raises UnknownSymbol, UsageError."""
        base, quote, settle = split_symbol(symbol)
        if not base or not quote:
            raise UnknownSymbol(f"symbol {symbol!r} is not understood: write BASE/QUOTE, such as BTC/USDT")
        refuse_other_contracts(symbol)
        mine = self._files_of("candles")
        whole = [file for file in mine if symbol_key(file.symbol) == symbol_key(symbol)]
        if settle is not None:
            pair = [file for file in mine if symbol_key(file.symbol) == symbol_key(base + quote)]
            fits = [*whole, *(file for file in pair if file.exchange.lower() in PERPETUAL_EXCHANGES)]
        elif declared_entry(self._mapping, symbol).kind is not None:
            fits = whole
        else:
            fits = [file for file in whole if file.exchange.lower() not in PERPETUAL_EXCHANGES | CONTRACT_EXCHANGES]
            if whole and not fits:
                self._refuse_undeclared(symbol, whole)
        if not fits:
            there = sorted({f"{file.symbol} ({file.exchange or 'no exchange'})" for file in mine or self._files})
            raise UnknownSymbol(
                f"{self.name} has no {symbol}; there is {', '.join(there) or 'no candle file'}; other names need {MAPPING_NAME}"
            )
        return fits

    def _refuse_undeclared(self, symbol: str, files: list[MarketFile]) -> None:
        names = ", ".join(file.path.name for file in files)
        perpetual = all(file.exchange.lower() in PERPETUAL_EXCHANGES for file in files)
        quote = split_symbol(symbol)[1]
        choice = f"ask for {symbol}:{quote}, or " if perpetual else ""
        raise UnknownSymbol(
            f"{self.name} has {symbol} in {names} alone, and {files[0].exchange} trades contracts: {choice}say what it is in "
            f"{MAPPING_NAME} (instruments: {{{symbol}: {{kind: perpetual}}}})"
        )

    def _instrument(self, symbol: str) -> Instrument:
        files = self._answering(symbol)
        given, kind = declared_entry(self._mapping, symbol), declared_kind(self._mapping, symbol)
        tick = given.price_tick
        if tick is None:
            tick = Decimal(1).scaleb(-max(price_decimals(file.path, symbol, file.plan) for file in files))
        return declared_instrument(symbol, kind, given, tick)


def _fingerprint(file: MarketFile) -> str:
    stat = file.path.stat()
    plan = hashlib.sha256(repr(file.plan).encode()).hexdigest()[:8]
    return f"{file.path.name} {stat.st_size} {stat.st_mtime_ns} {plan}"
