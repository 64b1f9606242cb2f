"""The objects that the probes of rights work on, as the administrator makes them."""

import itertools
from typing import Any

import msgspec

from scheduler.apiserver import objects
from tests.controlplane.kinds.world import Object, World, eventually

GPU = "nvidia.com/gpu"
NOBODY = "nobody"
"""A scheduler that there is not: pods stay as they are."""
NODE = "rbac-node"
OTHER_UID = "00000000-0000-0000-0000-000000000000"
RBG_LABELS = {
    "rbg.workloads.x-k8s.io/group-name": "g",
    "rbg.workloads.x-k8s.io/role-name": "r",
    "rbg.workloads.x-k8s.io/role-instance-name": "g-r-x",
}
STATELESS = {"rbg.workloads.x-k8s.io/role-instance-pattern": "Stateless"}
DEPLOYMENTS, STATEFUL_SETS = "apps/v1/deployments", "apps/v1/statefulsets"
LWS = "leaderworkerset.x-k8s.io/v1/leaderworkersets"
RBG = "workloads.x-k8s.io/v1alpha2/rolebasedgroups"
ADAPTERS = "workloads.x-k8s.io/v1alpha2/rolebasedgroupscalingadapters"
INSTANCES = "workloads.x-k8s.io/v1alpha2/roleinstances"
JOBS = "batch/v1/jobs"
PROBED = {
    "jobs.batch": JOBS,
    "deployments.apps": DEPLOYMENTS,
    "statefulsets.apps": STATEFUL_SETS,
    "leaderworkersets.leaderworkerset.x-k8s.io": LWS,
    "rolebasedgroups.workloads.x-k8s.io": RBG,
    "rolebasedgroupscalingadapters.workloads.x-k8s.io": ADAPTERS,
    "horizontalpodautoscalers.autoscaling": "autoscaling/v2/horizontalpodautoscalers",
    "scaledobjects.keda.sh": "keda.sh/v1alpha1/scaledobjects",
    "poddisruptionbudgets.policy": "policy/v1/poddisruptionbudgets",
    "pods": "pods",
}
CLUSTER_WIDE = {
    "nodes": f"/api/v1/nodes/{NODE}",
    "priorityclasses.scheduling.k8s.io": "/apis/scheduling.k8s.io/v1/priorityclasses/rbac-class",
}
TOUCHED = "tidal.dev/touched"
NAME = "one"
"""Of the object of each kind that is only looked at."""
_numbers = itertools.count(1)


class Stage:
    """The objects to work on: `world` is the users' namespace, `home` the one of Tidal."""

    def __init__(self, world: World, home: World) -> None:
        self.world, self.home = world, home
        for path, body in _plain().items():
            world.api.post(path if path[0] == "/" else world.path(path), body)
        group = world.make(RBG, _group())
        owner = {"apiVersion": RBG.rpartition("/")[0], "kind": "RoleBasedGroup", "name": "g"}
        meta = {"name": "g-a", "ownerReferences": [owner | {"uid": group["metadata"]["uid"]}]}
        spec = {"replicas": 1, "scaleTargetRef": {"name": "g", "role": "a"}}
        world.make(ADAPTERS, _of(ADAPTERS, "RoleBasedGroupScalingAdapter", spec, **meta))
        world.api.patch(world.path(ADAPTERS, "g-a/status"), {"status": {"phase": "Bound"}}, "merge")
        world.make(INSTANCES, _of(INSTANCES, "RoleInstance", {}, name="g-r-x", labels=RBG_LABELS))

    def touch(self, kind: str) -> str:
        """Annotate an object of this kind; return the value."""
        world = self.world
        path = CLUSTER_WIDE.get(kind) or world.path(PROBED[kind], NAME)
        value = str(next(_numbers))
        world.api.patch(path, {"metadata": {"annotations": {TOUCHED: value}}}, "merge")
        return value

    def stale(self, resource: str, name: str, kind: type[Any]) -> Any:  # noqa: ANN401
        """The object under a uid that it does not have."""
        body = self.world.api.get(self.world.path(resource, name))
        found = msgspec.json.decode(body, type=kind)
        meta = msgspec.structs.replace(found.metadata, uid=OTHER_UID)
        return msgspec.structs.replace(found, metadata=meta)

    def read(self, resource: str, name: str, kind: type[Any]) -> Any:  # noqa: ANN401
        """The object as it is."""
        return msgspec.json.decode(self.world.api.get(self.world.path(resource, name)), type=kind)

    def job(self, *, gated: bool = False) -> tuple[str, tuple[objects.Pod, ...]]:
        """A new Job that waits for Tidal; with `gated` it is started, and has its gated pod."""
        name = f"job-{next(_numbers)}"
        gates = {"schedulingGates": [{"name": "tidal.dev/gang"}]} if gated else {}
        spec = {"suspend": not gated, "template": _template(restartPolicy="Never", **gates)}
        labels = {"tidal.dev/queue": "q"}
        self.world.make(JOBS, {"metadata": {"name": name, "labels": labels}, "spec": spec})
        if not gated:
            return name, ()
        chosen = f"batch.kubernetes.io/job-name={name}"
        (pod,) = eventually(lambda: self.world.names("pods", chosen), "the job's pod")
        return name, (self.read("pods", pod, objects.Pod),)

    def clear(self, resource: str, *names: str) -> None:
        """Delete these objects of Tidal's namespace where they are there."""
        for name in names:
            if self.home.found(resource, name) is not None:
                self.home.delete(resource, name)

    def bare(self) -> tuple[str, str]:
        """A new pod that waits; its name and uid."""
        body = {"metadata": {"name": f"bare-{next(_numbers)}"}, "spec": _template()["spec"]}
        meta = self.world.make("pods", body)["metadata"]
        return meta["name"], meta["uid"]


