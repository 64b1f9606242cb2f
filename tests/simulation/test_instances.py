"""Instances as published by seed, what must hold in any of them, and the reference solve."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.simulation import reference
from scheduler.simulation.instances import (
    GPUS_PER_NODE,
    Group,
    Instance,
    PendingGangs,
    Piece,
    RunningGang,
    Service,
    generate,
)


@pytest.mark.parametrize(
    ("nodes", "gangs", "costs", "wanted", "free"),
    [
        (64, 23, 373.87, 89, 80),
        (256, 161, 1280.07, 287, 210),
        (992, 723, 5393.66, 849, 797),
        (4000, 2852, 19955.93, 3789, 3202),
    ],
)
def test_seed_0_is_the_published_instance(
    nodes: int, gangs: int, costs: float, wanted: int, free: int
) -> None:
    instance = generate(nodes, 0)
    assert len(instance.gangs) == gangs
    assert sum(gang.cost for gang in instance.gangs) == pytest.approx(costs, abs=0.005)
    assert instance.wanted_gpus == wanted
    assert sum(instance.free_gpus) == free


@pytest.mark.parametrize(("nodes", "unserved", "loss"), [(64, 0, 3.47), (256, 81, 35.73)])
def test_the_reference_solve_reaches_the_published_optimum(
    nodes: int, unserved: int, loss: float
) -> None:
    found = reference.optimum(generate(nodes, 0))
    assert found.unserved_gpus == unserved
    assert found.loss == pytest.approx(loss, abs=0.005)


fleets = st.builds(
    generate, st.integers(8, 80), st.integers(0, 10**6), small=st.booleans(), growth=st.just(0.5)
)


def all_held(instance: Instance) -> list[tuple[Piece, ...]]:
    return [group.pieces for group in instance.groups] + [gang.pieces for gang in instance.gangs]


@given(fleets)
@settings(max_examples=30, deadline=None)
def test_every_gpu_is_free_or_held_once(instance: Instance) -> None:
    held = Counter[int]()
    for pieces in all_held(instance):
        for piece in pieces:
            held[piece.node] += piece.gpus
    assert min(instance.free_gpus) >= 0
    assert all(free + held[node] == GPUS_PER_NODE for node, free in enumerate(instance.free_gpus))


@given(fleets)
@settings(max_examples=30, deadline=None)
def test_holders_are_whole_and_inside_one_leaf_they_may_use(instance: Instance) -> None:
    leaf_of = {node: leaf for leaf, nodes in enumerate(instance.leaf_nodes) for node in nodes}
    assert sorted(leaf_of) == list(range(len(instance.free_gpus)))
    assert [leaf for pod in instance.spine_pods for leaf in pod] == list(
        range(len(instance.leaf_models))
    )
    for pieces in all_held(instance):
        assert len({leaf_of[piece.node] for piece in pieces}) == 1
    for group in instance.groups:
        service = instance.services[group.service]
        assert instance.leaf_models[leaf_of[group.pieces[0].node]] in service.gpu_models
        assert sum(piece.gpus for piece in group.pieces) == service.gpus
    for gang in instance.gangs:
        assert sum(piece.gpus for piece in gang.pieces) == gang.gpus


@given(fleets)
@settings(max_examples=30, deadline=None)
def test_the_event_wants_something_and_batch_waits(instance: Instance) -> None:
    assert len(instance.wanted_groups) == len(instance.services)
    assert instance.wanted_gpus > 0
    waiting = sum(gangs.gpus * gangs.count for gangs in instance.pending)
    assert waiting >= 0.1 * GPUS_PER_NODE * len(instance.free_gpus)


def test_a_small_change_is_at_most_three_services_of_the_same_fleet() -> None:
    full, small = generate(256, 3), generate(256, 3, small=True)
    kept = [groups for groups in small.wanted_groups if groups]
    assert len(kept) == 3
    assert set(kept) <= {1, 2}
    assert small.gangs == full.gangs
    assert small.pending == full.pending


def test_departures_reach_the_occupancy() -> None:
    free = [sum(generate(128, 5, occupancy=share).free_gpus) for share in (0.9, 0.7, 0.5)]
    assert free[0] >= 103
    assert free[1] >= 308
    assert free[2] >= 512
    assert free == sorted(free)


@pytest.mark.parametrize(
    ("nodes", "shares", "named"),
    [
        (7, {}, "nodes is 7"),
        (64, {"occupancy": 0.97}, "occupancy is 0.97"),
        (64, {"occupancy": 0.0}, "occupancy is 0.0"),
        (64, {"online": 0.95}, "online is 0.95"),
        (64, {"growth": -0.1}, "growth is -0.1"),
        (64, {"pending": -1.0}, "pending is -1.0"),
    ],
)
def test_what_cannot_be_drawn_is_named(nodes: int, shares: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        generate(nodes, 0, **shares)  # type: ignore[arg-type]  # shares only, never `small`


def service(prefill_gpus: int, decode_gpus: int, models: tuple[int, ...] = (0,)) -> Service:
    return Service(
        prefill_gpus=prefill_gpus,
        decode_gpus=decode_gpus,
        prefill_pods=1,
        decode_pods=1,
        gpu_models=models,
    )


def gang(number: int, hours: float, *pieces: tuple[int, int]) -> RunningGang:
    """A gang that costs hours + 0.1 per GPU; pieces as (node, GPUs)."""
    return RunningGang(
        number=number,
        gpus=sum(gpus for _, gpus in pieces),
        priority=1,
        hours_since_checkpoint=hours,
        pieces=tuple(Piece(node, gpus) for node, gpus in pieces),
    )


def fleet(
    leaves: tuple[tuple[int, ...], ...], wanted: Service, *gangs: RunningGang, groups: int = 1
) -> Instance:
    """Leaves of one spine pod and one GPU model, given as free GPUs per node."""
    ends = [sum(len(leaf) for leaf in leaves[:i]) for i in range(len(leaves) + 1)]
    return Instance(
        leaf_nodes=tuple(tuple(range(ends[i], ends[i + 1])) for i in range(len(leaves))),
        leaf_models=(0,) * len(leaves),
        spine_pods=(tuple(range(len(leaves))),),
        free_gpus=tuple(free for leaf in leaves for free in leaf),
        services=(wanted,),
        groups=(Group(0, ()),),
        gangs=gangs,
        wanted_groups=(groups,),
        pending=(PendingGangs(1, 1, 1),),
    )


@pytest.mark.parametrize(
    ("instance", "unserved", "loss"),
    [
        pytest.param(fleet(((8,),), service(4, 4)), 0, 0.0, id="fits"),
        pytest.param(fleet(((4, 4),), service(1, 8)), 9, 0.0, id="halves-are-no-whole"),
        pytest.param(fleet(((4,), (4,)), service(4, 4)), 0, 0.0, id="split-over-leaves"),
        pytest.param(fleet(((8,), (8,)), service(16, 1)), 17, 0.0, id="one-pod-never-split"),
        pytest.param(fleet(((8,),), service(4, 4, (1,))), 8, 0.0, id="wrong-gpu-model"),
        pytest.param(
            fleet(((0,),), service(1, 1), gang(0, 0.9, (0, 2)), gang(1, 1.9, (0, 2))),
            0,
            2.0,
            id="cheaper-gang-is-killed",
        ),
        pytest.param(
            fleet(((0, 8),), service(8, 8), gang(0, 0.9, (0, 3)), gang(1, 0.9, (0, 5))),
            0,
            8.0,
            id="a-whole-node-takes-all-its-gangs",
        ),
        pytest.param(
            fleet(((1,),), service(2, 2), gang(0, 0.9, (0, 3)), gang(1, 0.9, (0, 1))),
            0,
            3.0,
            id="slots-gained-are-rounded-down",
        ),
        pytest.param(
            fleet(((1,),), service(2, 2), gang(0, 0.9, (0, 3))), 0, 3.0, id="free-and-gained-join"
        ),
        pytest.param(
            fleet(((0, 0),), service(4, 4), gang(0, 0.9, (0, 4), (1, 4)), gang(1, 0.4, (1, 4))),
            0,
            8.0,
            id="a-gang-frees-all-its-nodes",
        ),
        pytest.param(
            fleet(((0,),), service(4, 4), gang(0, 0.9, (0, 4)), groups=2), 16, 0.0, id="no-use"
        ),
    ],
)
def test_reference_solve_by_hand(instance: Instance, unserved: int, loss: float) -> None:
    found = reference.optimum(instance)
    assert found.unserved_gpus == unserved
    assert found.loss == pytest.approx(loss)


def test_the_machine_is_measured_with_its_rod() -> None:
    since = reference.start()
    sum(range(10**6))
    machine = reference.machine(since)
    assert machine.cpu_seconds > 0
    assert machine.cores >= 1
    assert machine.peak_rss_mib > 10
    assert machine.wall_seconds > 0
    assert machine.reference_seconds > 0
