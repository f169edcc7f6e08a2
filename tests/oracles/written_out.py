"""The rules of all engines written out as one plain loop in floats, each point on which they differ a switch.

Where Candlewick and another engine end apart, this loop ends with Candlewick under Candlewick's switches and with the other
engine under the other's: so the switches are the whole difference.
"""

from dataclasses import dataclass

from tests.oracles.play import Outcome, Play, Trade, levels


@dataclass(frozen=True, slots=True)
class FillRules:
    """Defaults are Candlewick's fill contract (docs/fill-contract.md)."""

    protects_entry_bar: bool = True
    """Stop and target can fill in the bar of the entry; otherwise from the next bar on."""
    gapped_target_fills_at_open: bool = True
    """A target that the open has passed fills at the open, which is better; otherwise at the target."""
    exit_before_stop: bool = True
    """An exit that waits for an open takes it; otherwise stop and target are looked at first, in the whole bar."""
    enters_again_before_exit_signal: bool = True
    """After a stop or target any entry counts; otherwise only one behind the exit signal of the position that was."""


CANDLEWICK = FillRules()
BACKTESTING = FillRules()
RAPTORBT = FillRules(gapped_target_fills_at_open=False, enters_again_before_exit_signal=False)
VECTORBT = FillRules(protects_entry_bar=False, exit_before_stop=False)


def run(play: Play, rules: FillRules = CANDLEWICK) -> Outcome:
    """Play it bar by bar."""
    opens, highs, lows, closes = (play.column(name).tolist() for name in ("open", "high", "low", "close"))
    entries, exits = play.signals.entries.tolist(), play.signals.exits.tolist()
    cash, size, entry_bar, entry_price = play.cash, 0.0, -1, 0.0
    spent = False
    trades: list[Trade] = []
    for bar in range(1, len(opens)):
        spent = spent and not exits[bar - 1]
        leaves, enters = size > 0.0 and exits[bar - 1], size == 0.0 and entries[bar - 1] and not spent
        exit_price = opens[bar] if leaves and rules.exit_before_stop else None
        if enters:
            entry_bar, entry_price = bar, opens[bar]
            size = cash / (entry_price * (1.0 + play.fee))
            cash, spent = 0.0, not rules.enters_again_before_exit_signal
        if size > 0.0 and exit_price is None and (rules.protects_entry_bar or bar > entry_bar):
            exit_price = _protection(play, rules, entry_price, opens[bar], highs[bar], lows[bar])
        if leaves and exit_price is None:
            exit_price = opens[bar]
        if exit_price is not None:
            cash = size * exit_price * (1.0 - play.fee)
            cost = size * entry_price * (1.0 + play.fee)
            trades.append(Trade(entry_bar, entry_price, bar, exit_price, size, cash - cost))
            size = 0.0
    return Outcome(tuple(trades), cash + size * closes[-1])


def _protection(play: Play, rules: FillRules, entry_price: float, open_: float, high: float, low: float) -> float | None:
    """Price at which stop or target fills in a bar; the stop first."""
    if play.stop is None:
        return None
    stop, target = levels(play, entry_price)
    if low <= stop:
        return min(open_, stop)
    if high >= target:
        return max(open_, target) if rules.gapped_target_fills_at_open else target
    return None
