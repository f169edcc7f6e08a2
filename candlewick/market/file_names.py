"""What a folder's files are: by their names, or by what the mapping says of them."""

import re
from dataclasses import dataclass
from pathlib import Path

from candlewick.errors import SettingsError
from candlewick.market.candle_files import SUFFIXES, ReadingPlan
from candlewick.market.files_mapping import Content, FileEntry, FilesMapping
from candlewick.timeframes import timeframe_ms

# Exchanges, as ccxt names them, whose contracts are linear perpetuals where the symbol says no more; and exchanges that trade
# contracts alone, of more than one kind.
PERPETUAL_EXCHANGES = frozenset({"binanceusdm"})
CONTRACT_EXCHANGES = frozenset({"binancecoinm", "bitmex", "dydx", "krakenfutures", "kucoinfutures"})

_TIMEFRAME = re.compile(r"[1-9]\d*[mhdw]")
_FREQTRADE_FUNDING = re.compile(r"(?:(.+?)_)?([A-Za-z0-9]+_[A-Za-z0-9]+_[A-Za-z0-9]+)-([1-9]\d*[mh])-funding_rate")


@dataclass(frozen=True, slots=True)
class MarketFile:
    """One file and what it answers. ``exchange`` is empty where nothing says it; ``mapped``: the mapping lists it."""

    path: Path
    content: Content
    exchange: str
    symbol: str
    timeframe: str
    plan: ReadingPlan
    mapped: bool


def find_files(directory: Path, mapping: FilesMapping) -> tuple[MarketFile, ...]:
    """The mapping's files, then those whose name says what they are. Other files are neither and left alone.

    Raises SettingsError for a listed file that is not there or not described.
    """
    listed = [_mapped_file(directory, entry) for entry in mapping.files]
    paths = {file.path for file in listed}
    others = [path for path in sorted(directory.iterdir()) if path not in paths and path.name.endswith(SUFFIXES)]
    named = [(path, _parts_of(path)) for path in others]
    return (*listed, *(MarketFile(path, *parts, plan=ReadingPlan(), mapped=False) for path, parts in named if parts is not None))


def symbol_key(symbol: str) -> str:
    """What two ways to write one symbol have in common.

    >>> symbol_key("BTC/USDT:USDT"), symbol_key("btc_usdt_usdt")
    ('BTCUSDTUSDT', 'BTCUSDTUSDT')
    """
    return re.sub(r"[/_:\s-]", "", symbol).upper()


def _parts_of(path: Path) -> tuple[Content, str, str, str] | None:
    """Content, exchange, symbol and timeframe out of a file's name; None where it does not say."""
    stem = path.name.removesuffix(next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), ""))
    freqtrade = _FREQTRADE_FUNDING.fullmatch(stem)
    if freqtrade:
        return "funding", (freqtrade.group(1) or "").partition("_")[0], freqtrade.group(2), freqtrade.group(3)
    words = stem.split("_")
    if "funding" in words[2:]:
        place = words.index("funding", 2)
        stated = next((word for word in words[place:] if _TIMEFRAME.fullmatch(word)), "")
        return "funding", words[0], "_".join(words[1:place]), stated
    places = [place for place in range(2, len(words)) if _TIMEFRAME.fullmatch(words[place])]
    return ("candles", words[0], "_".join(words[1 : places[0]]), words[places[0]]) if places else None


def _mapped_file(directory: Path, entry: FileEntry) -> MarketFile:
    path = directory / entry.file
    if not path.is_file() or not path.name.endswith(SUFFIXES):
        raise SettingsError(f"mapping: {entry.file!r} is not a file of {directory} that ends in one of {', '.join(SUFFIXES)}")
    said: Content = "candles"
    content, exchange, symbol, timeframe = _parts_of(path) or (said, "", "", "")
    content = entry.content or content
    symbol, timeframe = entry.symbol or symbol, entry.timeframe or timeframe
    if not symbol or not (timeframe or content == "funding"):
        raise SettingsError(f"mapping: the name {entry.file!r} does not say symbol and timeframe: set `symbol` and `timeframe`")
    if timeframe:
        timeframe_ms(timeframe)
    plan = ReadingPlan(
        {str(name): column for name, column in entry.columns.items()}, entry.time_unit, entry.time_format, entry.skip_rows
    )
    return MarketFile(path, content, entry.exchange or exchange, symbol, timeframe, plan, mapped=True)
