"""Groups and sets to drive the stand-ins with, and what to wait for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import msgspec
import pytest

from scheduler.apiserver.client import ApiError, Form
from scheduler.simulation.kubelet.manners import Manners
from tests.controlplane.kinds.controller import StandIn
from tests.controlplane.kinds.store import ADAPTER, LWS, RBG
from tests.controlplane.kinds.world import Object, World, condition, eventually, kubelets

R = "rbg.workloads.x-k8s.io"
L = "leaderworkerset.sigs.k8s.io"
MANNERS = Manners(
    start_seconds=0.1,
    exit_seconds=0.1,
    image_mib=0,
    relist_seconds=0.0,
    unready_seconds=0.05,
)
LAZY = msgspec.structs.replace(MANNERS, unready_seconds=1e6)
"""Leaves Ready=True on a dying pod, as the kubelet did with which the facts were recorded."""
HELD = 1_000_000
"""Seconds of a termination, with the grace for them: a pod is on its way out until `let_go`."""
EXIT = "tidal.dev/sim-exit-seconds"


@contextmanager
def controllers(
    world: World, version: Literal["0.7", "0.8"] = "0.7", manners: Manners = MANNERS
) -> Iterator[None]:
    with kubelets(world.api, 3, 8, manners):
        one = StandIn(world.api, world.namespace, version)
        one.start()
        try:
            yield
        finally:
            one.stop()


# ---- builders --------------------------------------------------------------------------------


def template(exit_seconds: float = 0.1, gpus: int = 1) -> Object:
    container: Object = {
        "name": "engine",
        "image": "e:1",
        "resources": {"limits": {"nvidia.com/gpu": gpus}},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": HELD}
    return {"metadata": {"annotations": {EXIT: str(exit_seconds)}}, "spec": spec}


def lws(replicas: int, size: int = 2, exit_seconds: float = 0.1) -> Object:
    parts = {"size": size, "workerTemplate": template(exit_seconds)}
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "w"},
        "spec": {"replicas": replicas, "leaderWorkerTemplate": parts},
    }


def role(name: str, replicas: int, size: int = 1, exit_seconds: float = 0.1, **more: Any) -> Object:  # noqa: ANN401
    made = template(exit_seconds)
    shape: Object = {"standalonePattern": {"template": made}}
    if size > 1:
        shape = {"leaderWorkerPattern": {"size": size, "template": made}}
    return {"name": name, "replicas": replicas, **shape, **more}


def rbg(*roles: Object) -> Object:
    return {
        "apiVersion": "workloads.x-k8s.io/v1alpha2",
        "kind": "RoleBasedGroup",
        "metadata": {"name": "pd"},
        "spec": {"roles": list(roles)},
    }


WITH_ADAPTER: Object = {"scalingAdapter": {"enable": True}}
STATELESS: Object = {"annotations": {f"{R}/role-instance-pattern": "Stateless"}}


# ---- words -----------------------------------------------------------------------------------


def patch(world: World, kind: str, name: str, body: object, form: Form = "merge") -> None:
    world.api.patch(world.path(kind, name), body, form)


def scale(world: World, kind: str, name: str, replicas: int) -> None:
    world.api.patch(world.path(kind, name) + "/scale", {"spec": {"replicas": replicas}}, "merge")


def set_role(world: World, index: int, replicas: int) -> None:
    change = {"op": "replace", "path": f"/spec/roles/{index}/replicas", "value": replicas}
    patch(world, RBG, "pd", [change], "json")


def lws_ready(world: World, replicas: int) -> Object:
    def look() -> Object | None:
        found = world.read(LWS, "w")
        status = found.get("status", {})
        good = status.get("replicas", 0) == status.get("readyReplicas", 0) == replicas
        return found if good and condition(found, "Available") == "True" else None

    found = eventually(look, f"LeaderWorkerSet ready with {replicas}")
    assert found is not None
    return found


def group_ready(world: World, **replicas: int) -> Object:
    def look() -> Object | None:
        found = world.read(RBG, "pd")
        rows = {one["name"]: one for one in found.get("status", {}).get("roleStatuses", [])}
        good = all(
            name in rows and rows[name]["replicas"] == rows[name]["readyReplicas"] == count
            for name, count in replicas.items()
        )
        return found if good and condition(found, "Ready") == "True" else None

    found = eventually(look, f"RoleBasedGroup ready with {replicas}")
    assert found is not None
    return found


def settled(world: World, names: list[str]) -> None:
    eventually(lambda: world.names("pods") == names, f"pods {names}; got {world.names('pods')}")


def dying(world: World) -> list[str]:
    pods = world.all("pods")
    return [one["metadata"]["name"] for one in pods if "deletionTimestamp" in one["metadata"]]


def let_go(world: World, *pods: str) -> None:
    """Wait until these are on their way out and no others are; then they end at once."""
    eventually(lambda: dying(world) == [*pods], f"{', '.join(pods)} on the way out")
    for name in pods:
        world.api.patch(
            world.path("pods", name), {"metadata": {"annotations": {EXIT: "0"}}}, "merge"
        )


def label(world: World, pod: str, key: str) -> str:
    return str(world.read("pods", pod)["metadata"]["labels"].get(key))


def uids(world: World) -> dict[str, str]:
    return {one["metadata"]["name"]: one["metadata"]["uid"] for one in world.all("pods")}


def bound(world: World) -> Object:
    def look() -> Object | None:
        found = world.found(ADAPTER, "pd-prefill")
        return found if found and found.get("status", {}).get("phase") == "Bound" else None

    found = eventually(look, "adapter bound")
    assert found is not None
    return found


def refused(call: Callable[[], object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        call()
    return caught.value
