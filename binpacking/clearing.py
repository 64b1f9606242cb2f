"""Which nodes of one leaf to empty, so that a gang that wants several whole nodes finds them there.

Beside `consolidation`, whose nodes are worth something one by one: here nodes count only together
with those of their leaf that are free already, and all of them or none. A few are picked among the
dozens of a leaf, so they are taken in order of gain, not searched for: a node is left out where its
movers find no hole any more.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from binpacking.consolidation import Cell, Cleared, gain


def clear_for_gang(
    cells: Sequence[Cell],
    sizes: Mapping[str, Collection[int]],
    hole_seconds: int,
    most_moves: int,
) -> tuple[Cleared, ...]:
    """Return the nodes of the leaf where emptying gains most, in order of name; none if it costs.

    `sizes`: by GPU model, how many whole nodes waiting gangs ask. What is gained are the holes of
    the emptied nodes and the nodes that were free in vain, for `hole_seconds`.
    """
    leaves: dict[tuple[str, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        leaves[(*cell.leaf, cell.gpu_model)].append(cell)
    best: tuple[int, list[Cell]] = (0, [])
    for _, leaf in sorted(leaves.items()):
        model = leaf[0].gpu_model
        holes = [one for one in cells if one.gpu_model == model and 0 < one.free < one.total]
        vain = [one for one in leaf if one.free == one.total > 0]
        for nodes in sorted(sizes.get(model, ())):
            chosen = _chosen(leaf, holes, nodes - len(vain), hole_seconds)
            gained = sum(gain(one, hole_seconds) for one in (*chosen, *vain))
            moves = sum(len(one.movers) for one in chosen)
            if chosen and gained > best[0] and moves <= most_moves:
                best = gained, chosen
    return tuple(
        Cleared(one.node, tuple(mover.key for mover in one.movers))
        for one in sorted(best[1], key=lambda one: one.node)
    )


def _chosen(
    leaf: Sequence[Cell], holes: Sequence[Cell], lacking: int, hole_seconds: int
) -> list[Cell]:
    """Return as many nodes as are lacking, or none."""
    order = sorted(
        (one for one in leaf if one.clearable),
        key=lambda one: (-gain(one, hole_seconds), one.node),
    )
    chosen: list[Cell] = []
    for one in order:
        if len(chosen) < lacking and _fit([*chosen, one], holes):
            chosen.append(one)
    return chosen if len(chosen) == lacking else []


def _fit(emptied: Sequence[Cell], holes: Sequence[Cell]) -> bool:
    """Whether all movers of these nodes find a hole elsewhere, the largest first, best fit."""
    gone = {one.node for one in emptied}
    left = sorted(one.free for one in holes if one.node not in gone)
    for gpus in sorted((mover.gpus for one in emptied for mover in one.movers), reverse=True):
        place = next((n for n, free in enumerate(left) if free >= gpus), None)
        if place is None:
            return False
        left[place] -= gpus
        left.sort()
    return True
