"""Drivers and actuator against the real API server, its controllers, and the fake kubelet.

RoleBasedGroup and LeaderWorkerSet have the stand-in controllers of `tests.controlplane.kinds`.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from scheduler.adapters.cluster.actuator import KubernetesActuator
from scheduler.adapters.cluster.drivers.writing import Cluster
from scheduler.adapters.cluster.watching import Watching
from scheduler.apiserver.objects import Job, Pod, Replicated
from scheduler.planning.actions import NotifyJob, ResizeJob, ScaleRole, StartJob, StopJob
from scheduler.planning.policy import Policy, parse
from scheduler.planning.snapshot import Loan, Reservation
from scheduler.simulation.clusterfile import parse_cluster
from scheduler.simulation.kubelet.manners import Manners
from scheduler.simulation.kubelet.shell import FakeKubelet
from tests.controlplane.kinds.controller import StandIn
from tests.controlplane.kinds.world import Object, World, condition, eventually

RATE = 10.0
MANNERS = Manners(start_seconds=0.5, exit_seconds=3.0, image_mib=1, pull_mib_per_second=1000)
NODES = {"name": "n", "count": 2, "gpus": 8, "gpu_model": "H100-SXM-80GB", "leaf_nodes": 2}
DEPLOYMENTS, STATEFUL_SETS = "apps/v1/deployments", "apps/v1/statefulsets"
LWS = "leaderworkerset.x-k8s.io/v1/leaderworkersets"
RBG = "workloads.x-k8s.io/v1alpha2/rolebasedgroups"
ADAPTERS = "workloads.x-k8s.io/v1alpha2/rolebasedgroupscalingadapters"
INSTANCES = "workloads.x-k8s.io/v1alpha2/roleinstances"
JOBS = "batch/v1/jobs"
EXIT = "tidal.dev/sim-exit-seconds"
ENDLESS = 1_000_000
"""Seconds of a termination, until the annotation says another number."""
ROLE = "m/r"
Kept = Replicated | Job | Pod


class Tidal:
    """The actuator over watches of the real server; `told` are the Events it would make."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told: list[str] = []
        self.watching = Watching(world.api, ("nvidia.com/gpu",), discovery_seconds=0.5)
        self.watching.start()
        self._policy = _policy(world.namespace, "Deployment", "d")
        self.actuator = KubernetesActuator(
            Cluster(
                api=world.api,
                observed=self.watching.observed,
                versions=lambda: self.watching.versions,
                policy=lambda: self._policy,
                now_seconds=time.time,
                tell=lambda _about, _kind, reason, _message: self.told.append(reason),
            ),
        )

    def targets(self, kind: str, name: str, role: str = "") -> None:
        self._policy = _policy(self.world.namespace, kind, name, role)

    def close(self) -> None:
        self.actuator.close()
        self.watching.stop()

    def scale(self, expected: int, replicas: int, *retire: str, epoch: int = 1) -> tuple[bool, str]:
        action = ScaleRole(
            role=ROLE,
            expected_replicas=expected,
            replicas=replicas,
            retire=tuple(f"{self.world.namespace}/{one}" for one in retire),
            code="demand_falls",
            sentence="because",
        )
        return self.apply(action, epoch)

    def apply(self, action: Any, epoch: int = 1) -> tuple[bool, str]:  # noqa: ANN401
        self.see()
        (outcome,) = self.actuator.apply((action,), epoch)
        return outcome.applied, outcome.detail

    def see(self) -> None:
        """Wait until the watches show what the server has, so that only real races are left."""
        here = self.world.namespace

        def caught_up() -> bool:
            if not self.watching.synced:
                return False
            seen = self.watching.observed()
            every: dict[str, tuple[Kept, ...]] = {
                DEPLOYMENTS: seen.deployments,
                STATEFUL_SETS: seen.stateful_sets,
                JOBS: seen.jobs,
                "pods": seen.pods,
            }
            return all(
                {one.metadata.resource_version for one in found if one.metadata.namespace == here}
                == {one["metadata"]["resourceVersion"] for one in self.world.all(resource)}
                for resource, found in every.items()
            )

        eventually(caught_up, "watches caught up")


def _policy(namespace: str, kind: str, name: str, role: str = "") -> Policy:
    target = {"kind": kind, "namespace": namespace, "name": name, "role": role}
    body = {"tokens": "prompt", "capacity_tokens_per_second": {"H100": 1.0}, "target": target}
    return parse({"version": 1, "models": {"m": {"roles": {"r": body}}}})


