"""The shapes of pods to come: what the queue asks now, and what the forecast's sizes will ask.

A waiting job's pods count as they are. Of a role, the replicas count that sizing wants beyond
those that are ready or starting; where no role grows, all that are wanted, as each is asked anew
when it moves. Weights are GPUs, not pods: a rare shape of eight cards must not drown among many
of one. Pods without GPU are unknown to the planner, so they have no part in the mix.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from binpacking.cards import PodShape
from binpacking.fragmentation import Mixture
from binpacking.inventory import WHOLE_GPU_MILLI
from scheduler.planning.actions import Sizing
from scheduler.planning.snapshot import Snapshot

_HERE = frozenset(("starting", "ready"))


def shapes_to_come(snapshot: Snapshot, sizings: Iterable[Sizing]) -> Mixture:
    """The mix, weighted by GPUs; empty where nothing is asked."""
    wanted = {sizing.role: -(-sizing.wanted_milli // 1000) for sizing in sizings}
    here = Counter(r.role for r in snapshot.replicas if r.state in _HERE)
    growing = {role: count - here[role] for role, count in wanted.items() if count > here[role]}
    asked: Counter[PodShape] = Counter()
    for shape, pods in (*_of_jobs(snapshot), *_of_roles(snapshot, growing or wanted)):
        asked[shape] += pods * shape.cards
    return Mixture(tuple(sorted((shape, weight) for shape, weight in asked.items() if weight)))


def _of_jobs(snapshot: Snapshot) -> Iterator[tuple[PodShape, int]]:
    for job in snapshot.jobs:
        if job.state == "queued":
            yield _whole(job.gpus_per_pod, tuple(sorted(job.gpu_models))), job.pods


def _of_roles(snapshot: Snapshot, replicas: dict[str, int]) -> Iterator[tuple[PodShape, int]]:
    for role in snapshot.roles:
        pods = replicas.get(role.key, 0) * role.pods_per_replica
        yield _whole(role.gpus_per_pod, ()), pods


def _whole(gpus: int, models: tuple[str, ...]) -> PodShape:
    return PodShape(0, 0, gpus, WHOLE_GPU_MILLI, models)
