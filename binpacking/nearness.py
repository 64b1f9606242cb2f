"""How far the shares of pools' roles differ, as columns and rows, beside the program of `rows`."""

from collections.abc import Iterable
from itertools import combinations

from binpacking.layout import Layout
from binpacking.linear import FREE, Draft, Linear, Term
from binpacking.pools import PoolNumbers, RoleNumbers, columns_in
from binpacking.rows import Rows


def nearness(
    rows: Rows, linear: Linear, layout: Layout
) -> tuple[Linear, dict[int, int], list[int]]:
    """The program with a column a pool, pair of roles and domain, which is no less than what the
    one has there more than the other; the cost of these columns, and a leaf of each.
    """
    draft, costs, leaves = Draft(), dict[int, int](), list[int]()
    for pool in layout.pools:
        columns = [
            columns_in(pool, one, rows.online, rows.split, layout.spines) for one in pool.roles
        ]
        for one, other in combinations(range(len(pool.roles)), 2):
            pair = ((pool.roles[one], columns[one]), (pool.roles[other], columns[other]))
            for where, leaf in _moving(pool, columns[one].keys() | columns[other].keys()):
                column = _differ(draft, linear, pair, where)
                costs[column] = 1
                leaves.append(leaf)
    return linear.joined(draft.finished()), costs, leaves


def _moving(pool: PoolNumbers, domains: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Domains that replicas may come to, with their first leaf."""
    return ((where, pool.domain_of.index(where)) for where in sorted(domains))


def _differ(
    draft: Draft,
    linear: Linear,
    pair: tuple[tuple[RoleNumbers, dict[int, list[Term]]], ...],
    where: int,
) -> int:
    """The column of one domain."""
    (one, mine), (other, theirs) = pair
    terms = [*mine.get(where, ()), *((c, -each) for c, each in theirs.get(where, ()))]
    before = one.there.get(where, 0) - other.there.get(where, 0)
    most = abs(before) + sum(abs(each) * int(linear.upper[column]) for column, each in terms)
    column = linear.columns + draft.column(most)
    draft.row((*terms, (column, -1)), -FREE, -before)
    draft.row((*terms, (column, 1)), -before, FREE)
    return column
