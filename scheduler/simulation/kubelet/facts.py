"""A pod as the fake kubelet reads it: wire structs, and the flat facts made from them.

Annotations under `tidal.dev/sim-` tell how a pod's process behaves; only a simulation reads them.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from scheduler.apiserver.objects import Condition, Meta, Resources
from scheduler.apiserver.requests import occupied, wanted

GPU = "nvidia.com/gpu"

START = "tidal.dev/sim-start-seconds"
RUN = "tidal.dev/sim-run-seconds"
"""The process ends with status 0 after this; heeded unless restartPolicy is Always."""
EXIT = "tidal.dev/sim-exit-seconds"
"""From SIGTERM to the process's end; more than the grace period means it ignores SIGTERM."""
EXIT_CODE = "tidal.dev/sim-exit-code"
"""With which the process ends on SIGTERM; 143 unless given, 137 where it had to be killed."""
IMAGE_MIB = "tidal.dev/sim-image-mib"
DEVICES = "tidal.dev/sim-devices"
"""Written by the fake kubelet: indices of the devices that the pod holds or held, as `0,3`."""

SIGTERM_CODE = 143
DEFAULT_GRACE_SECONDS = 30.0

Number = TypeVar("Number", int, float)


class _Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class Sleep(_Wire, frozen=True):
    """preStop.sleep."""

    seconds: float = 0.0


class Hook(_Wire, frozen=True):
    """A preStop hook; other forms than `sleep` are taken to need no time."""

    sleep: Sleep | None = None


class Lifecycle(_Wire, frozen=True):
    """A container's hooks."""

    pre_stop: Hook | None = None


class Container(_Wire, frozen=True):
    """A container."""

    name: str = ""
    image: str = ""
    resources: Resources = Resources()
    restart_policy: str | None = None
    """`Always` makes an init container a sidecar."""
    lifecycle: Lifecycle | None = None


class Gate(_Wire, frozen=True):
    """A readiness gate."""

    condition_type: str


class Spec(_Wire, frozen=True):
    """spec of a Pod."""

    node_name: str = ""
    restart_policy: str = "Always"
    termination_grace_period_seconds: float | None = None
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] | None = None
    readiness_gates: tuple[Gate, ...] | None = None


class Status(_Wire, frozen=True):
    """status of a Pod."""

    phase: str = ""
    conditions: tuple[Condition, ...] = ()


class Pod(_Wire, frozen=True):
    """v1 Pod with what a kubelet reads of it."""

    metadata: Meta
    spec: Spec = Spec()
    status: Status = Status()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One bound pod."""

    uid: str
    namespace: str
    name: str
    containers: tuple[tuple[str, str], ...] = ()
    """Name and image of each."""
    gpus: int = 0
    phase: str = "Pending"
    start_seconds: float | None = None
    run_seconds: float | None = None
    exit_seconds: float | None = None
    exit_code: int = SIGTERM_CODE
    image_mib: int | None = None
    pre_stop_seconds: float = 0.0
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    """Of the deletion where the pod is being deleted, else of the pod's spec."""
    deleting: bool = False
    gates_open: bool = True
    published: tuple[int, ...] | None = None
    """What an earlier process of this fake kubelet gave the pod."""
    refusal: str = ""
    """Why the pod cannot be simulated; not empty, the pod is rejected."""

    @property
    def image(self) -> str:
        """The image of the first container, the only one that is pulled."""
        return self.containers[0][1] if self.containers else ""


class _BadAnnotationError(ValueError):
    pass


def facts(pod: Pod) -> Facts:
    """Return the facts of a bound pod; an annotation that is no number becomes the refusal."""
    plain = _plain(pod)
    notes = pod.metadata.annotations
    try:
        return msgspec.structs.replace(
            plain,
            start_seconds=_number(notes, START, float),
            run_seconds=None if _always(pod) else _number(notes, RUN, float),
            exit_seconds=_number(notes, EXIT, float),
            exit_code=SIGTERM_CODE if EXIT_CODE not in notes else _number(notes, EXIT_CODE, int),
            image_mib=_number(notes, IMAGE_MIB, int),
        )
    except _BadAnnotationError as error:
        return msgspec.structs.replace(plain, refusal=str(error))


def _plain(pod: Pod) -> Facts:
    meta, spec = pod.metadata, pod.spec
    grace: float | None = meta.deletion_grace_period_seconds
    if grace is None:
        grace = spec.termination_grace_period_seconds
    return Facts(
        uid=meta.uid,
        namespace=meta.namespace,
        name=meta.name,
        containers=tuple((one.name, one.image) for one in spec.containers),
        gpus=_gpus(spec),
        phase=pod.status.phase or "Pending",
        pre_stop_seconds=max((_pre_stop(one) for one in spec.containers), default=0.0),
        grace_seconds=DEFAULT_GRACE_SECONDS if grace is None else float(grace),
        deleting=meta.deletion_timestamp is not None,
        gates_open=_gates_open(pod),
        published=_published(meta.annotations.get(DEVICES)),
    )


def _always(pod: Pod) -> bool:
    return pod.spec.restart_policy == "Always"


def _gpus(spec: Spec) -> int:
    return occupied(
        (wanted(one.resources, GPU) for one in spec.containers),
        (
            (wanted(one.resources, GPU), one.restart_policy == "Always")
            for one in spec.init_containers or ()
        ),
    )


def _pre_stop(container: Container) -> float:
    hook = container.lifecycle.pre_stop if container.lifecycle else None
    return hook.sleep.seconds if hook and hook.sleep else 0.0


def _gates_open(pod: Pod) -> bool:
    true = {one.type for one in pod.status.conditions if one.status == "True"}
    return all(gate.condition_type in true for gate in pod.spec.readiness_gates or ())


def _published(text: str | None) -> tuple[int, ...] | None:
    if text is None or not all(part.isdecimal() for part in text.split(",") if part):
        return None
    return tuple(sorted(int(part) for part in text.split(",") if part))


def _number(notes: dict[str, str], key: str, form: Callable[[str], Number]) -> Number | None:
    if key not in notes:
        return None
    try:
        value = form(notes[key])
    except ValueError:
        value = form("-1")
    if not 0 <= value < float("inf"):
        raise _BadAnnotationError(
            f"metadata.annotations[{key}]: {notes[key]!r} is not a number of 0 or more; mend it"
        )
    return value
