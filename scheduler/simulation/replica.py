"""One serving replica, and one role as its users deployed it.

Mutable inside the virtual cluster; `view` makes the frozen values that a snapshot shows, and
makes them again only after a change. `replicas` moves them through their states.
"""

from math import inf
from typing import Literal
from zlib import crc32

import msgspec
import numpy as np

from scheduler.planning import snapshot
from scheduler.simulation.devices import Pod
from scheduler.simulation.events import ReplicaLine
from scheduler.simulation.worldfile import Starts, Tier

PoolKey = tuple[str, str, str]
"""Model, role, GPU model."""
State = Literal["pending", "starting", "ready", "draining"]


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A role as the cluster's users deployed it."""

    model: str
    role: str
    gpus_per_pod: int
    pods_per_replica: int
    gpu_models: tuple[str, ...]
    """Node affinity: where its engine runs."""
    replicas: int = 0
    """At the start of the run."""

    @property
    def key(self) -> str:
        """`model/role`."""
        return f"{self.model}/{self.role}"


def draw_start_seconds(starts: Starts, workload: Workload, seed: int, number: int) -> float:
    """Return the time from bound to ready, failed starts included.

    Drawn from the replica's own stream (seed, role, number), so nothing else in the run shifts it.
    """
    rng = np.random.default_rng([seed, crc32(workload.key.encode()), number])
    spread = starts.spread(starts.tier)
    seconds = float(rng.lognormal(spread.log_mean, spread.log_sd))
    while rng.random() < starts.failure_share:
        seconds += float(rng.lognormal(spread.log_mean, spread.log_sd))
    return seconds


class Replica:
    """One engine instance."""

    __slots__ = (
        "_seen",
        "bound_seconds",
        "created_seconds",
        "gpu_model",
        "id",
        "pods",
        "ready_seconds",
        "role",
        "start_seconds",
        "state",
        "tier",
        "wakes_seconds",
    )

    def __init__(
        self, role: "RoleState", name: str, tier: Tier, start_seconds: float, now_seconds: float
    ) -> None:
        """Begin pending, its pods not bound."""
        self.id = name
        self.role = role
        self.tier: Tier = tier
        self.state: State = "pending"
        self.gpu_model = ""
        self.created_seconds = now_seconds
        self.bound_seconds: float | None = None
        self.ready_seconds: float | None = None
        self.start_seconds = start_seconds
        self.wakes_seconds = inf
        self._seen: snapshot.Replica | None = None
        workload = role.workload
        self.pods = [
            Pod(f"{name}-{index}", name, workload.gpus_per_pod)
            for index in range(workload.pods_per_replica)
        ]

    @property
    def pool(self) -> PoolKey:
        """What its capacity is counted under."""
        return (self.role.workload.model, self.role.workload.role, self.gpu_model)

    def view(self) -> snapshot.Replica:
        """Return the replica as a snapshot shows it; the same object until it changes."""
        if self._seen is None:
            self._seen = snapshot.Replica(
                id=self.id,
                role=self.role.workload.key,
                state=self.state,
                pods=tuple(pod.seen() for pod in self.pods),
                gpu_model=self.gpu_model,
                tier=self.tier,
                created_seconds=self.created_seconds,
                ready_seconds=self.ready_seconds,
            )
        return self._seen

    def changed(self) -> None:
        """Forget what snapshots showed."""
        self._seen = None

    def line(self, now_seconds: float, *, gone: bool = False) -> ReplicaLine:
        """Return its line of the event stream."""
        state: Literal["starting", "ready", "draining", "gone"]
        state = "gone" if gone else "starting" if self.state == "pending" else self.state
        names = () if gone else tuple(name for pod in self.pods for name in pod.gpu_names())
        model, role, gpu_model = self.pool
        return ReplicaLine(now_seconds, self.id, model, role, gpu_model, state, self.tier, names)


class RoleState:
    """One role: what is asked for, and the replicas there are."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.replicas = workload.replicas
        self.made = 0
        self.live: dict[str, Replica] = {}
        """Not draining, oldest first."""
        self._seen: snapshot.Role | None = None

    def view(self) -> snapshot.Role:
        """Return the role as a snapshot shows it; the same object until it changes."""
        if self._seen is None or self._seen.replicas != self.replicas:
            self._seen = snapshot.Role(
                key=self.workload.key,
                model=self.workload.model,
                role=self.workload.role,
                replicas=self.replicas,
                pods_per_replica=self.workload.pods_per_replica,
                gpus_per_pod=self.workload.gpus_per_pod,
            )
        return self._seen
