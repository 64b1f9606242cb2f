"""Fixed groups: pods of several roles that stand in one leaf or in leaves of one spine pod."""

from itertools import product
from random import Random

import msgspec
import pytest
from hypothesis import given, settings

from binpacking import filling, program
from binpacking.ladder import climb, solve
from binpacking.layout import compile_layout
from binpacking.problem import Gang, Member, OnlineRequest, Problem, Shape, Supply, Tiers
from binpacking.verify import verify
from tests.binpacking.problems import AT_ONCE, FULL, batch, chances, gang


def supply(node: str, free: int, spine: str, leaf: str, model: str = "h100") -> Supply:
    return Supply(node, model, ("core", spine, leaf, model), free, 8)


def group(
    key: str, prefill: tuple[int, int, int], decode: tuple[int, int, int], wanted: int, reach: str
) -> OnlineRequest:
    """Members as (count, pieces, GPUs of a piece)."""
    return OnlineRequest(
        key=key,
        members=tuple(
            Member(role, count, Shape(pieces, gpus))
            for role, (count, pieces, gpus) in (("prefill", prefill), ("decode", decode))
        ),
        reach="spine" if reach == "spine" else "leaf",
        capacity_milli={"h100": 1000},
        shortage_milli=1000 * wanted,
        limit=wanted,
    )


FOUR_LEAVES = (
    supply("a", 8, "s0", "l0"),
    supply("b", 8, "s0", "l1"),
    supply("c", 8, "s1", "l2"),
    supply("d", 4, "s1", "l3"),
)


@pytest.mark.parametrize(
    ("reach", "decode", "where", "split"),
    [
        ("leaf", (1, 1, 4), ["a", "a"], 0),
        ("leaf", (1, 1, 8), None, 0),  # no leaf has 12
        ("spine", (1, 1, 8), ["d", "c"], 1),  # no waste where 4 and 8 are free
        ("spine", (1, 2, 8), None, 0),  # the pieces of a pod stay under one leaf
        ("spine", (3, 1, 4), ["a", "a", "b", "b"], 1),
    ],
)
def test_a_group_stands_within_its_reach(
    reach: str, decode: tuple[int, int, int], where: list[str] | None, split: int
) -> None:
    problem = Problem(supplies=FOUR_LEAVES, online=(group("g", (1, 1, 4), decode, 1, reach),))
    answer = solve(problem, FULL)
    assert answer.rejected == ()
    assert verify(problem, answer) == ()
    found = [sorted(node for node, _ in placed.parts) for placed in answer.online]
    assert found == ([] if where is None else [sorted(where)])
    assert answer.tiers.split == split


def test_parts_are_told_pod_by_pod() -> None:
    problem = Problem(supplies=FOUR_LEAVES, online=(group("g", (2, 1, 2), (1, 1, 8), 1, "spine"),))
    placed = solve(problem, FULL).online[0]
    assert [gpus for _, gpus in placed.parts] == [2, 2, 8]


def test_a_group_states_members_or_a_shape() -> None:
    both = msgspec.structs.replace(group("g", (1, 1, 1), (1, 1, 1), 1, "leaf"), shape=Shape(1, 1))
    with pytest.raises(ValueError, match="g has a shape and members; give one of them"):
        compile_layout(Problem(supplies=FOUR_LEAVES, online=(both,)))


def random_groups(chance: Random, *, spines: int = 2, leaves: int = 2, nodes: int = 2) -> Problem:
    supplies: list[Supply] = []
    running: list[Gang] = []
    for spine, leaf, number in product(range(spines), range(leaves), range(nodes)):
        name, room = f"n{spine}{leaf}{number}", 8
        while room and chance.random() < 0.6:
            gpus = chance.choice([size for size in (1, 2, 4, 8) if size <= room])
            room -= gpus
            if chance.random() < 0.7:
                running.append(gang(f"g{len(running)}", chance.randint(1, 30), (name, gpus)))
        supplies.append(supply(name, chance.randint(0, room), f"s{spine}", f"l{spine}{leaf}"))
    return Problem(
        supplies=tuple(supplies),
        online=tuple(
            group(
                f"o{number}",
                (chance.randint(1, 2), 1, chance.choice([1, 2, 4])),
                (chance.randint(1, 2), chance.choice([1, 1, 2]), chance.choice([2, 4, 8])),
                chance.randint(1, 2),
                chance.choice(["leaf", "spine"]),
            )
            for number in range(chance.randint(1, 2))
        ),
        batch=tuple(
            batch(f"b{number}", chance.choice([1, 2, 4]), 10 * chance.randint(1, 9))
            for number in range(chance.randint(0, 4))
        ),
        gangs=tuple(running[:6]),
    )


@pytest.mark.parametrize("whole", [True, False])
@settings(max_examples=60, deadline=None)
@given(chances)
def test_every_step_is_verified_and_no_step_is_worse(whole: bool, chance: Random) -> None:
    """`whole`: by one program; else block by block, as large problems are."""
    problem = random_groups(chance, spines=3, leaves=2, nodes=3)
    exact = solve(problem, FULL).tiers
    with pytest.MonkeyPatch.context() as patch:
        if not whole:
            patch.setattr(program, "AT_ONCE", -1)
            patch.setattr(program, "WHOLE_COLUMNS", -1)
            patch.setattr(filling, "_WHOLE_COLUMNS", -1)
        for effort in (AT_ONCE, FULL):
            steps = list(climb(problem, effort))
            for step in steps:
                assert step.rejected == ()
                assert verify(problem, step) == ()
                assert step.bound_unserved_milli_gpus is not None
                assert step.bound_unserved_milli_gpus <= exact.unserved_milli_gpus
                if step.tiers.unserved_milli_gpus == exact.unserved_milli_gpus:
                    assert (step.bound_loss or 0) <= exact.loss
            ranks = [rank(step.tiers) for step in steps]
            assert ranks == sorted(ranks, reverse=True)
            assert ranks[-1][:2] >= rank(exact)[:2]


def rank(tiers: Tiers) -> tuple[int, int, int]:
    return (tiers.unserved_milli_gpus, tiers.loss, -tiers.batch_value)
