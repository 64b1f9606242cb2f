"""Loans recalled for a role: when the role needed the GPUs, and when it had them.

A watch opens with the notice or stop that names the role. Its need is the first step from then on
in which the role's arrivals, or its queue, exceed what its ready replicas serve in a step. It is
answered by the first replica of the role that is bound on returned GPUs after their release, once
that is ready; one replica may stand on the GPUs of several loans and answers them all. Where it
took other GPUs of the same node, it answers the oldest recall there. A watch that nothing answers
is closed a while after the release, as ready when the role was last short of capacity.
"""

from collections.abc import Iterable
from math import inf

from scheduler.planning.snapshot import Loan
from scheduler.simulation.devices import Pod
from scheduler.simulation.events import RecallLine, Sink
from scheduler.simulation.replica import Replica

UNANSWERED_SECONDS = 1800.0
"""Half an hour after the release a replica that comes is no answer to this recall any more."""


class _Watch:
    """One recalled loan."""

    def __init__(self, loan: Loan, role: str, pods: list[Pod]) -> None:
        self.loan = loan
        self.role = role
        self.pods = pods
        self.gpus = frozenset(name for pod in pods for name in pod.gpu_names())
        self.nodes = frozenset(pod.node.name for pod in pods if pod.node)
        self.need_seconds = inf
        self.relief_seconds = inf
        """End of the last step in which the role was short."""
        self.released_seconds = inf


class Recalls:
    """All recalls whose outcome is not known yet."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._open: dict[str, _Watch] = {}

    @property
    def roles(self) -> frozenset[str]:
        """Roles that wait for recalled GPUs."""
        return frozenset(watch.role for watch in self._open.values())

    def open(self, loan: Loan, role: str, pods: list[Pod]) -> None:
        """Begin to watch a loan, unless it is watched already."""
        if role:
            self._open.setdefault(loan.id, _Watch(loan, role, pods))

    def need(self, roles: Iterable[str], step_seconds: tuple[float, float]) -> None:
        """Take note of the roles whose demand exceeded what was ready in a step (start, end)."""
        for role in roles:
            for watch in self._open.values():
                if watch.role == role:
                    watch.need_seconds = min(watch.need_seconds, step_seconds[0])
                    watch.relief_seconds = step_seconds[1]

    def ready(self, replica: Replica, now_seconds: float) -> None:
        """A replica got ready: it answers the recalls whose GPUs it took."""
        bound = replica.bound_seconds or 0.0
        gpus = {name for pod in replica.pods for name in pod.gpu_names()}
        nodes = {pod.node.name for pod in replica.pods if pod.node}
        fits = [
            watch
            for watch in self._open.values()
            if watch.role == replica.role.workload.key
            and bound >= watch.released_seconds
            and not watch.nodes.isdisjoint(nodes)
        ]
        exact = [watch for watch in fits if not watch.gpus.isdisjoint(gpus)]
        for watch in exact or fits[:1]:
            self._close(watch, now_seconds, now_seconds)

    def pass_time(self, now_seconds: float) -> None:
        """Note releases; close what nothing answered."""
        for watch in list(self._open.values()):
            if watch.released_seconds == inf:
                if all(pod.node is None for pod in watch.pods):
                    watch.released_seconds = now_seconds
            elif now_seconds - watch.released_seconds >= UNANSWERED_SECONDS:
                self._close(watch, min(now_seconds, watch.relief_seconds), now_seconds)

    def finish(self, now_seconds: float) -> None:
        """Close every watch at the end of the run."""
        for watch in list(self._open.values()):
            self._close(watch, min(now_seconds, watch.relief_seconds), now_seconds)

    def _close(self, watch: _Watch, ready_seconds: float, now_seconds: float) -> None:
        del self._open[watch.loan.id]
        need = min(watch.need_seconds, ready_seconds)
        promised = watch.loan.promised_p99_seconds
        self._sink(RecallLine(now_seconds, watch.loan.id, need, promised, ready_seconds))
