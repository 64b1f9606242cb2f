"""Which columns of the packing program are alike, so that `merged` can count them together.

A leaf takes a pod of some shape without asking whose it is. Columns of several kinds of pod are
alike where they are in the same rows with the same coefficients, leaf by leaf, over the leaves of
one GPU model in a spine pod, and a kind's own rows do not tell those leaves apart. A replica wholly
in one leaf is alike a split one together with its pods there, where both take the same. A unit that
wakes is one of its pods. Upper bounds by leaf say no more than a leaf's rows do, but for those of
failure domains: no kind is taken together over several.

Rows are compared, not meanings: a row that tells pods apart keeps them apart, whatever it is for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from binpacking.layout import Layout
from binpacking.linear import Flags, Linear, Term
from binpacking.problem import Problem
from binpacking.rows import Rows, most_replicas

Kind = tuple[int, int]
"""(online request, member); `WHOLE` for replicas that stand wholly in one leaf."""

WHOLE = -1

Columns = Mapping[Kind, Mapping[int, int]]
"""By kind and leaf."""


class Replica(NamedTuple):
    """A whole replica in a leaf, and what is alike."""

    column: int
    split: int
    """Column of split replicas."""
    members: tuple[tuple[Kind, int, int], ...]
    """(kind, column of its pods in the leaf, pods of it in one replica)."""
    leaf: int
    most: int


class Alike(NamedTuple):
    """Columns that may be counted together: those of two kinds or more, in two leaves or more."""

    spine: int
    columns: Columns
    most: Mapping[Kind, int]
    """By kind: the upper bound of all its columns together."""


class Likeness(NamedTuple):
    """What is alike in a program; columns by their number there."""

    replicas: tuple[Replica, ...]
    pools: tuple[Alike, ...]
    wakes: tuple[tuple[int, int], ...]
    """(column of a unit, column in a pool of the pods of which it is one)."""
    rules: frozenset[int]
    """Rows that say no more than that these units are pods."""


def likeness(
    rows: Rows, pairs: Sequence[Sequence[Term]], problem: Problem, layout: Layout
) -> Likeness:
    """Compare the columns that place replicas and pods; `pairs` are the rows' entries by column."""
    found = _Comparison(rows, pairs, problem, layout)
    replicas = tuple(found.replicas())
    pools = tuple(found.pools({replica.column for replica in replicas}))
    wakes: list[tuple[int, int]] = []
    rules: set[int] = set()
    for pool in pools:
        for column in (column for each in pool.columns.values() for column in each.values()):
            for row in found.rules(column):
                wakes += ((wake, column) for wake, value in rows.linear.terms(row) if value > 0)
                rules.add(row)
    return Likeness(replicas, pools, tuple(wakes), frozenset(rules))


