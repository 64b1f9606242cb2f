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
from scheduler.adapters.cluster.cardless import NOTHING, Amount
from scheduler.adapters.cluster.inventory import Frame
from scheduler.adapters.cluster.podfacts import PodFacts
from scheduler.apiserver.sharing import share_of


class Seat(NamedTuple):
    """What a pod holds of its node."""

    devices: tuple[int, ...]
    gpus: int
    """Whole devices, of which nobody else has a part."""
    share: Share = NO_SHARE
    """Of the one device that it shares."""


def occupy(frame: Frame, pods: Sequence[tuple[PodFacts, str]]) -> tuple[Node, dict[str, Seat]]:
    """Return the node with `pods` (and the holder that each counts for) on its devices.

    The second value is each pod's seat by uid. Pods beyond the last device, as when devices were
    taken away under them, hold what is left.
    """
    books = _Books(frame)
    seats: dict[str, Seat] = {}
    in_turn = sorted(pods, key=_age) if len(pods) > 1 else pods
    for pod, owner in in_turn:
        if books.told(pod):
            seats[pod.uid] = books.take_told(pod, owner)
    for pod, owner in in_turn:
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


def beside(node: Node, cardless: Amount) -> Node:
    """Return the node with what pods without GPU hold there."""
    if cardless == NOTHING:
        return node
    return msgspec.structs.replace(
        node,
        cpu_held_milli=node.cpu_held_milli + cardless.cpu_milli,
        memory_held_mib=node.memory_held_mib + cardless.memory_mib,
    )


class _Books:
    """Devices of one node while they are handed out."""

    def __init__(self, frame: Frame) -> None:
        self.all = frame.node.devices
        self.shared = frame.node.sharing == "parts"
        self.holders: dict[int, tuple[Holder, ...]] = {}
        self._left = [Share(WHOLE_GPU_MILLI, one.memory_mib) for one in self.all]
        self._index = {one.uuid: one.index for one in self.all} if self.shared else {}

    def told(self, pod: PodFacts) -> bool:
        """Whether it is told which of these devices the pod has."""
        return bool(pod.taken) and all(one.uuid in self._index for one in pod.taken)

    def take_told(self, pod: PodFacts, owner: str) -> Seat:
        """Book what is told."""
        cores, memory = Counter[int](), Counter[int]()
        for one in pod.taken:
            cores[self._index[one.uuid]] += one.cores_percent
            memory[self._index[one.uuid]] += one.memory_mib
        devices = tuple(sorted(memory))
        booked = [
            self._book(
                index, owner, share_of(cores[index], memory[index], self.all[index].memory_mib)
            )
            for index in devices
        ]
        share = (
            booked[0] if len(booked) == 1 and 0 < booked[0].milli < WHOLE_GPU_MILLI else NO_SHARE
        )
        return Seat(devices, _whole(booked), share)

    def take_any(self, pod: PodFacts, owner: str) -> Seat:
        """Book as many devices as it asks, whole."""
        able = [one.index for one in self.all if one.index not in self.holders]
        if self.shared:
            held = [n for n in self.holders if self._left[n].milli]
            able += sorted(held, key=lambda n: (-self._left[n].milli, n))
        found = able[: pod.gpus]
        booked = [self._book(index, owner, NO_SHARE) for index in found]
        if not self.shared:
            return Seat(tuple(found), pod.gpus)
        return Seat(tuple(found), 0 if pod.part else _whole(booked))

    def _book(self, index: int, owner: str, share: Share) -> Share:
        """Book the share, or all that is left for none, and return it.

        It is no more than is left: a convention may let cards be overbooked.
        """
        left = self._left[index]
        taken = left
        if share != NO_SHARE:
            taken = Share(min(share.milli, left.milli), min(share.memory_mib, left.memory_mib))
        self._left[index] = left.less(taken)
        self.holders[index] = (*self.holders.get(index, ()), Holder(owner, *taken))
        return taken


def _whole(booked: Iterable[Share]) -> int:
    return sum(one.milli == WHOLE_GPU_MILLI for one in booked)


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
