"""The event stream of a simulation: enough to recompute every figure without the simulator.

One JSON object a line, in time order. `t` is seconds since the start of scoring, negative before
it, and lies on the step grid: `load` and `slo` cover the step that starts at `t`; every other
line states what holds from `t` on. At `t` = 0 and at the end each live job, replica and node has
a line, so that totals so far can be subtracted. GPUs are named `node/index`.
"""

from collections.abc import Callable
from typing import BinaryIO, Literal

import msgspec


class Load(msgspec.Struct, frozen=True, tag_field="kind", tag="load"):
    """One step of one role on one GPU model, in the role's own tokens."""

    t: float
    model: str
    role: str
    gpu_model: str
    arrived: float
    """Tokens, not a rate; so are `served` and `queued`."""
    served: float
    queued: float
    ready: int
    capacity: float
    """True tokens/s of the ready replicas together."""
    served_draining: float
    """By replicas that drain; `served` is the work of the ready ones alone."""
    refused: float
    """Refused after the timeout, or lost with a replica. Then, summed over GPU models:
    arrived = served + served_draining + refused + change of queued."""


class Slo(msgspec.Struct, frozen=True, tag_field="kind", tag="slo"):
    """One step of one model: tokens of requests settled in it, and of those served in time."""

    t: float
    model: str
    tokens_due: float
    tokens_met: float


class ReplicaLine(msgspec.Struct, frozen=True, tag_field="kind", tag="replica"):
    """A replica's state. The first line is its creation; `gpus` stays empty until it is bound."""

    t: float
    id: str
    model: str
    role: str
    gpu_model: str
    state: Literal["starting", "ready", "draining", "asleep", "gone"]
    tier: str
    gpus: tuple[str, ...]


class ReserveLine(msgspec.Struct, frozen=True, tag_field="kind", tag="reserve"):
    """All GPUs held empty for online from here on; the next such line replaces this one."""

    t: float
    gpus: tuple[str, ...]


class JobLine(msgspec.Struct, frozen=True, tag_field="kind", tag="job"):
    """A job's state and its totals so far; `stopped` holds its GPUs until it is queued again."""

    t: float
    id: str
    tenant: str
    state: Literal["queued", "running", "notified", "stopped", "done"]
    gpus: tuple[str, ...]
    kept_gpu_seconds: float
    lost_gpu_seconds: float


class LoanLine(msgspec.Struct, frozen=True, tag_field="kind", tag="loan"):
    """A loan granted."""

    t: float
    id: str
    gpus: int
    return_by: float


class RecallLine(msgspec.Struct, frozen=True, tag_field="kind", tag="recall"):
    """A loan ended for online need, once its outcome is known.

    `need_t` is the first step from the recall on in which the role's demand exceeded what was
    ready, and `ready_t` when a replica on the returned GPUs was ready; without a need before
    that, the two are equal. For a recall that no replica of the role followed, `ready_t` is the
    end of the last step in which the role was short, and `t` when the watch was given up.
    """

    t: float
    loan: str
    need_t: float
    promised_p99_seconds: float
    ready_t: float


class NodeLine(msgspec.Struct, frozen=True, tag_field="kind", tag="node"):
    """A node's readiness."""

    t: float
    id: str
    gpus: int
    ready: bool


class PlanLine(msgspec.Struct, frozen=True, tag_field="kind", tag="plan"):
    """A plan made at `t`: how it was found, how many actions, the time charged for it."""

    t: float
    source: str
    actions: int
    plan_seconds: float


class ViolationLine(msgspec.Struct, frozen=True, tag_field="kind", tag="violation"):
    """An invariant that did not hold: of the `world` as observed, or of a `plan`."""

    t: float
    invariant: str
    detail: str


Event = (
    Load
    | Slo
    | ReplicaLine
    | ReserveLine
    | JobLine
    | LoanLine
    | RecallLine
    | NodeLine
    | PlanLine
    | ViolationLine
)

Sink = Callable[[Event], None]
"""Takes one event at a time, in time order; a list's `append` is one."""


class FileSink:
    """Writes each event as one JSON line."""

    def __init__(self, file: BinaryIO) -> None:
        """Write to `file`, which the caller opens and closes."""
        self._file = file
        self._encoder = msgspec.json.Encoder()
        self._buffer = bytearray()

    def __call__(self, event: Event) -> None:
        self._encoder.encode_into(event, self._buffer)
        self._buffer += b"\n"
        self._file.write(self._buffer)


def tee(*sinks: Sink) -> Sink:
    """Return a sink that gives each event to all of `sinks`, in order."""

    def give(event: Event) -> None:
        for sink in sinks:
            sink(event)

    return give
