"""The second engine's books: what an account has, what prices and sizes it trades at, and the story that it tells."""

from dataclasses import dataclass, field
from fractions import Fraction

from candlewick.rules import Rules
from tests.reference_terms import (
    GRID,
    NOTHING,
    ONE,
    Decision,
    Exit,
    Happening,
    Holding,
    Valuation,
    down,
    even,
    up,
)

Refusal = tuple[str, Fraction, Fraction] | None


@dataclass
class Books:
    """One account's cash, positions and rules."""

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
    results: list[Fraction] = field(default_factory=list)
    story: list[Happening] = field(default_factory=list)
    curve: list[Valuation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.initial = self.equity = self.peak = self.day_start = self.cash

    @property
    def half_spread(self) -> Fraction:
        return Fraction(self.rules.spread_bps) / 20_000

    @property
    def leverage(self) -> Fraction:
        return Fraction(self.rules.leverage)

    def reserved(self) -> Fraction:
        return sum((holding.margin for holding in self.holdings.values()), NOTHING)

    # Prices

    def taken(self, holding: Holding, reference: Fraction, side: int) -> Fraction:
        return self.worsened(holding, reference, side, Fraction(self.rules.slippage_bps) / 10_000 + self.half_spread)

    def quoted(self, holding: Holding, reference: Fraction, side: int) -> Fraction:
        return self.worsened(holding, reference, side, self.half_spread)

    def worsened(self, holding: Holding, reference: Fraction, side: int, share: Fraction) -> Fraction:
        if side > 0:
            return up(reference * (1 + share), holding.tick)
        return max(down(reference * (1 - share), holding.tick), holding.tick)

    def resting(self, level: Fraction, direction: int, holding: Holding) -> Fraction:
        """What has to trade for a limit order to fill: half the spread above (1) or below (-1) its price."""
        if direction > 0:
            return up(level / (1 - self.half_spread), holding.price_grid)
        return down(level / (1 + self.half_spread), holding.price_grid)

    def fee(self, holding: Holding, notional: Fraction, *, maker: bool) -> Fraction:
        instrument = holding.instrument
        bps = instrument.maker_fee_bps if maker else instrument.taker_fee_bps
        return even(notional * Fraction(bps) / 10_000, Fraction(1, 10**instrument.quote_decimals))

    def allowed(self, holding: Holding, wanted: Fraction) -> Fraction:
        """What the participation cap lets fill, in steps; all where there is none."""
        if self.rules.max_volume_share is None:
            return wanted
        room = down(holding.volume * Fraction(self.rules.max_volume_share), holding.quantity_grid) - holding.used
        return wanted if room >= wanted else down(max(room, NOTHING), holding.step)

    def price_of(self, holding: Holding, notional: Fraction, fee: Fraction) -> Fraction:
        return (up(notional / self.leverage, GRID) if holding.on_margin else notional) + fee

    def affordable(self, holding: Holding, price: Fraction, budget: Fraction, *, maker: bool) -> Fraction:
        """Count up in strides of falling powers of ten for as long as the budget covers notional (or margin) and fee."""
        reach = budget * (self.leverage if holding.on_margin else 1)
        steps, stride = 0, 10 ** len(str(max((reach / (price * holding.step)).__floor__(), 0) + 1))
        while stride:
            notional = even((steps + stride) * holding.step * price, GRID)
            if self.price_of(holding, notional, self.fee(holding, notional, maker=maker)) <= budget:
                steps += stride
            else:
                stride //= 10
        return steps * holding.step

    # Sizing

    def committed(self, holding: Holding) -> Fraction:
        worth = even(holding.quantity * holding.last, GRID)
        return down(worth / self.leverage, GRID) if holding.on_margin else worth

    def wanted(self, holding: Holding, decision: Decision) -> tuple[Fraction, Fraction | None, Refusal]:
        """Budget, share of the capital where it is one, and what forbids an entry."""
        rules, capital = self.rules, self.initial if self.rules.capital == "initial" else max(self.equity, NOTHING)
        most = Fraction(rules.max_position_share)
        leverage = self.leverage if holding.on_margin else ONE
        share: Fraction | None = Fraction(1, len(self.holdings)) if decision.weight is None else decision.weight
        if rules.sizing == "fixed_notional":
            wanted, share = down(Fraction(rules.fixed_notional) / leverage, GRID), None
        elif rules.sizing == "risk":
            price = decision.price if decision.entry_type != "market" and decision.price else holding.last
            distance = self.stop_distance(holding, decision, price)
            if distance <= 0:
                return NOTHING, None, ("stop_missing", holding.price_grid, max(distance, NOTHING))
            notional = down(down(capital * Fraction(rules.risk_share), GRID) * price / distance, GRID)
            wanted, share = down(notional / leverage, GRID), None
        elif rules.sizing == "inverse_volatility" and decision.weight is None:
            return NOTHING, None, ("volatility_unknown", ONE, NOTHING)
        elif rules.sizing == "target_weight" and decision.weight is None:
            return NOTHING, None, ("weight_missing", ONE, NOTHING)
        elif rules.sizing == "kelly" and len(self.results) >= rules.kelly_min_trades:
            share, total = self.kelly(), sum(self.results, NOTHING)
            if share <= 0:
                return NOTHING, None, ("kelly_not_positive", NOTHING, total)
            wanted = down(capital * share, GRID)
        else:
            wanted = down(capital * (share or NOTHING), GRID)
        kept = None if share is None else min(down(share, GRID), most)
        return min(wanted, down(capital * most, GRID)), kept, None

    def stop_distance(self, holding: Holding, decision: Decision, price: Fraction) -> Fraction:
        for level in (decision.legs[0], decision.trail):
            if level is None or level.form == "missing":
                continue
            if level.form == "price":
                return decision.side * (price - level.value)
            return down(price * level.value, holding.price_grid) if level.form == "share" else level.value
        return NOTHING

    def kelly(self) -> Fraction:
        gains = sum((result for result in self.results if result > 0), NOTHING)
        losses = -sum((result for result in self.results if result <= 0), NOTHING)
        if gains <= losses:
            return NOTHING
        won = down(Fraction(sum(1 for result in self.results if result > 0), len(self.results)), GRID)
        share = down(down(won * (gains - losses) / gains, GRID) * Fraction(self.rules.kelly_multiple), GRID)
        return min(share, Fraction(self.rules.kelly_cap_share))

    def free_cash(self) -> Fraction:
        free = self.cash - self.reserved()
        for holding in self.holdings.values():
            if holding.entry_order:
                free -= holding.entry_order.budget
            if holding.exit_order:
                free += self.proceeds(holding, holding.exit_order)
        return max(free, NOTHING)

    def proceeds(self, holding: Holding, waiting: Exit) -> Fraction:
        quantity = holding.quantity if waiting.quantity is None else min(waiting.quantity, holding.quantity)
        worth = even(quantity * self.taken(holding, holding.last, -holding.side), GRID)
        fee = self.fee(holding, worth, maker=False)
        if not holding.on_margin:
            return worth - fee
        entered, margin = (
            amount if quantity == holding.quantity else down(amount * quantity / holding.quantity, GRID)
            for amount in (holding.notional, holding.margin)
        )
        return margin + max(holding.side * (worth - entered) - fee, -margin)

    # The story

    def signal(self, closed_at: int, holding: Holding, outcome: str) -> None:
        self.story.append(Happening("signal", closed_at, holding.instrument.symbol, decided_at=closed_at, outcome=outcome))

    def refuse(
        self, at: int, holding: Holding, leg: str, decided_at: int, side: int, rule: str, limit: Fraction, value: Fraction
    ) -> None:
        position_side = side if leg == "entry" else -side
        self.tell(
            "refusal", at, holding, leg, decided_at, side=side, position_side=position_side, rule=rule, limit=limit, value=value
        )

    def tell(self, kind: str, at: int, holding: Holding, leg: str, decided_at: int, **details: Fraction | str | int) -> None:
        self.story.append(Happening(kind, at, holding.instrument.symbol, leg, decided_at, **details))  # type: ignore[arg-type]
