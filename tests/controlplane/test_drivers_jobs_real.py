"""Drivers of batch Jobs against the real API server, its controllers, and the fake kubelet."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from scheduler.planning.actions import NotifyJob, ResizeJob, StartJob, StopJob
from scheduler.planning.snapshot import Loan, Reservation
from tests.controlplane.acting import JOBS, ROLE, Tidal, ready, template, tidal_on
from tests.controlplane.kinds.world import Object, World, eventually

EXIT = "tidal.dev/sim-exit-seconds"
ENDLESS = 1_000_000
"""Seconds of a termination, until the annotation says another number."""


@pytest.fixture
def tidal(world: World) -> Iterator[Tidal]:
    with tidal_on(world) as one:
        yield one


def job(name: str, pods: int, **more: Any) -> Object:  # noqa: ANN401
    spec = {
        "suspend": True,
        "parallelism": pods,
        "completions": pods,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "template": template(name, restartPolicy="Never", **more.get("pod", {})),
    }
    labels = {"tidal.dev/queue": "q"}
    metadata = {"name": name, "labels": labels, "annotations": more.get("notes", {})}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def start(world: World, name: str, pods: int, attempt: int = 0) -> StartJob:
    whose = f"{world.namespace}/{name}"
    loan = Loan(
        id="l",
        job=whose,
        gpus=pods,
        granted_seconds=0.0,
        return_by_seconds=1.0,
        promised_p99_seconds=1.0,
    )
    return StartJob(
        job=whose,
        expected_attempt=attempt,
        pods=pods,
        loan=loan,
        code="lend",
        sentence="because",
    )


def stop(world: World, name: str, attempt: int = 1) -> StopJob:
    return StopJob(
        job=f"{world.namespace}/{name}",
        expected_attempt=attempt,
        for_role=ROLE,
        code="deadline",
        sentence="because",
    )


def test_a_job_is_started_warned_stopped_and_started_again(tidal: Tidal) -> None:
    world = tidal.world
    body = job("j", 3, pod={"terminationGracePeriodSeconds": ENDLESS})
    body["spec"]["template"]["metadata"]["annotations"] = {EXIT: str(ENDLESS)}
    world.make(JOBS, body)
    assert tidal.apply(start(world, "j", 3)) == (True, "")
    first = ready(world, "j", 3)
    notice = NotifyJob(
        job=f"{world.namespace}/j",
        expected_attempt=1,
        deadline_seconds=2_000_000_000.0,
        for_role=ROLE,
        code="recall",
        sentence="because",
    )
    assert tidal.apply(notice) == (True, "")
    for name in first:
        notes = world.read("pods", name)["metadata"]["annotations"]
        assert notes["tidal.dev/notice-deadline"] == "2033-05-18T03:33:20Z"
    assert tidal.apply(stop(world, "j")) == (True, "")
    assert tidal.apply(start(world, "j", 3, 1)) == (
        False,
        "3 pods of the run before are still there",
    )
    for name in first:
        world.api.patch(
            world.path("pods", name), {"metadata": {"annotations": {EXIT: "0"}}}, "merge"
        )
    ready(world, "j", 0)
    found = world.read(JOBS, "j")
    assert found["spec"]["suspend"] is True
    assert "failed" not in found["status"], "an eviction would count against backoffLimit 0"
    assert "tidal.dev/loan" not in found["metadata"]["annotations"]
    assert tidal.apply(start(world, "j", 3, 1)) == (True, "")
    ready(world, "j", 3)
    notes = world.read(JOBS, "j")["metadata"]["annotations"]
    assert notes["tidal.dev/attempt"] == "2"
    assert "tidal.dev/notice-deadline" not in notes


def test_a_budget_holds_one_job_back_and_another_goes(tidal: Tidal) -> None:
    world = tidal.world
    for name in ("kept", "free"):
        world.make(JOBS, job(name, 2))
        assert tidal.apply(start(world, name, 2)) == (True, "")
        ready(world, name, 2)
    selector = {"matchLabels": {"app": "kept"}}
    world.make(
        "policy/v1/poddisruptionbudgets",
        {"metadata": {"name": "b"}, "spec": {"minAvailable": 2, "selector": selector}},
    )
    budget = "policy/v1/poddisruptionbudgets"
    eventually(lambda: world.read(budget, "b")["status"].get("currentHealthy"), "budget counted")
    tidal.see()
    both = (stop(world, "kept"), stop(world, "free"))
    kept, free = tidal.actuator.apply(both, 1)
    assert (kept.applied, free.applied) == (False, True)
    assert list(tidal.actuator.blocked(time.time())) == [f"{world.namespace}/kept"]
    ready(world, "free", 0)
    assert len(ready(world, "kept", 2)) == 2
    assert world.read(JOBS, "kept")["spec"]["suspend"] is False


def test_the_server_is_asked_even_where_the_watches_show_no_budget(tidal: Tidal) -> None:
    world = tidal.world
    world.make(JOBS, job("j", 1))
    assert tidal.apply(start(world, "j", 1)) == (True, "")
    ready(world, "j", 1)
    tidal.see()
    tidal.watching.stop()  # from here on what is observed is old
    selector = {"matchLabels": {"app": "j"}}
    budget = "policy/v1/poddisruptionbudgets"
    world.make(
        budget, {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": selector}}
    )
    eventually(lambda: world.read(budget, "b")["status"].get("currentHealthy"), "budget counted")
    (outcome,) = tidal.actuator.apply((stop(world, "j"),), 1)
    assert outcome.detail == "The disruption budget b needs 1 healthy pods and has 1 currently"
    assert world.read(JOBS, "j")["spec"]["suspend"] is False


def test_an_elastic_job_loses_its_highest_indices(tidal: Tidal) -> None:
    world = tidal.world
    notes = {"tidal.dev/min-pods": "1", "tidal.dev/max-pods": "4"}
    world.make(JOBS, job("j", 2, notes=notes))
    assert tidal.apply(start(world, "j", 4)) == (True, "")
    names = ready(world, "j", 4)
    action = ResizeJob(
        job=f"{world.namespace}/j",
        expected_attempt=1,
        pods=2,
        release=tuple(names[2:]),
        code="shrink",
        sentence="because",
    )
    assert tidal.apply(action) == (True, "")
    assert ready(world, "j", 2) == names[:2]
    assert world.read(JOBS, "j")["spec"]["completions"] == 2


# ---- gates -----------------------------------------------------------------------------------


def test_a_gated_gang_goes_to_its_nodes_when_it_has_them(tidal: Tidal) -> None:
    world = tidal.world
    gates = {"schedulingGates": [{"name": "tidal.dev/gang"}]}
    world.make(JOBS, job("j", 2, pod=gates))
    assert tidal.apply(start(world, "j", 2)) == (True, "")
    eventually(lambda: len(world.all("pods", "app=j")) == 2, "two gated pods")
    tidal.see()
    kept = Reservation(
        id="R",
        owner=f"{world.namespace}/j",
        parts=(("n-0001", 1), ("n-0002", 1)),
        created_seconds=time.time(),
        expires_seconds=time.time() + 300,
    )
    tidal.actuator.reserve((), 1)
    assert all("nodeName" not in one["spec"] for one in world.all("pods", "app=j"))
    tidal.actuator.reserve((kept,), 1)
    assert tidal.actuator.problems == ()
    ready(world, "j", 2)
    every = world.all("pods", "app=j")
    assert sorted(one["spec"]["nodeName"] for one in every) == ["n-0001", "n-0002"]
