"""How much of what stays free will be of no use to the shapes to come.

The whole-GPU "mod" form: with a share p_k of future pods asking k GPUs on one node, a node with f
free GPUs is expected to waste sum_k p_k (f mod k). It is linear in the number of k-slots
floor(f / k), which is what the integer program counts per leaf; Weng et al. (USENIX ATC 2023)
use the coarser sum_k p_k f [f < k], which is not.
"""

from collections.abc import Iterable

Mix = tuple[tuple[int, int], ...]
"""(GPUs on one node, weight); weights need no fixed sum."""


def unusable_milli_gpus(free: Iterable[int], mix: Mix) -> int:
    """Expected unusable milli-GPUs over nodes with these free GPUs, rounded down once."""
    weights = sum(weight for _, weight in mix)
    if not weights:
        return 0
    counts: dict[int, int] = {}
    for gpus in free:
        counts[gpus] = counts.get(gpus, 0) + 1
    wasted = sum(
        count * weight * (gpus % size) for gpus, count in counts.items() for size, weight in mix
    )
    return 1000 * wasted // weights
