"""Which times of a series were asked for and answered: the difference between "nothing traded" and "not downloaded".

A coverage is a set of half-open spans [since_ms, until_ms) in milliseconds UTC, sorted, disjoint and not touching. The lake
keeps one beside each series, written with the candles it speaks of.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from candlewick.errors import LakeError
from candlewick.timeframes import format_utc


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Times with ``since_ms <= t < until_ms``, milliseconds UTC; never empty."""

    since_ms: int
    until_ms: int

    def __post_init__(self) -> None:
        assert self.since_ms < self.until_ms, f"a span from {self.since_ms} to {self.until_ms} holds no time"

    @property
    def length_ms(self) -> int:
        """How long it is."""
        return self.until_ms - self.since_ms

    def __str__(self) -> str:
        return f"{format_utc(self.since_ms)} to {format_utc(self.until_ms)}"


@dataclass(frozen=True, slots=True)
class Coverage:
    """Sorted, disjoint spans that do not touch. Built by ``Coverage.of``, which makes any spans so."""

    spans: tuple[Span, ...] = ()

    @staticmethod
    def of(spans: Iterable[Span]) -> "Coverage":
        """The union of the spans.

        >>> Coverage.of([Span(5, 9), Span(0, 5), Span(20, 30)]).spans == (Span(0, 9), Span(20, 30))
        True
        """
        joined: list[Span] = []
        for span in sorted(spans):
            if joined and span.since_ms <= joined[-1].until_ms:
                joined[-1] = Span(joined[-1].since_ms, max(joined[-1].until_ms, span.until_ms))
            else:
                joined.append(span)
        return Coverage(tuple(joined))

    def with_span(self, span: Span) -> "Coverage":
        """This and the span."""
        return Coverage.of([*self.spans, span])

    def without(self, span: Span) -> "Coverage":
        """This less the span: it is to be asked for again.

        >>> Coverage.of([Span(0, 10)]).without(Span(3, 5)).spans == (Span(0, 3), Span(5, 10))
        True
        """
        kept: list[Span] = []
        for one in self.spans:
            ends = ((one.since_ms, min(one.until_ms, span.since_ms)), (max(one.since_ms, span.until_ms), one.until_ms))
            kept += [Span(since_ms, until_ms) for since_ms, until_ms in ends if since_ms < until_ms]
        return Coverage(tuple(kept))

    def missing(self, wanted: Span) -> tuple[Span, ...]:
        """What of ``wanted`` is not covered, in order of time.

        >>> Coverage.of([Span(2, 4)]).missing(Span(0, 10)) == (Span(0, 2), Span(4, 10))
        True
        """
        rest = Coverage((wanted,))
        for span in self.spans:
            rest = rest.without(span)
        return rest.spans

    def within(self, wanted: Span) -> tuple[Span, ...]:
        """What of ``wanted`` is covered, in order of time.

        >>> Coverage.of([Span(2, 4), Span(8, 20)]).within(Span(3, 10)) == (Span(3, 4), Span(8, 10))
        True
        """
        parts = ((max(one.since_ms, wanted.since_ms), min(one.until_ms, wanted.until_ms)) for one in self.spans)
        return tuple(Span(since_ms, until_ms) for since_ms, until_ms in parts if since_ms < until_ms)

    def covers(self, wanted: Span) -> bool:
        """Whether all of ``wanted`` was asked for and answered."""
        return not self.missing(wanted)

    def to_text(self) -> str:
        """JSON: a list of [since_ms, until_ms]."""
        return json.dumps([[span.since_ms, span.until_ms] for span in self.spans], separators=(",", ":"))

    @staticmethod
    def from_text(text: str, where: str) -> "Coverage":
        """What ``to_text`` made. Raises LakeError naming ``where`` it was read."""
        try:
            return Coverage.of(Span(int(since_ms), int(until_ms)) for since_ms, until_ms in json.loads(text))
        except (ValueError, TypeError, AssertionError) as error:
            raise LakeError(f"{where} is damaged ({error}): move it away, and its series is asked for again") from error
