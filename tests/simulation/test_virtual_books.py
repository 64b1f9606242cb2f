"""The event stream of the virtual cluster: deterministic, complete, and in balance."""

import io
import json
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.planning.actions import (
    Action,
)
from scheduler.planning.snapshot import Snapshot
from scheduler.simulation.cluster import (
    JOB_STREAM,
    VirtualCluster,
    stream,
)
from scheduler.simulation.clusterfile import build
from scheduler.simulation.events import (
    Event,
    FileSink,
    JobLine,
    LoanLine,
    NodeLine,
    ReplicaLine,
    Slo,
    ViolationLine,
)
from scheduler.simulation.faults import (
    NodeLoss,
)
from scheduler.simulation.jobs import DrawnJobs
from scheduler.simulation.score import Figures, Score
from tests.simulation.virtual import (
    STEP,
    WORLD,
    Nowhere,
    held,
    job,
    made,
    notify,
    resize,
    scale,
    start,
    stop,
)


def scripted(cluster: VirtualCluster, moves: Sequence[int]) -> None:
    """Do what the numbers say, whether it makes sense or not."""
    for move in moves:
        snapshot = cluster.observe()
        role = snapshot.roles[move % len(snapshot.roles)]
        actions: list[Action] = []
        if move % 5 < 2:
            actions.append(scale(move % 7, role.replicas, role=role.key))
        for index, one in enumerate(snapshot.jobs):
            choice = (move + index) % 6
            if one.state == "queued" and choice < 3:
                actions.append(start(one.id, one.attempt, one.pods))
            elif choice == 3:
                actions.append(notify(one.id, one.attempt, role.key))
            elif choice == 4:
                actions.append(stop(one.id, one.attempt, role.key))
            elif one.max_pods > 1:
                actions.append(resize(one.min_pods, name=one.id, attempt=one.attempt))
        cluster.apply(tuple(actions), 0)
        cluster.advance(cluster.now_seconds + STEP * (1 + move % 9))


def drawn_run(moves: Sequence[int], *, seed: int = 1) -> tuple[VirtualCluster, list[Event]]:
    loss = NodeLoss(kind="node_loss", node="node-0002", at_seconds=400.0, for_seconds=300.0)
    jobs = DrawnJobs(WORLD.batch, build(4), stream(seed, JOB_STREAM))
    cluster, events = made(nodes=4, steps=300, start=-300.0, source=jobs, faults=(loss,), seed=seed)
    scripted(cluster, moves)
    cluster.advance(1e9)
    return cluster, events


def scored(cluster: VirtualCluster, events: list[Event]) -> Figures:
    fold = Score(STEP, cluster.end_seconds)
    for event in events:
        fold(event)
    return fold.figures()


def test_the_same_inputs_give_the_same_bytes() -> None:
    files = []
    for seed in (1, 1, 2):
        file = io.BytesIO()
        sink = FileSink(file)
        for event in drawn_run([3, 1, 4, 1, 5, 9, 2, 6], seed=seed)[1]:
            sink(event)
        files.append(file.getvalue())
    assert files[0] == files[1] != files[2]
    assert b"job" in files[0]
    assert json.loads(files[0].splitlines()[0])["t"] == -300.0


@settings(max_examples=12)
@given(st.lists(st.integers(0, 200), min_size=3, max_size=25))
def test_whatever_is_done_devices_and_books_hold(moves: list[int]) -> None:
    cluster, events = drawn_run(moves)
    assert not [event for event in events if isinstance(event, ViolationLine)]
    times = [event.t for event in events]
    assert times == sorted(times)
    snapshot = cluster.observe()
    pods = [(r.id, pod) for r in snapshot.replicas for pod in r.pods]
    pods += [(j.id, pod) for j in snapshot.jobs for pod in j.placed]
    bound = [(owner, pod) for owner, pod in pods if pod.node]
    assert all(len(pod.devices) == pod.gpus for _, pod in bound)
    claims = Counter((pod.node, index) for _, pod in bound for index in pod.devices)
    assert max(claims.values(), default=1) == 1
    assert held(snapshot) == Counter(owner for owner, pod in bound for _ in pod.devices)
    assert_same_gpus(events, snapshot)
    figures = scored(cluster, events)
    assert figures.violations == 0
    assert 0 <= figures.allocated_utilisation <= 1
    assert figures.wasted_gpu_hours >= 0


def assert_same_gpus(events: list[Event], snapshot: Snapshot) -> None:
    """What the last lines hold is what the nodes hold."""
    last: dict[str, tuple[str, ...]] = {}
    for event in events:
        if isinstance(event, JobLine | ReplicaLine):
            last[event.id] = event.gpus
    names = Counter(name for gpus in last.values() for name in gpus)
    assert max(names.values(), default=1) == 1
    assert set(names) == {
        f"{node.name}/{device.index}"
        for node in snapshot.nodes
        for device in node.devices
        if device.holders
    }


def test_everything_alive_has_a_line_at_0_and_at_the_end() -> None:
    cluster, events = drawn_run([0, 1, 2, 3, 5, 6])
    for moment, now in ((0.0, None), (cluster.end_seconds, cluster.observe())):
        named = {e.id for e in events if isinstance(e, JobLine | NodeLine) and e.t == moment}
        assert {f"node-000{n}" for n in range(1, 5)} <= named
        if now is not None:
            assert {one.id for one in now.jobs} <= named


def test_the_unfinished_is_missed_at_the_end() -> None:
    cluster, events = made(steps=24)
    cluster.advance(1e9)
    due = sum(event.tokens_due for event in events if isinstance(event, Slo))
    assert due == pytest.approx(24 * 20 * 1200)
    assert scored(cluster, events).slo_attainment == 0.0


def test_a_loan_is_said_when_it_is_granted() -> None:
    cluster, events = made(jobs=[job()])
    cluster.apply((start(),), 0)
    assert [event for event in events if isinstance(event, LoanLine)] == [
        LoanLine(0.0, "loan-j-0", 8, 3600.0)
    ]


def test_what_did_not_change_is_the_same_object() -> None:
    cluster, _ = made(nodes=4, jobs=[job()], placer=Nowhere())
    cluster.apply((scale(2, 0),), 0)
    before = cluster.observe()
    cluster.advance(60.0)
    after = cluster.observe()
    for name in ("nodes", "roles", "replicas", "jobs"):
        pairs = zip(getattr(before, name), getattr(after, name), strict=True)
        assert all(one is other for one, other in pairs)
