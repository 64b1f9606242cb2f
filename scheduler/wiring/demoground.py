"""The ground of a demonstration on a real cluster: nodes, namespace, classes; made and removed.

Everything is found by the demonstration's label, so that what an earlier one left, or kept, is
removed before the next begins.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from scheduler.adapters.wallclock import WallClock, steady_seconds
from scheduler.apiserver import objects
from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError
from scheduler.child import Child
from scheduler.simulation import demomanifests as manifests
from scheduler.simulation.clusterfile import ClusterSpec
from scheduler.simulation.demo import DemoError
from scheduler.simulation.kubelet.bodies import LEASE_NAMESPACE
from scheduler.simulation.kubelet.facts import GPU
from scheduler.simulation.kubelet.manners import Manners
from scheduler.simulation.kubelet.shell import FakeKubelet

NAMESPACES = "/api/v1/namespaces"
NODES = "/api/v1/nodes"
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
HOME = f"{NAMESPACES}/{manifests.NAMESPACE}"
PODS = f"{HOME}/pods"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{manifests.NAMESPACE}/deployments"
REPLICA_SETS = f"/apis/apps/v1/namespaces/{manifests.NAMESPACE}/replicasets"
JOBS = f"/apis/batch/v1/namespaces/{manifests.NAMESPACE}/jobs"
REMOVAL_SECONDS = 120.0
LOOK_SECONDS = 0.2
START_SECONDS = 60.0
STOP_SECONDS = 10.0
SHOWN = 3
_READY = b"ready"


class _Nodes(msgspec.Struct, frozen=True):
    items: tuple[objects.Node, ...] = ()


class _List(msgspec.Struct, frozen=True):
    items: tuple[msgspec.Raw, ...] = ()


class _Found(msgspec.Struct, frozen=True):
    metadata: objects.Meta


def pause(seconds: float) -> None:
    """Let time of the wall pass."""
    threading.Event().wait(seconds)


def check(api: Api) -> None:
    """Raise `DemoError` where the demonstration would touch what is not its own."""
    nodes = msgspec.json.decode(api.get(NODES), type=_Nodes).items
    own = sorted(
        node.metadata.name
        for node in nodes
        if GPU in node.status.capacity and manifests.MARK not in node.metadata.labels
    )
    if own:
        more = ", ..." if len(own) > SHOWN else ""
        raise DemoError(
            f"the cluster has GPU nodes of its own ({', '.join(own[:SHOWN])}{more}), which Tidal "
            "would count as its own; play on a cluster without GPUs"
        )
    found = _read(api, HOME)
    if found is not None and manifests.MARK not in found.metadata.labels:
        raise DemoError(
            f"namespace {manifests.NAMESPACE} is there and was not made by a demo; remove it first"
        )


def prepare(api: Api, cluster: ClusterSpec, priorities: tuple[int, ...]) -> None:
    """Make namespace, classes and nodes; raise what the API raises."""
    for body in manifests.priority_classes(priorities):
        api.post(CLASSES, body)
    for spec in cluster.nodes:
        api.post(NODES, manifests.node(spec))
    api.post(NAMESPACES, manifests.namespace())
    deadline = steady_seconds() + START_SECONDS
    while _read(api, f"{HOME}/serviceaccounts/default") is None:
        if steady_seconds() > deadline:
            raise DemoError(
                f"namespace {manifests.NAMESPACE} has no default ServiceAccount after "
                f"{START_SECONDS:.0f} s; does the controller manager run?"
            )
        pause(LOOK_SECONDS)


def clear(api: Api) -> None:
    """Remove everything that a demonstration made; raise `DemoError` where something stays.

    The pods go before their namespace: where its controller still finds some, it looks again only
    after half their grace period.
    """
    for owners in (JOBS, DEPLOYMENTS, REPLICA_SETS):
        _remove(api, owners, propagationPolicy="Background")
    _gone(lambda: _without_pods(api), f"the pods of namespace {manifests.NAMESPACE} are")
    _remove(api, HOME)
    _gone(lambda: _read(api, HOME) is None, f"namespace {manifests.NAMESPACE} is")
    marked = api.get(NODES, labelSelector=manifests.SELECTOR)
    for node in msgspec.json.decode(marked, type=_Nodes).items:
        _remove(
            api,
            f"/apis/coordination.k8s.io/v1/namespaces/{LEASE_NAMESPACE}/leases/"
            f"{node.metadata.name}",
        )
    for path in (NODES, CLASSES):
        _remove(api, path, labelSelector=manifests.SELECTOR)


def _without_pods(api: Api) -> bool:
    """Remove pods, as no kubelet ends them; whether none is left, and nobody who makes any."""
    _remove(api, PODS, gracePeriodSeconds="0")
    lists = (api.get(path) for path in (JOBS, REPLICA_SETS, PODS))
    return not any(msgspec.json.decode(one, type=_List).items for one in lists)


def _gone(look: Callable[[], bool], what: str) -> None:
    deadline = steady_seconds() + REMOVAL_SECONDS
    while not look():
        if steady_seconds() > deadline:
            raise DemoError(
                f"{what} not gone after {REMOVAL_SECONDS:.0f} s; "
                "run the demo again, or remove it with kubectl"
            )
        pause(LOOK_SECONDS)


def _read(api: Api, path: str) -> _Found | None:
    try:
        return msgspec.json.decode(api.get(path), type=_Found)
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def _remove(api: Api, path: str, **query: str) -> None:
    """Delete an object or a collection; one that is gone or going is as good."""
    try:
        api.delete(path, **query)
    except ApiError as error:
        if error.status not in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
            raise


class Kubelets:
    """The kubelets of all nodes, in a process of their own."""

    def __init__(
        self, kubeconfig: Path, context: str | None, cluster: ClusterSpec, rate: float, seed: int
    ) -> None:
        """Register the nodes; raise `DemoError` where that fails."""
        self._child = Child("tidal-demo-kubelets", _live, kubeconfig, context, cluster, rate, seed)
        said = b""
        try:
            if self._child.pipe.poll(START_SECONDS):
                said = self._child.pipe.recv_bytes()
        except (EOFError, OSError):
            pass
        if said != _READY:
            self.stop()
            raise DemoError(f"the fake kubelets did not start: {said.decode() or 'no word'}")

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.alive

    def stop(self) -> None:
        """End the process; nodes and pods stay as they are."""
        self._child.stop(STOP_SECONDS)


def _live(
    pipe: Connection,
    kubeconfig: Path,
    context: str | None,
    cluster: ClusterSpec,
    rate: float,
    seed: int,
) -> None:
    """Play until the pipe closes."""
    api = Api.load(kubeconfig, context)
    kubelet = FakeKubelet(
        api, cluster, Manners(seed=seed), WallClock().now_seconds, rate=rate, heartbeats=True
    )
    try:
        kubelet.start()
    except (ApiError, ApiUnreachableError) as error:
        pipe.send_bytes(str(error).encode())
        return
    pipe.send_bytes(_READY)
    with suppress(EOFError, OSError):
        pipe.recv_bytes()
    kubelet.stop()
    api.close()
