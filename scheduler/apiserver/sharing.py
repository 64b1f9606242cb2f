"""How cards are shared, read off objects: parts of one as HAMi has them, and slices.

All conventions that are known, in one place. With HAMi a pod asks `nvidia.com/gpu: 1` with a part
of that card's memory or cores beside it; HAMi's device plugin writes the node's cards into an
annotation, and HAMi's scheduler writes which card each pod got (HAMi, docs/develop/protocol.md).
On such nodes the count of `nvidia.com/gpu` is tasks, not cards.

A part is as large as the larger of its cores and its memory, as a share of the card: the other one
is not promised to anybody. What cannot be read counts as a whole card.

Where NVIDIA's device plugin slices cards by time or by MPS, its resource counts slices, and which
card a slice is of nobody tells: such a node has no GPUs that could be planned with.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import msgspec

from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.shares import NO_SHARE, Share
from scheduler.apiserver.quantities import whole_up

MEMORY = "nvidia.com/gpumem"
MEMORY_PERCENT = "nvidia.com/gpumem-percentage"
CORES_PERCENT = "nvidia.com/gpucores"
REGISTERED = "hami.io/node-nvidia-register"
ALLOCATED = "hami.io/vgpu-devices-allocated"
SLICING = ("nvidia.com/gpu.sharing-strategy", "cloud.google.com/gke-gpu-sharing-strategy")
"""Labels whose value, unless it is "none", says that cards are sliced."""
PRODUCT = "nvidia.com/gpu.product"
SLICED = "-SHARED"
"""Ends the product's name where cards are sliced under the name of whole ones."""
WHOLE_PERCENT = 100
_PARTS = frozenset((MEMORY, MEMORY_PERCENT))
_NONE: Mapping[str, str | int] = {}
_UNREADABLE = 2**31
"""More than any card has."""
_CUT = "mig"
"""Mode of a card that HAMi cuts into MIG instances: fixed sizes, which nothing here knows."""


class Amounts(Protocol):
    """Requests and limits of a container."""

    @property
    def requests(self) -> dict[str, str | int] | None: ...
    @property
    def limits(self) -> dict[str, str | int] | None: ...


class Part(NamedTuple):
    """What a pod asks of one card; memory in MiB or as a share of the card."""

    cores_percent: int
    memory_mib: int
    memory_percent: int

    def of(self, card_memory_mib: int) -> Share:
        """The same of such a card; no share where that is all of it, or its size is unknown."""
        memory = self.memory_mib or card_memory_mib * self.memory_percent // WHOLE_PERCENT
        return share_of(self.cores_percent, memory, card_memory_mib)


class Card(msgspec.Struct, frozen=True):
    """A card that a node's device plugin offers."""

    uuid: str
    memory_mib: int
    model: str
    healthy: bool


class Taken(NamedTuple):
    """What a container holds of a card."""

    uuid: str
    memory_mib: int
    cores_percent: int


class _Registered(msgspec.Struct, frozen=True):
    """One device of the JSON form; empty fields are left out there."""

    id: str
    devmem: int = 0
    type: str = ""
    mode: str = ""
    health: bool = False


_REGISTERED = msgspec.json.Decoder(tuple[_Registered, ...])


def share_of(cores_percent: int, memory_mib: int, card_memory_mib: int) -> Share:
    """Return so much of a card; `NO_SHARE` where that is a whole one."""
    if not card_memory_mib or memory_mib <= 0:
        return NO_SHARE
    by_cores = cores_percent * WHOLE_GPU_MILLI // WHOLE_PERCENT
    by_memory = memory_mib * WHOLE_GPU_MILLI // card_memory_mib
    milli = max(1, by_cores, by_memory)
    return Share(milli, memory_mib) if milli < WHOLE_GPU_MILLI else NO_SHARE


def per_pod(gpus: int, part: Part | None, card_memory_mib: int) -> tuple[int, Share]:
    """Return the whole cards of a pod that asks so many, and its share of one where it asks that.

    `card_memory_mib` is that of the card that the part is measured by.
    """
    share = NO_SHARE if part is None else part.of(card_memory_mib)
    return (0, share) if share.milli else (gpus, share)


def part_of(containers: Iterable[Amounts], resource: str) -> Part | None:
    """Return the part of one card that the containers ask for together; None: whole cards, if any.

    Several cards with a part of each count as whole ones, as do cards of several containers.
    """
    every = tuple(containers)
    if not any(_names_part(one) for one in every):
        return None
    asking = [one for one in every if _amount(one, resource)]
    if len(asking) != 1 or _amount(asking[0], resource) != 1:
        return None
    part = Part(*(_amount(asking[0], one) for one in (CORES_PERCENT, MEMORY, MEMORY_PERCENT)))
    small = part.cores_percent < WHOLE_PERCENT and part.memory_percent < WHOLE_PERCENT
    return part if small and (part.memory_mib > 0 or part.memory_percent > 0) else None


def _names_part(container: Amounts) -> bool:
    limits, requests = container.limits or _NONE, container.requests or _NONE
    return not (_PARTS.isdisjoint(limits) and _PARTS.isdisjoint(requests))


def _amount(container: Amounts, resource: str) -> int:
    given = (container.limits or {}).get(resource)
    if given is None:
        given = (container.requests or {}).get(resource, 0)
    try:
        return max(0, whole_up(str(given)))
    except ValueError:
        return _UNREADABLE


def cards_of(annotations: Mapping[str, str]) -> tuple[Card, ...] | None:
    """Return the cards that HAMi registered on a node; None where it is not there.

    Cards that it cuts by MIG are left out. Where it cannot be read, there are none.
    """
    text = annotations.get(REGISTERED)
    if text is None:
        return None
    try:
        return _from_json(text) if text.startswith("[") else _from_fields(text)
    except ValueError:
        return ()


def is_sliced(labels: Mapping[str, str]) -> bool:
    """Return whether the node's resource counts slices of cards."""
    told = any(labels.get(key, "none") not in ("", "none") for key in SLICING)
    return told or labels.get(PRODUCT, "").endswith(SLICED)


def _from_json(text: str) -> tuple[Card, ...]:
    found = _REGISTERED.decode(text)
    return tuple(
        Card(one.id, one.devmem, one.type, one.health) for one in found if one.mode != _CUT
    )


def _from_fields(text: str) -> tuple[Card, ...]:
    """Seven fields, or nine with index and mode: id, tasks, MiB, cores, type, NUMA, health."""
    rows = [row.split(",") for row in text.split(":") if row]
    return tuple(
        Card(row[0], int(row[2]), row[4], row[6] == "true")
        for row in rows
        if _long_enough(row) and row[-1] != _CUT
    )


def _long_enough(row: list[str]) -> bool:
    if len(row) not in (7, 9):
        raise ValueError(f"{len(row)} fields")
    return True


def taken_of(annotations: Mapping[str, str]) -> tuple[Taken, ...]:
    """Return what a pod holds of which cards, by container; nothing where nobody tells.

    Containers end with `;`, devices with `:`; a device is id, type, MiB, percent of cores.
    """
    text = annotations.get(ALLOCATED)
    if not text:
        return ()
    rows = text.replace(";", ":").split(":")
    try:
        return tuple(_taken(row.split(",")) for row in rows if row)
    except (ValueError, IndexError):
        return ()


def _taken(fields: list[str]) -> Taken:
    return Taken(fields[0], int(fields[2]), int(fields[3]))
