"""The process around the pure nodes: watches pods, keeps time, hands writes to the writer.

One thread steps all nodes; a heap holds when each next has something to do. Pods come as the
reflector's whole list, and what differs from the last one becomes events.
"""

import heapq
import threading
from collections import Counter
from collections.abc import Callable
from math import inf

import msgspec

from scheduler.apiserver.client import Api
from scheduler.apiserver.reflector import Reflector
from scheduler.simulation.clusterfile import ClusterSpec
from scheduler.simulation.kubelet import facts, node
from scheduler.simulation.kubelet.ledger import Ledger
from scheduler.simulation.kubelet.manners import Manners
from scheduler.simulation.kubelet.node import Event, NodeState, Passed, Seen, Told, Vanished
from scheduler.simulation.kubelet.registration import Heartbeats, register
from scheduler.simulation.kubelet.writer import Writer
from scheduler.simulation.kubelet.writes import Report, Write

GATHER_SECONDS = 0.01
"""Changes within this wall time are taken together."""


class Summary(msgspec.Struct, frozen=True):
    """What all nodes do now."""

    nodes: int
    pods: dict[str, int]
    """By stage."""
    gpus: int
    gpus_held: int
    """By pods whose phase is not terminal yet."""


class FakeKubelet:
    """The kubelets of all nodes of a cluster.

    `rate` is seconds of life per second of the wall clock; times written into objects are the
    wall clock's. `refused` hears writes that the API server will not take.
    """

    def __init__(
        self,
        api: Api,
        cluster: ClusterSpec,
        manners: Manners,
        wall_clock: Callable[[], float],
        *,
        rate: float = 1.0,
        heartbeats: bool = False,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare; nothing is written yet."""
        self._api, self._cluster, self._manners = api, cluster, manners
        self._wall_clock, self._rate = wall_clock, rate
        self._origin = wall_clock()
        self._nodes = {one.name: NodeState(one.name, Ledger(one.gpus)) for one in cluster.nodes}
        self._at: dict[str, tuple[str, str]] = {}
        """Node and resource version of each pod, by uid."""
        self._heap: list[tuple[float, str]] = []
        self._wake = threading.Condition()
        self._changed = self._stopped = False
        self._answers: list[Write] = []
        self._pods: Reflector[facts.Pod] = Reflector(
            api,
            "/api/v1/pods",
            facts.Pod,
            on_change=self._on_change,
            query={"fieldSelector": "spec.nodeName!="},
        )
        self._writer = Writer(api, wall_clock, self._on_told, refused)
        self._beats = Heartbeats(api, cluster, wall_clock) if heartbeats else None
        self._thread = threading.Thread(target=self._live, name="fake-kubelet")

    def start(self) -> None:
        """Register the nodes, then play; raise what the API raises on registering."""
        register(self._api, self._cluster, self._wall_clock)
        if self._beats:
            self._beats.start()
        self._writer.start()
        self._pods.start()
        self._thread.start()

    def stop(self) -> None:
        """End all threads; nodes and pods stay as they are."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join()
        self._pods.stop()
        self._writer.stop()
        if self._beats:
            self._beats.stop()

    @property
    def alive(self) -> bool:
        """The thread that steps the nodes runs."""
        return self._thread.is_alive()

    def summary(self) -> Summary:
        """Return what all nodes do now."""
        nodes = tuple(self._nodes.values())
        lives = [life for one in nodes for life in one.lives.values()]
        return Summary(
            nodes=len(nodes),
            pods=dict(sorted(Counter(life.stage.value for life in lives).items())),
            gpus=sum(one.ledger.size for one in nodes),
            gpus_held=sum(len(life.devices) for life in lives if life.active),
        )

    def _on_change(self) -> None:
        with self._wake:
            self._changed = True
            self._wake.notify()

    def _on_told(self, write: Write) -> None:
        if isinstance(write, Report) and write.terminal:
            with self._wake:
                self._answers.append(write)
                self._wake.notify()

    def _live(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(self._news, self._idle_seconds())
                if not self._news():
                    changed, answers = False, []
                else:
                    self._wake.wait_for(lambda: self._stopped, GATHER_SECONDS)
                    changed, answers = self._changed, self._answers
                    self._changed, self._answers = False, []
                if self._stopped:
                    return
            self._answered(answers)
            if changed and self._pods.synced:
                self._compare()
            self._pass()

    def _news(self) -> bool:
        return self._stopped or self._changed or bool(self._answers)

    def _now_seconds(self) -> float:
        return (self._wall_clock() - self._origin) * self._rate

    def _idle_seconds(self) -> float | None:
        if not self._heap:
            return None
        return max(0.0, (self._heap[0][0] - self._now_seconds()) / self._rate)

    def _answered(self, answers: list[Write]) -> None:
        for write in answers:
            if isinstance(write, Report) and write.uid in self._at:
                self._step(self._at[write.uid][0], Told(write.uid))

    def _compare(self) -> None:
        """Step the nodes whose pods are not as they were."""
        pods = self._pods.items()
        here = {pod.metadata.uid for pod in pods}
        for uid in [uid for uid in self._at if uid not in here]:
            self._step(self._at.pop(uid)[0], Vanished(uid))
        new = [pod for pod in pods if self._is_news(pod)]
        # Running first: what an earlier process gave away is taken before anything is given
        for pod in sorted(new, key=_turn):
            self._at[pod.metadata.uid] = (pod.spec.node_name, pod.metadata.resource_version)
            self._step(pod.spec.node_name, Seen(facts.facts(pod)))

    def _is_news(self, pod: facts.Pod) -> bool:
        if pod.spec.node_name not in self._nodes:
            return False
        known = self._at.get(pod.metadata.uid)
        return known is None or known[1] != pod.metadata.resource_version

    def _pass(self) -> None:
        now = self._now_seconds()
        while self._heap and self._heap[0][0] <= now:
            self._step(heapq.heappop(self._heap)[1], Passed())

    def _step(self, name: str, event: Event) -> None:
        before = self._nodes[name]
        after, writes = node.step(before, event, self._now_seconds(), self._manners)
        self._nodes[name] = after
        for write in writes:
            self._writer.submit(write)
        due = after.due_seconds()
        if due < inf and (due != before.due_seconds() or isinstance(event, Passed)):
            heapq.heappush(self._heap, (due, name))


def _turn(pod: facts.Pod) -> tuple[bool, str, str]:
    made = pod.metadata.creation_timestamp or ""
    return pod.status.phase != "Running", made, pod.metadata.uid
