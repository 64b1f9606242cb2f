"""Which standby units the seated pods wake.

Derived from seats and stops alone, node by node: a node's pods of one kind may each wake one unit
of that kind whose GPUs nobody holds any more; of units that share a GPU one wakes. The choice with
the largest credit is found by search over the few beds of a node. Pods that wake no unit take the
GPUs that are left, whichever they are, so that counts of free GPUs suffice for them.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from binpacking.beds import Bed, Kind
from binpacking.board import Board
from binpacking.layout import Layout

Stand = tuple[int, tuple[int, ...]]
"""An online seat (see `draft`): its request, and the node of each piece."""


class Wake(NamedTuple):
    """One seat's pod that wakes a unit."""

    seat: int
    """Index into the seats."""
    start: int
    """The pod's place among the pieces of the seat."""
    bed: Bed


def awake(
    board: Board, seats: Sequence[Stand], leaves: Collection[int] | None = None
) -> list[Wake]:
    """The units that these online seats wake in these leaves, or in all, in order of node."""
    found: list[Wake] = []
    if not board.layout.most_saved:
        return found
    for node, pods in sorted(_pods_on(board.layout, seats, leaves).items()):
        beds = [bed for bed in _clear(board, node) if bed.kind in pods]
        if len(beds) > 1:
            counts = Counter({kind: len(mine) for kind, mine in pods.items()})
            beds = list(_Choice(beds, counts).search(0, 0)[1])
        takers = {kind: iter(mine) for kind, mine in pods.items()}
        found += [Wake(*next(takers[bed.kind]), bed) for bed in beds]
    return found


def saved(board: Board, seats: Sequence[Stand], leaves: Collection[int] | None = None) -> int:
    """Priority-weighted GPU-seconds that the units woken by these seats save."""
    return sum(wake.bed.credit for wake in awake(board, seats, leaves))


def _clear(board: Board, node: int) -> list[Bed]:
    """The node's beds that no gang holds."""
    beds = board.layout.beds[node]
    return [bed for bed in beds if not any(board.alive[gang] for gang in bed.gangs)]


class _Choice:
    """A depth-first search, beds of much credit first, cut where the rest cannot make up."""

    def __init__(self, beds: Sequence[Bed], pods: Counter[Kind]) -> None:
        self.beds = sorted(beds, key=lambda bed: (-bed.credit, bed.unit))
        self.left = Counter(pods)
        self.rest = [sum(bed.credit for bed in self.beds[start:]) for start in range(len(beds) + 1)]

    def search(self, start: int, taken: int) -> tuple[int, tuple[Bed, ...]]:
        """(credit, beds) from this bed on, these GPUs being taken."""
        while start < len(self.beds) and not self._open(self.beds[start], taken):
            start += 1
        if start == len(self.beds):
            return 0, ()
        bed = self.beds[start]
        self.left[bed.kind] -= 1
        credit, beds = self.search(start + 1, taken | bed.devices)
        self.left[bed.kind] += 1
        most = credit + bed.credit, (bed, *beds)
        if self.rest[start + 1] > most[0]:
            other = self.search(start + 1, taken)
            most = other if other[0] > most[0] else most
        return most

    def _open(self, bed: Bed, taken: int) -> bool:
        return self.left[bed.kind] > 0 and not bed.devices & taken


def _pods_on(
    layout: Layout, seats: Iterable[Stand], leaves: Collection[int] | None
) -> dict[int, dict[Kind, list[tuple[int, int]]]]:
    """(seat, place of its piece) of the pods by kind on every node with beds."""
    found: dict[int, dict[Kind, list[tuple[int, int]]]] = {}
    for index, (request, nodes) in enumerate(seats):
        start = 0
        for shape, member in zip(layout.pods[request], layout.members[request], strict=True):
            node = nodes[start]
            if layout.beds[node] and (leaves is None or layout.leaf_of[node] in leaves):
                kinds = found.setdefault(node, {})
                kinds.setdefault((request, member), []).append((index, start))
            start += shape.pieces
    return found
