"""Roles of one model that belong together: which they are, where they stand, what that forbids.

With `proximity: preferred` the shares of the roles in each leaf or spine pod are to differ as
little as possible; with `required` a replica goes only where every role of its model has one, then
or before. Who stands is not moved for it; the last replica of a role in a domain goes last.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from binpacking.problem import Domain, Packing, Pool, PoolRole, Problem, domain
from scheduler.planning.holdings import Holding, milli
from scheduler.planning.policy import ModelPolicy, Policy
from scheduler.planning.reasons import NAMED, SWITCHES
from scheduler.planning.snapshot import Replica, Snapshot


def pools(
    snapshot: Snapshot, policy: Policy, held: Sequence[Holding], lacks: dict[str, int]
) -> Iterator[Pool]:
    """Yield the pools of which a role lacks something; `lacks`: milli-replicas by role."""
    for model, rules in policy.models.items():
        mine = [one for one in held if one.target.model == model]
        if rules.proximity == "any" or not any(one.role in lacks for one in mine):
            continue
        found = _domains(snapshot, rules)
        roles = (_role(one, lacks.get(one.role, 0), found) for one in mine)
        known = tuple(role for role in roles if role.total_milli > 0)
        if len(known) > 1:
            yield Pool(rules.proximity_level, rules.proximity == "required", known)


def _domains(snapshot: Snapshot, rules: ModelPolicy) -> dict[str, Domain]:
    level = rules.proximity_level
    return {node.name: domain(node.name, node.leaf, level) for node in snapshot.nodes}


def _role(holding: Holding, lacking: int, domains: dict[str, Domain]) -> PoolRole:
    there: Counter[Domain] = Counter()
    for one in holding.bound:
        there.update(_at(one.parts, milli(holding.capacity_milli, one.gpu_model), domains))
    for kept, worth in zip(holding.reservations, holding.reserved_milli, strict=True):
        there.update(_at(kept.parts, worth, domains))
    return PoolRole(holding.role, holding.covered_milli + lacking, tuple(sorted(there.items())))


def _at(
    parts: tuple[tuple[str, int], ...], worth: int, domains: dict[str, Domain]
) -> dict[Domain, int]:
    """All pods of a replica are under one leaf."""
    where = domains.get(parts[0][0]) if parts else None
    return {} if where is None else {where: worth}


def barred(snapshot: Snapshot, question: Problem, role: str, packing: Packing) -> str:
    """Return where alone a role that lacks replicas may go, and why; empty: anywhere."""
    found = (pool for pool in question.pools if any(one.key == role for one in pool.roles))
    pool = next(found, None)
    if pool is None or not pool.required:
        return ""
    domains = {node.name: domain(node.name, node.leaf, pool.level) for node in snapshot.nodes}
    others = [one for one in pool.roles if one.key != role]
    stands = [frozenset(_stands(one, packing, domains)) for one in others]
    allowed = sorted(frozenset.intersection(*stands))
    who = " and ".join(one.key for one in others)
    level = SWITCHES[pool.level]
    if not allowed:
        return f"must stand beside {who}, and no {level} has room for each of them"
    shown = ", ".join("/".join(where) or "the only one" for where in allowed[:NAMED])
    more = f" and {len(allowed) - NAMED} others" if len(allowed) > NAMED else ""
    return f"must stand beside {who}, under {level} {shown}{more}; no more GPU can be freed there"


def _stands(role: PoolRole, packing: Packing, domains: dict[str, Domain]) -> Iterator[Domain]:
    yield from (where for where, _ in role.there)
    for placed in packing.online:
        if placed.key == role.key:
            yield domains[placed.parts[0][0]]


class Company(msgspec.Struct, frozen=True):
    """Where the other roles of a model stand, for a role that must be beside each of them."""

    domain_of: dict[str, Domain]
    every: frozenset[Domain]
    """Where each of the others stands."""
    some: frozenset[Domain]
    """Where any of them does."""

    def last(self, standing: Sequence[Replica]) -> frozenset[Domain]:
        """Domains where only one of the replicas is left beside others."""
        counts = Counter(self.where(one) for one in standing)
        return frozenset(w for w in self.some if counts[w] == 1)

    def where(self, replica: Replica) -> Domain | None:
        """Where a replica stands; None: on no known node."""
        return self.domain_of.get(replica.parts[0][0]) if replica.parts else None


def company(
    snapshot: Snapshot, policy: Policy, role: str, growing: frozenset[str] = frozenset()
) -> Company | None:
    """Return where the others of the role's model stand; None where it need not be near them.

    Those that are `growing` may come anywhere, and are left out.
    """
    target = next((one for one in snapshot.roles if one.key == role), None)
    rules = policy.models.get(target.model) if target else None
    if target is None or rules is None or rules.proximity != "required":
        return None
    domains = _domains(snapshot, rules)
    others = {
        one.key: set[Domain]()
        for one in snapshot.roles
        if one.model == target.model and one.key not in {role, *growing}
        if one.replicas and policy.role(one.key)
    }
    for replica in snapshot.replicas:
        if replica.role in others and replica.state != "draining" and replica.parts:
            others[replica.role].update(_at(replica.parts, 1, domains))
    wanted = [frozenset(stands) for stands in others.values()]
    if not wanted:
        return None
    return Company(domains, frozenset.intersection(*wanted), frozenset[Domain]().union(*wanted))
