"""Parameter grids and search spaces read from text, against lists written by hand."""

import json
from collections.abc import Mapping
from decimal import Decimal
from itertools import product
from typing import Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from candlewick.errors import GridTooLarge, UsageError
from candlewick.grids import (
    GridSet,
    ParameterGrid,
    SkippedSet,
    chunk,
    chunk_key,
    chunks,
    judge,
    parse_grid,
    require_confirmed,
    require_valid,
    tally_skipped,
    write_set,
)
from candlewick.parameter_ranges import GivenValue
from candlewick.search_space import ChoiceDimension, FloatDimension, IntDimension, parse_search_space
from candlewick.strategies.buy_and_hold import BuyAndHold
from candlewick.strategies.catalog import strategy_class
from candlewick.strategies.contract import Strategy
from candlewick.strategies.sma_cross import SmaCross


class Motley(Strategy):
    """A parameter of every type."""

    bars: int = Field(5, ge=1, le=1_000_000_000)
    stop: float = Field(1.0, gt=0, le=10)
    side: Literal["long", "short"] = "long"
    quiet: bool = False
    label: str = Field("x", max_length=5)
    cap: float | None = None
    even: int = Field(2, multiple_of=2)

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        """Nothing ever."""
        return candles.select(action=pl.lit("HOLD"))


def only(text: GivenValue, name: str = "bars") -> tuple[object, ...]:
    return parse_grid(Motley, {name: text}).values[0]


