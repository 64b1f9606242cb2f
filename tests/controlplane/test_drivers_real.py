"""Drivers of roles against the real API server, its controllers, and the fake kubelet.

RoleBasedGroup and LeaderWorkerSet have the stand-in controllers of `tests.controlplane.kinds`.
"""

from collections.abc import Iterator

import pytest

from tests.controlplane.acting import (
    DEPLOYMENTS,
    STATEFUL_SETS,
    Tidal,
    ready,
    replicated,
    template,
    tidal_on,
)
from tests.controlplane.kinds.controller import StandIn
from tests.controlplane.kinds.world import Object, World, eventually

LWS = "leaderworkerset.x-k8s.io/v1/leaderworkersets"
RBG = "workloads.x-k8s.io/v1alpha2/rolebasedgroups"
ADAPTERS = "workloads.x-k8s.io/v1alpha2/rolebasedgroupscalingadapters"
INSTANCES = "workloads.x-k8s.io/v1alpha2/roleinstances"


@pytest.fixture
def tidal(world: World) -> Iterator[Tidal]:
    with tidal_on(world) as one:
        yield one


@pytest.fixture
def kinds(kinds_world: World) -> Iterator[None]:
    """Our custom kinds, with their stand-in controllers."""
    controllers = StandIn(kinds_world.api, kinds_world.namespace)
    controllers.start()
    yield
    controllers.stop()


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
