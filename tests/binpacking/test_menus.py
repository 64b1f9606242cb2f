"""The useful sets of gangs to stop on a node: none is missing, and none is idle."""

from itertools import chain, combinations
from random import Random

import pytest
from hypothesis import given, settings

from binpacking.menus import MOST_SETS, Option, Stoppable, menu
from tests.binpacking.problems import chances

SIZES = (1, 2, 4, 8)


def gangs_of(chance: Random) -> list[Stoppable]:
    return sorted(
        (
            Stoppable(
                number,
                chance.choice([1, 2, 3, 4]),
                chance.randint(1, 9),
                tuple(sorted(chance.sample(range(2), chance.randint(0, 2)))),
                shared=chance.random() < 0.3,
                beside=chance.choice([(0, 0), (0, 0), (2, 1), (1, 3)]),
            )
            for number in range(chance.randint(0, 5))
        ),
        key=lambda one: one.cost,
    )


def gains(free: int, stops: tuple[Stoppable, ...]) -> tuple[int, ...]:
    room = free + sum(one.gpus for one in stops)
    return tuple(room // size - free // size for size in SIZES)


def freed(stops: tuple[Stoppable, ...], resource: int) -> int:
    return sum(one.beside[resource] for one in stops)


def limits(stops: tuple[Stoppable, ...], limit: int) -> int:
    return sum(limit in one.limits for one in stops)


@settings(max_examples=200)
@given(chances)
def test_every_set_has_one_on_the_menu_that_is_no_worse(chance: Random) -> None:
    free, gangs = chance.randint(0, 8), gangs_of(chance)
    options = menu(free, gangs, SIZES)
    assert options is not None
    by_number = {one.gang: one for one in gangs}
    offered = [tuple(by_number[gang] for gang in option.gangs) for option in options] + [()]
    for tried in chain.from_iterable(combinations(gangs, n) for n in range(len(gangs) + 1)):
        assert any(
            sum(one.cost for one in stops) <= sum(one.cost for one in tried)
            and all(a >= b for a, b in zip(gains(free, stops), gains(free, tried), strict=True))
            and all(freed(stops, n) >= freed(tried, n) for n in (0, 1))
            and all(limits(stops, limit) <= limits(tried, limit) for limit in range(2))
            and {one.gang for one in stops if one.shared}
            == {one.gang for one in tried if one.shared}
            for stops in offered
        )


@given(chances)
def test_an_option_gains_what_it_says(chance: Random) -> None:
    free, gangs = chance.randint(0, 8), gangs_of(chance)
    by_number = {one.gang: one for one in gangs}
    for option in menu(free, gangs, SIZES) or ():
        assert option.gains == gains(free, tuple(by_number[gang] for gang in option.gangs))


def test_of_equal_gangs_the_cheaper_goes_first_and_what_gains_nothing_is_left_out() -> None:
    gangs = [Stoppable(number, 1, 5 + number, (), shared=False) for number in range(4)]
    assert menu(0, gangs, (2, 4)) == (Option((0, 1), (1, 0)), Option((0, 1, 2, 3), (2, 1)))


def test_what_frees_more_cpu_is_of_use_though_it_gains_no_slot_more() -> None:
    small = Stoppable(0, 1, 5, (), shared=False, beside=(1, 0))
    large = Stoppable(1, 1, 6, (), shared=False, beside=(4, 0))
    assert menu(1, [small, large], (2,)) == (
        Option((0,), (1,)),
        Option((1,), (1,)),
        Option((0, 1), (1,)),
    )


@pytest.mark.parametrize(("count", "stated"), [(8, True), (10, False)])
def test_too_many_sets_are_not_looked_at(count: int, stated: bool) -> None:
    gangs = [Stoppable(number, 1, 1, (number,), shared=False) for number in range(count)]
    assert (menu(0, gangs, SIZES) is not None) is stated
    assert (2**count <= MOST_SETS) is stated
