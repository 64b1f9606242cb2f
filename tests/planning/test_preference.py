"""Between two plans a pod goes where fragmentation falls most, by the shapes to come."""

import pytest

from scheduler.planning.index import index_of
from scheduler.planning.preference import Coming, preference_of
from scheduler.planning.standing import Place, PodAsk, Standing
from scheduler.planning.steering import steer
from scheduler.planning.verdicts import prioritise

ASK = PodAsk(uid="u", name="p", gpus=1)


def standing(coming: tuple[Coming, ...], *free: int, models: str = "") -> Standing:
    places = tuple(
        Place(f"n{i}", ("core", model), "nvidia.com/gpu", gpus, 0, 8, schedulable=True)
        for i, (gpus, model) in enumerate(zip(free, models or "H" * len(free), strict=True))
    )
    return Standing(
        now_seconds=0.0,
        planned_at_seconds=0.0,
        plan_stale_seconds=60.0,
        heuristic_stale_seconds=900.0,
        nodes=places,
        coming=coming,
    )


def chosen(given: Standing) -> str:
    index = index_of(given)
    names = tuple(place.name for place in given.nodes)
    (node,) = steer(index, (), (), ASK, names, 0.0).passed
    best = max(prioritise(index, (), ASK, names, 0.0), key=lambda one: one[1])
    assert best == (node, 10), "filter and prioritise agree"
    return node


@pytest.mark.parametrize(
    ("coming", "free", "models", "node"),
    [
        ((), (4, 7), "", "n0"),  # nothing is known to come: best fit
        (((4, (), 1),), (4, 7), "", "n1"),  # 4 -> 3 would lose a place for four, 7 -> 6 does not
        (((4, (), 1),), (8, 5), "", "n1"),  # neither loses one: fewest left
        (((4, (), 1),), (3, 7), "", "n0"),  # what four cannot use is used up first
        (((2, ("H",), 1),), (2, 2), "HA", "n1"),  # the model that nobody demands
        (((8, (), 1), (1, (), 99)), (8, 8), "", "n0"),  # a tie goes to the smallest name
    ],
)
def test_the_node_that_is_chosen(
    coming: tuple[Coming, ...], free: tuple[int, ...], models: str, node: str
) -> None:
    assert chosen(standing(coming, *free, models=models)) == node


def test_costs_are_whole_numbers_from_the_score_of_fgd() -> None:
    preference = preference_of(((2, (), 3), (4, (), 1)), (("H", 4),))
    # 4 -> 3: twos still fit, to fours all three are fragment: 3/4 of a GPU on the mean
    # 1 / (1 + exp(0.75)) = 0.3208, so the score is 32
    assert preference.cost("H", 4, 1) == 100 - 32
    # 1 -> 0: one GPU of fragment less, to all: 1 / (1 + exp(-1)) = 0.7311
    assert preference.cost("H", 1, 1) == 100 - 73
    assert preference.cost("unknown", 4, 1) == 0
