"""The documents, as frozen values with a `schema` that is raised when a shape changes.

Times are seconds on the world's time line, spans end in `_seconds` too and say `age`, `in` or
`every`. Counts of replicas are whole except where thousandths are meant (`_milli`).
"""

from typing import Literal

import msgspec

from forecasting import SeriesForecast
from forecasting.diagnostics import Diagnosis
from scheduler.planning.actions import Reason, Sizing
from scheduler.planning.snapshot import Reservation
from scheduler.ports import GpuUse, TickLine

ALLOCATION_NOTE = (
    "GPUs that any pod holds / all GPUs of Ready nodes; this is allocation, "
    "neither DCGM's GPU_UTIL nor SM_ACTIVE"
)


class NoSuchError(LookupError):
    """What was asked for does not exist; the message says what does."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every answer: which tick it was read from."""

    schema: str
    tick: int
    now_seconds: float
    """Of the snapshot that the answer was read from."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the process knows and no tick does."""

    age_seconds: float = 0.0
    """Since the newest tick ended, by this machine's clock."""
    full_plan_seconds: float | None = None
    """When the last full plan was made, on the world's time line."""
    extender_port: int | None = None
    worker_failures: int = 0
    policy_errors: tuple[str, ...] = ()
    """Why the last edit was refused; empty while the policy in force is the newest."""
    leads: bool = True
    """Whether this replica plans for real; one that follows answers the extender only."""
    leadership: str = ""
    """Which replica leads, in words; empty where there is one replica only."""
    problems: tuple[str, ...] = ()
    """What is missing or stale of what Tidal reads, a sentence each."""
    gpu_use: GpuUse | None = None
    """None where nobody measures it."""


class FleetGpus(msgspec.Struct, frozen=True, kw_only=True):
    """Every GPU in exactly one place; `total` is the sum of the others."""

    total: int
    online: int
    lent: int
    """Held by batch jobs."""
    other: int
    """Held by pods that are no replica and no job."""
    reserved: int
    """Free, and kept for a replica or job that is coming."""
    free: int
    unhealthy: int
    closed: int
    """Healthy and idle on nodes that are cordoned or not ready."""


class FragmentLine(msgspec.Struct, frozen=True, kw_only=True):
    """Idle GPUs under one leaf switch, of one model, and what of them is fragment."""

    gpu_model: str
    switch: str
    """Path from the core to the leaf, joined by `/`."""
    idle_milli_gpus: int
    fragment_milli_gpus: int
    """Expected to be of no use to the shapes that queue and forecast will ask, GPU-weighted."""


class PriceLine(msgspec.Struct, frozen=True, kw_only=True):
    """What the newest plan holds room for one pod of `gpus` on one node of this model to be worth.

    In GPUs that pods to come would lack on the mean: single pods that can go elsewhere do.
    """

    gpu_model: str
    gpus: int
    milli_gpus: int


class RoleLine(msgspec.Struct, frozen=True, kw_only=True):
    """One role: what it has, what it should have, how it does."""

    role: str
    gpus_per_replica: int
    ready: int
    starting: int
    pending: int
    draining: int
    replicas: int
    """`spec.replicas` as observed."""
    desired_replicas: int
    """The same after the last plan."""
    wanted_milli: int | None
    """Thousandths of a reference replica that sizing asked for; None: not sized."""
    lacking_milli: int
    """What no placement covers."""
    arriving_tokens_per_second: float | None
    """None while the role's metrics are missing."""
    capacity_tokens_per_second: float
    """Believed, of the ready replicas, inside the SLO."""
    utilisation: float | None
    """Served tokens / measured capacity of ready replicas; work, not allocation."""
    late_share: float | None
    metrics: str
    """live, idle, partial, stale, or absent."""


