"""Where batch jobs come from: drawn by seed from the world, or read from a file.

`JobSpec` is the truth about a job. What its owner declares as duration is the truth times a
log-normal error. Job number n depends on the seed, the world and the cluster's shape alone,
never on how earlier jobs were scheduled.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Protocol

import msgspec
import numpy as np

from scheduler.simulation.clusterfile import ClusterSpec
from scheduler.simulation.worldfile import Batch, Spread

_POD_GPUS = 8
_MOST_DRAWS = 1000


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One batch job as it truly is."""

    id: str
    tenant: str
    priority: int
    pods: int
    gpus_per_pod: int
    min_pods: int
    max_pods: int
    gpu_models: tuple[str, ...] = ()
    submitted_seconds: float
    duration_seconds: float
    """Of work on `pods` pods, without starts and checkpoint writes."""
    declared_seconds: float
    checkpoint_interval_seconds: float | None = None
    """None: it never writes one."""
    checkpoint_write_seconds: float = 0.0
    writes_on_notice: bool = False
    restart_seconds: float = 0.0
    grace_seconds: float = 30.0
    preemptible: bool = True

    @property
    def gpus(self) -> int:
        """GPUs on all `pods`."""
        return self.pods * self.gpus_per_pod

    @property
    def work_gpu_seconds(self) -> float:
        """Progress after which the job is done."""
        return self.duration_seconds * self.gpus


class JobSource(Protocol):
    """Hands out jobs in order of submission."""

    def due(self, now_seconds: float, waiting: int) -> Iterator[JobSpec]:
        """Yield the jobs submitted by now, given how many wait already."""
        ...


class Shapes(msgspec.Struct, frozen=True):
    """What fits under one leaf: (GPUs of a pod) -> most such pods in any leaf."""

    most_pods: dict[int, int]

    def fits(self, pods: int, gpus_per_pod: int) -> bool:
        """True when an empty cluster could hold the gang in one leaf."""
        return pods <= self.most_pods.get(gpus_per_pod, 0)


def shapes(cluster: ClusterSpec) -> Shapes:
    """Return what fits where; the GPU models of a mixed leaf count as leaves of their own."""
    leaves: dict[tuple[str, ...], Counter[int]] = defaultdict(Counter)
    for node in cluster.nodes:
        leaf = leaves[(*node.switch_path, node.gpu_model)]
        for gpus in range(1, node.gpus + 1):
            leaf[gpus] += node.gpus // gpus
    most: Counter[int] = Counter()
    for leaf in leaves.values():
        most |= leaf
    return Shapes(dict(most))


class DrawnJobs:
    """Endless jobs: keeps `backlog` of them waiting."""

    def __init__(self, batch: Batch, cluster: ClusterSpec, rng: np.random.Generator) -> None:
        """Draw everything from `rng`, which nothing else may use."""
        self._batch = batch
        self._shapes = shapes(cluster)
        self._rng = rng
        self._number = 0
        if not any(self._fits(size) for size in batch.sizes_gpus):
            raise ValueError("batch.sizes_gpus: no size fits under a leaf of this cluster")

    def due(self, now_seconds: float, waiting: int) -> Iterator[JobSpec]:
        """Yield as many jobs as the backlog lacks."""
        for _ in range(waiting, self._batch.backlog):
            self._number += 1
            yield self._draw(f"job-{self._number:05d}", now_seconds)

    def _fits(self, size: int) -> bool:
        return self._shapes.fits(*_gang(size))

    def _size(self) -> int:
        """Draw again what no leaf can hold."""
        batch = self._batch
        for _ in range(_MOST_DRAWS):
            size = int(self._rng.choice(batch.sizes_gpus, p=batch.size_probabilities))
            if self._fits(size):
                return size
        raise ValueError("batch.size_probabilities: sizes that fit this cluster are too rare")

    def _draw(self, name: str, now_seconds: float) -> JobSpec:
        batch, rng = self._batch, self._rng
        pods, gpus_per_pod = _gang(self._size())
        shares = [tenant.share for tenant in batch.tenants]
        tenant = batch.tenants[int(rng.choice(len(shares), p=shares))].name
        priority = int(rng.choice(batch.priorities, p=batch.priority_probabilities))
        duration = _log_normal(rng, batch.duration)
        declared = duration * float(np.exp(rng.normal(0.0, batch.declared_log_sd)))
        writes = rng.random() >= batch.checkpoint.none_share
        interval = float(rng.choice(batch.checkpoint.interval_seconds))
        write = _log_normal(rng, batch.checkpoint.write)
        on_notice = rng.random() < batch.checkpoint.on_notice_share
        elastic = rng.random() < batch.elastic_share and pods > 1
        return JobSpec(
            id=name,
            tenant=tenant,
            priority=priority,
            pods=pods,
            gpus_per_pod=gpus_per_pod,
            min_pods=max(1, round(pods * batch.elastic_min_share)) if elastic else pods,
            max_pods=pods,
            submitted_seconds=now_seconds,
            duration_seconds=duration,
            declared_seconds=declared,
            checkpoint_interval_seconds=interval if writes else None,
            checkpoint_write_seconds=write if writes else 0.0,
            writes_on_notice=bool(writes and on_notice),
            restart_seconds=_log_normal(rng, batch.restart),
            grace_seconds=batch.grace_seconds,
        )


class ListedJobs:
    """A fixed list of jobs, each due at its own time."""

    def __init__(self, jobs: tuple[JobSpec, ...]) -> None:
        self._jobs = sorted(jobs, key=lambda job: (job.submitted_seconds, job.id))
        self._next = 0

    def due(self, now_seconds: float, waiting: int) -> Iterator[JobSpec]:
        """Yield the jobs whose time has come."""
        jobs = self._jobs
        while self._next < len(jobs) and jobs[self._next].submitted_seconds <= now_seconds:
            self._next += 1
            yield jobs[self._next - 1]


def _gang(size: int) -> tuple[int, int]:
    """Return (pods, GPUs per pod): up to 8 GPUs in one pod, more in pods of 8."""
    return (1, size) if size <= _POD_GPUS else (-(-size // _POD_GPUS), _POD_GPUS)


def _log_normal(rng: np.random.Generator, spread: Spread) -> float:
    return float(rng.lognormal(spread.log_mean, spread.log_sd))
