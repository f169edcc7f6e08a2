"""One reader for all browsers: it looks at the desk every few seconds, only while somebody watches, and tells everybody."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from candlewick.json_text import Json, to_json
from deployments.dashboard.bars import CandleReader
from deployments.dashboard.reading import DeskReader, Document

POLL_S = 2.0
_KEEP_ALIVE_S = 15.0
_MOST_CHARTS = 32
Clock = Callable[[], float]


@dataclass(slots=True)
class Watch:
    """``document`` is the newest state and ``version`` counts those that differ; one look at a time, however many ask."""

    desk: DeskReader
    candles: CandleReader
    poll_s: float = POLL_S
    looks: int = 0
    watchers: int = 0
    is_ending: bool = False
    version: int = 0
    document: Document = field(default_factory=dict)
    _text: str = ""
    _looked_at: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _poll: asyncio.Task[None] | None = None
    _charts: dict[str, tuple[str, Document]] = field(default_factory=dict)

    async def state(self) -> Document:
        """The desk's state, not older than ``poll_s``."""
        async with self._lock:
            if asyncio.get_running_loop().time() - self._looked_at >= self.poll_s or not self.document:
                await self._look()
        return self.document

    async def chart(self, symbol: str) -> Document | None:
        """The chart of a symbol, computed once for a state of it however many look on; None: the session has no such symbol."""
        await self.state()
        async with self._lock:
            status = self.desk.view.status
            found = next((one for one in status.symbols if one.symbol == symbol), None) if status else None
            if status is None or found is None:
                return None
            key = f"{status.session_id} {found.bars} {found.last_bar_at} {found.position} {found.stop_loss}"
            if symbol in self._charts and self._charts[symbol][0] == key:
                return self._charts[symbol][1]
            chart = await asyncio.to_thread(self.candles.read, status, found)
            self._charts.pop(symbol, None)
            if chart["message"] is None:
                self._charts[symbol] = (key, chart)
            if len(self._charts) > _MOST_CHARTS:
                self._charts.pop(next(iter(self._charts)))
            return chart

    async def stream(self) -> AsyncIterator[str]:
        """Server-sent events: the state at once, then every other one; a comment where nothing happens for long."""
        self.watchers += 1
        if self._poll is None or self._poll.done():
            self._poll = asyncio.create_task(self._watch())
        told = -1
        try:
            await self.state()
            while not self.is_ending:
                if told != self.version:
                    told = self.version
                    yield f"event: state\nid: {told}\nretry: 2000\ndata: {to_json(self.document)}\n\n"
                try:
                    async with asyncio.timeout(_KEEP_ALIVE_S), self._news:
                        while told == self.version and not self.is_ending:
                            await self._news.wait()
                except TimeoutError:
                    yield ": nothing new\n\n"
        finally:
            self.watchers -= 1

    async def end(self) -> None:
        """End all streams: a server waits for its answers to be over before it ends."""
        self.is_ending = True
        async with self._news:
            self._news.notify_all()

    async def _watch(self) -> None:
        while self.watchers and not self.is_ending:
            await self.state()
            await asyncio.sleep(self.poll_s)

    async def _look(self) -> None:
        self.looks += 1
        document = await asyncio.to_thread(self.desk.read)
        self._looked_at = asyncio.get_running_loop().time()
        text = _comparable(document)
        self.document = document
        if text != self._text:
            self._text = text
            async with self._news:
                self.version += 1
                self._news.notify_all()


def _comparable(document: Document) -> str:
    """All of a state but the time it was read at, and the seconds in sentences that only count on."""
    condition = document["condition"]
    word: Json = condition["word"] if isinstance(condition, dict) else None
    return json.dumps({**document, "now": None, "condition": word}, sort_keys=True)
