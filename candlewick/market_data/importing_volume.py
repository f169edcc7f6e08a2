"""Base and quote volume of a row, told apart by the price: quote volume over base volume is the bar's mean price.

Rounded volumes blur that; swapped ones miss it by the price squared. Where the price is near 1 both readings fit and the row
says nothing; it then goes with the rows around it.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from candlewick.market_data.importing_report import Note, Problem, numbered, rows_text
from candlewick.market_data.importing_schema import ImportSchema, SwappedBefore

Reading = Literal["named", "swapped", "silent", "false"]

# As far as rounding reaches: the mean price may look ten times too high or too low where volumes are tiny.
_SLACK = math.log(10.0)
# One reading within 5 % of the bar's range and the other one 50 % off is proof enough where prices are near 1.
_NEAR, _FAR = math.log(1.05), math.log(1.5)


@dataclass(frozen=True, slots=True)
class VolumeSurvey:
    """Rows whose volumes stand as ``named``, are ``swapped``, fit neither way (``false``), or do not tell (``silent``)."""

    named: int = 0
    swapped: int = 0
    silent: int = 0
    false: int = 0
    false_lines: tuple[int, ...] = ()

    def with_batch(self, rows: pl.DataFrame) -> "VolumeSurvey":
        """This and the rows of another batch."""
        told = rows.select("line", volume_reading().alias("reading"))
        counts = dict(told["reading"].value_counts().iter_rows())
        lines = told.filter(pl.col("reading") == "false")["line"].head(5).to_list()
        return replace(
            self,
            named=self.named + counts.get("named", 0),
            swapped=self.swapped + counts.get("swapped", 0),
            silent=self.silent + counts.get("silent", 0),
            false=self.false + counts.get("false", 0),
            false_lines=numbered([*self.false_lines, *lines]),
        )


def volume_reading() -> pl.Expr:
    """How a row's ``volume`` and ``quote_volume`` stand to its prices, as one of Reading."""
    ratio = (pl.col("quote_volume") / pl.col("volume")).log()
    high, low = pl.col("high").log(), pl.col("low").log()
    named = pl.max_horizontal(pl.lit(0.0), ratio - high, low - ratio)
    swapped = pl.max_horizontal(pl.lit(0.0), -ratio - high, low + ratio)
    tells = (pl.col("volume") > 0) & (pl.col("quote_volume") > 0) & (pl.col("low") > 0) & pl.col("high").is_finite()
    return (
        pl.when(~tells.fill_null(False))
        .then(pl.lit("silent"))
        .when((named > _SLACK) & (swapped > _SLACK))
        .then(pl.lit("false"))
        .when((named <= _SLACK) & (swapped > _SLACK) | (named <= _NEAR) & (swapped > _FAR))
        .then(pl.lit("named"))
        .when((swapped <= _SLACK) & (named > _SLACK) | (swapped <= _NEAR) & (named > _FAR))
        .then(pl.lit("swapped"))
        .otherwise(pl.lit("silent"))
    )


def with_base_volume(rows: pl.DataFrame, survey: VolumeSurvey, schema: ImportSchema) -> pl.DataFrame:
    """Rows sorted by time with the base ``volume``, and ``swapped`` where it stood in the other column.

    ``swapped`` is null for a row that does not tell and stands between one that is swapped and one that is not.
    """
    if "quote_volume" not in rows.columns:
        if schema.volume != "quote":
            return rows.with_columns(swapped=pl.lit(False))
        mean = pl.mean_horizontal("open", "high", "low", "close")
        return rows.with_columns((pl.col("volume") / mean).alias("volume"), swapped=pl.lit(False))
    swapped = _swapped(survey, schema)
    base = pl.when(pl.col("swapped")).then("quote_volume").otherwise("volume")
    return rows.with_columns(swapped.alias("swapped")).with_columns(base.alias("volume"))


def _swapped(survey: VolumeSurvey, schema: ImportSchema) -> pl.Expr:
    if isinstance(schema.volume, SwappedBefore):
        return pl.col("ms") < schema.volume.before_ms
    if schema.volume != "auto" or not survey.swapped or not survey.named:
        return pl.lit(schema.volume == "quote" or (schema.volume == "auto" and bool(survey.swapped)))
    reading = volume_reading()
    known = pl.when(reading == "swapped").then(True).when(reading == "named").then(False)
    before, after = known.forward_fill(), known.backward_fill()
    empty = (pl.col("volume") == 0) & (pl.col("quote_volume") == 0)
    between = pl.when(before == after).then(before).when(before.is_null() | after.is_null()).then(before.fill_null(after))
    return pl.coalesce(known, pl.when(empty).then(False), between)


def judge_volumes(survey: VolumeSurvey, names: tuple[str, str], schema: ImportSchema) -> tuple[list[Note], list[Problem]]:
    """What the two columns called ``names`` hold, and whether that can be believed."""
    base, quote = names
    told = f"{base!r} in base and {quote!r} in quote currency"
    if schema.volume != "auto":
        done = schema.volume if isinstance(schema.volume, str) else f"swapped before {schema.volume.swapped_before}"
        return [Note("volume", f"{told} by their names", f"taken as the schema says: {done}")], []
    if survey.false:
        text = f"{base!r} and {quote!r} contradict the price in {rows_text(survey.false)}, whichever way they are read:"
        advice = "say `volume: base` in the schema if the base volume is right all the same, or correct the file"
        return [], [Problem("ambiguous", text, advice, survey.false_lines)]
    if not survey.swapped:
        proof = (
            f"quote over base is the price in {rows_text(survey.named)}" if survey.named else "no row's price tells them apart"
        )
        return [Note("volume", f"{told}; {proof}", "", survey.named)], []
    silent = f"; {rows_text(survey.silent)} do not tell and go with their neighbours" if survey.silent else ""
    text = f"{base!r} and {quote!r} swapped in {rows_text(survey.swapped)}, proved by the price{silent}"
    return [Note("volume", text, "swapped back", survey.swapped)], []
