"""A namespace whose pods ask the extender, standings for it to answer from, and its waits."""

import contextlib
import http.client
import itertools
import json
import time
from collections.abc import Callable
from typing import Any

from scheduler.extender.process import ExtenderProcess
from scheduler.planning.snapshot import Reservation
from scheduler.planning.standing import Place, Standing
from tests.controlplane.plane import ControlPlane
from tests.controlplane.settings import Extender

Json = dict[str, Any]
NOW = 1000.0
WAIT_SECONDS = 120.0
GPU = "nvidia.com/gpu"
OWNER = "tidal.dev/owner"
_numbers = itertools.count(1)


def place(name: str, free: int = 8, releasing: int = 0, leaf: str = "s0", by: str = "") -> Place:
    leaving = (by,) if by else ()
    return Place(name, (leaf, "H"), GPU, free, releasing, 8, schedulable=True, leaving=leaving)


def kept(owner: str, *parts: tuple[str, int], number: int = 0) -> Reservation:
    return Reservation(
        id=f"{owner}-{number}",
        owner=owner,
        parts=parts,
        created_seconds=NOW,
        expires_seconds=NOW + 1e6,
    )


def standing(*places: Place, **more: Any) -> Standing:  # noqa: ANN401
    return Standing(
        now_seconds=NOW,
        planned_at_seconds=NOW,
        plan_stale_seconds=1e5,
        heuristic_stale_seconds=1e6,
        nodes=places,
        **more,
    )


class Cluster:
    """One namespace, and nodes whose names nobody else has."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace
        self.scheduler = f"with-{namespace}"
        self._path = f"/api/v1/namespaces/{namespace}/pods"

    def node(self, name: str, gpus: int = 8) -> str:
        """Make a node and return its full name."""
        full = f"{self.namespace}-{name}"
        room = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU: str(gpus)}
        ready = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": full},
            "status": {"allocatable": room, "capacity": room, "conditions": ready},
        }
        self.plane.call("POST", "/api/v1/nodes", body)
        return full

    def pod(self, name: str, gpus: int = 4, node: str = "", **more: Any) -> None:  # noqa: ANN401
        """Make a pod; `node` binds it at once; `meta` and `spec` are merged in."""
        spec: Json = {
            "schedulerName": self.scheduler,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {"name": "main", "image": "llm", "resources": {"limits": {GPU: str(gpus)}}}
            ],
        }
        if node:
            spec["nodeName"] = node
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **more.get("meta", {})},
            "spec": spec | more.get("spec", {}),
        }
        self.plane.call("POST", self._path, body)

    def owned(self, name: str, owner: str, gpus: int = 4, group: str = "") -> None:
        """Make a pod that says whose it is."""
        marks = {OWNER: owner, "tidal.dev/group": group}
        self.pod(name, gpus, meta={"annotations": marks})

    def delete(self, name: str) -> None:
        self.plane.call("DELETE", f"{self._path}/{name}?gracePeriodSeconds=0")

    def touch(self, name: str) -> None:
        """Wake a waiting pod, as the daemon does when its plan changes."""
        self.plane.kubectl(
            "annotate", "pod", name, f"--namespace={self.namespace}", "--overwrite", "tidal.dev/w=1"
        )

    def get(self, name: str) -> Json:
        found: Json = json.loads(self.plane.call("GET", f"{self._path}/{name}"))
        return found

    def bound(self) -> dict[str, str]:
        """Pod -> node, of pods that have one."""
        items = json.loads(self.plane.call("GET", self._path))["items"]
        return {
            one["metadata"]["name"]: one["spec"]["nodeName"]
            for one in items
            if one["spec"].get("nodeName")
        }

    def condition(self, name: str) -> Json:
        """Why the pod has no node."""
        conditions = self.get(name).get("status", {}).get("conditions", [])
        return next((one for one in conditions if one["type"] == "PodScheduled"), {})

    def message(self, name: str) -> str:
        """What the condition says."""
        return str(self.condition(name).get("message", ""))


def told(port: int) -> Json:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as plain:
        return asked(plain)


def asked(connection: http.client.HTTPConnection) -> Json:
    connection.request("GET", "/v1/extender")
    found: Json = json.loads(connection.getresponse().read())
    return found


def publish(extender: ExtenderProcess, one: Standing) -> None:
    """Publish and wait until the process answers from it; a new epoch tells."""
    epoch = next(_numbers)
    extender.publish(
        Standing(**{name: getattr(one, name) for name in one.__struct_fields__} | {"epoch": epoch})
    )
    port = extender.health_port or extender.port
    until(lambda: told(port)["epoch"] == epoch, "a published plan")


def until(true: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)


def serve(cluster: Cluster, extender: ExtenderProcess, version: str = "1.36") -> None:
    entry = Extender(url=f"http://127.0.0.1:{extender.port}")
    cluster.plane.start_scheduler(cluster.scheduler, extender=entry, version=version)