class BatchLine(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs by state, and what they borrowed."""

    waiting: int
    running: int
    notified: int
    stopping: int
    lent_gpus: int
    lendable_gpus: int
    """Free and unreserved when the last plan was made, before it lent any."""
    loans: int
    next_return_seconds: float | None
    """Earliest return-by among the loans."""


class ActionLine(msgspec.Struct, frozen=True, kw_only=True):
    """One action of the last plan and what became of it."""

    kind: str
    target: str
    code: str
    sentence: str
    applied: bool
    detail: str
    """Why it was dropped, where it was."""


class Status(Document, frozen=True, kw_only=True):
    """`tidal.status/1`."""

    schema: Literal["tidal.status/1"] = "tidal.status/1"
    mode: str
    plan_source: str
    plan_age_seconds: float
    full_plan_age_seconds: float | None
    """None: this process has not planned in full yet."""
    summary: str
    gpus: FleetGpus
    shared_gpus: int = 0
    """Those of which pods hold parts."""
    shared_idle_milli_gpus: int = 0
    """What is left of these."""
    allocated_utilisation: float | None
    """None while no node is Ready."""
    allocated_utilisation_note: str
    roles: tuple[RoleLine, ...]
    batch: BatchLine
    actions: tuple[ActionLine, ...]
    violations: tuple[str, ...]
    policy_errors: tuple[str, ...]
    extender_port: int | None
    worker_failures: int
    leads: bool
    leadership: str
    problems: tuple[str, ...]
    gpu_use: GpuUse | None
    fragments: tuple[FragmentLine, ...] = ()
    """Empty where no shape is to come."""
    prices: tuple[PriceLine, ...] = ()
    """Those above 0."""


class SeriesOutlook(msgspec.Struct, frozen=True, kw_only=True):
    """One series: what was, what will be, and how far that can be relied on."""

    unit: str
    """Of all its rates."""
    past: tuple[float | None, ...]
    """Rates of the bins that end at `issued_at_seconds`, oldest first; None: unknown."""
    forecast: SeriesForecast
    diagnosis: Diagnosis
    remarks: tuple[str, ...]
    """What a reader must know before he relies on it; a sentence each, the gravest first."""


class Outlook(Document, frozen=True, kw_only=True):
    """`tidal.forecast/2`: all series of one model, or one of them."""

    schema: Literal["tidal.forecast/2"] = "tidal.forecast/2"
    model: str
    issued_at_seconds: float
    bin_seconds: float
    horizons_seconds: tuple[float, ...]
    leads_seconds: tuple[float, ...]
    quantiles: tuple[float, ...]
    judged_horizon_seconds: float
    judged_quantile: float
    """What coverage, skill and weights of each series are about."""
    series: tuple[SeriesOutlook, ...]


class AnswerLine(msgspec.Struct, frozen=True, kw_only=True):
    """How one packing question was answered."""

    question: str
    """online or batch."""
    rung: str
    gap: float | None
    """Relative gap to a proven bound; None: nothing is proven."""
    asked: int
    placed: int
    stopped: tuple[str, ...]
    rejected: tuple[str, ...]


class Decision(Document, frozen=True, kw_only=True):
    """`tidal.plan/1`."""

    schema: Literal["tidal.plan/1"] = "tidal.plan/1"
    mode: str
    effort: str
    source: str
    at_seconds: float
    summary: str
    actions: tuple[ActionLine, ...]
    reservations: tuple[Reservation, ...]
    sizings: tuple[Sizing, ...]
    unplaced: tuple[str, ...]
    lendable_gpus: int
    answers: tuple[AnswerLine, ...]


class Fact(msgspec.Struct, frozen=True):
    """One named value about an object; a float is a span, and its name ends in `_seconds`."""

    name: str
    value: str | int | float | bool


class Holding(msgspec.Struct, frozen=True):
    """`holder` holds `gpus` whole GPUs of `node`, and so much of cards that others share."""

    holder: str
    node: str
    gpus: int
    share_milli: int = 0


class Explanation(Document, frozen=True, kw_only=True):
    """`tidal.explain/1`."""

    schema: Literal["tidal.explain/1"] = "tidal.explain/1"
    object: str
    kind: str
    sentence: str
    facts: tuple[Fact, ...] = ()
    holdings: tuple[Holding, ...] = ()
    reasons: tuple[Reason, ...] = ()
    actions: tuple[ActionLine, ...] = ()
    remarks: tuple[str, ...] = ()
    """Why something is not done: refusals, shortages, pauses."""


class Ticks(msgspec.Struct, frozen=True, kw_only=True):
    """`tidal.ticks/1`: a range of the ledger, in order of number."""

    schema: Literal["tidal.ticks/1"] = "tidal.ticks/1"
    ticks: tuple[TickLine, ...] = ()


class Failure(msgspec.Struct, frozen=True):
    """Any error: one line that names the field and the fix."""

    error: str