@pytest.fixture
def nodes(world: World) -> Iterator[None]:
    """Two nodes of 8 GPUs whose kubelet runs pods."""
    groups = parse_cluster({"groups": [NODES]})
    kubelet = FakeKubelet(world.api, groups, MANNERS, time.time, rate=RATE)
    kubelet.start()
    yield
    kubelet.stop()


@pytest.fixture
def tidal(world: World, nodes: None) -> Iterator[Tidal]:
    one = Tidal(world)
    yield one
    one.close()


@pytest.fixture
def kinds(kinds_world: World) -> Iterator[None]:
    """Our custom kinds, with their stand-in controllers."""
    controllers = StandIn(kinds_world.api, kinds_world.namespace)
    controllers.start()
    yield
    controllers.stop()


def template(app: str, gpus: int = 1, **spec: Any) -> Object:  # noqa: ANN401
    container = {"name": "c", "image": "e", "resources": {"limits": {"nvidia.com/gpu": gpus}}}
    return {"metadata": {"labels": {"app": app}}, "spec": {"containers": [container], **spec}}


def replicated(name: str, replicas: int) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template(name),
        },
    }


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


def ready(world: World, app: str, count: int) -> list[str]:
    """Names of the pods, once so many are ready and none else is there."""

    def look() -> list[str] | None:
        every = world.all("pods", f"app={app}")
        up = [one for one in every if condition(one, "Ready") == "True"]
        whole = len(up) == len(every) == count
        return [one["metadata"]["name"] for one in up] or [""] if whole else None

    found = eventually(look, f"{count} pods of {app} ready")
    assert found is not None
    return [name for name in found if name]


# ---- roles -----------------------------------------------------------------------------------


def test_a_deployment_loses_exactly_the_replicas_named(tidal: Tidal) -> None:
    world = tidal.world
    world.make(DEPLOYMENTS, replicated("d", 2))
    ready(world, "d", 2)
    assert tidal.scale(2, 5) == (True, "")
    names = ready(world, "d", 5)
    victims = [names[1], names[3]]
    assert tidal.scale(5, 3, *victims) == (True, "")
    assert ready(world, "d", 3) == [one for one in names if one not in victims]
    assert tidal.scale(3, 0, *ready(world, "d", 3)) == (True, "")
    ready(world, "d", 0)
    notes = world.read(DEPLOYMENTS, "d")["metadata"]["annotations"]
    assert (notes["tidal.dev/replicas"], notes["tidal.dev/epoch"]) == ("0", "1")
    assert tidal.told == ["ScaledUp", "ScaledDown", "ScaledDown"]


def test_an_edit_is_noted_and_respected_until_it_is_taken_back(tidal: Tidal) -> None:
    world = tidal.world
    world.make(DEPLOYMENTS, replicated("d", 1))
    assert tidal.scale(1, 2) == (True, "")
    scale = world.path(DEPLOYMENTS, "d/scale")
    world.api.patch(scale, {"spec": {"replicas": 4}}, "merge")
    tidal.see()
    tidal.actuator.reserve((), 1)
    assert tidal.actuator.problems == ()
    notes = world.read(DEPLOYMENTS, "d")["metadata"]["annotations"]
    assert (notes["tidal.dev/replicas"], notes["tidal.dev/override-replicas"]) == ("2", "4")
    applied, detail = tidal.scale(4, 2)
    assert (applied, "left alone until" in detail) == (False, True)
    world.api.patch(scale, {"spec": {"replicas": 2}}, "merge")
    assert tidal.scale(2, 3) == (True, "")
    notes = world.read(DEPLOYMENTS, "d")["metadata"]["annotations"]
    assert "tidal.dev/override-until" not in notes


def test_a_later_planner_fences_the_earlier_off(tidal: Tidal) -> None:
    world = tidal.world
    world.make(DEPLOYMENTS, replicated("d", 1))
    assert tidal.scale(1, 2, epoch=4) == (True, "")
    other = Tidal(world)
    try:
        assert other.scale(2, 3, epoch=3) == (False, "epoch 3 is fenced off by 4")
    finally:
        other.close()


def test_an_autoscaler_on_the_deployment_is_refused(tidal: Tidal) -> None:
    world = tidal.world
    world.make(DEPLOYMENTS, replicated("d", 1))
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
        "maxReplicas": 3,
    }
    world.make("autoscaling/v2/horizontalpodautoscalers", {"metadata": {"name": "h"}, "spec": spec})
    eventually(lambda: tidal.watching.observed().autoscalers, "autoscaler seen")
    detail = f"HorizontalPodAutoscaler {world.namespace}/h scales it too: delete one"
    assert tidal.scale(1, 2) == (False, detail)