def _template(**spec: Any) -> Object:  # noqa: ANN401
    container = {"name": "c", "image": "e", "resources": {"limits": {GPU: 1}}}
    labels = {"app": "x"}
    spec = {"containers": [container], "schedulerName": NOBODY, **spec}
    return {"metadata": {"labels": labels}, "spec": spec}


def _of(resource: str, kind: str, spec: Object, **meta: Any) -> Object:  # noqa: ANN401
    version = resource.rpartition("/")[0]
    return {"apiVersion": version, "kind": kind, "metadata": {"name": NAME, **meta}, "spec": spec}


def _group() -> Object:
    pattern = {"standalonePattern": {"template": _template()}}
    roles: list[Object] = [
        {"name": "r", "replicas": 1, "annotations": STATELESS, **pattern},
        {"name": "a", "replicas": 1, "scalingAdapter": {"enable": True}, **pattern},
    ]
    return _of(RBG, "RoleBasedGroup", {"roles": roles}, name="g")


def _plain() -> dict[str, Object]:
    """What needs nothing else, by resource or whole path."""
    pods = {"selector": {"matchLabels": {"app": "x"}}, "template": _template(), "replicas": 0}
    scaled = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "elsewhere"}
    leader = {"replicas": 0, "leaderWorkerTemplate": {"size": 1, "workerTemplate": _template()}}
    plain = {"metadata": {"name": NAME}}
    bare = {"metadata": {"name": NAME, "labels": RBG_LABELS}, "spec": _template()["spec"]}
    role = {"name": "r", "replicas": 0}
    target = {"scaleTargetRef": scaled}
    none = {"selector": {"matchLabels": {"app": "none"}}, "minAvailable": 1}
    adapter = {"scaleTargetRef": {"name": "none", "role": "none"}}
    keda = PROBED["scaledobjects.keda.sh"]
    return {
        "/api/v1/nodes": {"metadata": {"name": NODE}, "spec": {"unschedulable": True}},
        "/apis/scheduling.k8s.io/v1/priorityclasses": {
            "metadata": {"name": "rbac-class"},
            "value": 1,
        },
        "pods": bare,
        JOBS: {**plain, "spec": {"suspend": True, "template": _template(restartPolicy="Never")}},
        DEPLOYMENTS: {**plain, "spec": pods},
        STATEFUL_SETS: {**plain, "spec": pods},
        LWS: _of(LWS, "LeaderWorkerSet", leader),
        RBG: _of(RBG, "RoleBasedGroup", {"roles": [role]}),
        ADAPTERS: _of(ADAPTERS, "RoleBasedGroupScalingAdapter", adapter),
        PROBED["horizontalpodautoscalers.autoscaling"]: {
            **plain,
            "spec": {"maxReplicas": 1, **target},
        },
        keda: _of(keda, "ScaledObject", target),
        PROBED["poddisruptionbudgets.policy"]: {**plain, "spec": none},
    }
