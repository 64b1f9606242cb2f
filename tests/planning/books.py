"""The books of a small cluster, pod by pod, and the snapshot that is read from them.

What happens to it is drawn in `eventful`.
"""

from collections.abc import Sequence

import msgspec

from binpacking.inventory import Device, Holder, Node
from preemption.values import Stop
from scheduler.planning.snapshot import Job, Pod, Replica, Reservation, Role, Snapshot
from tests.fixtures.worlds import H100, forecasts, signal

HOUR = 3600.0
ROLE = "chat/decode"
GPUS_PER_REPLICA = 2


class Run:
    """One job of the cluster."""

    def __init__(self, job: Job) -> None:
        self.told = job
        self.pods: list[Pod] = []
        self.suspended = True
        self.deadline: float | None = None
        self.acknowledged = False
        self.started: float | None = None

    @property
    def state(self) -> str:
        if self.suspended:
            return "stopping" if self.pods else "queued"
        if self.acknowledged:
            return "acknowledged"
        if self.deadline is not None:
            return "notified"
        bound = [pod for pod in self.pods if pod.node]
        return "running" if bound and len(bound) == len(self.pods) else "starting"

    def seen(self) -> Job:
        return msgspec.structs.replace(
            self.told,
            state=self.state,
            placed=tuple(self.pods),
            started_seconds=self.started,
            notice_deadline_seconds=self.deadline,
        )


class Books:
    """Nodes, replicas and jobs, as they are."""

    def __init__(self, names: Sequence[str]) -> None:
        self.now = 10_000.0
        self.leaf = {name: f"leaf-{number // 2}" for number, name in enumerate(names)}
        self.cordoned: set[str] = set()
        self.sick: set[tuple[str, int]] = set()
        self.replicas: dict[str, Pod] = {}
        self.draining: dict[str, Pod] = {}
        self.wanted = 0
        self.jobs: dict[str, Run] = {}
        self.reservations: tuple[Reservation, ...] = ()
        self.stops: tuple[Stop, ...] = ()
        """What the plan in force tells of."""
        self.demand = self.coming = 0.0

    def snapshot(self) -> Snapshot:
        return Snapshot(
            now_seconds=self.now,
            nodes=tuple(self._node(name) for name in self.leaf),
            roles=(
                Role(
                    key=ROLE,
                    model="chat",
                    role="decode",
                    gpus_per_pod=GPUS_PER_REPLICA,
                    replicas=self.wanted,
                ),
            ),
            replicas=tuple(
                Replica(
                    id=name,
                    role=ROLE,
                    state=state,  # type: ignore[arg-type]
                    pods=(pod,),
                    gpu_model=H100 if pod.node else "",
                )
                for state, pods in (("ready", self.replicas), ("draining", self.draining))
                for name, pod in pods.items()
                for state in ((state if pod.node else "pending"),)
            ),
            jobs=tuple(run.seen() for run in self.jobs.values()),
            reservations=self.reservations,
            stops=self.stops,
            signals=(signal(self.demand),),
            forecasts=forecasts(max(self.demand, self.coming), issued_at=self.now),
        )

    def _node(self, name: str) -> Node:
        held: dict[int, str] = {}
        for owner, pod in self.pods():
            if pod.node == name:
                for index in pod.devices:
                    assert index not in held, f"{owner} and {held[index]} on {name}/{index}"
                    held[index] = owner
        devices = tuple(
            Device(
                index=index,
                uuid=f"{name}-{index}",
                memory_mib=80 * 1024,
                healthy=(name, index) not in self.sick,
                holders=(Holder(owner=held[index]),) if index in held else (),
            )
            for index in range(8)
        )
        return Node(
            name=name,
            gpu_model=H100,
            switch_path=("core", self.leaf[name]),
            devices=devices,
            cordoned=name in self.cordoned,
        )

    def pods(self) -> list[tuple[str, Pod]]:
        found = [*self.replicas.items(), *self.draining.items()]
        return found + [(key, pod) for key, run in self.jobs.items() for pod in run.pods]

    def free(self, name: str) -> list[int]:
        taken = {index for _, pod in self.pods() if pod.node == name for index in pod.devices}
        return [i for i in range(8) if i not in taken and (name, i) not in self.sick]
