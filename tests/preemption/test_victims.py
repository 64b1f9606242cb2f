"""Gangs of elastic jobs, and from stopped gangs back to jobs that go or shrink."""

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from binpacking.ladder import solve
from binpacking.problem import Packing, Placed, Problem, Shape
from preemption.values import Claimant
from preemption.victims import SURPLUS, Demand, demands, gangs
from tests.binpacking.problems import FULL, QUICK, online, supply
from tests.preemption.claimants import NOW, elastic

JOB = elastic(2, "a", "b", "c", "d")


def asked(*claimants: Claimant, replicas: int, gpus: int = 8) -> tuple[Problem, Packing]:
    problem = Problem(
        supplies=tuple(supply(name, 0) for name in "abcd"),
        online=(online("m", gpus, 1000 * replicas),),
        gangs=gangs(claimants, NOW, notice_seconds=0),
    )
    return problem, solve(problem, FULL)


def test_an_elastic_job_is_two_gangs_and_the_surplus_is_cheaper() -> None:
    rest, surplus = gangs((JOB,), NOW, notice_seconds=0)
    assert (rest.key, rest.parts) == ("job", (("a", 8), ("b", 8)))
    assert (surplus.key, surplus.parts) == ("job" + SURPLUS, (("c", 8), ("d", 8)))
    assert surplus.cost < rest.cost


def test_a_rigid_job_is_one_gang() -> None:
    (whole,) = gangs((elastic(0, "a", "b"),), NOW, notice_seconds=0)
    assert whole.parts == (("a", 8), ("b", 8))


def test_it_is_shrunk_no_further_than_needed_and_killed_only_where_that_will_not_do() -> None:
    for replicas, demand in [
        (2, Demand("job", 2, whole=False)),
        (3, Demand("job", 4, whole=True)),
    ]:
        problem, packing = asked(JOB, replicas=replicas)
        assert packing.unserved == {}
        assert demands(problem, packing, (JOB,)) == (demand,)


def test_pods_go_from_the_end() -> None:
    """The replica stands where the last pod was; the pod before it stays."""
    problem, _ = asked(JOB, replicas=1)
    for node, pods in [("d", 1), ("c", 2)]:
        packing = Packing(online=(Placed("m", ((node, 8),)),), killed=("job" + SURPLUS,))
        assert demands(problem, packing, (JOB,)) == (Demand("job", pods, whole=False),)


def test_two_that_shrink_on_a_node_do_not_stay_for_the_same_room() -> None:
    pair = tuple(
        elastic(1, "a", "b", gpus=4, key=key, restart_seconds=restart)
        for key, restart in [("x", 0), ("y", 0)]
    )
    problem = Problem(
        supplies=(supply("a", 0), supply("b", 0)),
        online=(online("m", 4, 1000),),
        gangs=gangs(pair, NOW, notice_seconds=0),
    )
    packing = Packing(
        online=(Placed("m", (("b", 4),)),), killed=tuple(one.key + SURPLUS for one in pair)
    )
    assert demands(problem, packing, pair) == (Demand("y", 1, whole=False),)


def test_pods_go_for_their_cpu_as_well() -> None:
    """GPUs are free on both nodes; the replica lacks the CPU that a surplus pod holds."""
    claimant = elastic(1, "a", "b", "c", cpu_milli_per_pod=6)
    free = (("a", 0), ("b", 0), ("c", 4))
    problem = Problem(
        supplies=tuple(
            msgspec.structs.replace(supply(name, 8), cpu_milli=cpu) for name, cpu in free
        ),
        online=(msgspec.structs.replace(online("m", 1, 1000), shape=Shape(1, 1, 9)),),
        gangs=gangs((claimant,), NOW, notice_seconds=0),
    )
    packing = solve(problem, FULL)
    assert [placed.parts for placed in packing.online] == [(("c", 1),)]
    assert demands(problem, packing, (claimant,)) == (Demand("job", 1, whole=False),)


shapes = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=3)


@given(shapes, st.integers(1, 4), st.sampled_from([1, 2, 4]), st.sampled_from([QUICK, FULL]))
def test_what_is_asked_of_jobs_makes_room_and_no_pod_goes_in_vain(
    drawn: list[tuple[int, int]], replicas: int, gpus: int, effort: object
) -> None:
    everybody, names = [], "abcd"
    for number, (least, pods) in enumerate(drawn):
        nodes = [names[(number + pod) % 4] for pod in range(pods)]
        everybody.append(elastic(min(least, pods), *nodes, gpus=2, key=f"j{number}"))
    problem = Problem(
        supplies=tuple(supply(name, 0) for name in names),
        online=(online("m", gpus, 1000 * replicas, limit=replicas),),
        gangs=gangs(everybody, NOW, notice_seconds=0),
    )
    packing = solve(problem, effort)  # type: ignore[arg-type]
    taken = demands(problem, packing, everybody)
    jobs = {one.key: one for one in everybody}
    room: Counter[str] = Counter()
    for demand in taken:
        parts = jobs[demand.key].parts
        assert demand.whole or len(parts) - demand.pods >= jobs[demand.key].least_pods
        for node, freed in parts[len(parts) - demand.pods :]:
            room[node] += freed
    for placed in packing.online:
        for node, used in placed.parts:
            room[node] -= used
    assert min(room.values(), default=0) >= 0
    for demand in taken:
        if not demand.whole:  # the first that goes could not have stayed
            node, freed = jobs[demand.key].parts[len(jobs[demand.key].parts) - demand.pods]
            assert room[node] < freed
