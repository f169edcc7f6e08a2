"""The fill contract a second time: slow, in exact fractions, written from docs/fill-contract.md and not from the engine.

`play_reference` answers the same story as tests/engine_play.py reads off the engine: `Happening`s in their order, and the
equity curve. Nothing of candlewick.engine is used here. tests/reference_books.py has prices, sizes and the story,
tests/reference_terms.py what is told, and the arithmetic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from candlewick.instruments import Instrument
from candlewick.rules import Rules
from tests.reference_books import Books, Refusal
from tests.reference_terms import (
    GRID,
    NOTHING,
    Bar,
    Decision,
    Entry,
    Exit,
    Happening,
    Holding,
    Payment,
    Valuation,
    down,
    even,
    up,
)

DAY_MS = 86_400_000
LEGS = ("stop", "target_1", "target_2")


@dataclass(frozen=True)
class Moment:
    """What one bar time brings, by symbol."""

    at: int
    bars: Mapping[str, Bar]
    decisions: Mapping[str, Decision]
    volumes: Mapping[str, Fraction]
    payments: Mapping[str, Sequence[Payment]]
    finer: Mapping[str, Sequence[tuple[Fraction, Fraction, Fraction]]]


@dataclass
class Reference(Books):
    """One account; `bar` processes one time."""

    def bar(self, now: Moment) -> None:
        here = {symbol: holding for symbol, holding in self.holdings.items() if symbol in now.bars}
        opens = {symbol: now.bars[symbol][0] for symbol in here}
        self.pay(now, here, inside=False)
        for symbol, holding in here.items():
            if holding.quantity:
                self.leave_at_open(now.at, holding, opens[symbol], is_bar=True)
        for holding in here.values():
            if holding.entry_order:
                self.enter_at_open(now.at, holding, opens)
        self.pay(now, here, inside=True)
        for symbol, holding in here.items():
            finer = now.finer.get(symbol) or [now.bars[symbol][:3]]
            for number, (opened, high, low) in enumerate(finer):
                if number or opened != opens[symbol]:
                    holding.entered = "earlier" if holding.entered else ""
                    self.finer_open(now.at, holding, opened)
                self.inside(now.at, holding, opened, high, low)
        for symbol, holding in here.items():
            self.close(now, holding, now.bars[symbol])
        self.mark(now.at)
        acting = [(holding, now.decisions[symbol]) for symbol, holding in here.items() if symbol in now.decisions]
        for holding, decision in acting:
            self.decide_to_leave(now.at, holding, decision)
        for holding, decision in acting:
            if decision.action != "EXIT":
                self.decide_to_enter(now.at, holding, decision)

    # Funding

    def pay(self, now: Moment, here: Mapping[str, Holding], *, inside: bool) -> None:
        for symbol, holding in here.items():
            for payment in now.payments.get(symbol, ()):
                if payment.inside == inside and holding.quantity:
                    self.pay_one(now.at, holding, now.bars[symbol][0], payment)

    def pay_one(self, at: int, holding: Holding, opened: Fraction, payment: Payment) -> None:
        notional = even(holding.quantity * opened, GRID)
        owed = even(notional * abs(payment.rate), GRID) * (1 if payment.rate > 0 else -1) * holding.side
        free = self.cash - self.reserved()
        owed = min(owed, free + holding.margin)
        self.cash -= owed
        if owed > free:
            holding.margin -= owed - free
            self.set_liquidation(holding)
        holding.result -= owed
        self.tell(
            "funding", payment.at, holding, "none", payment.at, side=0, position_side=holding.side, price=opened,
            quantity=holding.quantity, notional=notional, settled=-owed, value=payment.rate,
        )  # fmt: skip
        if holding.passed(opened, holding.liquidation):
            self.liquidate(at, holding, "open", opened)

    def set_liquidation(self, holding: Holding) -> None:
        """Where the margin has fallen to the maintenance margin."""
        kept = down(holding.notional * Fraction(holding.instrument.maintenance_margin_share), GRID)
        room = max(holding.margin - kept, NOTHING)
        away = down(holding.price * room / holding.notional, holding.price_grid)
        holding.liquidation = max(holding.price - holding.side * away, NOTHING) if holding.on_margin else NOTHING

    # At an open

    def leave_at_open(self, at: int, holding: Holding, opened: Fraction, *, is_bar: bool) -> None:
        if holding.passed(opened, holding.liquidation):
            self.liquidate(at, holding, "open", opened)
            return
        if is_bar and holding.exit_order:
            self.exit(at, holding, holding.exit_order, opened)
            if not holding.quantity:
                return
        if holding.passed(opened, holding.protection.get("stop")):
            self.stop_out(at, holding, "open", opened)
        else:
            self.targets(at, holding, "open", opened)

    def exit(self, at: int, holding: Holding, waiting: Exit, opened: Fraction) -> None:
        wanted = holding.quantity if waiting.quantity is None else min(waiting.quantity, holding.quantity)
        price = self.taken(holding, opened, -holding.side)
        quantity = self.allowed(holding, wanted)
        if quantity < wanted and not holding.tradable(quantity, price):
            return
        filled = self.reduce(at, holding, waiting.leg, waiting.decided_at, "open", price, opened, quantity, wanted - quantity)
        if not filled or quantity == wanted:
            holding.exit_order = None
        elif waiting.quantity is not None:
            holding.exit_order = replace(waiting, quantity=waiting.quantity - quantity)
        if not holding.quantity:
            self.close_out(at, holding)
        elif filled:
            self.restate(at, holding)

    def enter_at_open(self, at: int, holding: Holding, opens: Mapping[str, Fraction]) -> None:
        entry = holding.entry_order
        assert entry is not None
        if entry.expires_at is not None and at >= entry.expires_at:
            self.drop_entry(at, holding, "expiry", "none")
            return
        if self.rules.capital == "equity_at_open" and entry.share is not None and not entry.filled:
            equity = self.cash
            for symbol, other in self.holdings.items():
                equity += other.worth(opens.get(symbol, other.last))
            entry.budget = down(max(equity, NOTHING) * entry.share, GRID)
        self.meet_open(at, holding, opens[holding.instrument.symbol])

    def meet_open(self, at: int, holding: Holding, opened: Fraction) -> None:
        entry = holding.entry_order
        assert entry is not None
        if holding.quantity and holding.side != entry.side:
            if not holding.exit_order:
                self.drop_entry(at, holding, "cancel", "not_reversed")
            return
        if entry.kind == "limit":
            if entry.side * (self.resting(entry.price, -entry.side, holding) - opened) < 0:
                return
            quoted = self.quoted(holding, opened, entry.side)
            price = quoted if entry.side * (entry.price - quoted) >= 0 else entry.price
            reference = opened if price == quoted else entry.price
            self.enter(at, holding, entry, price, reference, "open")
        elif entry.kind == "market" or entry.side * (opened - entry.price) >= 0:
            self.enter(at, holding, entry, self.taken(holding, opened, entry.side), opened, "open")

    def finer_open(self, at: int, holding: Holding, opened: Fraction) -> None:
        if holding.quantity:
            self.leave_at_open(at, holding, opened, is_bar=False)
        entry, before = holding.entry_order, holding.quantity
        if entry and entry.kind != "market":
            self.meet_open(at, holding, opened)
            if holding.quantity > before:
                holding.entered = "earlier"

    # Inside the bar

    def inside(self, at: int, holding: Holding, opened: Fraction, high: Fraction, low: Fraction) -> None:
        since, entry = opened, holding.entry_order
        if entry and entry.kind != "market" and not (holding.quantity and holding.side != entry.side):
            before = holding.quantity
            self.enter_inside(at, holding, entry, opened, high, low)
            if holding.quantity > before:
                since, holding.entered = entry.price, "now"
        if not holding.quantity:
            return
        side, stop = holding.side, holding.protection.get("stop")
        worst, best = (low, high) if side > 0 else (high, low)
        liquidation = holding.liquidation if holding.passed(worst, holding.liquidation) else None
        stop_first = (
            stop is not None and holding.passed(worst, stop) and (liquidation is None or side * (stop - liquidation) >= 0)
        )
        if stop is not None and stop_first:
            self.stop_out(at, holding, "intrabar", holding.nearer(stop, since))
            if not holding.quantity or liquidation is None:
                return
        if liquidation is not None:
            self.liquidate(at, holding, "intrabar", holding.nearer(liquidation, since))
        elif holding.entered != "now":
            self.targets(at, holding, "intrabar", best, opened)

    def enter_inside(self, at: int, holding: Holding, entry: Entry, opened: Fraction, high: Fraction, low: Fraction) -> None:
        side = entry.side
        if entry.kind == "limit":
            resting = self.resting(entry.price, -side, holding)
            if side * (resting - (low if side > 0 else high)) >= 0 > side * (resting - opened):
                self.enter(at, holding, entry, entry.price, entry.price, "intrabar")
        elif side * ((high if side > 0 else low) - entry.price) >= 0 > side * (opened - entry.price):
            self.enter(at, holding, entry, self.taken(holding, entry.price, side), entry.price, "intrabar")

    # What leaves

    def liquidate(self, at: int, holding: Holding, phase: str, reference: Fraction) -> None:
        price = self.taken(holding, reference, -holding.side)
        self.reduce(at, holding, "liquidation", holding.decided_at, phase, price, reference, holding.quantity, NOTHING)
        holding.stopped_at = at
        self.close_out(at, holding)

    def stop_out(self, at: int, holding: Holding, phase: str, reference: Fraction) -> None:
        price = self.taken(holding, reference, -holding.side)
        wanted = holding.quantity
        quantity, filled = self.allowed(holding, wanted), False
        if quantity == wanted or holding.tradable(quantity, price):
            filled = self.reduce(at, holding, "stop", holding.decided_at, phase, price, reference, quantity, wanted - quantity)
            if not filled:
                holding.end_stop()
                return
        holding.end_stop()
        holding.stopped_at = at
        if not holding.quantity:
            self.close_out(at, holding)
            return
        if filled:
            self.restate(at, holding)
        if holding.entry_order and holding.entry_order.side == holding.side:
            self.drop_entry(at, holding, "cancel", "replaced")
        if holding.exit_order:
            waiting = holding.exit_order
            self.over(at, holding, waiting.leg, waiting.decided_at, "replaced")
        holding.exit_order = Exit("stop", holding.decided_at, None)

    def targets(self, at: int, holding: Holding, phase: str, reached: Fraction, opened: Fraction | None = None) -> None:
        for leg in ("target_1", "target_2"):
            if leg not in holding.protection or not self.take(at, holding, leg, phase, reached, opened):
                continue
            if not holding.quantity:
                self.close_out(at, holding)
                return
            stop, entry = holding.protection.get("stop"), holding.entry_level()
            moves = leg == "target_1" and self.rules.stop_to_entry_after_target_1
            if moves and stop is not None and holding.side * (entry - stop) > 0:
                self.move_stop(at, holding, entry, "target_1")

    def take(self, at: int, holding: Holding, leg: str, phase: str, reached: Fraction, opened: Fraction | None) -> bool:
        """Whether all of a target's part has left. What an open had reached and could not fill waits for the next open."""
        side, target = holding.side, holding.protection[leg]
        resting = self.resting(target, side, holding)
        if side * (reached - resting) < 0 or (opened is not None and side * (opened - resting) >= 0):
            return False
        price = reference = target
        if phase == "open":
            quoted = self.quoted(holding, reached, -side)
            price = quoted if side * (quoted - target) > 0 else target
            reference = reached if side * (reached - target) > 0 else target
        wanted = holding.first_part if leg == "target_1" else holding.quantity
        quantity = self.allowed(holding, wanted)
        if quantity < wanted and not holding.tradable(quantity, price):
            return False
        left = wanted - quantity
        filled = self.reduce(at, holding, leg, holding.decided_at, phase, price, reference, quantity, left)
        if filled and left:
            holding.first_part -= quantity if leg == "target_1" else 0
            return False
        del holding.protection[leg]
        return filled

    def move_stop(self, at: int, holding: Holding, price: Fraction, why: str) -> None:
        stop = holding.protection["stop"]
        self.tell(
            "stop_moved", at, holding, "stop", holding.decided_at, side=-holding.side, position_side=holding.side,
            price=price, reference=stop, why=why,
        )  # fmt: skip
        holding.protection["stop"] = price

    def reduce(
        self, at: int, holding: Holding, leg: str, decided_at: int, phase: str, price: Fraction, reference: Fraction,
        quantity: Fraction, left: Fraction,
    ) -> bool:  # fmt: skip
        instrument, side = holding.instrument, holding.side
        notional = even(quantity * price, GRID)
        minimums = (("min_quantity", instrument.min_quantity, quantity), ("min_notional", instrument.min_notional, notional))
        for rule, limit, value in minimums:
            if leg != "liquidation" and value < limit:
                self.refuse(at, holding, leg, decided_at, -side, rule, Fraction(limit), value)
                return False
        fee = self.fee(holding, notional, maker=leg.startswith("target"))
        entered, cost, margin = (
            amount if quantity == holding.quantity else down(amount * quantity / holding.quantity, GRID)
            for amount in (holding.notional, holding.cost, holding.margin)
        )
        settled = max(side * (notional - entered), fee - margin) if holding.on_margin else notional
        gained = settled if holding.on_margin else settled - entered
        realized = gained - fee - side * (cost - entered)
        self.cash += settled - fee
        holding.notional -= entered
        holding.cost -= cost
        holding.margin -= margin
        holding.quantity -= quantity
        holding.result += realized
        if leg != "liquidation":
            holding.used += quantity
        self.tell(
            "fill", at, holding, leg, decided_at, side=-side, position_side=side, phase=phase, price=price, reference=reference,
            quantity=quantity, left=left, notional=notional, settled=settled, fee=fee, realized=realized,
        )  # fmt: skip
        return True

    def close_out(self, at: int, holding: Holding) -> None:
        self.results.append(holding.result)
        for leg in LEGS:
            if leg in holding.protection:
                self.over(at, holding, leg, holding.decided_at, "position_closed")
        if holding.exit_order:
            self.over(at, holding, holding.exit_order.leg, holding.exit_order.decided_at, "position_closed")
        if holding.entry_order and (holding.entry_order.adds or holding.entry_order.filled):
            self.drop_entry(at, holding, "cancel", "position_closed")
        holding.empty()

    def over(self, at: int, holding: Holding, leg: str, decided_at: int, why: str) -> None:
        self.tell("cancel", at, holding, leg, decided_at, side=-holding.side, position_side=holding.side, why=why)

    def drop_entry(self, at: int, holding: Holding, kind: str, why: str) -> None:
        entry = holding.entry_order
        assert entry is not None
        holding.entry_order = None
        self.tell(kind, at, holding, "entry", entry.decided_at, side=entry.side, position_side=entry.side, why=why)

    # What enters

    def enter(self, at: int, holding: Holding, entry: Entry, price: Fraction, reference: Fraction, phase: str) -> None:
        maker = entry.kind == "limit"
        levels = self.levels(holding, entry, price)
        wanted = self.affordable(holding, price, min(entry.budget, self.cash - self.reserved()), maker=maker)
        quantity = self.allowed(holding, wanted)
        if quantity < wanted and not (holding.tradable(quantity, price) and even(quantity * price, GRID) >= GRID):
            return
        notional = even(quantity * price, GRID)
        refusal = self.entry_refusal(holding, entry, price, quantity, notional, levels)
        if refusal:
            holding.entry_order = None
            if entry.filled:
                side = entry.side
                why = "budget_spent"
                self.tell("cancel", at, holding, "entry", entry.decided_at, side=side, position_side=side, why=why)
            else:
                self.refuse(at, holding, "entry", entry.decided_at, entry.side, *refusal)
            return
        fee, adds = self.fee(holding, notional, maker=maker), bool(holding.quantity)
        settled = self.post(holding, entry, price, quantity, notional, fee)
        self.tell(
            "fill", at, holding, "entry", entry.decided_at, side=entry.side, position_side=entry.side, phase=phase, price=price,
            reference=reference, quantity=quantity, left=wanted - quantity, notional=notional, settled=settled, fee=fee,
            entry_type=entry.kind,
        )  # fmt: skip
        if not entry.filled:
            holding.entries += 1
            self.protect(at, holding, entry, price, levels, adds=adds)
        self.restate(at, holding)
        entry.filled += quantity
        entry.budget -= self.price_of(holding, notional, fee)
        if quantity == wanted:
            holding.entry_order = None

    def post(
        self, holding: Holding, entry: Entry, price: Fraction, quantity: Fraction, notional: Fraction, fee: Fraction
    ) -> Fraction:
        settled = NOTHING if holding.on_margin else -notional
        self.cash += settled - fee
        if holding.on_margin:
            holding.margin += up(notional / self.leverage, GRID)
        if not holding.quantity:
            holding.side, holding.price, holding.best, holding.last, holding.result = entry.side, price, price, price, NOTHING
        else:
            holding.price = even((holding.notional + notional) / (holding.quantity + quantity), holding.price_grid)
        holding.notional += notional
        holding.cost += notional + entry.side * fee
        holding.quantity += quantity
        holding.used += quantity
        self.set_liquidation(holding)
        return settled

    def entry_refusal(
        self, holding: Holding, entry: Entry, price: Fraction, quantity: Fraction, notional: Fraction, levels: dict[str, Fraction]
    ) -> Refusal:
        instrument, side = holding.instrument, entry.side
        stop, nearest = levels.get("stop"), levels.get("target_1", levels.get("target_2"))
        if stop is not None and side * (price - stop) <= 0:
            return "stop_beyond_entry", stop, price
        if nearest is not None and side * (nearest - price) <= 0:
            return "target_beyond_entry", nearest, price
        if quantity < max(Fraction(instrument.min_quantity), holding.quantity_grid):
            return "min_quantity", max(Fraction(instrument.min_quantity), holding.step), quantity
        smallest = max(Fraction(instrument.min_notional), GRID)
        return ("min_notional", smallest, notional) if notional < smallest else None

    def protect(
        self, at: int, holding: Holding, entry: Entry, price: Fraction, levels: dict[str, Fraction], *, adds: bool
    ) -> None:
        """An addition keeps what its own signal does not state."""
        decision, side = entry.decision, entry.side
        if adds:
            for leg in LEGS:
                if leg in holding.protection:
                    self.over(at, holding, leg, holding.decided_at, "replaced")
        holding.decided_at = entry.decided_at
        if not adds or "stop" in levels:
            holding.state("stop", levels.get("stop"))
        if not adds or "target_1" in levels or "target_2" in levels:
            for leg in ("target_1", "target_2"):
                holding.state(leg, levels.get(leg))
        if not adds or decision.trail:
            holding.trail, holding.best = decision.trail, price
        if not adds or decision.break_even:
            away = down(price * decision.break_even, holding.price_grid)
            holding.break_even = price + side * away if decision.break_even else None
        if not adds or decision.time_stop:
            holding.time_stop_at = at + decision.time_stop * self.length_ms if decision.time_stop else None
        if holding.trail and "stop" not in holding.protection:
            holding.protection["stop"] = holding.trailing_level()
        if {"target_1", "target_2"} <= set(holding.protection) and holding.part(self.rules) == holding.quantity:
            del holding.protection["target_2"]

    def restate(self, at: int, holding: Holding) -> None:
        """What stands in the orders that protect the position, as it is now."""
        side = holding.side
        holding.first_part = holding.part(self.rules)
        if {"target_1", "target_2"} <= set(holding.protection) and holding.first_part == holding.quantity:
            del holding.protection["target_2"]
            self.over(at, holding, "target_2", holding.decided_at, "too_small")
        rest = holding.quantity - holding.first_part if "target_1" in holding.protection else holding.quantity
        for leg, share in (("stop", holding.quantity), ("target_1", holding.first_part), ("target_2", rest)):
            if leg in holding.protection:
                self.order(at, holding, leg, holding.decided_at, side, price=holding.protection[leg], quantity=share)

    def order(self, at: int, holding: Holding, leg: str, decided_at: int, side: int, **details: Fraction) -> None:
        self.tell("order", at, holding, leg, decided_at, side=-side, position_side=side, **details)

    def levels(self, holding: Holding, entry: Entry, price: Fraction) -> dict[str, Fraction]:
        """Stop and targets of an entry at this price, on the tick away from it, the nearer target first."""
        side, tick, found = entry.side, holding.tick, dict[str, Fraction]()
        for leg, level in zip(LEGS, entry.decision.legs, strict=True):
            if level is None:
                continue
            away = -side if leg == "stop" else side
            distance = down(price * level.value, holding.price_grid) if level.form == "share" else level.value
            exact = level.value if level.form == "price" else max(price + away * distance, holding.price_grid)
            found[leg] = max(up(exact, tick) if away > 0 else down(exact, tick), tick)
        if "target_1" in found and "target_2" in found:
            nearer, farther = sorted((found["target_1"], found["target_2"]), key=lambda level: side * level)
            found["target_1"], found["target_2"] = nearer, farther
        return found

    # At the close

    def close(self, now: Moment, holding: Holding, bar: Bar) -> None:
        closed_at, side = now.at + self.length_ms, holding.side
        if holding.quantity:
            self.trail(closed_at, holding, bar)
            due = holding.time_stop_at is not None and closed_at >= holding.time_stop_at
            if due and not holding.exit_order:
                holding.time_stop_at = None
                if holding.entry_order and holding.entry_order.side == side:
                    self.drop_entry(closed_at, holding, "cancel", "replaced")
                holding.exit_order = Exit("time_stop", closed_at, None)
                self.order(closed_at, holding, "time_stop", closed_at, side, quantity=holding.quantity)
        entry = holding.entry_order
        if entry and entry.expires_at is not None and entry.expires_at <= closed_at:
            self.drop_entry(closed_at, holding, "expiry", "none")
        holding.entered, holding.used, holding.last = "", NOTHING, bar[3]
        holding.volume = now.volumes[holding.instrument.symbol]

    def trail(self, closed_at: int, holding: Holding, bar: Bar) -> None:
        side, stop = holding.side, holding.protection.get("stop")
        reached = bar[3] if holding.entered else bar[1] if side > 0 else bar[2]
        level, why = stop, "trailed"
        if (holding.trail or holding.break_even) and side * (reached - holding.best) > 0:
            holding.best = reached
            level = holding.trailing_level() if holding.trail else stop
        if holding.break_even is not None and side * (reached - holding.break_even) >= 0:
            holding.break_even = None
            entry = holding.entry_level()
            if level is None or side * (entry - level) > 0:
                level, why = entry, "break_even"
        if level is None:
            return
        if stop is None and not holding.exit_order:
            holding.protection["stop"] = level
            self.order(closed_at, holding, "stop", holding.decided_at, side, price=level, quantity=holding.quantity)
        elif stop is not None and side * (level - stop) > 0:
            self.move_stop(closed_at, holding, level, why)

    def mark(self, at: int) -> None:
        held = [holding for holding in self.holdings.values() if holding.quantity]
        value = sum((holding.worth(holding.last) for holding in held), NOTHING)
        if at // DAY_MS != self.day:
            self.day, self.day_start = at // DAY_MS, self.equity
        self.equity = self.cash + value
        self.peak = max(self.peak, self.equity)
        limit = self.rules.daily_loss_limit_share
        if limit is not None and self.day_loss() >= Fraction(limit) and self.limited_day != self.day:
            self.limited_day = self.day
            self.story.append(self.hit("loss_limit", at, "daily_loss_limit", Fraction(limit), self.day_loss()))
        most = self.rules.max_drawdown_share
        if most is not None and self.drawdown() >= Fraction(most) and not self.halted:
            self.halted = True
            self.story.append(self.hit("halt", at, "max_drawdown", Fraction(most), self.drawdown()))
        self.curve.append(Valuation(at + self.length_ms, self.equity, self.cash, value, self.drawdown(), len(held)))

    def day_loss(self) -> Fraction:
        return down(max(self.day_start - self.equity, NOTHING) / max(self.day_start, GRID), GRID)

    def drawdown(self) -> Fraction:
        return down((self.peak - self.equity) / max(self.peak, GRID), GRID)

    def hit(self, kind: str, at: int, rule: str, limit: Fraction, value: Fraction) -> Happening:
        closed_at = at + self.length_ms
        return Happening(kind, closed_at, decided_at=closed_at, rule=rule, limit=limit, value=value)

    # Decisions

    def opens(self, holding: Holding, side: int) -> bool:
        return self.rules.direction != "short" if side > 0 else self.rules.direction != "long" and holding.on_margin

    def decide_to_leave(self, at: int, holding: Holding, decision: Decision) -> None:
        closed_at, side = at + self.length_ms, decision.side
        opens, entry = decision.action != "EXIT" and self.opens(holding, side), holding.entry_order
        same = bool(holding.quantity) and holding.side == side
        if entry and (decision.action == "EXIT" or entry.side != side or (opens and not same)):
            self.drop_entry(closed_at, holding, "cancel", "replaced")
        if holding.quantity and not same:
            self.signal(closed_at, holding, "reversal_ordered" if opens and self.rules.reverse else "exit_ordered")
            waiting = holding.exit_order
            if waiting is None or waiting.quantity is not None:
                if waiting:
                    self.over(closed_at, holding, waiting.leg, waiting.decided_at, "replaced")
                holding.exit_order = Exit("exit", closed_at, None)
                self.order(closed_at, holding, "exit", closed_at, holding.side, quantity=holding.quantity)
        elif not opens and not holding.quantity:
            self.signal(closed_at, holding, "exit_ordered" if entry else "nothing_to_sell")
        elif not opens:
            self.signal(closed_at, holding, "already_in_position")

    def decide_to_enter(self, at: int, holding: Holding, decision: Decision) -> None:
        closed_at, side = at + self.length_ms, decision.side
        reverses = bool(holding.quantity) and holding.side != side
        if not self.opens(holding, side) or (reverses and not self.rules.reverse):
            return
        weighs = self.rules.sizing == "target_weight"
        adds = bool(holding.quantity) and not reverses and not holding.exit_order and not holding.entry_order
        if holding.quantity and not reverses and not (adds and (weighs or holding.entries < self.rules.max_entries)):
            self.signal(closed_at, holding, "already_in_position")
            return
        wanted, share, sized = self.wanted(holding, decision)
        if adds and weighs and not sized:
            wanted, share = wanted - self.committed(holding), None
            if abs(wanted) < max(down(max(self.equity, NOTHING) * Fraction(self.rules.rebalance_share), GRID), GRID):
                self.signal(closed_at, holding, "already_in_position")
                return
            if wanted < 0:
                self.reduce_to_weight(closed_at, holding, -wanted)
                return
        free = self.free_cash()
        refusal = (
            self.limited(at, holding, adds=adds) or sized or self.unknown(decision) or self.too_little(holding, wanted, free)
        )
        if not reverses:
            self.signal(closed_at, holding, "refused" if refusal else "entry_ordered")
        if refusal:
            self.refuse(closed_at, holding, "entry", closed_at, side, *refusal)
            return
        expires_at = None if decision.entry_type == "market" else closed_at + decision.expiry * self.length_ms
        budget, price = min(wanted, free), decision.price or NOTHING
        holding.entry_order = Entry(decision, side, closed_at, budget, share, decision.entry_type, price, expires_at, adds)
        self.tell(
            "order", closed_at, holding, "entry", closed_at, side=side, position_side=side, price=price, budget=budget,
            entry_type=decision.entry_type, expires_at=expires_at or -1,
        )  # fmt: skip

    def reduce_to_weight(self, closed_at: int, holding: Holding, surplus: Fraction) -> None:
        part = down(holding.quantity * surplus / max(self.committed(holding), GRID), holding.step)
        part = min(part, down(holding.quantity, holding.step))
        self.signal(closed_at, holding, "reduction_ordered" if part else "already_in_position")
        if part:
            holding.exit_order = Exit("exit", closed_at, part)
            self.order(closed_at, holding, "exit", closed_at, holding.side, quantity=part)

    def limited(self, at: int, holding: Holding, *, adds: bool) -> Refusal:
        rules = self.rules
        if self.halted:
            return "max_drawdown", Fraction(rules.max_drawdown_share or 0), self.drawdown()
        if self.limited_day == self.day:
            return "daily_loss_limit", Fraction(rules.daily_loss_limit_share or 0), self.day_loss()
        if holding.stopped_at is not None:
            waited = (at - holding.stopped_at) // self.length_ms
            if waited < rules.cooldown_bars:
                return "cooldown", Fraction(rules.cooldown_bars), Fraction(waited)
        taken = sum(1 for other in self.holdings.values() if other.quantity or other.entry_order)
        if not adds and not holding.quantity and taken >= rules.max_open_positions:
            return "max_open_positions", Fraction(rules.max_open_positions), Fraction(taken)
        return None

    def unknown(self, decision: Decision) -> Refusal:
        for level in (*decision.legs, decision.trail):
            if level is not None and level.form == "missing":
                return "atr_unknown", Fraction(15), level.value
        return None

    def too_little(self, holding: Holding, wanted: Fraction, free: Fraction) -> Refusal:
        needed = max(Fraction(holding.instrument.min_notional), GRID)
        if holding.on_margin:
            needed = max(down(needed / self.leverage, GRID), GRID)
        if wanted < needed:
            return "min_notional", needed, wanted
        return ("insufficient_cash", needed, free) if free < needed else None


def play_reference(
    cash: Fraction, instruments: Sequence[Instrument], rules: Rules, length_ms: int, moments: Sequence[Moment]
) -> tuple[list[Happening], list[Valuation]]:
    """The whole story of an account over bar times, ascending."""
    account = Reference(cash, {one.symbol: Holding(one) for one in instruments}, rules, length_ms)
    for now in moments:
        account.bar(now)
    return account.story, account.curve
