"""The arrivals of the FGD paper's experiment, and what is counted while they come.

Pods sorted by name are shuffled; then pods drawn from the list, with replacement, follow until the
next would pass 130 % of the GPUs. Nothing departs; a pod that fits nowhere is dropped, not tried
again, and counts as arrived. The stream of chance is numpy's PCG64 from the seed: the orders of
the paper's Go program cannot be had, only their distribution.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from binpacking.cards import Fleet, Host, PodShape
from binpacking.foresight import Seat
from binpacking.fragmentation import Fragments, Mixture
from tests.benchmarks.packing_lists import Pod
from tests.benchmarks.packing_rehearsal import LEVELS_PERCENT
from tests.benchmarks.packing_windows import Windows

_LAST = LEVELS_PERCENT[-1]
_SIZES = (4, 8)


class Taken(msgspec.Struct, frozen=True):
    """One arrival and where it went; no seat: refused."""

    pod: Pod
    seat: Seat | None


def arrivals(
    pods: Sequence[Pod], capacity_milli: int, seed: int | tuple[int, ...]
) -> tuple[Pod, ...]:
    """The order in which pods come. As published, a draw is tested by its milli per card."""
    chance = np.random.default_rng(seed)
    order = [pods[index] for index in chance.permutation(len(pods)).tolist()]
    arrived = sum(pod.shape.gpu_milli for pod in order)
    while True:
        pod = pods[int(chance.integers(len(pods)))]
        if 100 * (arrived + pod.shape.card_milli) > _LAST * capacity_milli:
            return tuple(order)
        order.append(pod)
        arrived += pod.shape.gpu_milli


class OneByOne(Protocol):
    """A rival: places each pod when it comes, and refuses one only if no host fits."""

    def choose(self, shape: PodShape) -> Seat | None: ...

    def take(self, shape: PodShape, seat: Seat) -> None: ...


def in_windows(policy: Windows, order: Sequence[Pod], window: int) -> Iterator[Taken]:
    """Pods are placed together, `window` at a time."""
    for start in range(0, len(order), window):
        pods = order[start : start + window]
        seats = policy.admit([pod.shape for pod in pods])
        yield from (Taken(pod, seat) for pod, seat in zip(pods, seats, strict=True))


def one_by_one(policy: OneByOne, order: Sequence[Pod]) -> Iterator[Taken]:
    """Each pod is placed when it comes."""
    for pod in order:
        seat = policy.choose(pod.shape)
        if seat is not None:
            policy.take(pod.shape, seat)
        yield Taken(pod, seat)


class Count:
    """Adds up arrivals; a fleet of its own makes the state at each level exact in windows too."""

    def __init__(self, hosts: Sequence[Host], mixture: Mixture) -> None:
        self._fleet = Fleet(hosts)
        self._mixture = mixture
        self._capacity = int(self._fleet.free_milli().sum())
        self._levels = list(LEVELS_PERCENT)
        self._arrived = self._allocated = 0
        self._came = dict.fromkeys(_SIZES, 0)
        self._placed = dict.fromkeys(_SIZES, 0)
        self.records: list[dict[str, Any]] = []

    def add(self, taken: Taken) -> None:
        """Count one arrival; records of the levels it reaches are made."""
        shape = taken.pod.shape
        self._arrived += shape.gpu_milli
        if shape.cards in self._came:
            self._came[shape.cards] += 1
        if taken.seat is not None:
            self._sit(shape, taken.seat)
        while self._levels and 100 * self._arrived >= self._levels[0] * self._capacity:
            self._record(self._levels.pop(0))

    def close(self) -> None:
        """Arrivals have ended: what is left of the levels is met as nearly as draws allow."""
        for level in self._levels:
            self._record(level)
        self._levels = []

    def _sit(self, shape: PodShape, seat: Seat) -> None:
        if not self._fleet.fits(shape, np.array([seat.row]))[0] or any(
            self._fleet.cards[seat.row, card] < shape.card_milli for card in seat.cards
        ):
            raise AssertionError(f"{self._fleet.names[seat.row]} has no room for {shape}")
        self._fleet.seat(shape, seat.row, seat.cards)
        self._allocated += shape.gpu_milli
        if shape.cards in self._placed:
            self._placed[shape.cards] += 1

    def _record(self, level: int) -> None:
        fragments = Fragments(self._fleet, self._mixture)
        scale = 100 / self._capacity
        idle = self._capacity - self._allocated
        cardless = sum(weight for shape, weight in self._mixture.shapes if not shape.cards)
        floor = idle * cardless / self._mixture.weight  # to those every idle GPU is fragment
        shares = {
            f"placed_share_{size}gpu": self._placed[size] / came if came else None
            for size, came in self._came.items()
        }
        self.records.append(
            {
                "arrived_percent": level,
                "allocated_percent": round(scale * self._allocated, 4),
                "fragmentation_percent": round(
                    scale * int(fragments.now.sum()) / fragments.weight, 4
                ),
                "fragmentation_floor_percent": round(scale * floor, 4),
                **shares,
            }
        )
