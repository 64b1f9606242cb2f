"""Standby units: the program's answer against trying everything, and each rule by itself."""

from functools import cache
from random import Random

import msgspec
import pytest
from hypothesis import settings

from binpacking.ladder import solve
from binpacking.problem import Effort, Packing, Problem
from binpacking.verify import verify
from tests.binpacking.groups import grouped
from tests.binpacking.problems import FULL, QUICK
from tests.binpacking.sleeping import crowded, least, with_sleepers

POWERS = (1, 2, 4)
BLOCKS = 4 if settings.default.max_examples < 1000 else 80  # type: ignore[union-attr]
WORLDS_PER_BLOCK = 40


@cache
def world(number: int, *, groups: bool) -> tuple[Problem, tuple[int, int]]:
    """A small world with sleepers, and its best answer."""
    chance = Random(number)  # noqa: S311  # a numbered world, no secret
    problem = crowded(chance)
    if groups:
        problem = msgspec.structs.replace(problem, online=problem.online[:1])
        problem = grouped(chance, problem, POWERS)
    problem = with_sleepers(chance, problem, 6)
    return problem, least(problem)


def answered(number: int, effort: Effort, *, groups: bool) -> tuple[Packing, tuple[int, int]]:
    problem, ideal = world(number, groups=groups)
    packing = solve(problem, effort)
    assert packing.rejected == (), number
    assert verify(problem, packing) == (), number
    found = packing.tiers.unserved_milli_gpus, packing.tiers.loss
    assert found >= ideal, number
    if packing.gap == 0.0:
        assert found == ideal, number
    if packing.bound_loss is not None and packing.bound_unserved_milli_gpus == ideal[0]:
        assert packing.bound_loss <= ideal[1], number
    return packing, ideal


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("groups", [False, True], ids=["pods", "groups"])
def test_units_wake_as_well_as_can_be(block: int, groups: bool) -> None:
    for number in range(block * WORLDS_PER_BLOCK, (block + 1) * WORLDS_PER_BLOCK):
        packing, ideal = answered(number, FULL, groups=groups)
        assert packing.gap == 0.0, number
        assert (packing.tiers.unserved_milli_gpus, packing.tiers.loss) == ideal, number


@pytest.mark.parametrize("block", range(BLOCKS))
def test_the_quick_answer_is_honest(block: int) -> None:
    for number in range(block * WORLDS_PER_BLOCK, (block + 1) * WORLDS_PER_BLOCK):
        answered(number, QUICK, groups=False)
