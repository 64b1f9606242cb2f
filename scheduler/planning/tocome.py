"""The pods to come: what the queue asks now, and what the forecast's sizes will ask.

A waiting job's pods count as they are. Of a role, the replicas count that sizing wants beyond
those that are ready or starting; where no role grows, all that are wanted, as each is asked anew
when it moves. Pods without GPU are unknown to the planner, so they have no part in the mix.

Two readings of one mix: the plan and the extender count pods, since the next pod is drawn from
these, and keep room for the rare large ones by a price (`pricing`); what is exported, and what the
packer spares, counts GPUs, so that a rare shape of eight cards does not drown among many of one.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from binpacking.cards import PodShape, Population
from binpacking.fragmentation import Mix, Mixture
from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.problem import USUAL_MIX
from scheduler.planning.actions import Sizing
from scheduler.planning.snapshot import Job, Role, Snapshot

_HERE = frozenset(("starting", "ready"))


def pods_to_come(snapshot: Snapshot, sizings: Iterable[Sizing]) -> Population:
    """The mix in numbers of pods; empty where nothing is asked."""
    wanted = {sizing.role: -(-sizing.wanted_milli // 1000) for sizing in sizings}
    here = Counter(r.role for r in snapshot.replicas if r.state in _HERE)
    growing = {role: count - here[role] for role, count in wanted.items() if count > here[role]}
    asked: Counter[PodShape] = Counter()
    for shape, pods in (*_of_jobs(snapshot), *_of_roles(snapshot, growing or wanted)):
        asked[shape] += pods
    return tuple(sorted((shape, pods) for shape, pods in asked.items() if pods and shape.cards))


def by_gpus(population: Population) -> Mixture:
    """The mix weighted by the milli-GPU that all pods of a shape ask."""
    return Mixture(tuple((shape, pods * shape.gpu_milli) for shape, pods in population))


def by_size(population: Population) -> Mix:
    """The GPUs that pods of each size ask, all models together; the usual mix where none is asked.

    What the packer leaves free is judged by it. Parts of cards are `by_share`.
    """
    weights: Counter[int] = Counter()
    for shape, pods in population:
        if shape.card_milli == WHOLE_GPU_MILLI:
            weights[shape.cards] += pods * shape.cards
    return tuple(sorted(weights.items())) or USUAL_MIX


def by_share(population: Population) -> Mix:
    """The same for parts of cards: by milli-GPU, the GPUs that they make together, rounded up."""
    weights: Counter[int] = Counter()
    for shape, pods in population:
        if shape.card_milli < WHOLE_GPU_MILLI:
            weights[shape.card_milli] += pods * shape.card_milli
    return tuple((milli, -(-of // WHOLE_GPU_MILLI)) for milli, of in sorted(weights.items()))


def _of_jobs(snapshot: Snapshot) -> Iterator[tuple[PodShape, int]]:
    for job in snapshot.jobs:
        if job.state == "queued":
            yield _shape(job, tuple(sorted(job.gpu_models))), job.pods


def _of_roles(snapshot: Snapshot, replicas: dict[str, int]) -> Iterator[tuple[PodShape, int]]:
    for role in snapshot.roles:
        pods = replicas.get(role.key, 0) * role.pods_per_replica
        yield _shape(role, ()), pods


def _shape(of: Job | Role, models: tuple[str, ...]) -> PodShape:
    share = of.share_per_pod
    cards, milli = (1, share.milli) if share.milli else (of.gpus_per_pod, WHOLE_GPU_MILLI)
    return PodShape(of.cpu_milli_per_pod, of.memory_mib_per_pod, cards, milli, models)
