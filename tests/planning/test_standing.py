"""The standing made of a snapshot and a plan: victims, what is released, binds that wait."""

from typing import Literal

import msgspec

from binpacking.inventory import Device, Holder, Node
from scheduler.planning.actions import Action, Plan, ResizeJob, ScaleRole, StopJob
from scheduler.planning.snapshot import Job, Pod, Replica, Snapshot
from scheduler.planning.standing import Standing, standing_of
from tests.planning.standings import NOW, POLICY

JobState = Literal["running", "starting", "notified", "stopping"]
ReplicaState = Literal["starting", "ready", "draining"]


def device(index: int, owner: str = "") -> Device:
    return Device(index, f"d{index}", 80, holders=(Holder(owner),) if owner else ())


def job(
    name: str, node: str, state: JobState = "running", pods: int = 1, *, leaving: bool = False
) -> Job:
    pod = Pod(
        name=f"{name}-0", uid=f"{name}-0", gpus=1, node=node, bound_seconds=5.0, leaving=leaving
    )
    return Job(
        id=name,
        tenant="t",
        priority=1,
        state=state,
        pods=pods,
        gpus_per_pod=1,
        min_pods=pods,
        max_pods=pods,
        submitted_seconds=0.0,
        started_seconds=0.0,
        expected_remaining_seconds=60.0,
        placed=(pod,),
    )


def replica(name: str, *nodes: str, state: ReplicaState = "starting") -> Replica:
    pods = (Pod(name=f"{name}-{i}", uid=f"{name}-{i}", gpus=1, node=n) for i, n in enumerate(nodes))
    return Replica(id=name, role="chat/decode", state=state, pods=tuple(pods))


def stood(
    *actions: Action, jobs: tuple[Job, ...] = (), replicas: tuple[Replica, ...] = ()
) -> Standing:
    holders = [*(one.id for one in jobs), *(one.id for one in replicas)]
    node = Node(
        name="a",
        gpu_model="H",
        switch_path=("s0",),
        devices=tuple(device(i, owner) for i, owner in enumerate([*holders, "stranger", ""])),
    )
    snapshot = Snapshot(now_seconds=NOW, nodes=(node,), jobs=jobs, replicas=replicas)
    return standing_of(snapshot, Plan(at_seconds=NOW, source="full", actions=actions), POLICY)


def stop(name: str) -> StopJob:
    return StopJob(job=name, expected_attempt=0, for_role="r", code="recall_now", sentence="")


def test_victims_are_only_the_pods_that_are_on_their_way_out() -> None:
    release = ResizeJob(
        job="j3", expected_attempt=0, pods=0, release=("j3-0",), code="shrink", sentence=""
    )
    sent = (job("j4", "a", "stopping", leaving=True), job("j5", "a", "stopping"))
    jobs = (job("j1", "a"), job("j2", "a"), job("j3", "a"), *sent)
    one = stood(stop("j1"), release, jobs=jobs)
    assert [victim.uid for victim in one.victims] == ["j4-0"], "j5: a budget holds it back"
    assert (one.nodes[0].free, one.nodes[0].releasing) == (1, 4)
    assert one.nodes[0].leaving == ("j1", "j3", "j4", "j5")
    assert one.stopping == ("j1", "j4", "j5")


def test_jobs_under_notice_and_retiring_replicas_release_without_being_victims() -> None:
    scale = ScaleRole(
        role="chat/decode",
        expected_replicas=2,
        replicas=1,
        retire=("r1",),
        code="demand_falls",
        sentence="",
    )
    replicas = (replica("r1", "a", state="ready"), replica("r2", "a", state="draining"))
    one = stood(scale, jobs=(job("j1", "a", "notified"),), replicas=replicas)
    assert one.victims == ()
    assert one.nodes[0].releasing == 3
    assert one.nodes[0].leaving == ("chat/decode", "j1")


def test_only_pods_of_groups_that_still_wait_are_told() -> None:
    replicas = (replica("r1", "a", ""), replica("r2", "a"))
    one = stood(jobs=(job("j1", "a", "starting", pods=2), job("j2", "a")), replicas=replicas)
    assert [(bind.uid, bind.owner, bind.group) for bind in one.bound] == [
        ("r1-0", "chat/decode", "r1"),
        ("j1-0", "j1", "j1"),
    ]
    assert set(one.seen) == {"r1-0", "r2-0", "stranger"}
    assert one.jobs == ("j1",)


def test_a_standing_is_small_and_survives_its_encoding() -> None:
    one = stood(stop("j1"), jobs=(job("j1", "a"),), replicas=(replica("r1", "a", ""),))
    encoded = msgspec.msgpack.encode(one)
    assert msgspec.msgpack.decode(encoded, type=Standing) == one
    assert len(encoded) < 500
