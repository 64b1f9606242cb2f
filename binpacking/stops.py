"""Columns and rows for what may be stopped on a node, and what that gains.

One 0-1 column per useful set of gangs (see `menus`); gangs that hold GPUs of several nodes have a
column of their own that ties their sets together. Where a standby unit sleeps, its column is tied
to the sets that clear it (see `waking`).
"""

from collections.abc import Iterator, Sequence

from binpacking.linear import FREE, Draft, Term
from binpacking.menus import Option, Stoppable, menu
from binpacking.problem import Piece, Problem
from binpacking.rooms import Capacity
from binpacking.slots import power_of_two
from binpacking.uneven import Freed
from binpacking.waking import Choice, Site, Slot, Wake, each_clear, tie

_NOTHING = (0, 0)


class Stops:
    """Stops while their columns are made."""

    def __init__(self, draft: Draft, capacity: Capacity, problem: Problem) -> None:
        self.draft, self.capacity, self.problem = draft, capacity, problem
        self.gangs: dict[int, tuple[int, ...]] = {}
        """The gangs that a column stops."""
        self.shared: dict[int, int] = {}
        """Column by gang, for gangs whose stop is one choice for several nodes."""
        self.leaf_of: dict[int, int] = {}
        """Leaf by column of the shared ones; -1 for several."""

    def taken(self, node: int, wakes: Sequence[Wake], sizes: Sequence[int]) -> Iterator[Slot]:
        """What columns of the node take of the leaf's slots; what they gain is negative."""
        choices = self._choices(node, sizes, wakes)
        if choices is None:
            yield from self._linear_choices(node, sizes, wakes)
            return
        for choice in choices:
            for size, gain in zip(sizes, choice.gains, strict=True):
                if gain:
                    yield size, (choice.column, -gain)
        if wakes:
            yield from tie(self.draft, Site(self.capacity.free[node], wakes, choices), sizes)

    def _choices(
        self, node: int, sizes: Sequence[int], wakes: Sequence[Wake], *, beside: bool = False
    ) -> list[Choice] | None:
        """What may be stopped on the node; None where that is no short list.

        `beside`: CPU and memory that come free are of use too.
        """
        here = self.capacity.gangs_on[node]
        gangs = [self._stoppable(node, gang, gpus, beside=beside) for gang, gpus in here]
        beds = tuple(dict.fromkeys(bed.gangs for _, bed in wakes if bed.gangs))
        options = menu(self.capacity.free[node], gangs, sizes, beds)
        if options is None:
            return None
        shared = {one.gang for one in gangs if one.shared}
        if len(gangs) == 1 and shared:
            return [self._choice(node, self.stop(gangs[0].gang), one) for one in options]
        return self._stated(node, options, shared)

    def _stoppable(self, node: int, gang: int, gpus: int, *, beside: bool) -> Stoppable:
        layout = self.capacity.layout
        return Stoppable(
            gang,
            gpus,
            self.problem.gangs[gang].cost,
            layout.limits_of[gang],
            len(layout.parts[gang]) > 1 or bool(layout.held[gang]),
            layout.freed[gang].get(node, _NOTHING) if beside else _NOTHING,
        )

    def _stated(self, node: int, options: Sequence[Option], shared: set[int]) -> list[Choice]:
        """A column per option, at most one of which is taken; with it, its shared gangs stop."""
        found = []
        ties: dict[int, list[Term]] = {}
        for option in options:
            column = self.draft.column(1)
            own = tuple(gang for gang in option.gangs if gang not in shared)
            if own:
                self.gangs[column] = own
            for gang in shared.intersection(option.gangs):
                ties.setdefault(gang, []).append((column, 1))
            found.append(self._choice(node, column, option))
        if len(found) > 1:
            self.draft.row(((choice.column, 1) for choice in found), -FREE, 1)
        for gang in sorted(ties):
            self.draft.row((*ties[gang], (self.stop(gang), -1)), -FREE, 0)
        return found

    def _choice(self, node: int, column: int, option: Option) -> Choice:
        gpus = sum(gpus for gang, gpus in self.capacity.gangs_on[node] if gang in option.gangs)
        gangs = frozenset(option.gangs)
        return Choice(column, option.gains, gangs, self.capacity.free[node] + gpus)

    def _linear_choices(
        self, node: int, sizes: Sequence[int], wakes: Sequence[Wake]
    ) -> Iterator[Slot]:
        """Too many sets for a menu: a column per gang, and by size one for slots gained and, where
        units can wake, one for slots that they leave short.

        k x (gain - short) <= f - k floor(f / k) + sum of GPUs stopped - GPUs of lesser units woken.
        """
        free, gangs = self.capacity.free[node], self.capacity.gangs_on[node]
        stops = self.one_by_one(node, wakes)
        cleared = free + sum(gpus for _, gpus in gangs)
        for size in sizes:
            terms: list[Term] = [(stop.column, free - stop.gpus) for stop in stops]
            light = [(w, bed.gpus) for w, bed in wakes if power_of_two(bed.gpus) < size]
            most = cleared // size - free // size
            if most:
                gain = self.draft.column(most)
                terms.append((gain, size))
                yield size, (gain, -1)
            if light:
                short = self.draft.column(-(-sum(gpus for _, gpus in light) // size))
                terms += [*light, (short, -size)]
                yield size, (short, 1)
            if most or light:
                self.draft.row(terms, -FREE, free % size)

    def freed(self, node: int) -> list[tuple[int, int]] | None:
        """(column, GPUs that it frees) of what may be stopped; None where that is no short list."""
        choices = self._choices(node, (1,), ())
        free = self.capacity.free[node]
        return None if choices is None else [(one.column, one.gpus - free) for one in choices]

    def bound(self, node: int, sizes: Sequence[int]) -> list[Freed]:
        """What may be stopped on a node that is stated by itself."""
        asleep = bool(self.capacity.beds and self.capacity.beds[node])
        apart = asleep or bool(self.capacity.sharers(node))
        choices = None if apart else self._choices(node, sizes, (), beside=True)
        each = dict(zip(self.capacity.gangs_on[node], self.capacity.freed(node), strict=True))
        if choices is None:
            return [Freed(self.stop(gang), (), one) for (gang, _), one in each.items()]
        found = []
        for choice in choices:
            mine = [one for (gang, _), one in each.items() if gang in choice.gangs]
            amounts = zip(*(one.amounts for one in mine), strict=True)
            freed = Piece(*(sum(amount) for amount in amounts))
            found.append(Freed(choice.column, choice.gains, freed))
        return found

    def one_by_one(self, node: int, wakes: Sequence[Wake]) -> list[Choice]:
        """A column per gang, and what each unit needs stopped."""
        free, gangs = self.capacity.free[node], self.capacity.gangs_on[node]
        stops = [
            Choice(self.stop(gang), (), frozenset([gang]), free + gpus) for gang, gpus in gangs
        ]
        each_clear(self.draft, wakes, stops)
        return stops

    def stop(self, gang: int) -> int:
        """The column of a gang whose stop is one choice for several nodes or sets."""
        if gang not in self.shared:
            column = self.shared[gang] = self.draft.column(1)
            self.gangs[column] = (gang,)
            layout = self.capacity.layout
            leaves = {layout.leaf_of[node] for node, _ in layout.parts[gang]}
            self.leaf_of[column] = leaves.pop() if len(leaves) == 1 else -1
        return self.shared[gang]
