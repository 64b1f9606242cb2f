"""The actuator over watches of a real server, and the objects that it acts on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scheduler.adapters.cluster.actuator import KubernetesActuator
from scheduler.adapters.cluster.drivers.writing import Cluster
from scheduler.adapters.cluster.watching import Watching
from scheduler.apiserver.objects import Job, Pod, Replicated
from scheduler.planning.actions import ScaleRole
from scheduler.planning.policy import Policy, parse
from scheduler.simulation.clusterfile import parse_cluster
from scheduler.simulation.kubelet.manners import Manners
from scheduler.simulation.kubelet.shell import FakeKubelet
from tests.controlplane.kinds.world import Object, World, condition, eventually

RATE = 10.0
MANNERS = Manners(start_seconds=0.5, exit_seconds=3.0, image_mib=1, pull_mib_per_second=1000)
NODES = {"name": "n", "count": 2, "gpus": 8, "gpu_model": "H100-SXM-80GB", "leaf_nodes": 2}
DEPLOYMENTS, STATEFUL_SETS = "apps/v1/deployments", "apps/v1/statefulsets"
JOBS = "batch/v1/jobs"
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


@contextmanager
def tidal_on(world: World) -> Iterator[Tidal]:
    """The actuator on two nodes of 8 GPUs whose kubelet runs pods."""
    groups = parse_cluster({"groups": [NODES]})
    kubelet = FakeKubelet(world.api, groups, MANNERS, time.time, rate=RATE)
    kubelet.start()
    one = Tidal(world)
    yield one
    one.close()
    kubelet.stop()


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
