"""Places pods of the virtual cluster by asking a real extender over HTTP.

The part of kube-scheduler that talks to an extender configured with `ignorable: true` and a
time-out of one second: filter, prioritize where a choice is left, bind. The extender then makes
the Binding at what it takes for the API server, which is the world's own server: `offer_binding`
only notes it, and the cluster binds the pod once the extender has answered. Without an extender
a pod goes to the emptiest node, and a gang of several pods stays gated.
"""

import threading
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from scheduler.planning.snapshot import Snapshot
from scheduler.planning.standing import PodAsk
from scheduler.planning.targets import GROUP_ANNOTATION, OWNER_ANNOTATION

TIMEOUT_SECONDS = 1.0
"""`httpTimeout` of the shipped kube-scheduler configuration."""

Binding = Literal["made", "other", "unknown"]


class ExtenderError(Exception):
    """The extender answered, and refused the whole call."""


class _Verdict(msgspec.Struct):
    names: tuple[str, ...] = msgspec.field(name="NodeNames", default=())
    error: str = msgspec.field(name="Error", default="")


class _Score(msgspec.Struct):
    host: str = msgspec.field(name="Host")
    score: int = msgspec.field(name="Score")


class ExtenderPlacer:
    """`pods.Placer` over an extender's HTTP face; `observe` shows the cluster that it serves."""

    def __init__(self, observe: Callable[[], Snapshot]) -> None:
        """Begin without an extender."""
        self._observe = observe
        self._lock = threading.Lock()
        self._url = ""
        self._connection: HTTPConnection | None = None
        self._binding: tuple[str, str] | None = None
        self._bound = False
        self._verdict = msgspec.json.Decoder(_Verdict)
        self._scores = msgspec.json.Decoder(tuple[_Score, ...])
        self.by_extender = 0
        self.by_default = 0

    def register(self, url: str) -> None:
        """Ask the extender at `url` from now on."""
        self._drop()
        self._url = url

    def place(self, pod: PodAsk, feasible: tuple[str, ...]) -> str | None:
        """Return the node that the extender bound the pod to, or None to let it wait."""
        if not self._url:
            return self._by_default(pod, feasible)
        try:
            passed = self._filter(pod, feasible)
            chosen = self._best(pod, passed) if passed else None
        except (OSError, HTTPException, ExtenderError, msgspec.DecodeError):
            self._drop()
            return self._by_default(pod, feasible)
        if chosen is None or not self._bind(pod, chosen):
            return None
        self.by_extender += 1
        return chosen

    def offer_binding(self, uid: str, node: str) -> Binding:
        """Note a Binding from the extender; called from any thread, and never waits for time."""
        with self._lock:
            if self._binding is None or self._binding[0] != uid:
                return "unknown"
            if self._binding[1] != node:
                return "other"
            self._bound = True
            return "made"

    def _filter(self, pod: PodAsk, feasible: tuple[str, ...]) -> tuple[str, ...]:
        verdict = self._verdict.decode(self._post("/filter", _args(pod, feasible)))
        if verdict.error:
            raise ExtenderError(verdict.error)
        return tuple(name for name in verdict.names if name in feasible)

    def _best(self, pod: PodAsk, passed: tuple[str, ...]) -> str:
        """Return the highest score, the first by name on a tie."""
        if len(passed) == 1:
            return passed[0]
        scores = self._scores.decode(self._post("/prioritize", _args(pod, passed)))
        known = {one.host: one.score for one in scores}
        return min(passed, key=lambda name: (-known.get(name, 0), name))

    def _bind(self, pod: PodAsk, node: str) -> bool:
        """Let the extender bind; what it bound counts, whatever became of its answer."""
        with self._lock:
            self._binding, self._bound = (pod.uid, node), False
        args = {
            "PodName": pod.name,
            "PodNamespace": pod.namespace,
            "PodUID": pod.uid,
            "Node": node,
        }
        try:
            self._post("/bind", args)
        except (OSError, HTTPException, ExtenderError):
            self._drop()
        with self._lock:
            self._binding = None
            return self._bound

    def _post(self, path: str, body: dict[str, object] | dict[str, str]) -> bytes:
        connection = self._connected()
        headers = {"Content-Type": "application/json"}
        connection.request("POST", path, msgspec.json.encode(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:  # noqa: PLR2004, the extender answers 200 or not at all
            raise ExtenderError(f"{path}: HTTP {answer.status}")
        return content

    def _connected(self) -> HTTPConnection:
        if self._connection is None:
            address = urlsplit(self._url)
            self._connection = HTTPConnection(
                address.hostname or "", address.port, timeout=TIMEOUT_SECONDS
            )
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _by_default(self, pod: PodAsk, feasible: tuple[str, ...]) -> str | None:
        seen = self._observe()
        if not feasible or _is_gang(seen, pod.owner):
            return None
        free = {node.name: node.free_gpus for node in seen.nodes}
        self.by_default += 1
        return min(feasible, key=lambda name: (-free[name], name))


def _is_gang(seen: Snapshot, owner: str) -> bool:
    """Return whether the owner's pods start together, several at a time."""
    for role in seen.roles:
        if role.key == owner:
            return role.pods_per_replica > 1
    return any(job.id == owner and job.pods > 1 for job in seen.jobs)


def _args(pod: PodAsk, names: tuple[str, ...]) -> dict[str, object]:
    """Return the body of filter and prioritize, as kube-scheduler with a node cache sends it."""
    marks = {OWNER_ANNOTATION: pod.owner, GROUP_ANNOTATION: pod.group}
    container = {"resources": {"requests": {pod.resource: str(pod.gpus)}}}
    return {
        "Pod": {
            "metadata": {
                "name": pod.name,
                "namespace": pod.namespace,
                "uid": pod.uid,
                "annotations": marks,
            },
            "spec": {"containers": [container], "priority": pod.priority},
        },
        "Nodes": None,
        "NodeNames": names,
    }
