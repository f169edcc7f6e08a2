"""A strategy that uses everything a signal can say: each bar's decision is drawn from its open time, so it peeks at nothing."""

from functools import partial

import numpy as np
import polars as pl

from candlewick.strategies.contract import BUY, EXIT, HOLD, SELL, Strategy

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


class Drawn(Strategy):
    """Throws dice that fall the same way whenever they are thrown for the same bar."""

    seed: int
    act_share: float = 0.3

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        times = candles["opened_at"].dt.epoch("ms").to_numpy().astype(np.uint64)
        draw = partial(uniform, times, self.seed)
        close = candles["close"].to_numpy()
        kind = draw("action") / self.act_share
        sides = np.select([kind < 0.45, kind < 0.9, kind < 1.0], [1, -1, 0], default=9)
        opens = np.abs(sides) == 1
        action = np.select([sides == 1, sides == -1, sides == 0], [BUY, SELL, EXIT], default=HOLD)
        entry_type = np.select([draw("type") < 0.2, draw("type") < 0.4], ["limit", "stop"], default="market")
        better = np.where(entry_type == "stop", 1.0, -1.0) * sides * draw("entry") * 0.004
        columns: dict[str, pl.Series] = {
            "action": pl.Series(action),
            "entry": given(opens, close * (1 + better)),
            "entry_type": pl.Series(entry_type).set(pl.Series(~opens), None),
            "target_weight": given(opens, draw("weight")),
            "break_even_bps": given(opens & (draw("break") < 0.3), 5 + 100 * draw("break_at")),
            **legs("stop_loss", draw("stop_kind"), draw("stop"), -sides, close, opens),
            **legs("take_profit_1", draw("first_kind"), draw("first"), sides, close, opens),
            **legs("take_profit_2", draw("second_kind"), 1 + draw("second"), sides, close, opens),
        }
        trailing, distance = draw("trail_kind"), draw("trail")
        columns["trailing_stop_bps"] = given(opens & (trailing < 0.2), 10 + 300 * distance)
        columns["trailing_stop_atr"] = given(opens & (trailing > 0.8), 0.3 + 3 * distance)
        for name, share in (("time_stop_bars", 0.3), ("expiry_bars", 0.6)):
            bars = pl.Series(1 + (8 * draw(f"{name} bars")).astype(np.int64))
            columns[name] = bars.set(pl.Series(~(opens & (draw(name) < share))), None)
        return pl.DataFrame(columns)


def uniform(times: np.ndarray[tuple[int], np.dtype[np.uint64]], seed: int, purpose: str) -> Floats:
    """A number in [0, 1) a bar, by splitmix64 (https://prng.di.unimi.it/splitmix64.c) of the bar's time."""
    salt = (sum(ord(letter) * 131**place for place, letter in enumerate(purpose)) ^ seed) * 0xD1B54A32D192ED03 % 2**64
    mixed = times * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def given(where: Flags, values: Floats) -> pl.Series:
    """The values where they are wanted, null elsewhere."""
    return pl.Series(values).set(pl.Series(~where), None)


def legs(name: str, kind: Floats, size: Floats, sides: np.ndarray, close: Floats, opens: Flags) -> dict[str, pl.Series]:
    """A leg in none of its forms, as a price, in bps or in ATR."""
    return {
        name: given(opens & (kind < 0.2), close * (1 + sides * (0.001 + 0.02 * size))),
        f"{name}_bps": given(opens & (kind >= 0.2) & (kind < 0.4), 10 + 200 * size),
        f"{name}_atr": given(opens & (kind >= 0.4) & (kind < 0.6), 0.3 + 2 * size),
    }
