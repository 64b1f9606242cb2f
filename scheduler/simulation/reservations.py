"""Reservations as the cluster stores them, and the GPUs they hold empty.

A part of a reservation is filled by a pod of its owner that was bound on that node since the
reservation was made; older reservations take pods first. What is filled or expired is dropped.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable

from scheduler.planning.snapshot import Reservation
from scheduler.simulation.devices import Inventory, Pod
from scheduler.simulation.events import ReserveLine, Sink

Part = tuple[str, int]


class Reservations:
    """The set in force, what of it is still open, and its line in the event stream."""

    def __init__(self, inventory: Inventory, online: Iterable[str], sink: Sink) -> None:
        """Take the keys of the roles, whose reservations count as held for online."""
        self._inventory = inventory
        self._online = frozenset(online)
        self._sink = sink
        self._open: dict[str, tuple[Reservation, list[Part]]] = {}
        self._line: tuple[str, ...] = ()

    def replace(self, reservations: tuple[Reservation, ...], pods: dict[str, list[Pod]]) -> None:
        """Hold these alone; `pods` are the bound pods per owner that may have filled some."""
        self._open = {}
        used: dict[str, list[Pod]] = {owner: list(bound) for owner, bound in pods.items()}
        for reservation in sorted(reservations, key=lambda one: (one.created_seconds, one.id)):
            left = [
                part
                for part in reservation.parts
                if not _take(used.get(reservation.owner, []), part, reservation.created_seconds)
            ]
            if left:
                self._open[reservation.id] = (reservation, left)

    def fill(self, owner: str, pod: Pod) -> None:
        """A pod was bound: it fills the oldest open part of its owner on that node."""
        part = (pod.node.name if pod.node else "", pod.gpus)
        for name, (reservation, left) in self._open.items():
            if reservation.owner == owner and part in left:
                left.remove(part)
                if not left:
                    del self._open[name]
                return

    def view(self) -> tuple[Reservation, ...]:
        """Return the reservations with an open part, as they were given."""
        return tuple(reservation for reservation, _ in self._open.values())

    def pass_time(self, now_seconds: float) -> None:
        """Drop what has expired and say which GPUs are held empty for online from now on."""
        for name, (reservation, _) in list(self._open.items()):
            if reservation.expires_seconds <= now_seconds:
                del self._open[name]
        names = self._empty()
        if names != self._line:
            self._line = names
            self._sink(ReserveLine(now_seconds, names))

    def _empty(self) -> tuple[str, ...]:
        wanted: Counter[str] = Counter()
        for reservation, left in self._open.values():
            if reservation.owner in self._online:
                for node, gpus in left:
                    wanted[node] += gpus
        return tuple(
            f"{name}/{index}"
            for name, gpus in sorted(wanted.items())
            if name in self._inventory.nodes and self._inventory.nodes[name].ready
            for index in self._inventory.nodes[name].free_indices()[:gpus]
        )


def bound_pods(pods: Iterable[tuple[str, Pod]]) -> dict[str, list[Pod]]:
    """Return the bound ones of (owner, pod) per owner, in order."""
    found: dict[str, list[Pod]] = defaultdict(list)
    for owner, pod in pods:
        if pod.node:
            found[owner].append(pod)
    return found


def _take(pods: list[Pod], part: Part, since_seconds: float) -> bool:
    for pod in pods:
        fits = pod.node is not None and (pod.node.name, pod.gpus) == part
        if fits and pod.bound_seconds is not None and pod.bound_seconds >= since_seconds:
            pods.remove(pod)
            return True
    return False
