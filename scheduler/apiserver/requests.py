"""What a pod occupies of an extended resource, as Kubernetes counts it.

One rule for the extender, the observer and the fake kubelet: they must agree on every pod.
"""

from collections.abc import Callable, Iterable

from scheduler.apiserver.objects import PodSpec, Resources
from scheduler.apiserver.quantities import mib_up, milli_up, whole_up
from scheduler.apiserver.sharing import Amounts, Part, part_of


def occupied(containers: Iterable[int], inits: Iterable[tuple[int, bool]]) -> int:
    """Return the units that a pod holds.

    `containers` are the amounts of the containers; `inits` the amounts of the init containers, in
    order, with whether each is a sidecar. Containers and sidecars run together; an init container
    runs beside the sidecars started before it; the pod needs the larger of the two.
    """
    sidecars = peak = 0
    for amount, sidecar in inits:
        peak = max(peak, sidecars + amount)
        if sidecar:
            sidecars += amount
    return max(peak, sidecars + sum(containers))


def gpus_of(spec: PodSpec, resources: Iterable[str]) -> tuple[str, int]:
    """Return the first of `resources` that the pod asks for and how many; ("", 0) for none."""
    for resource in resources:
        amount = _occupied(spec, resource, whole_up)
        if amount:
            return resource, amount
    return "", 0


def part_asked(spec: PodSpec, resource: str) -> Part | None:
    """Return the part of one card that the pod asks for; None where it asks whole ones, or none."""
    every = (*spec.containers, *(spec.init_containers or ()))
    return part_of((one.resources for one in every), resource)


def cpu_and_memory(spec: PodSpec) -> tuple[int, int]:
    """Return the milli-CPU and MiB that the pod holds of its node."""
    return _held(spec, "cpu", milli_up), _held(spec, "memory", mib_up)


def _held(spec: PodSpec, resource: str, read: Callable[[str], int]) -> int:
    """Return what the pod as a whole asks, else its containers; and what its runtime takes."""
    whole = stated(spec.resources, resource)
    asked = _occupied(spec, resource, read) if whole is None else read(str(whole))
    return asked + read((spec.overhead or {}).get(resource, "0"))


def _occupied(spec: PodSpec, resource: str, read: Callable[[str], int]) -> int:
    return occupied(
        (wanted(one.resources, resource, read) for one in spec.containers),
        (
            (wanted(one.resources, resource, read), one.restart_policy == "Always")
            for one in spec.init_containers or ()
        ),
    )


def wanted(resources: Resources, resource: str, read: Callable[[str], int] = whole_up) -> int:
    """Return a container's request; none is 0."""
    given = stated(resources, resource)
    return 0 if given is None else read(str(given))


def stated(resources: Amounts | None, resource: str) -> str | int | None:
    """Return the request, or the limit where that alone is stated and so is both; else None."""
    if resources is None:
        return None
    given = (resources.requests or {}).get(resource)
    return (resources.limits or {}).get(resource) if given is None else given
