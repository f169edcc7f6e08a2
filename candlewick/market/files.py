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
    instruments:
      BTC/USDT: {price_tick: 0.01, quantity_step: 0.00001, min_quantity: 0.00001, min_notional: 5, taker_fee_bps: 10}

Where several files answer one request, those the mapping lists outrank the others; if several are left, the request is
refused with their names. Rules the mapping does not give: the tick is the finest decimal of the symbol's prices (1e-8 at
the finest), the step 1e-8, no minimum, fees 10 bps.
"""

import asyncio
import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

import polars as pl
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from candlewick.candles import CandlePage, FormingBar, MarketClock, Series
from candlewick.errors import AmbiguousCandles, InvalidCandles, SettingsError, UnknownSymbol, UsageError
from candlewick.instruments import Instrument
from candlewick.market.candle_files import SUFFIXES, ReadingPlan, TimeUnit, price_decimals, read_candle_file
from candlewick.timeframes import floor_to_bar, timeframe_ms

MAPPING_NAME = "candlewick-files.yaml"

Column = Literal["opened_at", "open", "high", "low", "close", "volume", "quote_volume"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Entry):
    """One file of the mapping."""

    file: str
    exchange: str | None = None
    symbol: str | None = None
    timeframe: str | None = None
    columns: dict[Column, str] = {}
    time_unit: TimeUnit | None = None
    time_format: str | None = None
    skip_rows: int = Field(default=0, ge=0)


class InstrumentEntry(_Entry):
    """The rules of one symbol in the mapping; None is the default."""

    price_tick: Decimal | None = Field(default=None, gt=0)
    quantity_step: Decimal = Field(default=Decimal("1e-8"), gt=0)
    min_quantity: Decimal = Field(default=Decimal(0), ge=0)
    min_notional: Decimal = Field(default=Decimal(0), ge=0)
    maker_fee_bps: Decimal = Decimal(10)
    taker_fee_bps: Decimal = Decimal(10)


class FilesMapping(_Entry):
    """The mapping file."""

    files: tuple[FileEntry, ...] = ()
    instruments: dict[str, InstrumentEntry] = {}


@dataclass(frozen=True, slots=True)
class _CandleFile:
    """One file and what it answers. ``exchange`` is empty where nothing says it; ``mapped``: the mapping lists it."""

    path: Path
    exchange: str
    symbol: str
    timeframe: str
    plan: ReadingPlan
    mapped: bool


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
        self._mapping = _read_mapping(mapping or self._directory / MAPPING_NAME, required=mapping is not None)
        self._files = _find_files(self._directory, self._mapping)
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
        file = self._file(symbol, timeframe)
        stat = file.path.stat()
        plan = hashlib.sha256(repr(file.plan).encode()).hexdigest()[:8]
        return f"{file.path.name} {stat.st_size} {stat.st_mtime_ns} {plan}"

    async def fetch(self, symbol: str, timeframe: str, since_ms: int, now_ms: int) -> CandlePage:
        """Closed rows in the file's order, and the open of the bar that ``now_ms`` is in.

        Raises UnknownSymbol, AmbiguousCandles, InvalidCandles where the file is not readable as candles, MarketUnavailable.
        """
        return await asyncio.to_thread(self._page, symbol, timeframe, since_ms, now_ms)

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

    def _file(self, symbol: str, timeframe: str) -> _CandleFile:
        fits = [file for file in self._answering(symbol) if timeframe_ms(file.timeframe) == timeframe_ms(timeframe)]
        fits = [file for file in fits if file.mapped] or fits
        if not fits:
            have = sorted({file.timeframe for file in self._answering(symbol)}, key=timeframe_ms)
            raise UnknownSymbol(f"{self.name} has {symbol} in {', '.join(have)}, not in {timeframe}")
        if len(fits) > 1:
            names = ", ".join(file.path.name for file in fits)
            exchanges = sorted({file.exchange for file in fits if file.exchange})
            hint = f"choose with #{' or #'.join(exchanges)}" if len(exchanges) > 1 else f"choose with {MAPPING_NAME}"
            raise AmbiguousCandles(f"{symbol} {timeframe} is answered by {len(fits)} files of {self.name}: {names}; {hint}")
        return fits[0]

    def _answering(self, symbol: str) -> list[_CandleFile]:
        """The files of the symbol, in every timeframe. Raises UnknownSymbol."""
        base, _, quote = symbol.partition("/")
        if not base or not quote:
            raise UnknownSymbol(f"symbol {symbol!r} is not understood: write BASE/QUOTE, such as BTC/USDT")
        mine = [file for file in self._files if self._exchange is None or file.exchange.lower() == self._exchange.lower()]
        fits = [file for file in mine if _key(file.symbol) == _key(symbol)]
        if not fits:
            there = sorted({f"{file.symbol} ({file.exchange or 'no exchange'})" for file in mine or self._files})
            raise UnknownSymbol(
                f"{self.name} has no {symbol}; there is {', '.join(there) or 'no candle file'}; other names need {MAPPING_NAME}"
            )
        return fits

    def _instrument(self, symbol: str) -> Instrument:
        files = self._answering(symbol)
        given = {_key(name): entry for name, entry in self._mapping.instruments.items()}.get(_key(symbol), InstrumentEntry())
        tick = given.price_tick
        if tick is None:
            tick = Decimal(1).scaleb(-max(price_decimals(file.path, symbol, file.plan) for file in files))
        base, _, quote = symbol.partition("/")
        return Instrument(
            symbol=symbol,
            base=base,
            quote=quote.partition(":")[0],
            price_tick=tick,
            quantity_step=given.quantity_step,
            min_quantity=given.min_quantity,
            min_notional=given.min_notional,
            maker_fee_bps=given.maker_fee_bps,
            taker_fee_bps=given.taker_fee_bps,
        )


def _key(symbol: str) -> str:
    return re.sub(r"[/_:\s-]", "", symbol).upper()


def _read_mapping(path: Path, required: bool) -> FilesMapping:
    if not required and not path.exists():
        return FilesMapping()
    try:
        return FilesMapping.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except OSError as error:
        raise SettingsError(f"mapping {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"mapping {path} is not YAML: {str(error).splitlines()[0]}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"mapping {path}: {where}: {first['msg']} (it is {first['input']!r})") from error


def _find_files(directory: Path, mapping: FilesMapping) -> tuple[_CandleFile, ...]:
    """The mapping's files, then those whose name says what they are. Other files are not candles and left alone."""
    listed = [_mapped_file(directory, entry) for entry in mapping.files]
    paths = {file.path for file in listed}
    others = [path for path in sorted(directory.iterdir()) if path not in paths and path.name.endswith(SUFFIXES)]
    named = [(path, _parts_of(path)) for path in others]
    return (*listed, *(_CandleFile(path, *parts, plan=ReadingPlan(), mapped=False) for path, parts in named if parts is not None))


