"""The part of the checker that looks at pools; like `verify`, it shares no code with the rungs."""

from collections import defaultdict

from binpacking.problem import Packing, Pool, Problem

Where = tuple[str, ...]
Standing = dict[str, dict[Where, int]]
"""By role and failure domain: ten-thousandths of the role."""


def differences(problem: Problem, packing: Packing) -> int:
    """How far each two roles of a pool differ in each domain, in all."""
    total = 0
    for pool in problem.pools:
        stands = _standing(problem, pool, packing)
        places = {where for some in stands.values() for where in some}
        for where in places:
            parts = sorted(some.get(where, 0) for some in stands.values())
            total += sum(high - low for n, low in enumerate(parts) for high in parts[n + 1 :])
    return total


def lonely(problem: Problem, packing: Packing) -> list[str]:
    """Replicas that are added in a domain where another role of a required pool has none."""
    wrong = []
    for pool in problem.pools:
        if pool.required:
            before = {role.key: {where for where, _ in role.there} for role in pool.roles}
            after = {
                key: before[key] | set(some)
                for key, some in _standing(problem, pool, packing, bare=True).items()
            }
            for key, some in sorted(_standing(problem, pool, packing, bare=True).items()):
                for where in sorted(some):
                    lacking = [other for other in sorted(after) if where not in after[other]]
                    wrong += [
                        f"{key}: put into {'/'.join(where)}, without {one}" for one in lacking
                    ]
    return wrong


def _standing(problem: Problem, pool: Pool, packing: Packing, *, bare: bool = False) -> Standing:
    """`bare`: only what the packing adds."""
    supplies = {supply.node: supply for supply in problem.supplies}
    requests = {request.key: request for request in problem.online}
    depth = {"leaf": 1, "spine": 2}[pool.level]
    found: Standing = {}
    for role in pool.roles:
        mine: dict[Where, int] = defaultdict(int)
        for where, milli in () if bare else role.there:
            mine[where] += 10_000 * milli // role.total_milli
        for placed in packing.online:
            if placed.key == role.key and placed.parts:
                request = requests[placed.key]
                nodes = [supplies[node] for node, _ in placed.parts]
                milli = min(request.capacity_milli.get(one.gpu_model, 0) for one in nodes)
                mine[nodes[0].leaf[:-depth]] += 10_000 * milli // role.total_milli
        found[role.key] = dict(mine)
    return found
