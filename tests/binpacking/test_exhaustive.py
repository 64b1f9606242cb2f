"""The ladder against exhaustive search on small worlds: every tier, every victim.

2 to 4 nodes, up to 3 requests, 4 gangs and 2 waiting jobs. The worlds are numbered, so that a
failure names the one to look at; the thorough profile looks at many more.
"""

from functools import cache
from random import Random

import pytest
from hypothesis import settings

from binpacking.ladder import solve
from binpacking.problem import Effort, Packing, Problem, Tiers
from binpacking.verify import verify
from tests.binpacking.exhaustive import Order, best, best_with
from tests.binpacking.floors import floored
from tests.binpacking.groups import grouped
from tests.binpacking.naive import accepts
from tests.binpacking.pooled import pooled
from tests.binpacking.problems import AT_ONCE, FULL, QUICK, random_problem
from tests.binpacking.stinted import stinted

POWERS, ANY = (1, 2, 4), (1, 2, 3, 5)
KINDS = {
    "powers": (POWERS, None),
    "any": (ANY, None),
    "stinted": (ANY, stinted),
    "floors": (POWERS, floored),
    "pools": (POWERS, pooled),
}
"""Sizes of pieces, and what else is asked: CPU and memory, floors, roles near one another."""
FEW = 6
"""Blocks of worlds per test; each is a case of its own in the report."""
BLOCKS = FEW if settings.default.max_examples < 1000 else 20 * FEW  # type: ignore[union-attr]
WORLDS_PER_BLOCK = 50


@cache
def world(number: int, kind: str, *, groups: bool = False) -> tuple[Problem, Order]:
    """A small world, and its best answer."""
    chance = Random(number)  # noqa: S311  # a numbered world, no secret
    sizes, more = KINDS[kind]
    spread = kind in ("floors", "pools")
    problem = random_problem(
        chance, sizes=sizes, leaves=2 + spread, nodes=2, gangs=4, requests=3 - groups, jobs=2
    )
    problem = grouped(chance, problem, sizes) if groups else problem
    problem = more(chance, problem) if more else problem
    return problem, best(problem)


def order(tiers: Tiers) -> Order:
    return (
        tiers.unserved_milli_gpus,
        tiers.loss,
        -tiers.batch_value,
        tiers.apart,
        tiers.fragmentation_milli_gpus,
    )


def answered(
    number: int, kind: str, effort: Effort, *, groups: bool = False
) -> tuple[Problem, Packing, Order]:
    """The ladder's answer, which both checkers accept and which beats nothing possible.

    What it says to be proven is true.
    """
    problem, ideal = world(number, kind, groups=groups)
    packing = solve(problem, effort)
    assert packing.rejected == (), number
    assert verify(problem, packing) == (), number
    assert accepts(problem, packing), number
    assert order(packing.tiers) >= ideal, number
    if packing.gap == 0.0:
        assert order(packing.tiers)[:2] == ideal[:2], number
    if packing.bound_unserved_milli_gpus is not None:
        assert packing.bound_unserved_milli_gpus <= ideal[0], number
    if packing.bound_loss is not None and packing.bound_unserved_milli_gpus == ideal[0]:
        assert packing.bound_loss <= ideal[1], number
    return problem, packing, ideal


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("kind", KINDS)
def test_small_worlds_are_packed_as_well_as_can_be(kind: str, block: int) -> None:
    """Stops and unserved are the best of all; batch is the best that these stops leave."""
    for number in range(block * WORLDS_PER_BLOCK, (block + 1) * WORLDS_PER_BLOCK):
        problem, packing, ideal = answered(number, kind, FULL)
        found = order(packing.tiers)
        assert packing.gap == 0.0, number
        assert found[:2] == ideal[:2], number
        left = best_with(problem, frozenset(packing.killed))
        assert left is not None
        assert found[:4] == left[:4], number


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("kind", KINDS)
def test_no_victim_could_be_spared(kind: str, block: int) -> None:
    """With any one of them running on, more is unserved, wherever everything else is put."""
    for number in range(block * WORLDS_PER_BLOCK, (block + 1) * WORLDS_PER_BLOCK):
        for effort in (AT_ONCE, FULL):
            problem, packing, _ = answered(number, kind, effort)
            killed = frozenset(packing.killed)
            for key in killed:
                spared = best_with(problem, killed - {key})
                assert spared is not None
                assert spared[0] > packing.tiers.unserved_milli_gpus, (number, effort.name, key)


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("effort", [QUICK, FULL], ids=["quick", "full"])
def test_fixed_groups_are_answered_honestly(block: int, effort: Effort) -> None:
    for number in range(block * WORLDS_PER_BLOCK, (block + 1) * WORLDS_PER_BLOCK):
        answered(number, "powers", effort, groups=True)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_fixed_groups_of_any_size_are_packed_as_well_as_can_be(block: int) -> None:
    for number in range(block * WORLDS_PER_BLOCK, (block + 1) * WORLDS_PER_BLOCK):
        _, packing, ideal = answered(number, "stinted", FULL, groups=True)
        assert order(packing.tiers)[:2] == ideal[:2], number


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("kind", KINDS)
def test_the_quick_answer_is_honest(kind: str, block: int) -> None:
    for number in range(block * WORLDS_PER_BLOCK, (block + 1) * WORLDS_PER_BLOCK):
        answered(number, kind, QUICK)
