"""Which of the nodes with room a pod should take between two plans: FGD's score on whole GPUs.

The score is that of `binpacking.admission`, by the shapes that queue and forecast will ask, so
single pods and plans shape the cluster towards the same end. CPU and memory are kube-scheduler's
to check, and GPUs are whole here, so a node is its model and its free GPUs: a table answers.
"""

from collections.abc import Iterable

import msgspec

from binpacking.admission import BEST, score_of_fall

Coming = tuple[int, tuple[str, ...], int]
"""GPUs of a pod to come, the models it may use (empty: any), and its weight."""


class Preference(msgspec.Struct, frozen=True):
    """Costs of giving GPUs, by model, free GPUs and GPUs asked."""

    coming: tuple[Coming, ...]
    costs: dict[tuple[str, int, int], int]

    def cost(self, model: str, free: int, gpus: int) -> int:
        """0 to 100, 0 where fragmentation falls most."""
        return self.costs.get((model, free, gpus), 0)


def preference_of(coming: tuple[Coming, ...], sizes: Iterable[tuple[str, int]]) -> Preference:
    """State all costs for nodes of these models and GPUs; without shapes to come all are 0."""
    weight = sum(one[2] for one in coming)
    most: dict[str, int] = {}
    for model, gpus in sizes:
        most[model] = max(gpus, most.get(model, 0))
    if not weight:
        return Preference((), {})
    costs = {}
    for model, total in sorted(most.items()):
        fragments = [_fragments(coming, model, free) for free in range(total + 1)]
        for free in range(total + 1):
            for gpus in range(1, free + 1):
                fall = 1000 * (fragments[free] - fragments[free - gpus])
                costs[model, free, gpus] = BEST - score_of_fall(fall, weight)
    return Preference(coming, costs)


def _fragments(coming: tuple[Coming, ...], model: str, free: int) -> int:
    """GPUs times weight: all that is free, for each shape that cannot run."""
    return sum(
        free * weight
        for gpus, models, weight in coming
        if free < gpus or (models and model not in models)
    )