def typed(*values: object) -> list[tuple[type, object]]:
    return [(type(value), value) for value in values]


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("bars", "5:50:5", (5, 10, 15, 20, 25, 30, 35, 40, 45, 50)),
        ("bars", "5:12:5", (5, 10)),
        ("bars", "5:8", (5, 6, 7, 8)),
        ("bars", "5:5:5", (5,)),
        ("bars", "5,10,20", (5, 10, 20)),
        ("bars", "20, 5 ,10", (20, 5, 10)),
        ("bars", "5:15:5,50", (5, 10, 15, 50)),
        ("bars", "10", (10,)),
        ("bars", 10, (10,)),
        ("bars", [10, "20:30:10"], (10, 20, 30)),
        ("bars", "1e3", (1000,)),
        ("stop", "0.1:0.5:0.1", (0.1, 0.2, 0.3, 0.4, 0.5)),
        ("stop", "1:2:0.25", (1.0, 1.25, 1.5, 1.75, 2.0)),
        ("stop", "3", (3.0,)),
        ("cap", "none,0.5", (None, 0.5)),
        ("cap", None, (None,)),
        ("quiet", "true,false", (True, False)),
        ("quiet", True, (True,)),
        ("side", "long,short", ("long", "short")),
        ("label", "a:b", ("a:b",)),
    ],
)
def test_a_text_means_these_values(name: str, text: GivenValue, values: tuple[object, ...]) -> None:
    assert typed(*only(text, name)) == typed(*values)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("bars", "fast", "parameter bars is 'fast'; it must be a whole number, at least 1 and at most 1e+09"),
        ("bars", "2.5", "parameter bars is '2.5'; it must be a whole number"),
        ("bars", "0", "parameter bars is 0; it must be a whole number, at least 1"),
        ("bars", "0:50:5", "parameter bars is 0; it must be a whole number, at least 1"),
        ("bars", "5:2000000000:500", "parameter bars is 1999999505"),
        ("bars", "50:5:5", "begins above its end (50 is more than 5)"),
        ("bars", "5:50:0", "the step 0; a step must be above 0"),
        ("bars", "5:50:-5", "a step must be above 0"),
        ("bars", "5:x:5", "'5:x:5' is not understood"),
        ("bars", "5:9:2:1", "is not understood"),
        ("bars", "5:9:0.5", "a range is LOW:HIGH:STEP, such as 5:50:5"),
        ("bars", "5,,7", "parameter bars is ''"),
        ("bars", "5,5", "parameter bars: 5 is given twice"),
        ("bars", "5:15:5,10", "10 is given twice"),
        ("bars", [], "parameter bars has no value"),
        ("bars", "1e400", "parameter bars is '1e400'"),
        ("bars", "1:1e9", "parameter bars has 1,000,000,000 values; it may have 1,000,000"),
        ("stop", "0.5:2.0", "0.5:2.0 has no step; write 0.5:2.0:STEP"),
        ("stop", "nan", "parameter stop is 'nan'; it must be a number, above 0 and at most 10"),
        ("stop", "inf", "parameter stop is 'inf'"),
        ("side", "both", "parameter side is both; it must be one of long, short"),
        ("quiet", "1", "parameter quiet is '1'; it must be true or false"),
        ("label", "toolong", "it must be text (String should have at most 5 characters)"),
        ("even", "3", "(Input should be a multiple of 2)"),
    ],
)
def test_a_text_that_means_nothing_is_refused_with_parameter_value_and_requirement(
    name: str, text: GivenValue, said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        only(text, name)
    assert said in str(refused.value)


def test_an_unknown_parameter_is_told_its_nearest_name() -> None:
    with pytest.raises(UsageError, match="SmaCross has no parameter 'fst'; did you mean fast\\? it has fast, slow"):
        parse_grid(SmaCross, {"fst": "5:50:5"})


@settings(deadline=None)
@given(st.integers(-1000, 1000), st.integers(0, 400), st.integers(1, 50), st.integers(0, 4))
def test_a_range_of_decimals_holds_the_very_numbers_that_one_would_write(low: int, steps: int, step: int, places: int) -> None:
    class Free(Strategy):
        level: float

    def written(number: int) -> str:
        return str(Decimal(number).scaleb(-places))

    text = f"{written(low)}:{written(low + steps * step)}:{written(step)}"
    values = parse_grid(Free, {"level": text}).values[0]
    assert list(values) == [float(written(low + place * step)) for place in range(steps + 1)]


def test_the_last_name_varies_fastest() -> None:
    grid = parse_grid(Motley, {"bars": "1,2", "quiet": "false,true"})
    assert [tuple(values.values()) for values in grid] == [(1, False), (1, True), (2, False), (2, True)]
    assert (len(grid), grid.varied) == (4, ("bars", "quiet"))


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=0, max_size=4))
def test_sets_and_neighbours_are_those_of_the_whole_product_listed(sizes: list[int]) -> None:
    names = ("bars", "stop", "even", "cap")[: len(sizes)]
    values = tuple(tuple(range(size)) for size in sizes)
    grid = ParameterGrid(Motley, names, values)
    listed = list(product(*values))
    assert grid.count == len(listed)
    assert [tuple(grid.set_at(index).values()) for index in range(grid.count)] == listed
    for index, one in enumerate(listed):
        near = [at for at, other in enumerate(listed) if sum(abs(a - b) for a, b in zip(one, other, strict=True)) == 1]
        assert list(grid.neighbours(index)) == near


def test_a_set_outside_of_the_grid_is_refused() -> None:
    with pytest.raises(UsageError, match="set 4 does not exist; the grid has the sets 0 to 3"):
        parse_grid(Motley, {"bars": "1:4"}).set_at(4)


def test_a_grid_of_nothing_is_the_one_set_of_defaults() -> None:
    (whole,) = chunks(parse_grid(SmaCross, {}), 10)
    assert [one.strategy for one in whole.sets] == [SmaCross()]


