"""Parameter sets over one window of candles, in this process or, by reference to files, in others."""

import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import polars as pl

from candlewick.backtesting.set_files import computed_row, digest_of, set_frame, skipped_row
from candlewick.backtesting.simulation import Frames, lay_out_span
from candlewick.backtesting.sweep import Sweeper
from candlewick.code_version import code_version
from candlewick.engine.bars import Beside
from candlewick.engine.terms import Terms
from candlewick.files import naming_what_failed
from candlewick.grids import GridSet, SkippedSet
from candlewick.json_text import plain
from candlewick.strategies.catalog import strategy_class, strategy_code_version
from candlewick.strategies.contract import Strategy

_KINDS = ("candles", "funding", "detail")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchWindow:
    """Everything that decides a set's figures besides its parameters.

    ``candles`` by symbol in the account's order, from the first that warms signals up on; those from ``since_ms`` to before
    ``until_ms`` are traded. ``digests`` name the contents: of candles, funding and finer candles by symbol.
    """

    terms: Terms
    strategy: str
    candles: Frames
    beside: Beside
    digests: Mapping[str, Mapping[str, str]]
    since_ms: int
    until_ms: int

    @property
    def strategy_type(self) -> type[Strategy]:
        """The strategy's class."""
        return strategy_class(self.strategy)

    def key(self) -> str:
        """40 hex digits that change with the candles, funding, span, terms, strategy and with the code of either side."""
        terms = self.terms
        said = {symbol: [frame.height, *_ends(frame)] for symbol, frame in self.candles.items()}
        return digest_of(
            plain(
                {
                    "format": 1,
                    "code": [code_version(), strategy_code_version(self.strategy_type.model_construct())],
                    "strategy": self.strategy,
                    "span": [self.since_ms, self.until_ms],
                    "digests": self.digests,
                    "candles": said,
                    "timeframe": terms.timeframe,
                    "cash": terms.initial_cash,
                    "instruments": [instrument.to_document() for instrument in terms.instruments],
                    "rules": terms.rules.to_document(),
                }
            )
        )

    def bare(self) -> "SearchWindow":
        """The window without its candles and what belongs to them."""
        return replace(self, candles={}, beside=Beside(), digests={})

    def sweeper(self) -> Sweeper:
        """The candles laid out. Raises UsageError where there are none in the span, EngineOverflow."""
        laid = lay_out_span(self.terms, self.candles, self.since_ms, self.until_ms, self.beside)
        return Sweeper(laid, self.strategy_type)


def _ends(frame: pl.DataFrame) -> list[str]:
    """First and last open time: a part of the candles that the digest names is another window."""
    return [str(frame["opened_at"][place]) for place in (0, -1)] if frame.height else []


class _Laid:
    """A window that is laid out once a process, whoever asks first."""

    def __init__(self, window: SearchWindow) -> None:
        self.window = window
        self._lock = threading.Lock()
        self._sweeper: Sweeper | None = None

    def sweeper(self) -> Sweeper:
        with self._lock:
            if self._sweeper is None:
                self._sweeper = self.window.sweeper()
            return self._sweeper


class SetRunner:
    """Computes sets over a window. Pickled, it carries no candles but the folder that ``ship`` has written them to."""

    def __init__(self, window: SearchWindow) -> None:
        self.key = window.key()
        self.folder: Path | None = None
        self._laid = _Laid(window)

    def __getstate__(self) -> dict[str, object]:
        assert self.folder is not None, "candles are shipped before other processes compute"
        return {"key": self.key, "folder": self.folder, "window": self._laid.window.bare()}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.key, self.folder = str(state["key"]), Path(str(state["folder"]))
        window = state["window"]
        assert isinstance(window, SearchWindow)
        self._laid = _shipped(self.folder, window.terms, window.strategy, window.since_ms, window.until_ms)

    def sweeper(self) -> Sweeper:
        """The candles laid out, once a process. Raises as ``SearchWindow.sweeper``."""
        return self._laid.sweeper()

    def compute(self, judged: Sequence[GridSet | SkippedSet], threads: int | None = None) -> pl.DataFrame:
        """The sets in SET_SCHEMA, in their order, ``threads`` at once (None: as many as there are processors).

        Raises what the strategy and the engine raise.
        """
        results = self.sweeper().results([one.strategy for one in judged if isinstance(one, GridSet)], threads)
        return set_frame(
            computed_row(one.index, one.values, next(results))
            if isinstance(one, GridSet)
            else skipped_row(one.index, one.values, one.reason)
            for one in judged
        )

    def ship(self, folder: Path) -> None:
        """Write the candles where other processes find them. Raises LakeError."""
        self.folder = folder / self.key
        window = self._laid.window
        frames = dict(zip(_KINDS, (window.candles, window.beside.funding, window.beside.detail), strict=True))
        with naming_what_failed(self.folder, "written"):
            for kind, by_symbol in frames.items():
                (self.folder / kind).mkdir(parents=True, exist_ok=True)
                for symbol, frame in by_symbol.items():
                    frame.write_parquet(self.folder / kind / f"{_file_name(symbol)}.parquet", compression="lz4")

    def unship(self) -> None:
        """Remove what ``ship`` wrote."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


def _file_name(symbol: str) -> str:
    return symbol.encode().hex()


@lru_cache(maxsize=1)
def _shipped(folder: Path, terms: Terms, strategy: str, since_ms: int, until_ms: int) -> _Laid:
    """What was shipped; the last one is kept, so that all chunks of a process share it."""
    found: dict[str, dict[str, pl.DataFrame]] = {}
    for kind in _KINDS:
        names = {path.stem: path for path in (folder / kind).glob("*.parquet")}
        symbols = [symbol for symbol in terms.symbols if _file_name(symbol) in names]
        found[kind] = {symbol: pl.read_parquet(names[_file_name(symbol)]) for symbol in symbols}
    beside = Beside(found["funding"], found["detail"])
    return _Laid(
        SearchWindow(
            terms=terms,
            strategy=strategy,
            candles=found["candles"],
            beside=beside,
            digests={},
            since_ms=since_ms,
            until_ms=until_ms,
        )
    )
