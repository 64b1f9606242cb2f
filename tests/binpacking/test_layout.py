import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binpacking.fragmentation import unusable_milli_gpus
from binpacking.layout import compile_layout
from binpacking.problem import Member, Problem, Shape, Spread, StopLimit
from binpacking.topology import by_leaf
from tests.binpacking.problems import batch, gang, online, supply

A = supply("a", 1)
PAIR = (Member("prefill", 2, Shape(1, 1)),)


def test_leaves_are_prefixes_with_the_model_and_nodes_go_by_name() -> None:
    mixed = (supply("z", 1), supply("b", 1, model="l20"), supply("a", 1), supply("c", 1, leaf="l0"))
    groups = by_leaf(mixed)
    assert [leaf for leaf, _ in groups] == [
        ("core", "l0", "h100"),
        ("core", "l1", "h100"),
        ("core", "l1", "l20"),
    ]
    assert [[one.node for one in nodes] for _, nodes in groups] == [["c"], ["a", "z"], ["b"]]


def test_gangs_of_a_node_are_numbered_by_rising_cost() -> None:
    gangs = (gang("dear", 9, ("a", 2)), gang("cheap", 1, ("a", 1), ("elsewhere", 8)))
    layout = compile_layout(Problem(supplies=(A,), gangs=gangs))
    assert layout.gangs_on == (((1, 1), (0, 2)),)
    assert layout.parts == (((0, 2),), ((0, 1),))


def spread(one: Spread, **changes: object) -> Problem:
    """One request, of a single GPU or of `members`, with a floor."""
    asked = online("m", 1, 1) if "members" not in changes else online("m", 0, 1, pieces=0)
    return Problem(supplies=(), online=(msgspec.structs.replace(asked, spread=one, **changes),))


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (Problem(supplies=(A, A)), "supplies: node a appears twice"),
        (Problem(supplies=(supply("a", -1),)), "free of a is -1; give 0 or more"),
        (Problem(supplies=(), online=(online("m", 1, 1), online("m", 1, 1))), "online: key m"),
        (Problem(supplies=(), online=(online("m", 0, 1),)), "shape.gpus of m is 0; give 1"),
        (
            Problem(supplies=(), online=(online("m", 1, 1, models={"h100": 0}),)),
            r"capacity_milli\[h100\] of m is 0; give 1",
        ),
        (Problem(supplies=(), batch=(batch("j", 1, 1, pieces=0),)), "shape.pieces of j is 0"),
        (Problem(supplies=(), gangs=(gang("g", 0, ("a", 1)),)), "cost of g is 0; give 1 or more"),
        (Problem(supplies=(), stop_limits=(StopLimit("t", (), -1),)), "most of t is -1"),
        (spread(Spread("leaf", 0)), "spread of m: most is 0; give 1 or more"),
        (spread(Spread("leaf", 1, ((("l1",), -1),))), "spread of m: there holds a count below 0"),
        (spread(Spread("leaf", 1, ((("l1",), 1),) * 2)), "spread of m: there names a domain twice"),
        (spread(Spread("node", 1), members=PAIR), "spread of m: a fixed group has no floor over"),
        (
            spread(Spread("leaf", 1), members=PAIR, reach="spine"),
            "under several leaves; give spine",
        ),
    ],
)
def test_a_problem_that_contradicts_itself_is_refused_by_name(
    problem: Problem, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        compile_layout(problem)


@pytest.mark.parametrize(
    ("free", "mix", "milli"),
    [
        ([], ((8, 100),), 0),
        ([8, 0], ((8, 100),), 0),
        ([7], ((8, 100),), 7000),
        ([7], ((1, 50), (2, 50)), 500),
        ([3, 3, 5], ((1, 35), (2, 20), (4, 20), (8, 25)), 4750),
        ([7], (), 0),
    ],
)
def test_expected_unusable_gpus(
    free: list[int], mix: tuple[tuple[int, int], ...], milli: int
) -> None:
    assert unusable_milli_gpus(free, mix) == milli


@given(st.lists(st.integers(0, 16), max_size=6), st.integers(1, 8))
def test_fragmentation_is_linear_in_slots(free: list[int], size: int) -> None:
    slots = sum(gpus // size for gpus in free)
    assert unusable_milli_gpus(free, ((size, 7),)) == 1000 * (sum(free) - size * slots)
