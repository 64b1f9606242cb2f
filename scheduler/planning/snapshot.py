"""The world as one frozen value: all that a plan may depend on.

Adapters build a `Snapshot`, the ledger stores it, a replay reads it back. It carries its own
`now_seconds`; nothing in `planning` reads a clock. `SCHEMA` is raised when the shape changes.
"""

from typing import Literal

import msgspec

from binpacking.inventory import WHOLE_GPU_MILLI, Node
from binpacking.shares import NO_SHARE, Share
from forecasting import Forecasts
from preemption.values import Stop

SCHEMA = 1

Parts = tuple[tuple[str, int], ...]
"""(node, GPUs) per pod of a replica or job, in order of node."""

Tier = Literal["cold", "image", "weights", "asleep", "active"]


def amount(milli_gpus: int) -> str:
    """Return GPUs in words, parts of one with up to three digits."""
    return f"{milli_gpus / WHOLE_GPU_MILLI:.15g} GPUs"


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """One pod of a replica or job; `node` is empty until it is bound."""

    name: str
    uid: str
    gpus: int
    """Whole ones."""
    share: Share = NO_SHARE
    """Of the one card that it shares with others."""
    node: str = ""
    devices: tuple[int, ...] = ()
    bound_seconds: float | None = None
    leaving: bool = False
    """It is on its way out and holds its GPUs until it is gone."""

    @property
    def milli_gpus(self) -> int:
        """All that it holds, or asks for."""
        return self.gpus * WHOLE_GPU_MILLI + self.share.milli


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """One scaling target: the pods of one role of one model, as the cluster states it."""

    key: str
    """`model/role`, or `model/role/pool` where a model owns several pools."""
    model: str
    role: str
    kind: str = "Deployment"
    replicas: int
    """`spec.replicas` as last read."""
    pods_per_replica: int = 1
    gpus_per_pod: int = 1
    share_per_pod: Share = NO_SHARE
    """Of one card, where its pods ask no whole one; then `gpus_per_pod` is 0."""
    cpu_milli_per_pod: int = 0
    """By its template; of CPU and memory only the placing of single pods knows."""
    memory_mib_per_pod: int = 0
    shut: dict[str, str] = {}
    """Sections of nodes that do not admit its pods, and why."""
    apart: bool = False
    """Its pods' anti-affinity keeps them off each other's nodes; where the policy spreads it over
    larger domains, packing keeps to that alone."""
    scaled_by_other: str = ""
    """Name of an HPA or ScaledObject on the same target; then Tidal refuses to act."""
    override_until_seconds: float | None = None
    """A human's edit is respected until then."""
    removable: Literal["any", "last"] = "any"
    """Which replicas may be named to go: any, or only those of the highest ordinals."""


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One engine instance: one or more pods on one or more nodes of one leaf."""

    id: str
    role: str
    state: Literal["pending", "starting", "ready", "draining"]
    pods: tuple[Pod, ...]
    gpu_model: str = ""
    tier: Tier = "weights"
    created_seconds: float = 0.0
    ready_seconds: float | None = None
    ordinal: int = 0
    """Its number in a workload that counts its replicas."""

    @property
    def parts(self) -> Parts:
        """Bound pods only."""
        return tuple(sorted((pod.node, pod.gpus) for pod in self.pods if pod.node))


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One batch gang, waiting or running."""

    id: str
    tenant: str
    queue: str = "default"
    priority: int
    state: Literal["queued", "starting", "running", "notified", "acknowledged", "stopping"]
    pods: int
    gpus_per_pod: int
    share_per_pod: Share = NO_SHARE
    """As in `Role`."""
    cpu_milli_per_pod: int = 0
    memory_mib_per_pod: int = 0
    min_pods: int
    max_pods: int
    """Elastic bounds; both equal `pods` for a rigid gang."""
    gpu_models: tuple[str, ...] = ()
    shut: dict[str, str] = {}
    """As in `Role`."""
    submitted_seconds: float
    started_seconds: float | None = None
    attempt: int = 0
    """Raised by the job's controller at each start; a stop names the attempt it means."""
    expected_remaining_seconds: float
    """As declared by its owner, restart included; not the truth."""
    last_checkpoint_seconds: float | None = None
    checkpoint_interval_seconds: float | None = None
    checkpoint_write_seconds: float | None = None
    """None: writes none on notice."""
    restart_seconds: float = 0.0
    preemptible: bool = True
    """Its owner lets it be stopped."""
    opt_out: str = ""
    """Why not, in words."""
    held_by: str = ""
    """What else forbids to evict it now, such as a disruption budget, in words."""
    checkpoint_started_seconds: float | None = None
    """Since when it writes a checkpoint now, where it tells."""
    stops: tuple[tuple[int, int, float], ...] = ()
    """(attempt, pods left to it, seconds) of the last hour's stops, as kept on the job itself."""
    notice_deadline_seconds: float | None = None
    notice_for: str = ""
    placed: tuple[Pod, ...] = ()

    @property
    def gpus(self) -> int:
        """Whole GPUs that the job holds, or asks for while it waits."""
        if self.placed:
            return sum(pod.gpus for pod in self.placed)
        return self.pods * self.gpus_per_pod

    @property
    def milli_gpus(self) -> int:
        """The same with its parts of cards."""
        if self.placed:
            return sum(pod.milli_gpus for pod in self.placed)
        return self.pods * (self.gpus_per_pod * WHOLE_GPU_MILLI + self.share_per_pod.milli)

    @property
    def amount(self) -> str:
        """The same in words."""
        return amount(self.milli_gpus)

    @property
    def parts(self) -> Parts:
        """Bound pods only."""
        return tuple(sorted((pod.node, pod.gpus) for pod in self.placed if pod.node))

    @property
    def staying(self) -> tuple[Pod, ...]:
        """Bound pods that are not on their way out; in an elastic job the last go first."""
        return tuple(pod for pod in self.placed if pod.node and not pod.leaving)


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """A standby engine on exact devices, asleep or on its way."""

    key: str
    role: str
    node: str
    devices: tuple[int, ...]
    state: Literal["starting", "asleep", "waking", "quarantined"]


