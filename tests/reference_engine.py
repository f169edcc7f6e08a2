"""The fill contract a second time: slow, in exact fractions, written from docs/fill-contract.md and not from the engine.

`play_reference` answers the same story as tests/engine_play.py reads off the engine: `Happening`s in their order, and the
equity curve. Nothing of candlewick.engine is used here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from candlewick.instruments import Instrument
from candlewick.rules import Rules

GRID = Fraction(1, 10**8)
DAY_MS = 86_400_000
NOTHING = Fraction(0)


@dataclass(frozen=True)
class Level:
    """A stop or target as a signal states it: ``form`` is price, bps, or distance; missing is an ATR that is not known yet."""

    form: str
    value: Fraction


@dataclass(frozen=True)
class Decision:
    """One bar's signal of one symbol. ``legs``: stop, first target, second target."""

    action: str
    weight: Fraction | None = None
    legs: tuple[Level | None, Level | None, Level | None] = (None, None, None)


@dataclass(frozen=True)
class Happening:
    """One event, amounts as fractions in their own units; 0 and "" where it has none."""

    kind: str
    at: int
    symbol: str = ""
    leg: str = "none"
    decided_at: int = 0
    phase: str = "none"
    price: Fraction = NOTHING
    reference: Fraction = NOTHING
    quantity: Fraction = NOTHING
    notional: Fraction = NOTHING
    fee: Fraction = NOTHING
    realized: Fraction = NOTHING
    budget: Fraction = NOTHING
    rule: str = "none"
    limit: Fraction = NOTHING
    value: Fraction = NOTHING
    outcome: str = "none"


@dataclass(frozen=True)
class Valuation:
    """The account at one bar's close."""

    at: int
    equity: Fraction
    cash: Fraction
    value: Fraction
    drawdown: Fraction
    open_positions: int


Bar = tuple[Fraction, Fraction, Fraction, Fraction]


@dataclass
class Holding:
    """A position, or the place for one, with the order that waits for the next open."""

    instrument: Instrument
    quantity: Fraction = NOTHING
    entry: Fraction = NOTHING
    cost: Fraction = NOTHING
    decided_at: int = 0
    last: Fraction = NOTHING
    protection: dict[str, Fraction] = field(default_factory=dict)
    first_part: Fraction = NOTHING
    stopped_at: int | None = None
    waiting: str = ""
    waiting_since: int = 0
    budget: Fraction = NOTHING
    legs: tuple[Level | None, Level | None, Level | None] = (None, None, None)

    @property
    def price_grid(self) -> Fraction:
        return min(GRID, Fraction(self.instrument.price_tick))

    def value(self, price: Fraction) -> Fraction:
        return even(self.quantity * price, GRID)


def down(amount: Fraction, unit: Fraction) -> Fraction:
    return (amount / unit).__floor__() * unit


def up(amount: Fraction, unit: Fraction) -> Fraction:
    return (amount / unit).__ceil__() * unit


def even(amount: Fraction, unit: Fraction) -> Fraction:
    return round(amount / unit) * unit


