"""What a user asks of `import`, read and checked before a file is opened; and what became of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from candlewick.errors import UsageError
from candlewick.json_text import Json, plain
from candlewick.market_data.importing_report import ImportReport
from candlewick.market_data.importing_schema import RESOLVES, ImportRequest, read_import_schema
from candlewick.market_data.kinds import KINDS, TIMED_KINDS
from candlewick.timeframes import timeframe_ms

IMPORTED_KINDS = ("ohlcv", "trades", "funding_rate")
_MARKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SYMBOL = re.compile(r"[^/\s]+/[^/\s]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """Options as given; None where not given."""

    files: Sequence[str]
    market: str
    symbol: str
    timeframe: str | None = None
    kind: str = "ohlcv"
    schema: str | None = None
    source: str | None = None
    resolve: str | None = None
    drop_broken: bool = False
    candles: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class AskedImport:
    """Files to import, how, and which candles to make of trades."""

    paths: tuple[Path, ...]
    request: ImportRequest
    candles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file that was not imported, and why."""

    file: str
    error: str


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of all files. ``run_id`` is the run in the table `data_runs`; None: nothing was written."""

    run_id: str | None
    reports: tuple[ImportReport, ...]
    refused: tuple[RefusedFile, ...]

    def to_document(self) -> dict[str, Json]:
        """JSON-ready."""
        reports = [plain(report) for report in self.reports]
        return {"run_id": self.run_id, "files": reports, "refused": [plain(one) for one in self.refused]}


def read_asked(options: ImportOptions, now_ms: int) -> AskedImport:
    """Raises UsageError for what makes no sense, SettingsError for the schema."""
    kind = next((kind for kind in KINDS if kind == options.kind), None)
    if kind is None or kind not in IMPORTED_KINDS:
        raise UsageError(f"--kind {options.kind!r} cannot be imported: use {', '.join(IMPORTED_KINDS)}")
    if not options.files:
        raise UsageError("no file is given: name one or several")
    if not _MARKET.fullmatch(options.market) or options.market == "sample":
        raise UsageError(f"--market {options.market!r} cannot be a market's name in the lake: use letters, digits, _ and -")
    if not _SYMBOL.fullmatch(options.symbol):
        raise UsageError(f"--symbol {options.symbol!r} is not understood: write BASE/QUOTE, such as BTC/USDT")
    if kind in TIMED_KINDS and options.timeframe is None:
        raise UsageError("--timeframe is missing: say how long a candle is, such as 1h")
    if kind not in TIMED_KINDS and options.timeframe is not None:
        raise UsageError(f"--timeframe {options.timeframe} has no meaning for {kind}")
    if options.candles and kind != "trades":
        raise UsageError("--candles are made of trades: add --kind trades")
    for timeframe in (*options.candles, *([options.timeframe] if options.timeframe else [])):
        timeframe_ms(timeframe)
    resolve = next((one for one in RESOLVES if one == options.resolve), None)
    if options.resolve is not None and resolve is None:
        raise UsageError(f"--resolve {options.resolve!r} is not known: use {', '.join(RESOLVES)}")
    if options.source is not None and not options.source.strip():
        raise UsageError("--source is empty")
    request = ImportRequest(
        market=options.market,
        symbol=options.symbol,
        kind=kind,
        timeframe=options.timeframe or "",
        now_ms=now_ms,
        schema=read_import_schema(Path(options.schema) if options.schema else None),
        source=options.source,
        resolve=resolve,
        drop_broken=options.drop_broken,
    )
    return AskedImport(tuple(map(Path, options.files)), request, tuple(options.candles))
