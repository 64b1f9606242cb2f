"""From snapshots of a cluster to lines of the event stream: what changed since the last one.

Score and pictures are made from events; on a real cluster nobody emits them, so they come from
looking. What came and went between two looks is not seen.
"""

from collections.abc import Iterator
from typing import Literal

from binpacking.inventory import Node
from scheduler.planning.snapshot import Pod, Replica, Snapshot
from scheduler.simulation.events import LoanLine, NodeLine, ReplicaLine


class Chronicle:
    """What was seen last of replicas, nodes and loans."""

    def __init__(self) -> None:
        self._replicas: dict[str, ReplicaLine] = {}
        self._nodes: dict[str, NodeLine] = {}
        self._loans: set[str] = set()

    def look(
        self, seen: Snapshot, now_seconds: float, shift_seconds: float
    ) -> Iterator[ReplicaLine | NodeLine | LoanLine]:
        """Yield a line for each change, at `now_seconds` of the event stream's time.

        `shift_seconds` is what the snapshot's times are ahead of the stream's.
        """
        yield from self._look_at_nodes(seen.nodes, now_seconds)
        yield from self._look_at_replicas(seen.replicas, now_seconds)
        for loan in seen.loans:
            if loan.id not in self._loans:
                self._loans.add(loan.id)
                due = loan.return_by_seconds - shift_seconds
                yield LoanLine(now_seconds, loan.id, loan.gpus, due)

    def _look_at_nodes(self, nodes: tuple[Node, ...], now: float) -> Iterator[NodeLine]:
        for node in nodes:
            before = self._nodes.get(node.name)
            line = NodeLine(now, node.name, len(node.devices), node.ready)
            if before is None or (before.gpus, before.ready) != (line.gpus, line.ready):
                self._nodes[node.name] = line
                yield line

    def _look_at_replicas(self, replicas: tuple[Replica, ...], now: float) -> Iterator[ReplicaLine]:
        here = {one.id for one in replicas}
        for name in [name for name in self._replicas if name not in here]:
            yield _gone(self._replicas.pop(name), now)
        for one in replicas:
            line = _line(one, now)
            before = self._replicas.get(one.id)
            if before is None or (before.state, before.gpus) != (line.state, line.gpus):
                self._replicas[one.id] = line
                yield line


def gpus_of(pods: tuple[Pod, ...]) -> tuple[str, ...]:
    """Return the GPUs of bound pods, as `node/index`."""
    return tuple(f"{pod.node}/{device}" for pod in pods if pod.node for device in pod.devices)


def _line(one: Replica, now: float) -> ReplicaLine:
    model, _, role = one.role.partition("/")
    state: Literal["starting", "ready", "draining"]
    state = "starting" if one.state == "pending" else one.state
    return ReplicaLine(now, one.id, model, role, one.gpu_model, state, one.tier, gpus_of(one.pods))


def _gone(last: ReplicaLine, now: float) -> ReplicaLine:
    return ReplicaLine(now, last.id, last.model, last.role, last.gpu_model, "gone", last.tier, ())