def test_a_stateful_set_loses_its_highest_ordinals_only(tidal: Tidal) -> None:
    world = tidal.world
    tidal.targets("StatefulSet", "s")
    body = replicated("s", 3)
    body["spec"] |= {"serviceName": "s", "podManagementPolicy": "Parallel"}
    world.make(STATEFUL_SETS, body)
    ready(world, "s", 3)
    assert not tidal.scale(3, 2, "s-0")[0]
    assert tidal.scale(3, 1, "s-1", "s-2") == (True, "")
    assert ready(world, "s", 1) == ["s-0"]


@pytest.mark.usefixtures("kinds")
def test_a_leader_worker_set_loses_its_highest_group(tidal: Tidal) -> None:
    world = tidal.world
    tidal.targets("LeaderWorkerSet", "w")
    spec = {"replicas": 1, "leaderWorkerTemplate": {"size": 2, "workerTemplate": template("w")}}
    world.make(
        LWS,
        {
            "apiVersion": LWS.rpartition("/")[0],
            "kind": "LeaderWorkerSet",
            "metadata": {"name": "w"},
            "spec": spec,
        },
    )
    ready(world, "w", 2)
    eventually(lambda: tidal.watching.observed().leader_worker_sets, "set seen")
    assert tidal.scale(1, 2) == (True, "")
    ready(world, "w", 4)
    eventually(lambda: count_of(tidal) == 2, "count seen")
    assert tidal.scale(2, 1, "w-1") == (True, "")
    assert ready(world, "w", 2) == ["w-0", "w-0-1"]


def count_of(tidal: Tidal) -> int:
    (found,) = tidal.watching.observed().leader_worker_sets
    return found.spec.replicas


def group(*, adapter: bool = False, stateless: bool = False) -> Object:
    notes = {"rbg.workloads.x-k8s.io/role-instance-pattern": "Stateless"} if stateless else {}
    pattern = {"standalonePattern": {"template": template("r")}}
    roles = [
        {"name": "other", "replicas": 1, "standalonePattern": {"template": template("o")}},
        {
            "name": "r",
            "replicas": 3,
            "annotations": notes,
            "scalingAdapter": {"enable": adapter},
            **pattern,
        },
    ]
    return {
        "apiVersion": RBG.rpartition("/")[0],
        "kind": "RoleBasedGroup",
        "metadata": {"name": "g"},
        "spec": {"roles": roles},
    }


@pytest.mark.usefixtures("kinds")
@pytest.mark.parametrize("adapter", [False, True])
def test_a_role_with_and_without_its_adapter(tidal: Tidal, adapter: bool) -> None:
    world = tidal.world
    tidal.targets("RoleBasedGroup", "g", "r")
    world.make(RBG, group(adapter=adapter))
    ready(world, "r", 3)

    def seen() -> bool:
        now = tidal.watching.observed()
        bound = [one for one in now.scaling_adapters if one.status.phase == "Bound"]
        return len(now.role_based_groups) == 1 and len(bound) == adapter

    eventually(seen, "group and adapter seen")
    assert not tidal.scale(3, 2, "g-r-0")[0]
    assert tidal.scale(3, 2, "g-r-2") == (True, "")
    assert ready(world, "r", 2) == ["g-r-0", "g-r-1"]
    ready(world, "o", 1)
    holder = world.read(ADAPTERS, "g-r") if adapter else world.read(RBG, "g")
    suffix = "" if adapter else ".r"
    assert holder["metadata"]["annotations"][f"tidal.dev/replicas{suffix}"] == "2"


@pytest.mark.usefixtures("kinds")
def test_a_stateless_role_loses_the_instance_named(tidal: Tidal) -> None:
    world = tidal.world
    tidal.targets("RoleBasedGroup", "g", "r")
    world.make(RBG, group(stateless=True))
    ready(world, "r", 3)
    eventually(lambda: tidal.watching.observed().role_based_groups, "group seen")
    label = "rbg.workloads.x-k8s.io/role-name=r"
    names = world.names(INSTANCES, label)
    assert tidal.scale(3, 2, names[1]) == (True, "")
    ready(world, "r", 2)
    assert world.names(INSTANCES, label) == [names[0], names[2]]


# ---- jobs ------------------------------------------------------------------------------------


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
