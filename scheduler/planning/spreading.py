"""Anti-affinity floors of roles: how many replicas one failure domain may hold, and who is there.

A role may ask to spread over so many nodes, leaves or spine pods; then none of them holds more
than its part of the replicas, rounded up. The part is a hard rule for new replicas: one that finds
no room elsewhere waits. Who stands is not moved for it, but goes first where replicas go. Domains
without a node that could hold a pod of the role do not count, nor do those without a role that it
must stand beside (see `closeness`), so that with fewer domains than asked the role is served over
those that there are; `Terms.shortfall` says so. A role whose pods' own anti-affinity keeps them off
each other's nodes has one pod a node, whatever the policy says.

Counted are replicas; where domains are nodes, pods.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from binpacking.inventory import Node
from binpacking.problem import Domain, Level, Spread, domain
from scheduler.planning.admission import admits
from scheduler.planning.closeness import Company
from scheduler.planning.policy import Policy
from scheduler.planning.reasons import NAMED
from scheduler.planning.snapshot import Parts, Replica, Role, Snapshot


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a role's floor means in the cluster as it is."""

    level: Level
    asked: int
    """Domains that the policy wants."""
    found: int
    """Domains with nodes that could hold a pod of the role."""
    beside: bool
    """Whether only nodes near the other roles of its model count."""
    pods_per_replica: int
    """That count one by one; 1 where replicas do."""
    domain_of: dict[str, Domain]
    """By node, unschedulable ones included."""
    apart: bool = False
    """One pod a node, by the anti-affinity of the pods themselves."""

    @property
    def words(self) -> str:
        """What is asked."""
        alone = "one pod a node, by their own anti-affinity"
        return alone if self.apart else f"over {self.asked} {names(self.level)}"

    def most(self, replicas: int) -> int:
        """How much one domain may hold when there are so many replicas."""
        if self.apart:
            return 1
        parts = max(1, min(self.asked, self.found))
        return max(1, -(-replicas * self.pods_per_replica // parts))

    def tally(self, many: Iterable[Parts]) -> Counter[Domain]:
        """Where these replicas stand."""
        counts: Counter[Domain] = Counter()
        for parts in many:
            where = [self.domain_of[node] for node, _ in parts if node in self.domain_of]
            counts.update(where if self.level == "node" else set(where))
        return counts

    def crowded(self, standing: Sequence[Replica]) -> frozenset[Domain]:
        """Domains that would hold more than their part if one of the replicas went elsewhere."""
        most = self.most(len(standing) - 1)
        counts = self.tally(one.parts for one in standing)
        return frozenset(where for where, count in counts.items() if count > most)

    @property
    def shortfall(self) -> str:
        """Why the floor cannot be kept as asked; empty where it can."""
        if self.found >= self.asked:
            return ""
        many = "is only 1 has" if self.found == 1 else f"are only {self.found} that have"
        near = ", near the roles that it must stand beside" if self.beside else ""
        return (
            f"asks to stand over {self.asked} {names(self.level)}; there {many} nodes for it{near},"
            f" and it is spread over those"
        )


def terms_of(
    snapshot: Snapshot, policy: Policy, role: Role, others: Company | None = None
) -> Terms | None:
    """Return the role's floor; None where neither the policy nor its pods ask for one.

    `others`: the roles that it must stand beside, where they do not grow themselves.
    """
    rules = policy.role(role.key)
    if rules is None or (rules.spread is None and not role.apart):
        return None
    level = rules.spread.level if rules.spread else "node"
    able = {
        domain(node.name, node.leaf, level)
        for node in snapshot.nodes
        if _able(node, role, rules.capacity_tokens_per_second)
        if others is None or not others.every or others.domain_of[node.name] in others.every
    }
    return Terms(
        level=level,
        asked=rules.spread.domains if rules.spread else len(able),
        found=len(able),
        beside=others is not None and bool(others.every),
        pods_per_replica=role.pods_per_replica if level == "node" else 1,
        domain_of={node.name: domain(node.name, node.leaf, level) for node in snapshot.nodes},
        apart=role.apart and level == "node",
    )


def _able(node: Node, role: Role, models: Mapping[str, float]) -> bool:
    large_enough = node.gpu_model in models and node.healthy_gpus >= role.gpus_per_pod
    return node.schedulable and large_enough and admits(node, role)


def spread_of(terms: Terms, standing: Sequence[Parts], more: int) -> Spread:
    """Return the floor as the packer keeps it, for up to so many replicas more."""
    there = terms.tally(standing)
    return Spread(terms.level, terms.most(len(standing) + more), tuple(sorted(there.items())))


def names(level: Level) -> str:
    """Return what several domains of the level are called."""
    return {"node": "nodes", "leaf": "leaves", "spine": "spine pods"}[level]


def barred(spread: Spread, terms: Terms, placed: Iterable[Parts]) -> str:
    """Return why no more go where there may be room; empty where no domain holds its part."""
    held = Counter(dict(spread.there)) + terms.tally(placed)
    full = sorted(where for where, count in held.items() if count >= spread.most)
    if not full:
        return ""
    shown = ", ".join("/".join(where) or "the only one" for where in full[:NAMED])
    more = f" and {len(full) - NAMED} others" if len(full) > NAMED else ""
    what = "pods" if terms.level == "node" else "replicas"
    many = "one" if terms.apart else f"{spread.most} {what}"
    return (
        f"spread {terms.words}, so that none takes more than {many},"
        f" which {shown}{more} holds already"
    )