def test_combinations_that_the_strategy_refuses_are_skipped_and_counted_with_the_reason() -> None:
    grid = parse_grid(SmaCross, {"fast": "10,20,30", "slow": "20,30"})
    (whole,) = chunks(grid, 100)
    assert [write_set(one.values) for one in whole.sets] == ["fast=10 slow=20", "fast=10 slow=30", "fast=20 slow=30"]
    assert [one.strategy for one in whole.sets] == [SmaCross(fast=10, slow=20), SmaCross(fast=10, slow=30), SmaCross(fast=20)]
    assert [(one.index, one.reason) for one in whole.skipped] == [
        (2, "fast is 20 and slow is 20; fast must be below slow"),
        (4, "fast is 30 and slow is 20; fast must be below slow"),
        (5, "fast is 30 and slow is 30; fast must be below slow"),
    ]
    tally = tally_skipped(whole.skipped, examples=1)
    assert (tally.count, tally.by_reason) == (3, {"fast is … and slow is …; fast must be below slow": 3})
    assert json.loads(json.dumps(tally.to_document()))["examples"][0]["values"] == {"fast": 20, "slow": 20}


def test_a_value_inside_a_range_that_the_field_refuses_is_skipped_too() -> None:
    (whole,) = chunks(parse_grid(Motley, {"even": "2:6"}), 10)
    assert [one.values["even"] for one in whole.sets] == [2, 4, 6]
    assert [one.reason for one in whole.skipped] == [
        "even is 3; it must be a whole number",
        "even is 5; it must be a whole number",
    ]


@settings(deadline=None)
@given(st.integers(1, 40))
def test_chunks_of_any_size_hold_every_set_once_and_each_can_be_made_alone(size: int) -> None:
    grid = parse_grid(SmaCross, {"fast": "5:30:5", "slow": "10:40:10"})
    parts = list(chunks(grid, size))
    indices = sorted([one.index for part in parts for one in (*part.sets, *part.skipped)])
    assert indices == list(range(grid.count))
    assert sum(part.count for part in parts) == grid.count
    assert all(chunk(grid, part.first, size) == part for part in parts)


def test_a_chunk_of_no_sets_is_refused() -> None:
    with pytest.raises(UsageError, match="a chunk of 0 sets"):
        chunks(parse_grid(SmaCross, {}), 0)


def test_a_grid_of_a_billion_sets_is_counted_without_being_listed_and_refused_with_count_and_time() -> None:
    grid = parse_grid(Motley, {"bars": "1:1000", "stop": "0.01:10:0.01", "even": "2:2000:2"})
    assert grid.count == 1_000_000_000
    with pytest.raises(GridTooLarge) as refused:
        require_confirmed(grid, confirmed=False, expected_s=7_260)
    assert str(refused.value) == (
        "the grid has 1,000,000,000 parameter sets (1,000 bars × 1,000 stop × 1,000 even), about 2h 1m; "
        "more than 100,000 need a confirmation: add --yes, or use fewer values or larger steps"
    )
    require_confirmed(grid, confirmed=True)
    require_valid(grid)
    assert next(chunks(grid, 3)).sets[2].values == {"bars": 1, "stop": 0.01, "even": 6}
    assert chunk(grid, 999_999_999, 3).sets[0].values == {"bars": 1000, "stop": 10.0, "even": 2000}


def test_a_grid_up_to_the_limit_needs_no_confirmation() -> None:
    require_confirmed(parse_grid(Motley, {"bars": "1:100000"}), confirmed=False)
    with pytest.raises(GridTooLarge, match=r"4 parameter sets .*, about 13 s; more than 3"):
        require_confirmed(parse_grid(Motley, {"bars": "1:4"}), confirmed=False, expected_s=12.2, limit=3)


def test_a_grid_without_one_valid_set_is_refused_with_the_first_reason() -> None:
    with pytest.raises(UsageError, match="none of the grid's 4 parameter sets is valid; the first: fast is 30 and slow is 10"):
        require_valid(parse_grid(SmaCross, {"fast": "30,40", "slow": "10,20"}))


