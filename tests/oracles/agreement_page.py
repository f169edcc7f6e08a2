"""The figures of docs/agreement.md: `make agreement` writes them into the page, between two comments."""

import sys
from pathlib import Path

from tests.oracles.cases import BRACKETS, MARKETS, RULES, ours, theirs
from tests.oracles.play import Comparison
from tests.oracles.signals import STRATEGIES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "agreement.md"
_BEGIN, _END = "<!-- figures: written by make agreement -->\n", "<!-- end of figures -->\n"
_HEAD = "| market | strategy | trades | final equity | backtesting | raptorbt | vectorbt |\n|---|---|--:|--:|--:|--:|--:|\n"


def figures() -> str:
    """One table for each kind of brackets; Candlewick's figures, and what the others' final equity is beside it."""
    parts = []
    for brackets in BRACKETS:
        rows = [_row(market, strategy, brackets) for market in MARKETS for strategy in STRATEGIES]
        parts.append(f"### {brackets.capitalize()}\n\n{_HEAD}{''.join(rows)}\n")
    return "".join(parts)


def _row(market: str, strategy: str, brackets: str) -> str:
    own = ours(market, strategy, brackets)
    cells = [_difference(Comparison(own, theirs(engine, market, strategy, brackets))) for engine in RULES]
    return f"| {market.replace('_', ' ')} | {strategy} | {len(own.trades):,} | {own.final_equity:,.2f} | {' | '.join(cells)} |\n"


def _difference(comparison: Comparison) -> str:
    if not comparison.differing and abs(comparison.equity_difference) < 1e-9:
        return "same"
    return f"{comparison.equity_difference:+.1%}, {len(comparison.theirs.trades):,} trades"


def figures_on_page() -> str:
    """What the page shows now."""
    return PAGE.read_text(encoding="utf-8").partition(_BEGIN)[2].partition(_END)[0]


def main() -> None:
    """Rewrite the figures."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise SystemExit(f"{PAGE} has not the two comments that the figures stand between")
    PAGE.write_text(before + begin + figures() + end + after, encoding="utf-8")
    print(f"{PAGE.relative_to(Path.cwd())} is written", file=sys.stderr)


if __name__ == "__main__":
    main()
