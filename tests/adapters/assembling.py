"""Builders of Jobs as the assembly reads them, and of what it complains about."""

from scheduler.adapters.cluster.complaints import complaints
from scheduler.adapters.cluster.observed import Observed
from scheduler.apiserver import objects
from scheduler.planning.invariants import broken
from scheduler.planning.snapshot import Job, Snapshot
from tests.fixtures.kubeobjects import (
    NOW,
    Part,
    deployment,
    node,
    policy,
    snapshot,
    suspended_job,
)

POLICY = policy({"gpu_models": {"NVIDIA-H100": "H100"}}, decode={"kind": "Deployment", "name": "a"})
NODES = (node("n0"),)


def seen(*jobs: objects.Job, blocked: dict[str, str] | None = None, **kinds: Part) -> Snapshot:
    found = snapshot(Observed(nodes=NODES, jobs=jobs, **kinds), POLICY, NOW, (), blocked)
    assert broken(found) == ()
    return found


def read(one: objects.Job, *pods: objects.Pod, **kinds: Part) -> Job:
    (found,) = seen(one, pods=pods, **kinds).jobs
    return found


def said(annotations: dict[str, str], pods: int = 1, **change: Part) -> Job:
    return read(suspended_job("j", pods, annotations=annotations, **change))


def lines_of(*jobs: objects.Job, pods: tuple[objects.Pod, ...] = ()) -> tuple[str, ...]:
    world = Observed(jobs=jobs, pods=pods, deployments=(deployment("a", 1),))
    return complaints(world, POLICY)


def complained(annotations: dict[str, str], pods: int = 1, **change: Part) -> tuple[str, ...]:
    one = suspended_job("j", pods, annotations=annotations, **change)
    return lines_of(one)
