"""Nodes that do not take everybody: who is planned where, and what is said of those without."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binpacking.inventory import Node
from scheduler.planning.actions import Plan, ScaleRole, StartJob
from scheduler.planning.admission import refusals, varieties
from scheduler.planning.invariants import broken_by
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from scheduler.planning.snapshot import Reservation, Snapshot
from tests.fixtures.worlds import (
    H100,
    forecasts,
    job,
    node,
    policy,
    replica,
    role,
    signal,
    world,
)

SHUT = {"n1": "taint team=a:NoSchedule is not tolerated"}


def fenced(name: str, held: dict[int, str] | None = None, section: str = "n1") -> Node:
    return msgspec.structs.replace(node(name, held), section=section)


def planned(snapshot: Snapshot, effort: str = "full") -> Plan:
    found, _ = plan(snapshot, Memory(), policy(), effort)
    assert broken_by(snapshot, found) == ()
    return found


def places(found: Plan) -> dict[str, set[str]]:
    where: dict[str, set[str]] = {}
    for one in found.reservations:
        where.setdefault(one.owner, set()).update(name for name, _ in one.parts)
    return where


@pytest.mark.parametrize("effort", ["full", "quick", "heuristic"])
def test_a_role_grows_where_its_pods_may_go(effort: str) -> None:
    serving = world(
        fenced("n1"),
        node("n2", {0: "r0", 1: "r0"}),
        roles=(role(1, shut=SHUT),),
        replicas=(replica("r0", "n2"),),
        signals=(signal(2500.0),),
        forecasts=forecasts(2500.0),
    )
    found = planned(serving, effort)
    assert [one.replicas for one in found.actions if isinstance(one, ScaleRole)] == [3]
    assert places(found) == {"chat/decode": {"n2"}}


def test_nodes_of_the_few_are_taken_first() -> None:
    serving = world(
        node("n0"),
        fenced("n1"),
        roles=(role(1),),
        replicas=(replica("r0", ""),),
        jobs=(job("j", shut=SHUT),),
        signals=(signal(900.0),),
        forecasts=forecasts(900.0),
    )
    assert places(planned(serving))["chat/decode"] == {"n1"}


def test_no_job_is_stopped_on_a_node_that_would_not_serve_the_role() -> None:
    held = dict.fromkeys(range(8), "j")
    serving = world(
        fenced("n1", held=held),
        node("n2", {0: "r0", 1: "r0", **dict.fromkeys(range(2, 8), "x")}),
        roles=(role(1, shut=SHUT),),
        replicas=(replica("r0", "n2"),),
        jobs=(job("j", {"n1": 8}),),
        signals=(signal(2500.0),),
        forecasts=forecasts(2500.0),
    )
    found = planned(serving)
    assert found.actions == ()
    (lack,) = found.unplaced
    assert lack.sentence.endswith(f"; n1 is not for its pods: {SHUT['n1']}")


def test_a_job_goes_where_it_may_and_one_that_may_nowhere_waits_and_says_so() -> None:
    idle = world(
        fenced("n1"),
        node("n2", dict.fromkeys(range(6), "x")),
        jobs=(job("a", shut=SHUT), job("b", shut=SHUT | {"": "node selector disk=ssd"})),
        forecasts=forecasts(0.0),
    )
    found = planned(idle)
    assert [one.job for one in found.actions if isinstance(one, StartJob)] == ["a"]
    assert places(found) == {"a": {"n2"}}
    assert refusals(idle, idle.jobs[1]) == (
        "n2 is not for its pods: node selector disk=ssd",
        f"n1 is not for its pods: {SHUT['n1']}",
    )


def test_a_place_on_a_node_that_was_shut_since_is_void() -> None:
    old = Reservation(
        id="r", owner="a", parts=(("n1", 2),), created_seconds=9_990.0, expires_seconds=10_290.0
    )
    idle = world(
        fenced("n1"),
        node("n2"),
        jobs=(job("a", shut=SHUT),),
        reservations=(old,),
        forecasts=forecasts(0.0),
    )
    assert places(planned(idle)) == {"a": {"n2"}}


@pytest.mark.parametrize(
    ("models", "shut", "expected"),
    [
        ((), {}, ()),
        ((H100,), {}, (f"{H100} like n1", H100)),
        (("A100",), {}, ("A100",)),
        ((), SHUT, (H100,)),
        ((H100,), SHUT, (H100,)),
        ((), {"": "x"}, (f"{H100} like n1",)),
        ((), SHUT | {"": "x"}, None),
        ((H100,), SHUT | {"": "x"}, None),
    ],
)
def test_what_a_job_may_use(
    models: tuple[str, ...], shut: dict[str, str], expected: tuple[str, ...] | None
) -> None:
    there = varieties(world(node("n0"), fenced("n1")))
    assert there.models(job("j", gpu_models=models, shut=shut)) == expected


NAMES = ("n0", "n1", "n2", "n3")


@given(
    sections=st.tuples(*[st.sampled_from(("", "n1", "n2"))] * len(NAMES)),
    shut=st.lists(st.sets(st.sampled_from(("", "n1", "n2"))), min_size=1, max_size=6),
    effort=st.sampled_from(("full", "heuristic")),
)
def test_nobody_is_planned_where_he_may_not_go(
    sections: tuple[str, ...], shut: list[set[str]], effort: str
) -> None:
    """And what may go somewhere is started while there is room: each node holds all."""
    nodes = (fenced(name, section=at) for name, at in zip(NAMES, sections, strict=True))
    jobs = tuple(
        job(f"j{number}", {}, shut=dict.fromkeys(sorted(each), "why"), state="queued", attempt=0)
        for number, each in enumerate(shut)
    )
    jobs = tuple(msgspec.structs.replace(one, gpus_per_pod=1, started_seconds=None) for one in jobs)
    found = planned(world(*nodes, jobs=jobs, forecasts=forecasts(0.0)), effort)
    started = {one.job for one in found.actions if isinstance(one, StartJob)}
    assert started == {one.id for one in jobs if set(sections) - one.shut.keys()}