class _Comparison:
    """A program's entries by column."""

    def __init__(
        self, rows: Rows, pairs: Sequence[Sequence[Term]], problem: Problem, layout: Layout
    ) -> None:
        self.rows, self.problem, self.layout = rows, problem, layout
        self.entries = pairs
        self.local = of_one_leaf(rows)
        self.kinds = set(rows.kinds.values())

    def replicas(self) -> Iterator[Replica]:
        """Whole replicas that take what a split one and its pods in the leaf take together."""
        for (request, leaf), column in self.rows.online.items():
            split = self.rows.split.get((request, self.layout.spine_of[leaf]))
            if split is None:
                continue
            members = tuple(
                ((request, number), self.rows.pods[request, number, leaf], member.count)
                for number, member in enumerate(self.problem.online[request].pods)
                if (request, number, leaf) in self.rows.pods
            )
            if self._sum(split, members) == self._own(column):
                most = int(self.rows.linear.upper[column])
                yield Replica(column, split, members, leaf, most)

    def _sum(self, split: int, members: Iterable[tuple[Kind, int, int]]) -> dict[int, int]:
        total = self._own(split)
        for _, pods, count in members:
            for row, value in self._own(pods).items():
                total[row] = total.get(row, 0) + count * value
        return {row: value for row, value in total.items() if value}

    def _own(self, column: int) -> dict[int, int]:
        return {row: value for row, value in self.entries[column] if row not in self.kinds}

    def pools(self, gone: set[int]) -> Iterator[Alike]:
        """What is alike once the columns that are gone are left out."""
        places: dict[tuple[Kind, int, str, int], dict[int, int]] = {}
        for kind, leaf, column in self._loads(gone):
            spine, model = self.layout.spine_of[leaf], self.layout.models[leaf]
            places.setdefault((kind, spine, model, self._domain(kind, leaf)), {})[leaf] = column
        alike: dict[object, dict[Kind, dict[int, int]]] = {}
        for (kind, spine, *_), columns in places.items():
            if len(columns) == 1:
                continue
            outer = {tuple(self._rows(column, local=False)) for column in columns.values()}
            if len(outer) == 1 and all(self._wakes_alone(c, gone) for c in columns.values()):
                inner = tuple((n, tuple(self._rows(c, local=True))) for n, c in columns.items())
                alike.setdefault((spine, inner), {})[kind] = columns
        for some in alike.values():
            if len(some) > 1:
                leaf = next(leaf for columns in some.values() for leaf in columns)
                most = {kind: self._most(kind, columns) for kind, columns in some.items()}
                yield Alike(self.layout.spine_of[leaf], some, most)

    def _most(self, kind: Kind, columns: Mapping[int, int]) -> int:
        """The columns' own bounds, and for replicas how many are of use in one leaf or in all."""
        most = int(self.rows.linear.upper[[*columns.values()]].sum())
        if kind[1] != WHOLE:
            return most
        request = self.problem.online[kind[0]]
        model = self.layout.models[next(iter(columns))]
        return min(most, most_replicas(request, request.capacity_milli[model]))

    def _domain(self, kind: Kind, leaf: int) -> int:
        """The failure domain, which limits a column's upper bound too."""
        fence = self.layout.fences.get(kind[0])
        return fence.domain_of[leaf] if fence else 0

    def _loads(self, gone: set[int]) -> Iterator[tuple[Kind, int, int]]:
        for (request, leaf), column in self.rows.online.items():
            if column not in gone:
                yield (request, WHOLE), leaf, column
        for (request, member, leaf), column in self.rows.pods.items():
            yield (request, member), leaf, column

    def _rows(self, column: int, *, local: bool) -> Iterator[Term]:
        """Entries in rows of its leaf alone, or in all others; none of those that bind units."""
        for row, value in self.entries[column]:
            if self.local[row] == local and row not in self.kinds:
                yield row, value

    def rules(self, column: int) -> list[int]:
        """The rows that bind units to these pods."""
        return [row for row, _ in self.entries[column] if row in self.kinds]

    def _wakes_alone(self, column: int, gone: set[int]) -> bool:
        """Whether each unit of these pods is one of them by itself, and can be part of no other."""
        rules = [self.rows.linear.terms(row) for row in self.rules(column)]
        pods = [term for some in rules for term in some if term[1] < 0 and term[0] not in gone]
        return len(rules) <= 1 and pods == [(column, -1)] * len(rules)


def entries(linear: Linear) -> list[list[Term]]:
    """(row, coefficient) by column, in order of row."""
    found: list[list[Term]] = [[] for _ in range(linear.columns)]
    values = linear.value.astype(int).tolist()
    for row, column, value in zip(
        linear.row_of().tolist(), linear.index.tolist(), values, strict=True
    ):
        found[column].append((row, value))
    return found


def of_one_leaf(rows: Rows) -> Flags:
    """Flags by row: whether all its columns are of one leaf."""
    linear, leaf_of = rows.linear, np.array(rows.leaf_of, int)
    row_of, leaves = linear.row_of(), leaf_of[linear.index]
    low, high = np.full(linear.rows, len(leaf_of)), np.full(linear.rows, -1)
    np.minimum.at(low, row_of, leaves)
    np.maximum.at(high, row_of, leaves)
    flags: Flags = (low == high) & (low >= 0)
    return flags
