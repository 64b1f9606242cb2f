"""Brings the nodes of a cluster into the API server, and keeps them alive where that is asked."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError
from scheduler.simulation.clusterfile import ClusterSpec, NodeSpec
from scheduler.simulation.kubelet import bodies
from scheduler.simulation.kubelet.writer import WORKERS

HEARTBEAT_SECONDS = 10.0
_CONFLICT = 409


def register(api: Api, cluster: ClusterSpec, wall_clock: Callable[[], float]) -> None:
    """Create all nodes, or take over those that are there; raise what the API raises."""

    def one(spec: NodeSpec) -> None:
        try:
            api.post("/api/v1/nodes", bodies.node(spec))
        except ApiError as error:
            if error.status != _CONFLICT:
                raise
            labels = {"metadata": {"labels": bodies.labels(spec)}}
            api.patch(f"/api/v1/nodes/{spec.name}", labels, "merge")
        status = bodies.node_status(spec, wall_clock())
        api.patch(f"/api/v1/nodes/{spec.name}/status", status, "strategic")

    with ThreadPoolExecutor(WORKERS) as pool:
        for _ in pool.map(one, cluster.nodes):
            pass


class Heartbeats:
    """A thread that renews the leases of all nodes; clusters that watch node health need it."""

    def __init__(self, api: Api, cluster: ClusterSpec, wall_clock: Callable[[], float]) -> None:
        """Prepare; nothing is written yet."""
        self._api = api
        self._names = tuple(spec.name for spec in cluster.nodes)
        self._wall_clock = wall_clock
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="fake-kubelet-heartbeats")

    def start(self) -> None:
        """Start."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        self._thread.join()

    def _beat(self) -> None:
        with ThreadPoolExecutor(WORKERS) as pool:
            while not self._stopped.is_set():
                for _ in pool.map(self._renew, self._names):
                    pass
                self._stopped.wait(HEARTBEAT_SECONDS)

    def _renew(self, name: str) -> None:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{bodies.LEASE_NAMESPACE}/leases/{name}"
        body = bodies.lease(name, self._wall_clock())
        try:
            self._api.patch(path, body, "apply", fieldManager="fake-kubelet", force="true")
        except (ApiError, ApiUnreachableError):
            return  # the next beat tries again; a lease outlives three that fail
