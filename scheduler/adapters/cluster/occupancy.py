"""Pods on the devices of their node: who holds which, and how much of it.

After `inventory`. Which device a pod got is known to its kubelet alone, unless a convention of
sharing tells (`apiserver.sharing`). Where nobody tells, the pod bound first has the lowest free
indices; that is stable while pods come, and all counts are exact. A pod that shares a card of
which nobody tells holds a whole one in the books. Devices that the kubelet reports as unhealthy are
a count as well: the last ones that nobody holds, then the last ones.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from binpacking.inventory import WHOLE_GPU_MILLI, Device, Holder, Node
from binpacking.shares import NO_SHARE, Share
from scheduler.adapters.cluster.inventory import Frame
from scheduler.adapters.cluster.podfacts import PodFacts
from scheduler.apiserver.sharing import share_of


class Seat(NamedTuple):
    """What a pod holds of its node."""

    devices: tuple[int, ...]
    gpus: int
    """Devices that are its own."""
    share: Share = NO_SHARE
    """Of the one device that it shares."""


def occupy(frame: Frame, pods: Sequence[tuple[PodFacts, str]]) -> tuple[Node, dict[str, Seat]]:
    """Return the node with `pods` (and the holder that each counts for) on its devices.

    The second value is each pod's seat by uid. Pods beyond the last device, as when devices were
    taken away under them, hold what is left.
    """
    books = _Books(frame)
    seats: dict[str, Seat] = {}
    for pod, owner in sorted(pods, key=_age):
        if books.told(pod):
            seats[pod.uid] = books.take_told(pod, owner)
    for pod, owner in sorted(pods, key=_age):
        if pod.uid not in seats:
            seats[pod.uid] = books.take_any(pod, owner)
    sick = _sick(frame, books.holders)
    if not pods and not sick:
        return frame.node, seats
    node = msgspec.structs.replace(
        frame.node,
        devices=tuple(_device(one, books.holders.get(one.index, ()), sick) for one in books.all),
        cpu_held_milli=sum(pod.cpu_milli for pod, _ in pods),
        memory_held_mib=sum(pod.memory_mib for pod, _ in pods),
    )
    return node, seats


class _Books:
    """Devices of one node while they are handed out."""

    def __init__(self, frame: Frame) -> None:
        self.all = frame.node.devices
        self.shared = frame.node.sharing == "parts"
        self.holders: dict[int, tuple[Holder, ...]] = {}
        self._left = {one.index: WHOLE_GPU_MILLI for one in self.all}
        self._unheld = [one.index for one in self.all]
        self._index = {one.uuid: one.index for one in self.all}

    def told(self, pod: PodFacts) -> bool:
        """Whether it is told which of these devices the pod has."""
        taken = pod.taken if self.shared else ()
        return bool(taken) and all(one.uuid in self._index for one in taken)

    def take_told(self, pod: PodFacts, owner: str) -> Seat:
        """Book what is told."""
        cores, memory = Counter[int](), Counter[int]()
        for one in pod.taken:
            cores[self._index[one.uuid]] += one.cores_percent
            memory[self._index[one.uuid]] += one.memory_mib
        parts = [
            (index, share_of(cores[index], memory[index], self.all[index].memory_mib))
            for index in sorted(memory)
        ]
        for index, share in parts:
            self._book(index, owner, share if share.milli else self._whole(index))
        own = sum(share == NO_SHARE for _, share in parts)
        single = len(parts) == 1 and self.holders[parts[0][0]][-1].milli_gpu == parts[0][1].milli
        return Seat(tuple(index for index, _ in parts), own, parts[0][1] if single else NO_SHARE)

    def take_any(self, pod: PodFacts, owner: str) -> Seat:
        """Book as many devices as it asks, whole."""
        found = self._unheld[: pod.gpus]
        if self.shared:
            rest = sorted(self._left.keys() - set(found), key=lambda one: (-self._left[one], one))
            found = [*found, *[one for one in rest if self._left[one]][: pod.gpus - len(found)]]
        for index in found:
            self._book(index, owner, self._whole(index))
        shares = self.shared and pod.part is not None
        return Seat(tuple(found), 0 if shares else pod.gpus)

    def _whole(self, index: int) -> Share:
        return Share(WHOLE_GPU_MILLI, self.all[index].memory_mib)

    def _book(self, index: int, owner: str, share: Share) -> None:
        milli = min(share.milli, self._left[index])
        holder = Holder(owner, milli, share.memory_mib)
        self._left[index] -= milli
        self.holders[index] = (*self.holders.get(index, ()), holder)
        if index in self._unheld:
            self._unheld.remove(index)


def _age(entry: tuple[PodFacts, str]) -> tuple[float, float, str]:
    pod, _ = entry
    return pod.bound_seconds or 0.0, pod.created_seconds, pod.uid


def _sick(frame: Frame, held: Iterable[int]) -> frozenset[int]:
    """Return the unhealthy devices: unheld ones first, from the last index down."""
    taken = set(held)
    indices = sorted(range(len(frame.node.devices)), key=lambda one: (one in taken, -one))
    return frozenset(indices[: frame.unhealthy])


def _device(device: Device, holders: tuple[Holder, ...], sick: frozenset[int]) -> Device:
    if not holders and device.index not in sick:
        return device
    return msgspec.structs.replace(
        device, healthy=device.healthy and device.index not in sick, holders=holders
    )