def _parts_of(path: Path) -> tuple[str, str, str] | None:
    """Exchange, symbol and timeframe out of a file's name; None where it does not say."""
    words = path.name.removesuffix(next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), "")).split("_")
    places = [place for place in range(2, len(words)) if re.fullmatch(r"[1-9]\d*[mhdw]", words[place])]
    return (words[0], "_".join(words[1 : places[0]]), words[places[0]]) if places else None


def _mapped_file(directory: Path, entry: FileEntry) -> _CandleFile:
    path = directory / entry.file
    if not path.is_file() or not path.name.endswith(SUFFIXES):
        raise SettingsError(f"mapping: {entry.file!r} is not a file of {directory} that ends in one of {', '.join(SUFFIXES)}")
    exchange, symbol, timeframe = _parts_of(path) or ("", "", "")
    symbol, timeframe = entry.symbol or symbol, entry.timeframe or timeframe
    if not symbol or not timeframe:
        raise SettingsError(f"mapping: the name {entry.file!r} does not say symbol and timeframe: set `symbol` and `timeframe`")
    timeframe_ms(timeframe)
    plan = ReadingPlan(
        {str(name): column for name, column in entry.columns.items()}, entry.time_unit, entry.time_format, entry.skip_rows
    )
    return _CandleFile(path, entry.exchange or exchange, symbol, timeframe, plan, mapped=True)
