"""The part of the checker that looks at anti-affinity floors; like `verify`, it shares no code with
the rungs.
"""

from collections import Counter
from collections.abc import Iterable

from binpacking.problem import Packing, Placed, Problem, Spread, Supply

Where = tuple[str, ...]


def spreads(problem: Problem, packing: Packing) -> list[str]:
    """Domains that the packing puts replicas into, and that hold more then than a floor allows.

    What stands there already may be more than that by itself; then nothing may be added.
    """
    supplies = {supply.node: supply for supply in problem.supplies}
    wrong: list[str] = []
    for request in problem.online:
        if request.spread is not None:
            mine = [placed for placed in packing.online if placed.key == request.key]
            crowded = _crowded(request.spread, supplies, mine)
            wrong += [f"{request.key}: {sentence}" for sentence in crowded]
    return wrong


def _crowded(
    spread: Spread, supplies: dict[str, Supply], replicas: Iterable[Placed]
) -> Iterable[str]:
    added: Counter[Where] = Counter()
    for placed in replicas:
        where = [_domain(supplies[node], spread.level) for node, _ in placed.parts]
        added.update(where if spread.level == "node" else set(where))
    before = dict(spread.there)
    for one, count in sorted(added.items()):
        held = count + before.get(one, 0)
        if held > spread.most:
            yield f"{held} in {spread.level} {'/'.join(one)}, at most {spread.most} allowed"


def _domain(supply: Supply, level: str) -> Where:
    """A leaf's path ends with its switch and the GPU model."""
    if level == "node":
        return (supply.node,)
    return supply.leaf[:-1] if level == "leaf" else supply.leaf[:-2]
