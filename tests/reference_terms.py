"""What the second engine is told and tells, what it holds, and its arithmetic: exact fractions, rounded as the contract says."""

from dataclasses import dataclass, field
from fractions import Fraction

from candlewick.instruments import Instrument
from candlewick.rules import Rules

GRID = Fraction(1, 10**8)
NOTHING, ONE = Fraction(0), Fraction(1)
Bar = tuple[Fraction, Fraction, Fraction, Fraction]
SIDES = {"BUY": 1, "SELL": -1, "EXIT": 0}


def down(amount: Fraction, unit: Fraction) -> Fraction:
    return (amount / unit).__floor__() * unit


def up(amount: Fraction, unit: Fraction) -> Fraction:
    return (amount / unit).__ceil__() * unit


def even(amount: Fraction, unit: Fraction) -> Fraction:
    return round(amount / unit) * unit


@dataclass(frozen=True)
class Level:
    """A stop or target as a signal states it: ``form`` is price, share (of the price) or distance; missing is an unknown ATR."""

    form: str
    value: Fraction


@dataclass(frozen=True)
class Decision:
    """One bar's signal of one symbol. ``legs``: stop, first target, second target; ``break_even`` a share of the price."""

    action: str
    weight: Fraction | None = None
    legs: tuple[Level | None, ...] = (None, None, None)
    trail: Level | None = None
    entry_type: str = "market"
    price: Fraction | None = None
    expiry: int = 1
    break_even: Fraction = NOTHING
    time_stop: int = 0

    @property
    def side(self) -> int:
        return SIDES[self.action]


@dataclass(frozen=True)
class Payment:
    """Funding: longs pay shorts this share of the notional; ``inside`` when it is due after the bar's open."""

    at: int
    rate: Fraction
    inside: bool


@dataclass(frozen=True)
class Happening:
    """One event, amounts as fractions in their own units; 0 and "" where it has none."""

    kind: str
    at: int
    symbol: str = ""
    leg: str = "none"
    decided_at: int = 0
    phase: str = "none"
    side: int = 0
    position_side: int = 0
    price: Fraction = NOTHING
    reference: Fraction = NOTHING
    quantity: Fraction = NOTHING
    left: Fraction = NOTHING
    notional: Fraction = NOTHING
    settled: Fraction = NOTHING
    fee: Fraction = NOTHING
    realized: Fraction = NOTHING
    budget: Fraction = NOTHING
    entry_type: str = "none"
    expires_at: int = -1
    rule: str = "none"
    limit: Fraction = NOTHING
    value: Fraction = NOTHING
    outcome: str = "none"
    why: str = "none"


@dataclass(frozen=True)
class Valuation:
    """The account at one bar's close."""

    at: int
    equity: Fraction
    cash: Fraction
    value: Fraction
    drawdown: Fraction
    open_positions: int


@dataclass
class Entry:
    """An entry that waits; ``share`` of the capital, where its budget is one."""

    decision: Decision
    side: int
    decided_at: int
    budget: Fraction
    share: Fraction | None
    kind: str
    price: Fraction
    expires_at: int | None
    adds: bool
    filled: Fraction = NOTHING


@dataclass(frozen=True)
class Exit:
    """An exit that waits for the next open; no quantity: all."""

    leg: str
    decided_at: int
    quantity: Fraction | None


@dataclass
class Holding:
    """A position, or the place for one, with the orders that wait. ``price`` is the average of its entries."""

    instrument: Instrument
    side: int = 0
    quantity: Fraction = NOTHING
    price: Fraction = NOTHING
    notional: Fraction = NOTHING
    cost: Fraction = NOTHING
    margin: Fraction = NOTHING
    liquidation: Fraction = NOTHING
    entries: int = 0
    decided_at: int = 0
    protection: dict[str, Fraction] = field(default_factory=dict)
    first_part: Fraction = NOTHING
    trail: Level | None = None
    best: Fraction = NOTHING
    break_even: Fraction | None = None
    time_stop_at: int | None = None
    entered: str = ""  # inside the bar that is processed: "now", or "earlier" in one of its finer bars
    result: Fraction = NOTHING
    last: Fraction = NOTHING
    volume: Fraction = NOTHING
    used: Fraction = NOTHING
    stopped_at: int | None = None
    entry_order: Entry | None = None
    exit_order: Exit | None = None

    @property
    def on_margin(self) -> bool:
        return self.instrument.kind != "spot"

    @property
    def tick(self) -> Fraction:
        return Fraction(self.instrument.price_tick)

    @property
    def step(self) -> Fraction:
        return Fraction(self.instrument.quantity_step)

    @property
    def price_grid(self) -> Fraction:
        return min(GRID, self.tick)

    @property
    def quantity_grid(self) -> Fraction:
        return min(GRID, self.step)

    def worth(self, price: Fraction) -> Fraction:
        """What the position adds to the cash: its value, on margin its profit."""
        value = even(self.quantity * price, GRID)
        return self.side * (value - self.notional) if self.on_margin else value

    def passed(self, price: Fraction, level: Fraction | None) -> bool:
        """Whether a price that goes against the position has come to a level."""
        return bool(level) and self.side * (price - (level or NOTHING)) <= 0

    def nearer(self, level: Fraction, since: Fraction) -> Fraction:
        """The level, or what the price was when the position began, where that was beyond it already."""
        return level if self.side * (since - level) > 0 else since

    def tradable(self, quantity: Fraction, price: Fraction) -> bool:
        instrument = self.instrument
        return 0 < quantity >= instrument.min_quantity and even(quantity * price, GRID) >= instrument.min_notional

    def state(self, leg: str, level: Fraction | None) -> None:
        self.protection.pop(leg, None)
        if level is not None:
            self.protection[leg] = level

    def part(self, rules: Rules) -> Fraction:
        """What leaves at the first target."""
        if not {"target_1", "target_2"} <= set(self.protection):
            return self.quantity
        part = down(self.quantity * Fraction(rules.target_1_share), self.step)
        return part if self.tradable(min(part, self.quantity - part), self.protection["target_1"]) else self.quantity

    def entry_level(self) -> Fraction:
        level = down(self.price, self.tick) if self.side > 0 else up(self.price, self.tick)
        return max(level, self.tick)

    def trailing_level(self) -> Fraction:
        assert self.trail is not None
        distance = down(self.best * self.trail.value, self.price_grid) if self.trail.form == "share" else self.trail.value
        level = self.best - self.side * distance
        return max(down(level, self.tick) if self.side > 0 else up(level, self.tick), self.tick)

    def end_stop(self) -> None:
        self.protection.pop("stop", None)
        self.trail = self.break_even = None

    def empty(self) -> None:
        """The position is gone; what is said of the bars stays."""
        self.side = self.entries = self.decided_at = 0
        self.price = self.liquidation = self.best = self.result = self.notional = self.cost = self.margin = NOTHING
        self.protection, self.trail, self.break_even = {}, None, None
        self.time_stop_at, self.exit_order, self.entered = None, None, ""
