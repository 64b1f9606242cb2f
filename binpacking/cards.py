"""Single pods on nodes whose GPUs can be shared: the vocabulary of admission between ticks.

The integer program counts whole GPUs by leaf switch; a pod that arrives on its own is admitted
here, with all that Kubernetes makes it ask of one node: milli-GPU of a card, CPU, memory, model.
Quantities are integers: 1000 milli = one whole card, milli-CPU, MiB.
"""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class PodShape(msgspec.Struct, frozen=True, order=True):
    """What one pod asks of one node. Pods of one shape are interchangeable."""

    cpu_milli: int
    memory_mib: int
    cards: int
    """How many GPUs; 0 for a pod that needs none."""
    card_milli: int
    """Of each of its GPUs; below 1000 the pod shares a card with others."""
    models: tuple[str, ...] = ()
    """Allowed GPU models; empty means any."""

    @property
    def gpu_milli(self) -> int:
        """Of all its GPUs together."""
        return self.cards * self.card_milli


Population = tuple[tuple[PodShape, int], ...]
"""Shapes with how often each is expected; only proportions count."""


class Host(msgspec.Struct, frozen=True):
    """A node with what is free on it."""

    name: str
    gpu_model: str
    cpu_milli: int
    memory_mib: int
    cards: tuple[int, ...]
    """Free milli-GPU of each card, in order of device index."""


class Fleet:
    """Free resources of all hosts as arrays, in order of name; a row per host.

    Changed in place by `seat`; `copy` makes a what-if of 1,000 hosts in microseconds.
    Cards that a host does not have are -1, so that no pod fits them.
    """

    __slots__ = ("cards", "cpu", "memory", "models", "names")

    def __init__(self, hosts: Iterable[Host]) -> None:
        rows = sorted(hosts, key=lambda host: host.name)
        most = max((len(host.cards) for host in rows), default=0)
        self.names = tuple(host.name for host in rows)
        self.models = tuple(host.gpu_model for host in rows)
        self.cpu: Ints = np.array([host.cpu_milli for host in rows], dtype=np.int64)
        self.memory: Ints = np.array([host.memory_mib for host in rows], dtype=np.int64)
        self.cards: Ints = np.full((len(rows), max(most, 1)), -1, dtype=np.int64)
        for row, host in enumerate(rows):
            self.cards[row, : len(host.cards)] = host.cards

    def copy(self) -> "Fleet":
        """A fleet that can be changed without changing this one."""
        twin = object.__new__(Fleet)
        twin.names, twin.models = self.names, self.models
        twin.cpu, twin.memory = self.cpu.copy(), self.memory.copy()
        twin.cards = self.cards.copy()
        return twin

    def pick(self, rows: Ints) -> "Fleet":
        """The hosts of these rows alone, which can be changed without changing this fleet."""
        twin = object.__new__(Fleet)
        twin.names = tuple(self.names[row] for row in rows.tolist())
        twin.models = tuple(self.models[row] for row in rows.tolist())
        twin.cpu, twin.memory = self.cpu[rows], self.memory[rows]
        twin.cards = self.cards[rows]
        return twin

    def allows(self, shape: PodShape) -> Bools:
        """Per host: its GPU model is one that the shape may use."""
        if not shape.models:
            return np.ones(len(self.names), dtype=np.bool_)
        return np.array([model in shape.models for model in self.models], dtype=np.bool_)

    def fits(self, shape: PodShape, rows: Ints) -> Bools:
        """Per row: CPU, memory and cards suffice; the model is not looked at."""
        enough = (self.cpu[rows] >= shape.cpu_milli) & (self.memory[rows] >= shape.memory_mib)
        if not shape.cards:
            return enough
        usable: Ints = (self.cards[rows] >= shape.card_milli).sum(axis=1)
        return enough & (usable >= shape.cards)

    def tightest(self, shape: PodShape, row: int) -> tuple[int, ...]:
        """The cards with least left among those with enough, lowest index on ties."""
        left = enumerate(self.cards[row].tolist())
        usable = sorted((milli, card) for card, milli in left if milli >= shape.card_milli)
        return tuple(sorted(card for _, card in usable[: shape.cards]))

    def sit(self, shape: PodShape, row: int) -> bool:
        """Seat the pod on the tightest cards; False, and nothing taken, where it does not fit."""
        cards = self.tightest(shape, row)
        short = self.cpu[row] < shape.cpu_milli or self.memory[row] < shape.memory_mib
        if short or len(cards) < shape.cards:
            return False
        self.seat(shape, row, cards)
        return True

    def seat(self, shape: PodShape, row: int, cards: Sequence[int]) -> None:
        """Take what the shape asks, from these cards of the host."""
        self.cpu[row] -= shape.cpu_milli
        self.memory[row] -= shape.memory_mib
        for card in cards:
            self.cards[row, card] -= shape.card_milli

    def free_milli(self) -> Ints:
        """Per host: idle milli-GPU."""
        idle: Ints = np.maximum(self.cards, 0).sum(axis=1)
        return idle
