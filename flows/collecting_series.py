"""One wanted series, from what the lake lacks to complete: its head is found, its chunks follow each other, it is looked over."""

import asyncio
from datetime import UTC, datetime

from candlewick.candles import Series
from candlewick.errors import CandlesNotKept, MarketUnavailable, UsageError
from candlewick.market_data.chunking import ChunkSize, closed_span, next_chunk
from candlewick.market_data.coverage import Span
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.wanted import Collected, Outcome, Wanted
from candlewick.timeframes import format_utc, timeframe_ms, utc
from candlewick.validation import Finding
from candlewick.windows import plan_fetch
from flows.collection import Collection
from tasks.candles import fetch_candles
from tasks.collecting import look_over
from tasks.ingest import ChunkDone, ChunkPlan, fetch_chunk, find_listing, note_delisting
from tasks.ingest_kinds import fetch_events
from tasks.market import MarketAccess
from tasks.patience import patient
from tasks.resampling import find_finer, make_trade_candles, resample_series


class SeriesDownload:
    """The work on one series. ``now_ms`` is the market's clock as the run began: what closes later is for the next run."""

    def __init__(self, collection: Collection, access: MarketAccess, wanted: Wanted, now_ms: int) -> None:
        self.collection = collection
        self.keeping = collection.keeping
        self.access = access
        self.wanted = wanted
        self.now_ms = now_ms
        self.until_ms = now_ms if wanted.until_ms is None else min(now_ms, wanted.until_ms)
        market = access.market.series(wanted.symbol, wanted.timeframe).market
        self.series = DataSeries(market, wanted.symbol, wanted.kind, wanted.timeframe)
        self.rows, self.chunks, self.requests, self.findings = 0, 0, 0, 0
        self.since_ms: int | None = None
        self.listed_ms: int | None = None
        self.notes: list[str] = []

    async def complete(self) -> Collected:
        """Fetch what the lake lacks. Raises UsageError, MarketUnavailable, LakeError, LedgerError, InvalidCandles."""
        outcome = await self._fetch()
        if self.wanted.kind == "ohlcv":
            await self._look_over()
        await asyncio.to_thread(self.keeping.data.synced, self.series, datetime.now(UTC))
        there = await asyncio.to_thread(self.keeping.lake.overview, self.series)
        return Collected(
            str(self.wanted),
            outcome if there.rows else "empty",
            rows=self.rows,
            chunks=self.chunks,
            requests=self.requests,
            findings=self.findings,
            first_at=None if there.first_ms is None else utc(there.first_ms),
            last_at=None if there.last_ms is None else utc(there.last_ms),
            notes=tuple(self.notes),
        )

    async def _look_over(self) -> None:
        """Judge what was fetched; also what an earlier run had fetched that died before it looked."""
        earlier_ms = await asyncio.to_thread(self.keeping.data.fetched_since_sync, self.series)
        fetched = [time_ms for time_ms in (self.since_ms, earlier_ms) if time_ms is not None]
        if not fetched:
            return
        self.findings += await look_over(self.keeping, self.series, self.until_ms, min(fetched))
        gone = await note_delisting(self.access, self.keeping, self.series, self.now_ms)
        self.notes += [] if gone is None else [gone]

    async def _fetch(self) -> Outcome:
        if self.wanted.kind != "ohlcv":
            await self._take_events()
            return "complete"
        source = self.access.market.fingerprint(self.wanted.symbol, self.wanted.timeframe)
        if source is not None:
            await self._copy(source)
            return "complete"
        try:
            await self._walk(self.series.candles)
        except UsageError:
            finer = find_finer(self.access, self.wanted.timeframe) if self.wanted.resample else None
            if finer is None:
                raise
            await self._resample(finer)
            return "resampled"
        return "complete"

    async def _walk(self, key: Series) -> None:
        """All that is missing of one series of candles, oldest first."""
        lake = self.keeping.lake
        wanted = closed_span(self.wanted.since_ms, self.until_ms, key.timeframe)
        coverage = await asyncio.to_thread(lake.coverage, key)
        missing = () if wanted is None else coverage.missing(wanted)
        self.since_ms = missing[0].since_ms if missing else None
        self.collection.progress.expect(missing)
        size = self.collection.options.first_size(key.timeframe)
        for number, span in enumerate(missing):
            is_head = number == 0 and not any(one.until_ms <= span.since_ms for one in coverage.spans)
            try:
                left = await self._from_listing(key, span) if is_head else span
                while left is not None:
                    size, left = await self._step(key, left, size)
            except CandlesNotKept as gone:
                await self._newest(key, span, gone.first_ms)

    async def _newest(self, key: Series, span: Span, first_ms: int) -> None:
        """What an exchange that keeps its newest candles only still has; the rest stays uncovered, which `status` shows."""
        first_ms = max(first_ms, span.since_ms)
        self.notes.append(
            f"{key.market} keeps only its newest candles of {key.timeframe}, from {format_utc(first_ms)} on: what lies before "
            "is not to be had from it as candles. Take a longer timeframe, another exchange, or collect trades"
        )
        self.collection.progress.skip(first_ms - span.since_ms)
        left: Span | None = Span(first_ms, span.until_ms) if first_ms < span.until_ms else None
        size = self.collection.options.first_size(key.timeframe)
        while left is not None:
            size, left = await self._step(key, left, size)

    async def _from_listing(self, key: Series, span: Span) -> Span | None:
        """The part of a series' head that has candles; what lies before is known to have none, which is a finding."""
        listed_ms = await patient(find_listing, self.access)(self.access, DataSeries.of_candles(key), span)
        if listed_ms is None:
            self.collection.progress.skip(span.length_ms)
            self.notes.append(f"no candle from {format_utc(span.since_ms)} on")
            return None
        if listed_ms > span.since_ms:
            before = Span(span.since_ms, listed_ms)
            text = f"the first candle is that of {format_utc(listed_ms)}: nothing was traded here before"
            finding = Finding("not_listed", "info", before.since_ms, before.until_ms, text)
            await asyncio.to_thread(self.keeping.quality.record, key, [finding], utc(self.now_ms))
            await asyncio.to_thread(self.keeping.lake.cover, key, before)
            self.collection.progress.skip(before.length_ms)
            self.findings += 1
        self.listed_ms = listed_ms
        return Span(listed_ms, span.until_ms)

    async def _step(self, key: Series, left: Span, size: ChunkSize) -> tuple[ChunkSize, Span | None]:
        """Fetch the next chunk; the size of the one after, and what is left then."""
        chunk = next_chunk(left, key.timeframe, size)
        known_ms = await asyncio.to_thread(self._last_before, key, chunk.since_ms)
        if known_ms is None and chunk.since_ms == self.listed_ms:
            # The candle at the listing was told: a page that begins later has a hole there, and is asked for again.
            known_ms = chunk.since_ms - timeframe_ms(key.timeframe)
        plan = ChunkPlan(DataSeries.of_candles(key), chunk, self.now_ms, known_ms)
        try:
            done = await patient(fetch_chunk, self.access)(self.access, self.keeping, plan)
        except MarketUnavailable:
            if size.is_least:
                raise
            return size.after(smooth=False), left  # less at once, before the series is given up
        await self._count(key, chunk, done)
        rest = Span(chunk.until_ms, left.until_ms) if chunk.until_ms < left.until_ms else None
        return size.after(smooth=done.smooth), rest

    async def _count(self, key: Series, chunk: Span, done: ChunkDone) -> None:
        self.rows += done.added
        self.chunks += 1
        self.requests += done.requests
        self.findings += done.findings
        self.collection.progress.advance(f"{key.market} {key.symbol} {key.timeframe}", chunk, done.added, done.requests)
        await self.collection.tell()

    def _last_before(self, key: Series, time_ms: int) -> int | None:
        """Open time of the last bar known before, so that a gap at the seam of two chunks is seen."""
        near = self.keeping.lake.read(key, time_ms - timeframe_ms(key.timeframe), time_ms)
        return int(near["opened_at"].dt.epoch("ms")[-1]) if near.height else None

    async def _copy(self, source: str) -> None:
        """A source that is there as a whole (files) is copied as a whole when it has changed."""
        key = self.series.candles
        plan = await asyncio.to_thread(plan_fetch, self.keeping.lake, key, self.wanted.since_ms, self.until_ms, source)
        answer = await patient(fetch_candles, self.access)(self.access, plan, self.keeping.lake)
        self.rows += answer["added"]
        self.since_ms = 0 if answer["added"] else None

    async def _resample(self, finer: str) -> None:
        """Candles of a timeframe that the market lacks, made of a finer one, which is completed first."""
        key = Series(self.series.market, self.wanted.symbol, finer)
        await self._walk(key)
        self.rows += await resample_series(self.keeping, key, self.wanted.timeframe, self.wanted.since_ms, self.until_ms)
        self.notes.append(f"made of {finer} candles: the market offers no {self.wanted.timeframe}")

    async def _watch(self, missing: tuple[Span, ...], chunk: Span | None, rows: int, requests: int) -> None:
        """Keep the progress of what is no candles."""
        if chunk is None:
            self.collection.progress.expect(missing)
            return
        self.collection.progress.advance(str(self.series), chunk, rows, requests)
        await self.collection.tell()

    async def _take_events(self) -> None:
        """Funding, open interest or trades."""
        span = Span(self.wanted.since_ms, self.until_ms)
        done = await fetch_events(self.access, self.keeping, self.series, span, self.now_ms, self._watch)
        self.rows += done.added
        self.requests += done.requests
        self.chunks += done.chunks
        for timeframe in self.wanted.candles:
            made = await make_trade_candles(self.keeping, self.series, timeframe, self.wanted.since_ms, self.until_ms)
            self.notes.append(f"{made:,} candles of {timeframe} made of the trades")