def test_a_grid_has_the_same_key_only_where_everything_is_the_same() -> None:
    texts: list[tuple[type[Strategy], Mapping[str, GivenValue]]] = [
        (Motley, {"bars": "1:3", "stop": "1"}),
        (Motley, {"stop": "1", "bars": "1:3"}),
        (Motley, {"bars": "1:4", "stop": "1"}),
        (Motley, {"bars": "1,3,2", "stop": "1"}),
        (Motley, {"bars": "1:3", "cap": "1"}),
        (SmaCross, {}),
        (BuyAndHold, {}),
    ]
    keys = [parse_grid(strategy, given).grid_key for strategy, given in texts]
    assert len(set(keys)) == len(keys)
    assert parse_grid(Motley, {"bars": "1,2,3", "stop": "1.0"}).grid_key == keys[0]
    grid = parse_grid(Motley, {"bars": "1:3"})
    assert len({chunk_key(grid, first, size) for first in (0, 1) for size in (1, 2)}) == 4


def test_a_grid_is_written_down_as_json() -> None:
    grid = parse_grid(Motley, {"bars": "1:2", "cap": "none,0.5"})
    document = json.loads(json.dumps(grid.to_document()))
    assert document == {"values": {"bars": [1, 2], "cap": [None, 0.5]}, "count": 4, "grid_key": grid.grid_key}


def test_a_strategy_class_is_found_by_the_name_that_a_run_uses() -> None:
    assert strategy_class("sma_cross") is SmaCross


def test_a_search_space_suggests_what_the_texts_say() -> None:
    given = {"bars": "5:52:5", "even": "2:8", "stop": "0.5:2.0", "cap": "0.1:0.55:0.1", "side": "long,short", "quiet": "true"}
    space = parse_search_space(Motley, given)
    assert space.dimensions == (
        IntDimension("bars", 5, 50, 5),
        IntDimension("even", 2, 8, 1),
        FloatDimension("stop", 0.5, 2.0, None),
        FloatDimension("cap", 0.1, 0.5, 0.1),
        ChoiceDimension("side", ("long", "short")),
        ChoiceDimension("quiet", (True,)),
    )
    assert [dimension.count for dimension in space.dimensions] == [10, 7, None, 5, 2, 1]
    assert space.count is None
    assert json.loads(json.dumps(space.to_document()))["dimensions"]["cap"]["step"] == 0.1


def test_a_search_space_of_steps_and_choices_can_be_counted() -> None:
    assert parse_search_space(Motley, {"bars": "5:50:5", "stop": "1:2:0.5", "cap": "0.5:0.5"}).count == 30


def test_a_stepped_suggestion_becomes_the_decimal_that_is_meant() -> None:
    space = parse_search_space(Motley, {"stop": "0.1:0.9:0.1", "bars": "5:50:5", "side": "short,long"})
    assert space.read({"side": "long", "bars": 15, "stop": 0.1 + 2 * 0.1}) == {"stop": 0.3, "bars": 15, "side": "long"}
    with pytest.raises(UsageError, match="nothing was suggested for bars, side"):
        space.read({"stop": 0.1})


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(1, 4))
def test_every_stepped_suggestion_is_a_value_of_the_grid(place: int, places: int) -> None:
    step = Decimal(1).scaleb(-places)
    text = f"{step}:{step * 401}:{step}"
    values = parse_grid(Motley, {"cap": text}).values[0]
    space = parse_search_space(Motley, {"cap": text})
    assert space.read({"cap": float(step) + place * float(step)}) == {"cap": values[place]}


def test_a_suggested_combination_is_judged_as_a_grids_is() -> None:
    assert isinstance(judge(SmaCross, 0, {"fast": 5, "slow": 9}), GridSet)
    assert isinstance(judge(SmaCross, 0, {"fast": 9, "slow": 5}), SkippedSet)


def test_search_spaces_differ_by_key() -> None:
    keys = {parse_search_space(Motley, {"bars": text}).space_key for text in ("5:50:5", "5:50", "5,10", "5:45:5")}
    assert len(keys) == 4
