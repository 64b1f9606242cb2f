"""What a pod asks, read from its object: GPUs, CPU, memory, and whose it is.

GPUs are counted, so a quantity that cannot be read is an error that names it. CPU and memory only
rank nodes, on which kube-scheduler has found room for them.
"""

from collections.abc import Callable, Collection
from fractions import Fraction
from functools import partial

from scheduler.apiserver.quantities import exact, mib_up, milli_up
from scheduler.apiserver.requests import occupied, stated
from scheduler.apiserver.sharing import part_of, per_pod
from scheduler.extender.wire import BodyError, Container, Pod, PodSpec, PodStatus
from scheduler.planning.pricing import UNBOUNDED
from scheduler.planning.standing import PodAsk
from scheduler.planning.targets import Targets

MOST_GPUS = 1_000_000
"""More than a cluster has; a larger quantity is a mistake."""


def ask_of(
    pod: Pod, resources: Collection[str], targets: Targets, card_memory_mib: int = 0
) -> PodAsk:
    """Return the pod as an ask; `resources` are the names under which nodes offer GPUs.

    `card_memory_mib` is of the card by which a part of one is measured; 0: none may be shared.
    """
    resource, gpus = _gpus(pod.spec, resources)
    every = (*pod.spec.containers, *(pod.spec.init_containers or ()))
    part = part_of((one.resources for one in every), resource)
    gpus, share = per_pod(gpus, part, card_memory_mib)
    cpu_milli, memory_mib = _cpu_and_memory(pod.spec)
    status = pod.status or PodStatus()
    meta = pod.metadata
    whose = targets.identify(meta.marks)
    return PodAsk(
        uid=meta.key,
        name=meta.called,
        namespace=meta.namespace,
        owner=whose.owner,
        group=whose.group,
        gpus=gpus,
        share=share,
        resource=resource,
        cpu_milli=cpu_milli,
        memory_mib=memory_mib,
        priority=pod.spec.priority or 0,
        nominated=status.nominated_node_name or "",
        choosy=status.failed or pod.spec.prefers,
    )


def _gpus(spec: PodSpec, resources: Collection[str]) -> tuple[str, int]:
    """Return the GPU resource that the pod asks for and how many; ("", 0) where it asks none."""
    for resource in sorted(resources):
        gpus = _occupied(spec, partial(_gpus_of, resource=resource))
        if gpus:
            return resource, gpus
    return "", 0


def _cpu_and_memory(spec: PodSpec) -> tuple[int, int]:
    """Return milli-CPU and MiB, by which nodes are ranked only: kube-scheduler checks them."""
    return _held(spec, "cpu", milli_up), _held(spec, "memory", mib_up)


def _held(spec: PodSpec, resource: str, read: Callable[[str], int]) -> int:
    """Return what the pod as a whole asks, else its containers; and what its runtime takes."""
    whole = stated(spec.resources, resource)
    asked = (
        _occupied(spec, lambda one, _: _soft(stated(one.resources, resource), read))
        if whole is None
        else _soft(whole, read)
    )
    return asked + _soft((spec.overhead or {}).get(resource), read)


def _occupied(spec: PodSpec, amount: Callable[[Container, str], int]) -> int:
    """Return what the pod occupies; `amount` reads a container, and has its path for errors."""
    return occupied(
        [amount(one, f"containers[{index}]") for index, one in enumerate(spec.containers)],
        [
            (amount(one, f"initContainers[{index}]"), one.restart_policy == "Always")
            for index, one in enumerate(spec.init_containers or ())
        ],
    )


def _soft(given: str | int | None, read: Callable[[str], int]) -> int:
    """Read one quantity; none where it cannot be read."""
    try:
        return 0 if given is None else min(max(0, read(str(given))), UNBOUNDED)
    except ValueError:
        return 0


def _gpus_of(container: Container, path: str, resource: str) -> int:
    """Read one quantity; the rule of counting must not guess at what it cannot read."""
    given = stated(container.resources, resource)
    if given is None or given == 0:
        return 0
    try:
        amount = Fraction(given) if isinstance(given, int) else exact(given)
    except ValueError:
        amount = Fraction(-1)
    readable = isinstance(given, int) or given.isascii()
    if readable and amount.denominator == 1 and 0 <= amount <= MOST_GPUS:
        return int(amount)
    shown = given[:40] if isinstance(given, str) else "a number out of range"
    raise BodyError(
        f"request body: Pod.spec.{path}.resources: {resource} is {shown!r}, not a whole number"
        f" from 0 to {MOST_GPUS}"
    )