@dataclass
class Reference:
    """One account; `bar` processes one time."""

    cash: Fraction
    holdings: dict[str, Holding]
    rules: Rules
    length_ms: int
    initial: Fraction = NOTHING
    equity: Fraction = NOTHING
    peak: Fraction = NOTHING
    day: int | None = None
    day_start: Fraction = NOTHING
    limited_day: int | None = None
    halted: bool = False
    story: list[Happening] = field(default_factory=list)
    curve: list[Valuation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.initial = self.equity = self.peak = self.day_start = self.cash

    def bar(self, at: int, bars: Mapping[str, Bar], decisions: Mapping[str, Decision]) -> None:
        for symbol, holding in self.holdings.items():
            if symbol in bars and holding.quantity:
                self.leave_at_open(at, holding, bars[symbol][0])
        for symbol, holding in self.holdings.items():
            if symbol in bars and holding.waiting == "entry":
                self.enter(at, holding, bars[symbol][0])
        for symbol, holding in self.holdings.items():
            if symbol in bars and holding.quantity:
                self.inside(at, holding, bars[symbol])
        self.mark(at, bars)
        for action, handle in (("SELL", self.decide_sell), ("BUY", self.decide_buy)):
            for symbol, holding in self.holdings.items():
                if symbol in bars and symbol in decisions and decisions[symbol].action == action:
                    handle(at, holding, decisions[symbol])

    # At the open and inside the bar

    def leave_at_open(self, at: int, holding: Holding, opened: Fraction) -> None:
        if holding.waiting == "exit":
            holding.waiting = ""
            if self.sell(at, holding, "exit", "open", opened, self.worse(holding, opened), holding.quantity):
                self.cancel_protection(at, holding)
                return
        if opened <= holding.protection.get("stop", NOTHING):
            self.stop_out(at, holding, "open", opened)
        else:
            self.targets(at, holding, "open", opened)

    def inside(self, at: int, holding: Holding, bar: Bar) -> None:
        stop = holding.protection.get("stop", NOTHING)
        if bar[2] <= stop:
            self.stop_out(at, holding, "intrabar", stop)
        else:
            self.targets(at, holding, "intrabar", bar[1])

    def stop_out(self, at: int, holding: Holding, phase: str, reference: Fraction) -> None:
        filled = self.sell(at, holding, "stop", phase, reference, self.worse(holding, reference), holding.quantity)
        holding.protection.pop("stop", None)
        if filled:
            holding.stopped_at = at
            self.cancel_protection(at, holding)

    def targets(self, at: int, holding: Holding, phase: str, reached: Fraction) -> None:
        for leg in ("target_1", "target_2"):
            target = holding.protection.get(leg)
            if target is None or reached < target:
                continue
            reference = reached if phase == "open" else target
            price = max(down(reference, Fraction(holding.instrument.price_tick)), target)
            part = holding.first_part if leg == "target_1" else holding.quantity
            filled = self.sell(at, holding, leg, phase, reference, price, part)
            del holding.protection[leg]
            if filled and not holding.quantity:
                self.cancel_protection(at, holding)
                return
            stop = holding.protection.get("stop")
            if filled and self.rules.stop_to_entry_after_target_1 and stop is not None and stop < holding.entry:
                self.tell("stop_moved", at, holding, "stop", holding.decided_at, price=holding.entry, reference=stop)
                holding.protection["stop"] = holding.entry

    def worse(self, holding: Holding, reference: Fraction) -> Fraction:
        tick = Fraction(holding.instrument.price_tick)
        return max(down(reference * (1 - Fraction(self.rules.slippage_bps) / 10_000), tick), tick)

    def sell(
        self, at: int, holding: Holding, leg: str, phase: str, reference: Fraction, price: Fraction, quantity: Fraction
    ) -> bool:
        instrument = holding.instrument
        notional = even(quantity * price, GRID)
        decided_at = holding.waiting_since if leg == "exit" else holding.decided_at
        for rule, limit, value in (
            ("min_quantity", Fraction(instrument.min_quantity), quantity),
            ("min_notional", Fraction(instrument.min_notional), notional),
        ):
            if value < limit:
                self.tell("refusal", at, holding, leg, decided_at, rule=rule, limit=limit, value=value)
                return False
        fee = self.fee(holding, notional, "maker" if leg.startswith("target") else "taker")
        cost = holding.cost if quantity == holding.quantity else down(holding.cost * quantity / holding.quantity, GRID)
        self.cash += notional - fee
        holding.cost -= cost
        holding.quantity -= quantity
        self.tell(
            "fill", at, holding, leg, decided_at, phase=phase, price=price, reference=reference,
            quantity=quantity, notional=notional, fee=fee, realized=notional - fee - cost,
        )  # fmt: skip
        return True

    def cancel_protection(self, at: int, holding: Holding) -> None:
        for leg in ("stop", "target_1", "target_2"):
            if leg in holding.protection:
                self.tell("cancel", at, holding, leg, holding.decided_at)
        holding.protection = {}

    def fee(self, holding: Holding, notional: Fraction, side: str) -> Fraction:
        instrument = holding.instrument
        bps = instrument.maker_fee_bps if side == "maker" else instrument.taker_fee_bps
        return even(notional * Fraction(bps) / 10_000, Fraction(1, 10**instrument.quote_decimals))

    def enter(self, at: int, holding: Holding, opened: Fraction) -> None:
        instrument = holding.instrument
        tick, step = Fraction(instrument.price_tick), Fraction(instrument.quantity_step)
        price = up(opened * (1 + Fraction(self.rules.slippage_bps) / 10_000), tick)
        protection = self.protection(holding, price)
        quantity = self.affordable(holding, price, min(holding.budget, self.cash))
        notional = even(quantity * price, GRID)
        decided_at, holding.waiting = holding.waiting_since, ""
        nearest = min((level for leg, level in protection.items() if leg != "stop"), default=None)
        refusals = (
            ("stop_beyond_entry", protection.get("stop", NOTHING), price, "stop" in protection and protection["stop"] >= price),
            ("target_beyond_entry", nearest or NOTHING, price, nearest is not None and nearest <= price),
            ("min_quantity", max(Fraction(instrument.min_quantity), step), quantity, None),
            ("min_notional", max(Fraction(instrument.min_notional), GRID), notional, None),
        )
        for rule, limit, value, broken in refusals:
            if broken or (broken is None and value < limit):
                self.tell("refusal", at, holding, "entry", decided_at, rule=rule, limit=limit, value=value)
                return
        fee = self.fee(holding, notional, "taker")
        self.cash -= notional + fee
        holding.quantity, holding.entry, holding.cost, holding.last = quantity, price, notional + fee, price
        holding.decided_at = decided_at
        self.tell(
            "fill", at, holding, "entry", decided_at, phase="open", price=price, reference=opened,
            quantity=quantity, notional=notional, fee=fee,
        )  # fmt: skip
        self.place_protection(at, holding, protection)

    def place_protection(self, at: int, holding: Holding, protection: dict[str, Fraction]) -> None:
        parts = {"stop": holding.quantity, "target_1": holding.quantity, "target_2": holding.quantity}
        if "target_1" in protection and "target_2" in protection:
            instrument = holding.instrument
            part = down(holding.quantity * Fraction(self.rules.target_1_share), Fraction(instrument.quantity_step))
            smaller = min(part, holding.quantity - part)
            smallest_notional = even(smaller * protection["target_1"], GRID)
            tradable = smaller > 0 and smaller >= instrument.min_quantity and smallest_notional >= instrument.min_notional
            if tradable:
                parts |= {"target_1": part, "target_2": holding.quantity - part}
            else:
                del protection["target_2"]
        holding.protection, holding.first_part = protection, parts["target_1"]
        for leg in ("stop", "target_1", "target_2"):
            if leg in protection:
                self.tell("order", at, holding, leg, holding.decided_at, price=protection[leg], quantity=parts[leg])

    def protection(self, holding: Holding, price: Fraction) -> dict[str, Fraction]:
        tick = Fraction(holding.instrument.price_tick)
        found: dict[str, Fraction] = {}
        for leg, level in zip(("stop", "target_1", "target_2"), holding.legs, strict=True):
            if level is None:
                continue
            distance = down(price * level.value / 10_000, holding.price_grid) if level.form == "bps" else level.value
            if leg == "stop":
                exact = level.value if level.form == "price" else price - distance
                found[leg] = max(down(exact, tick), tick)
            else:
                found[leg] = up(level.value if level.form == "price" else price + distance, tick)
        if "target_1" in found and "target_2" in found:
            found["target_1"], found["target_2"] = sorted((found["target_1"], found["target_2"]))
        return found

    def affordable(self, holding: Holding, price: Fraction, budget: Fraction) -> Fraction:
        """Count up in strides of falling powers of ten for as long as the budget covers notional and fee."""
        step = Fraction(holding.instrument.quantity_step)
        steps, stride = 0, 10 ** len(str((budget / (price * step)).__floor__() + 1))
        while stride:
            notional = even((steps + stride) * step * price, GRID)
            if notional + self.fee(holding, notional, "taker") <= budget:
                steps += stride
            else:
                stride //= 10
        return steps * step

    # At the close

    def mark(self, at: int, bars: Mapping[str, Bar]) -> None:
        for symbol, bar in bars.items():
            self.holdings[symbol].last = bar[3]
        held = [holding for holding in self.holdings.values() if holding.quantity]
        value = sum((holding.value(holding.last) for holding in held), NOTHING)
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

    def decide_sell(self, at: int, holding: Holding, decision: Decision) -> None:
        closed_at = at + self.length_ms
        assert not holding.waiting
        self.signal(closed_at, holding, "exit_ordered" if holding.quantity else "nothing_to_sell")
        if holding.quantity:
            holding.waiting, holding.waiting_since = "exit", closed_at
            self.tell("order", closed_at, holding, "exit", closed_at, quantity=holding.quantity)

    def decide_buy(self, at: int, holding: Holding, decision: Decision) -> None:
        closed_at = at + self.length_ms
        assert not holding.waiting
        if holding.quantity:
            self.signal(closed_at, holding, "already_in_position")
            return
        wanted, free = self.wanted(decision), self.free_cash()
        refusal = self.refusal(at, holding, decision, wanted, free)
        if refusal:
            rule, limit, value = refusal
            self.signal(closed_at, holding, "refused")
            self.tell("refusal", closed_at, holding, "entry", closed_at, rule=rule, limit=limit, value=value)
            return
        self.signal(closed_at, holding, "entry_ordered")
        holding.waiting, holding.waiting_since = "entry", closed_at
        holding.budget, holding.legs = min(wanted, free), decision.legs
        self.tell("order", closed_at, holding, "entry", closed_at, budget=holding.budget)

    def refusal(
        self, at: int, holding: Holding, decision: Decision, wanted: Fraction, free: Fraction
    ) -> tuple[str, Fraction, Fraction] | None:
        rules = self.rules
        if self.halted:
            return "max_drawdown", Fraction(rules.max_drawdown_share or 0), self.drawdown()
        if self.limited_day == self.day:
            return "daily_loss_limit", Fraction(rules.daily_loss_limit_share or 0), self.day_loss()
        if holding.stopped_at is not None:
            waited = (at - holding.stopped_at) // self.length_ms
            if waited < rules.cooldown_bars:
                return "cooldown", Fraction(rules.cooldown_bars), Fraction(waited)
        taken = sum(1 for other in self.holdings.values() if other.quantity or other.waiting == "entry")
        if taken >= rules.max_open_positions:
            return "max_open_positions", Fraction(rules.max_open_positions), Fraction(taken)
        for level in decision.legs:
            if level is not None and level.form == "missing":
                return "atr_unknown", Fraction(15), level.value
        needed = max(Fraction(holding.instrument.min_notional), GRID)
        if wanted < needed:
            return "min_notional", needed, wanted
        return ("insufficient_cash", needed, free) if free < needed else None

    def wanted(self, decision: Decision) -> Fraction:
        capital = self.initial if self.rules.capital == "initial" else self.equity
        share = Fraction(1, len(self.holdings)) if decision.weight is None else decision.weight
        return down(capital * min(share, Fraction(self.rules.max_position_share)), GRID)

    def free_cash(self) -> Fraction:
        free = self.cash
        for holding in self.holdings.values():
            if holding.waiting == "entry":
                free -= holding.budget
            elif holding.waiting == "exit":
                notional = holding.value(self.worse(holding, holding.last))
                free += notional - self.fee(holding, notional, "taker")
        return max(free, NOTHING)

    # The story

    def signal(self, closed_at: int, holding: Holding, outcome: str) -> None:
        self.story.append(Happening("signal", closed_at, holding.instrument.symbol, decided_at=closed_at, outcome=outcome))

    def tell(self, kind: str, at: int, holding: Holding, leg: str, decided_at: int, **details: Fraction | str) -> None:
        self.story.append(Happening(kind, at, holding.instrument.symbol, leg, decided_at, **details))  # type: ignore[arg-type]


def play_reference(
    cash: Fraction,
    instruments: Sequence[Instrument],
    rules: Rules,
    length_ms: int,
    bars: Mapping[str, Mapping[int, Bar]],
    decisions: Mapping[str, Mapping[int, Decision]],
) -> tuple[list[Happening], list[Valuation]]:
    """The whole story of an account over bars and decisions, by symbol and open time."""
    account = Reference(cash, {one.symbol: Holding(one) for one in instruments}, rules, length_ms)
    for at in sorted({time for times in bars.values() for time in times}):
        now = {symbol: times[at] for symbol, times in bars.items() if at in times}
        account.bar(at, now, {symbol: times[at] for symbol, times in decisions.items() if at in times})
    return account.story, account.curve
