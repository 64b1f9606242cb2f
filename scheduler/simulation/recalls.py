"""Loans recalled for a role: when the role needed the GPUs, and when it had them.

A watch opens with the notice or stop that names the role. Its need is the first step from then on
in which the role's arrivals, or its queue, exceed what its ready replicas serve in a step. It is
answered by the first replica of the role that is bound on one of the returned nodes after the
GPUs were released, once that is ready. A watch that nothing answers is closed a while after the
release.
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
        self.nodes = frozenset(pod.node.name for pod in pods if pod.node)
        self.need_seconds = inf
        self.released_seconds = inf


class Recalls:
    """All recalls whose outcome is not known yet."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._open: dict[str, _Watch] = {}

    @property
    def roles(self) -> frozenset[str]:
        """Roles that wait for recalled GPUs and have not yet been seen to need them."""
        return frozenset(watch.role for watch in self._open.values() if watch.need_seconds == inf)

    def open(self, loan: Loan, role: str, pods: list[Pod]) -> None:
        """Begin to watch a loan, unless it is watched already."""
        if role:
            self._open.setdefault(loan.id, _Watch(loan, role, pods))

    def need(self, roles: Iterable[str], step_start_seconds: float) -> None:
        """Take note of the roles whose demand exceeded what was ready in a step."""
        for role in roles:
            for watch in self._open.values():
                if watch.role == role:
                    watch.need_seconds = min(watch.need_seconds, step_start_seconds)

    def ready(self, replica: Replica, now_seconds: float) -> None:
        """A replica got ready: it answers the oldest recall that it fits."""
        bound = replica.bound_seconds
        nodes = {pod.node.name for pod in replica.pods if pod.node}
        for watch in self._open.values():
            fits = watch.role == replica.role.workload.key and not watch.nodes.isdisjoint(nodes)
            if fits and bound is not None and bound >= watch.released_seconds:
                self._close(watch, now_seconds)
                return

    def pass_time(self, now_seconds: float) -> None:
        """Note releases; close what nothing answered."""
        for watch in list(self._open.values()):
            if watch.released_seconds == inf:
                if all(pod.node is None for pod in watch.pods):
                    watch.released_seconds = now_seconds
            elif now_seconds - watch.released_seconds >= UNANSWERED_SECONDS:
                self._close(watch, now_seconds)

    def finish(self, now_seconds: float) -> None:
        """Close every watch at the end of the run."""
        for watch in list(self._open.values()):
            self._close(watch, now_seconds)

    def _close(self, watch: _Watch, now_seconds: float) -> None:
        del self._open[watch.loan.id]
        need = min(watch.need_seconds, now_seconds)
        promised = watch.loan.promised_p99_seconds
        self._sink(RecallLine(now_seconds, watch.loan.id, need, promised, now_seconds))
