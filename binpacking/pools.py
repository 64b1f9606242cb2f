"""Pools: roles of one model that are sized apart and wish to stand near one another.

A role's share of a domain is the part of its whole capacity that stands there, in ten-thousandths.
Where the shares of two roles differ, work passes between domains: the sum of the differences is
what an answer is judged by. Where proximity is required, no replica goes where a role of its pool
has none.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import msgspec

from binpacking.linear import Term
from binpacking.problem import Domain, Pool, PoolRole, Problem, domain

WHOLE = 10_000
"""All of a role."""

Served = Mapping[str, Iterable[tuple[tuple[str, ...], int]]]
"""By request: (leaf, milli-replicas) of each replica that is added."""


def share(role: PoolRole, milli: int) -> int:
    """What so much of the role is of all of it."""
    return milli * WHOLE // role.total_milli


def apart(problem: Problem, served: Served) -> int:
    """How far the shares of roles differ, over all pools."""
    return sum(_apart(pool, served) for pool in problem.pools)


def _apart(pool: Pool, served: Served) -> int:
    shares = [_shares(pool, role, served) for role in pool.roles]
    return sum(
        abs(one[where] - other[where])
        for one, other in combinations(shares, 2)
        for where in one.keys() | other.keys()
    )


def _shares(pool: Pool, role: PoolRole, served: Served) -> Counter[Domain]:
    counts = Counter({where: share(role, milli) for where, milli in role.there})
    for leaf, milli in served.get(role.key, ()):
        counts[domain("", leaf, pool.level)] += share(role, milli)
    return counts


def lonely(pool: Pool, served: Served) -> frozenset[Domain]:
    """Domains where replicas are added, and a role of the pool has none."""
    added = {
        role.key: {domain("", leaf, pool.level) for leaf, _ in served.get(role.key, ())}
        for role in pool.roles
    }
    stands = [added[role.key] | {where for where, _ in role.there} for role in pool.roles]
    whole = frozenset[Domain].intersection(*map(frozenset, stands))
    return frozenset().union(*added.values()) - whole


class PoolNumbers(msgspec.Struct, frozen=True):
    """A pool by number."""

    required: bool
    domain_of: tuple[int, ...]
    """Domain by leaf number."""
    roles: tuple["RoleNumbers", ...]


class RoleNumbers(msgspec.Struct, frozen=True):
    """A role of a pool by number."""

    request: int
    """-1: it asks for nothing now."""
    there: dict[int, int]
    """By domain, where it stands: its share."""
    each: tuple[int, ...]
    """By leaf: the share of one replica."""


def numbered(
    problem: Problem, paths: tuple[tuple[str, ...], ...], models: tuple[str, ...]
) -> tuple[PoolNumbers, ...]:
    """The problem's pools; `paths` and `models` by leaf number."""
    return tuple(_numbered(problem, pool, paths, models) for pool in problem.pools)


def _numbered(
    problem: Problem, pool: Pool, paths: tuple[tuple[str, ...], ...], models: tuple[str, ...]
) -> PoolNumbers:
    where = [domain("", path, pool.level) for path in paths]
    number = {one: place for place, one in enumerate(dict.fromkeys(where))}
    index = {request.key: place for place, request in enumerate(problem.online)}
    roles = []
    for role in pool.roles:
        request = index.get(role.key, -1)
        gains = problem.online[request].capacity_milli if request >= 0 else {}
        there = {number[one]: share(role, milli) for one, milli in role.there if one in number}
        each = tuple(share(role, gains.get(model, 0)) for model in models)
        roles.append(RoleNumbers(request, there, each))
    return PoolNumbers(pool.required, tuple(number[one] for one in where), tuple(roles))


def columns_in(
    pool: PoolNumbers,
    role: RoleNumbers,
    online: Mapping[tuple[int, int], int],
    split: Mapping[tuple[int, int], int],
    spines: Sequence[Sequence[int]],
) -> dict[int, list[Term]]:
    """By domain: the columns of the role's replicas there, and the share of each.

    `online` and `split` as in `rows`; a split replica is as able as the weakest that it may have.
    """
    found: dict[int, list[Term]] = {}
    for (request, leaf), column in online.items():
        if request == role.request:
            found.setdefault(pool.domain_of[leaf], []).append((column, role.each[leaf]))
    for (request, spine), column in split.items():
        if request == role.request:
            able = [leaf for leaf in spines[spine] if role.each[leaf]]
            each = min(role.each[leaf] for leaf in able)
            found.setdefault(pool.domain_of[able[0]], []).append((column, each))
    return found


def check(problem: Problem) -> None:
    """Refuse pools whose shares would mean nothing."""
    requests = {request.key: request for request in problem.online}
    for pool in problem.pools:
        for role in pool.roles:
            if role.total_milli < 1:
                raise ValueError(
                    f"pools: total_milli of {role.key} is {role.total_milli}; give 1 or more"
                )
            request = requests.get(role.key)
            if request is not None and request.reach == "spine" and pool.level == "leaf":
                raise ValueError(
                    f"pools: {role.key} may stand under several leaves; give level spine"
                )
    keys = [role.key for pool in problem.pools for role in pool.roles]
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise ValueError(f"pools: role {min(twice)} appears twice; state each one once")


def tied(problem: Problem) -> frozenset[str]:
    """Requests of which a replica without need would be of use: it could bring shares together."""
    return frozenset(role.key for pool in problem.pools for role in pool.roles)
