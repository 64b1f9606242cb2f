"""Words of preemption: who may be asked to give way, on what terms, and how far it has come."""

from typing import Literal

import msgspec

from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.shares import Held

Parts = tuple[tuple[str, int], ...]
"""(node, GPUs) per pod."""


class Claimant(msgspec.Struct, frozen=True, kw_only=True):
    """A running job as the question "may it be stopped?" sees it."""

    key: str
    tenant: str
    priority: int
    gpus: int
    """Held by the pods that stay."""
    parts: Parts
    """Pods that stay, with the GPUs that others could use; of an elastic job the last go first."""
    shares: tuple[Held, ...] = ()
    """What they hold of cards besides whole ones; such a job goes whole."""
    least_pods: int = 0
    """Pods with which it runs on; 0: with no fewer than it has."""
    cpu_milli_per_pod: int = 0
    memory_mib_per_pod: int = 0
    started_seconds: float
    last_checkpoint_seconds: float | None
    """None: it writes none, so everything since the start is at stake."""
    checkpoint_write_seconds: float | None
    """None: it cannot write one on notice."""
    writing_since_seconds: float | None = None
    """Since when it writes a checkpoint now, where it tells."""
    restart_seconds: float
    attempt: int = 1
    """Which run this is; every one after the first followed a stop or a loss."""
    opted_out: str = ""
    """Why its owner keeps it from being stopped, in words."""
    held: str = ""
    """What else forbids to evict it now, such as a disruption budget, in words."""

    @property
    def milli_gpus(self) -> int:
        """All that it holds, parts of cards included."""
        return self.gpus * WHOLE_GPU_MILLI + sum(one.share.milli for one in self.shares)

    @property
    def spare_parts(self) -> Parts:
        """Pods that an elastic job can do without, as many as may go; empty for a rigid one."""
        return self.parts[self.least_pods :] if self.least_pods else ()


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The contract's terms, from the policy."""

    minimum_runtime_seconds: float
    protected_seconds: float = 0.0
    stops_per_hour: int
    tenant_stops_per_hour: int
    job_stops_per_hour: int
    online_priority: int | None = None
    """Jobs of this priority and above are not stopped; None: online goes before all."""
    guaranteed_gpus: dict[str, int] = {}
    """GPUs per tenant that no stop may take."""


class Stop(msgspec.Struct, frozen=True):
    """A job that was told to stop or to shrink, for the budgets."""

    at_seconds: float
    job: str
    tenant: str
    attempt: int = 0
    """The run that it disturbed."""
    pods: int = 0
    """With how many pods the run was to go on."""


Why = Literal[
    "opted_out",
    "priority",
    "held",
    "starting",
    "told",
    "writing",
    "minimum_runtime",
    "protected",
    "dear",
    "tenant_share",
    "budget",
    "tenant_budget",
    "job_budget",
]


class Refusal(msgspec.Struct, frozen=True):
    """Why a running job is no candidate."""

    key: str
    reason: Why
    sentence: str
