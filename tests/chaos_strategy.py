"""A strategy that stumbles where it is told to: each file in the folder `stumbles` where it runs makes one call raise."""

from pathlib import Path

import polars as pl

from candlewick.strategies.sma_cross import SmaCross

STUMBLES = Path("stumbles")


class Stumbling(SmaCross):
    """sma_cross, but for the calls that raise. Every file is used up by one of them, whichever symbol's it is."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        """As sma_cross. Raises RuntimeError."""
        if stumbles():
            raise RuntimeError("told to stumble")
        return super().signals(candles)


def stumbles() -> bool:
    """Whether there is a file to use up."""
    for file in sorted(STUMBLES.glob("*")):
        try:
            file.unlink()
        except FileNotFoundError:
            continue
        return True
    return False