class Loan(msgspec.Struct, frozen=True, kw_only=True):
    """GPUs lent to one run of a job, and when they are expected back."""

    id: str
    job: str
    gpus: int
    """Whole ones."""
    share_milli: int = 0
    """Parts of cards, in all."""
    granted_seconds: float
    return_by_seconds: float
    promised_p99_seconds: float
    """P99 time to ready of the tier that will serve the GPUs when they are recalled."""


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """GPUs kept for one coming replica or job, node by node, until it is seen or it expires."""

    id: str
    owner: str
    """Role key or job id; pods carry it, so the extender can match them."""
    parts: Parts
    share: Share = NO_SHARE
    """Of one card, for each part; then the parts have no whole GPUs."""
    created_seconds: float
    """A pod of the owner bound on one of the nodes since then fills that part."""
    expires_seconds: float
    wakes: tuple[str, ...] = ()
    """Standby units that the replica is to wake rather than start."""
    reason: str = ""
    epoch: int = 0


class RoleSignal(msgspec.Struct, frozen=True, kw_only=True):
    """What the engines of one role reported over the last window."""

    role: str
    status: Literal["live", "idle", "partial", "stale", "absent"] = "live"
    window_seconds: float
    arrived_tokens_per_second: float
    served_tokens_per_second: float
    queued_tokens: float
    """Work in the role's tokens that waits for a replica."""
    utilisation: float
    """Served over the measured capacity of the ready replicas, 0 to 1."""
    late_share: float
    """Share of tokens finished in the window outside the SLO, 0 to 1."""


class CapacitySignal(msgspec.Struct, frozen=True, kw_only=True):
    """Measured tokens/s of one replica inside its SLO, from the engines' own timers."""

    role: str
    gpu_model: str
    tokens_per_second: float
    samples: int
    """Replica-windows behind the number; 0 means unknown."""


class StartSignal(msgspec.Struct, frozen=True, kw_only=True):
    """Measured time to ready of one tier."""

    role: str
    tier: Tier
    p50_seconds: float
    p99_seconds: float
    samples: int


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything observed at one instant."""

    schema: int = SCHEMA
    now_seconds: float
    epoch: int = 0
    nodes: tuple[Node, ...]
    roles: tuple[Role, ...] = ()
    replicas: tuple[Replica, ...] = ()
    jobs: tuple[Job, ...] = ()
    units: tuple[Unit, ...] = ()
    loans: tuple[Loan, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    stops: tuple[Stop, ...] = ()
    """Of the last hour, as the plan in force tells of them: their jobs may have ended since."""
    signals: tuple[RoleSignal, ...] = ()
    capacities: tuple[CapacitySignal, ...] = ()
    starts: tuple[StartSignal, ...] = ()
    forecasts: Forecasts | None = None
