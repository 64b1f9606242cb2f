"""Where nodes hang: a domain is a prefix of the switch path.

Two nodes share a domain when their paths agree up to its depth; a leaf is the whole path plus
the GPU model, so that a leaf switch with two models counts as two leaves. Tensor-parallel pieces
and gangs never cross a leaf.
"""

from collections.abc import Iterable

from binpacking.problem import Supply

Domain = tuple[str, ...]


def by_leaf(supplies: Iterable[Supply]) -> tuple[tuple[Domain, tuple[Supply, ...]], ...]:
    """Supplies grouped by leaf: leaves in order of path, nodes in order of name."""
    groups: dict[Domain, list[Supply]] = {}
    for supply in supplies:
        groups.setdefault(supply.leaf, []).append(supply)
    return tuple(
        (leaf, tuple(sorted(groups[leaf], key=lambda supply: supply.node)))
        for leaf in sorted(groups)
    )
