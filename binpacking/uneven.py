"""Columns and rows for the nodes of a leaf that the nested rows are not exact on (see `rooms`).

Odd nodes, where only the number of GPUs matters: one column per free level and way to fill it, as
in cutting stock (Gilmore and Gomory, 1961), and one row per level, whose nodes stops move between
levels. Bound nodes: one column per node and kind of piece, and one row per node and resource. What
the pieces in the leaf do not find there is left to the nested rows of the plain nodes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.linear import FREE, Draft, Term
from binpacking.problem import Piece
from binpacking.rooms import Capacity, Ground
from binpacking.shares import NO_SHARE, Share
from binpacking.sharing import Covers, Sharing
from binpacking.slots import power_of_two

MOST_WAYS = 256
"""Above this many ways to fill a node it is stated by itself, as a bound one."""

Choices = list[tuple[int, int]]
"""(column, GPUs that it frees) of what may be stopped on a node."""
Load = tuple[int, tuple[tuple[int, int], ...]]
"""A column, and how many pieces of so many GPUs one of it has; negative: takes off."""


class Way(NamedTuple):
    """One way to fill nodes of a level."""

    level: int
    """Free GPUs."""
    counts: tuple[tuple[int, int], ...]
    """(GPUs of a piece, how many)."""

    @property
    def spare(self) -> int:
        """GPUs that stay free."""
        return self.level - sum(size * count for size, count in self.counts)


class Freed(NamedTuple):
    """What a column of stops frees on a node that is stated by itself."""

    column: int
    gains: tuple[int, ...]
    """Slots gained by size; empty where the column is not the only one that is used there."""
    room: Piece


class Bin(NamedTuple):
    """A node stated by itself: terms <= GPUs."""

    leaf: int
    terms: tuple[Term, ...]
    gpus: int


@lru_cache(maxsize=4096)
def ways(level: int, sizes: tuple[int, ...], *, full: bool) -> tuple[Way, ...] | None:
    """The ways to fill a node; None where there are too many.

    `sizes` rising. `full`: only those that leave no room for any piece.
    """
    found: list[tuple[tuple[int, int], ...]] = [()]
    for place in range(len(sizes) - 1, -1, -1):
        size, more = sizes[place], list[tuple[tuple[int, int], ...]]()
        for counts in found:
            most = (level - sum(gpus * count for gpus, count in counts)) // size
            least = most if full and place == 0 else 0
            more += ((*counts, (size, n)) if n else counts for n in range(least, most + 1))
        found = more
        if len(found) > MOST_WAYS:
            return None
    return tuple(Way(level, counts) for counts in found)


class Uneven:
    """Columns and rows while they are made."""

    def __init__(
        self,
        draft: Draft,
        capacity: Capacity,
        choices: Callable[[int], Choices | None],
        freed: Callable[[int, Sequence[int]], list[Freed]],
        stop: Callable[[int], int],
    ) -> None:
        """`choices`: an odd node's; None: too many. `freed`: a bound one's, for these sizes.
        `stop`: the column of a gang's stop.
        """
        self.draft, self.capacity, self.choices, self.freed = draft, capacity, choices, freed
        self.stop = stop
        self.sharing = Sharing(draft)
        """Cards of all nodes on which nothing else binds."""
        self.apart = Sharing(draft)
        """Cards of the others, node by node."""
        self.ways: dict[int, Way] = {}
        """By column: how nodes of a level are filled."""
        self.pieces: dict[int, tuple[int, Piece]] = {}
        """By column: (node, kind) of the pieces put there."""
        self.bins: list[Bin] = []
        self.odd: list[int] = []
        """The nodes that are filled in ways."""

    def add_leaf(
        self,
        leaf: int,
        ground: Ground,
        loads: Sequence[tuple[int, tuple[tuple[Piece, int], ...]]],
        *,
        full: bool,
    ) -> list[Load]:
        """State the odd and the bound nodes; return what the plain ones have to hold.

        `full`: nodes may be stated as fuller than they are, which saves columns.
        """
        kinds = sorted({kind for _, need in loads for kind, _ in need})
        shares = sorted({kind.share for kind in kinds} - {NO_SHARE})
        sizes = tuple(sorted(({kind.gpus for kind in kinds} | ({1} if shares else set())) - {0}))
        odd, bound = self._sorted_out(ground, sizes, full=full)
        rest: list[Load] = [(column, _by_size(need)) for column, need in loads]
        asking: Covers = {NO_SHARE: [], **{share: [] for share in shares}}
        for column, need in loads:
            for kind, count in need:
                asking[kind.share].append((column, -count))
        for kind, columns in self._bound(leaf, bound, kinds, full=full).items():
            asked = [(c, -count) for c, need in loads for one, count in need if one == kind]
            self.draft.row((*((column, 1) for column in columns), *asked), -FREE, 0)
            rest += ((column, ((kind.gpus, -1),)) for column in columns if kind.gpus)
            asking[kind.share] += [(column, 1) for column in columns]
        if shares:
            nodes = (*ground.plain, *(node for node, _ in odd))
            opened = self._cards(nodes, asking, full=full)
            rest.append((opened, ((1, 1),)))
        if not odd and ground.plain:
            return rest
        covers = self._odd(odd, sizes, full=full)
        plain = [self.capacity.cleared(node).gpus for node in ground.plain]
        for size in sizes:
            room = sum(gpus // size for gpus in plain) if size == power_of_two(size) else 0
            rest = self._share(size, covers[size], rest, room > 0, full=full)
        return rest

    def _sorted_out(
        self, ground: Ground, sizes: tuple[int, ...], *, full: bool
    ) -> tuple[list[tuple[int, Choices]], list[int]]:
        """The odd nodes, with what may be stopped there; and the bound ones, with those of which
        there would be too many ways or choices.
        """
        odd, bound = list[tuple[int, Choices]](), list(ground.bound)
        for node in ground.odd:
            many = ways(self.capacity.cleared(node).gpus, sizes, full=full) is None
            choices = None if many else self.choices(node)
            if choices is None:
                bound.append(node)
            else:
                odd.append((node, choices))
                self.odd.append(node)
        return odd, bound

    def _share(
        self,
        size: int,
        covers: list[Term],
        rest: list[Load],
        also_plain: bool,  # noqa: FBT001
        *,
        full: bool,
    ) -> list[Load]:
        """Pieces of the size stand on odd nodes, and where there are, on plain ones."""
        asked = [(column, -n) for column, need in rest for gpus, n in need if gpus == size]
        high = FREE if full else 0
        if not also_plain:
            self.draft.row((*covers, *asked), 0, high)
            return [(c, tuple(one for one in need if one[0] != size)) for c, need in rest]
        if not covers:
            return rest
        column = self.draft.column(sum(n * self.draft.uppers[c] for c, n in covers))
        self.draft.row((*covers, (column, -1)), 0, high)
        self.draft.row(((column, 1), *asked), -FREE, 0)
        return [*rest, (column, ((size, -1),))]

    def _cards(self, nodes: Sequence[int], asking: Covers, *, full: bool) -> int:
        """The cards of nodes on which nothing else binds: the column of those that are opened.

        `asking`: terms by share of what finds no room elsewhere, negative.
        """
        rooms = (room for node in nodes for room in self.capacity.rooms(node))
        cards = Counter(room for room in rooms if room.milli < WHOLE_GPU_MILLI)
        whole = self.capacity.layout.decks[nodes[0]].whole if nodes else Share(WHOLE_GPU_MILLI)
        most = sum(self.capacity.cleared(node).gpus for node in nodes)
        shares = [share for share in asking if share != NO_SHARE]
        opened, covers = self.sharing.pool(cards, (whole, most), shares, full=full)
        for share in shares:
            self.draft.row((*covers[share], *asking[share]), 0, FREE)
        return opened

    def _bound(
        self, leaf: int, nodes: Iterable[int], kinds: Sequence[Piece], *, full: bool
    ) -> dict[Piece, list[int]]:
        """Columns by kind."""
        found: dict[Piece, list[int]] = {kind: [] for kind in kinds}
        for node in nodes:
            mine: list[tuple[int, Piece]] = []
            for kind in kinds:
                most = self.capacity.most(node, kind)
                if most:
                    column = self.draft.column(most)
                    self.pieces[column] = (node, kind)
                    found[kind].append(column)
                    mine.append((column, kind))
            if mine:
                self._resources(leaf, node, mine, full=full)
        return {kind: columns for kind, columns in found.items() if columns}

    def _shared(
        self, node: int, mine: Sequence[tuple[int, Piece]], *, full: bool
    ) -> tuple[list[tuple[int, Piece]], list[Freed]]:
        """The cards of one node: what they take of its GPUs, and what they may give."""
        capacity, draft = self.capacity, self.draft
        asking: Covers = {}
        for column, kind in mine:
            if kind.share != NO_SHARE:
                asking.setdefault(kind.share, []).append((column, -1))
        opened: list[tuple[int, Piece]] = []
        covers: Covers = {}
        if asking:
            held = {card for _, card, _ in capacity.sharers(node)}
            rooms = (room for card, room in enumerate(capacity.rooms(node)) if card not in held)
            cards = Counter(room for room in rooms if room.milli < WHOLE_GPU_MILLI)
            whole = (capacity.layout.decks[node].whole, capacity.cleared(node).gpus)
            column, covers = self.apart.pool(cards, whole, sorted(asking), full=full)
            opened.append((column, Piece(1)))
        given = self.apart.stoppable(capacity, node, covers, self.stop)
        for share, terms in covers.items():
            draft.row((*terms, *asking[share]), 0, FREE)
        return opened, [Freed(column, (), Piece(1)) for column in given]

    def _resources(
        self, leaf: int, node: int, mine: Sequence[tuple[int, Piece]], *, full: bool
    ) -> None:
        room = self.capacity.room(node)
        opened, given = self._shared(node, mine, full=full)
        mine = [*mine, *opened]
        sizes = sorted(({kind.gpus for _, kind in mine} | {1}) - {0})
        freed = self.freed(node, sizes) if self.capacity.gangs_on[node] else []
        freed = [*freed, *given]
        for resource, have in enumerate(room.amounts):
            asked = [(column, kind.amounts[resource]) for column, kind in mine]
            asked += [(one.column, -one.room.amounts[resource]) for one in freed]
            terms = [term for term in asked if term[1]]
            if resource == 0:
                self.bins.append(Bin(leaf, tuple(terms), have))
            self.draft.row(terms, -FREE, have)
        if all(one.gains for one in freed):  # cuts: pieces of k GPUs or more take k-slots
            for place, size in enumerate(sizes[1:], 1):
                terms = [(column, kind.gpus // size) for column, kind in mine if kind.gpus >= size]
                terms += [(one.column, -one.gains[place]) for one in freed if one.gains[place]]
                self.draft.row(terms, -FREE, room.gpus // size)

    def _odd(
        self,
        nodes: Iterable[tuple[int, Choices]],
        sizes: tuple[int, ...],
        *,
        full: bool,
    ) -> dict[int, list[Term]]:
        """Terms by size: the pieces that the ways have room for."""
        standing: dict[int, int] = {}
        leaving: dict[int, dict[int, int]] = {}
        for node, choices in nodes:
            free = self.capacity.free[node]
            standing[free] = standing.get(free, 0) + 1
            for column, freed in choices:
                for level, sign in ((free, 1), (free + freed, -1)):
                    terms = leaving.setdefault(level, {})
                    terms[column] = terms.get(column, 0) + sign
        covers: dict[int, list[Term]] = {size: [] for size in sizes}
        for level in sorted(standing.keys() | leaving.keys()):
            if level < sizes[0]:
                continue  # nothing fits, whoever leaves
            here, terms = standing.get(level, 0), leaving.get(level, {})
            most = here - sum(min(0, sign) for sign in terms.values())
            mine: list[Term] = []
            for way in ways(level, sizes, full=full) or ():
                column = self.draft.column(most)
                self.ways[column] = way
                mine.append((column, 1))
                for size, count in way.counts:
                    covers[size].append((column, count))
            kept = ((column, sign) for column, sign in terms.items() if sign)
            self.draft.row((*mine, *kept), -FREE if full else here, here)
        return covers


def _by_size(need: Iterable[tuple[Piece, int]]) -> tuple[tuple[int, int], ...]:
    counts: dict[int, int] = {}
    for kind, count in need:
        if kind.gpus:
            counts[kind.gpus] = counts.get(kind.gpus, 0) + count
    return tuple(sorted(counts.items()))
