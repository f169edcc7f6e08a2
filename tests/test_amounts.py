"""The one conversion between the engine's integers and DECIMAL is exact in both directions."""

import decimal
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlewick.amounts import INT64_MAX, amount_column, from_units, plain, to_units
from candlewick.errors import EngineOverflow, UsageError

UNITS = st.integers(-INT64_MAX - 1, INT64_MAX)
DECIMALS = st.integers(0, 18)
AMOUNT = pl.Decimal(38, 18)


@given(st.integers(-INT64_MAX, INT64_MAX), DECIMALS)
def test_units_survive_the_way_to_decimal_and_back(units: int, decimals: int) -> None:
    amount = from_units(units, decimals)
    assert int(amount * 10**decimals) == units
    assert to_units(amount, decimals, decimal.ROUND_UP) == units
    assert to_units(amount, decimals, decimal.ROUND_DOWN) == units


@given(st.lists(st.tuples(UNITS, DECIMALS, st.booleans()), max_size=40))
def test_a_column_holds_the_same_amounts_as_the_conversion_of_each_row(rows: list[tuple[int, int, bool]]) -> None:
    units = np.array([row[0] for row in rows], dtype=np.int64)
    decimals = np.array([row[1] for row in rows], dtype=np.int64)
    valid = np.array([row[2] for row in rows], dtype=np.bool_)
    column = amount_column(units, decimals, valid)
    assert column.dtype == AMOUNT
    assert column.to_list() == [from_units(u, d) if ok else None for u, d, ok in rows]
    assert amount_column(units, decimals).to_list() == [from_units(u, d) for u, d, _ in rows]


@given(st.lists(UNITS, min_size=1, max_size=40), DECIMALS)
def test_one_grid_for_the_whole_column(units: list[int], decimals: int) -> None:
    column = amount_column(np.array(units, dtype=np.int64), decimals)
    assert column.to_list() == [from_units(u, decimals) for u in units]
    assert [
        to_units(a, decimals, decimal.ROUND_HALF_EVEN) for a in column.to_list() if abs(a) <= from_units(INT64_MAX, decimals)
    ] == [u for u in units if abs(u) <= INT64_MAX]


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9), st.integers(0, 8))
def test_rounding_goes_where_it_is_told(amount: Decimal, decimals: int) -> None:
    down, up = (to_units(amount, decimals, mode) for mode in (decimal.ROUND_FLOOR, decimal.ROUND_CEILING))
    assert from_units(down, decimals) <= amount <= from_units(up, decimals)
    assert up - down <= 1


def test_half_even_rounds_a_half_to_the_even_unit() -> None:
    assert [to_units(Decimal(text), 2, decimal.ROUND_HALF_EVEN) for text in ("0.125", "0.135", "-0.125")] == [12, 14, -12]


def test_an_amount_beyond_the_grid_is_refused_with_the_limit() -> None:
    assert to_units(Decimal("9223372036854775807"), 0, decimal.ROUND_DOWN) == INT64_MAX
    for text, decimals in (("9223372036854775808", 0), ("-93000000000", 8), ("1e999", 2), ("1e21", 0)):
        with pytest.raises(EngineOverflow, match="64-bit grid"):
            to_units(Decimal(text), decimals, decimal.ROUND_DOWN)


def test_a_vanishing_amount_is_zero_units_and_not_an_overflow() -> None:
    assert to_units(Decimal("1e-500"), 8, decimal.ROUND_DOWN) == 0
    assert to_units(Decimal("1e-500"), 8, decimal.ROUND_UP) == 1


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_what_is_not_a_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not an amount"):
        to_units(Decimal(text), 2, decimal.ROUND_DOWN)


def test_a_grid_finer_than_the_ledgers_is_refused() -> None:
    with pytest.raises(UsageError, match=r"outside 0\.\.18"):
        amount_column(np.array([1], dtype=np.int64), 19)


@given(st.integers(-INT64_MAX, INT64_MAX), DECIMALS)
def test_plain_text_reads_back_as_the_same_amount(units: int, decimals: int) -> None:
    text = plain(from_units(units, decimals))
    assert Decimal(text) == from_units(units, decimals)
    assert "E" not in text
    assert "." not in text or not text.endswith("0")
