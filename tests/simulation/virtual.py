"""Builders of small virtual clusters, jobs and actions, and placers to go with them."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from forecasting import Sample
from scheduler.planning.actions import (
    Action,
    NotifyJob,
    ResizeJob,
    ScaleRole,
    StartJob,
    StopJob,
)
from scheduler.planning.invariants import broken
from scheduler.planning.snapshot import Job, Loan, Reservation, Snapshot
from scheduler.planning.standing import PodAsk
from scheduler.simulation.cluster import (
    Setting,
    VirtualCluster,
    workloads,
)
from scheduler.simulation.clusterfile import ClusterSpec, build
from scheduler.simulation.demand import Demand, ModelDemand
from scheduler.simulation.events import (
    Event,
)
from scheduler.simulation.faults import (
    Fault,
    shifted,
)
from scheduler.simulation.jobs import JobSource, JobSpec, ListedJobs
from scheduler.simulation.worldfile import load_world

WORLD = load_world()
STEP = WORLD.step_seconds
DECODE = "code/decode"
PREFILL = "code/prefill"


def constant_demand(steps: int, start: float, requests: float) -> Demand:
    full = np.full(steps, requests)
    model = ModelDemand(
        requests=full,
        prompt_tokens=full * 1000,
        generated_tokens=full * 200,
        mean_prompt_tokens=np.full(steps, 1000.0),
        mean_generated_tokens=np.full(steps, 200.0),
        iat_cv=np.ones(steps),
        known=np.ones(steps, bool),
    )
    past = tuple(
        Sample(f"code/{field}", start - 300, 300, 1.0)
        for field in ("requests", "prompt_tokens", "generated_tokens")
    )
    return Demand(
        start_seconds=start,
        step_seconds=STEP,
        steps=steps,
        gpu_models=("H100-SXM-80GB", "H200-SXM-141GB"),
        models={"code": model},
        factors={"code": 1.0},
        past={"code": past},
    )


class FirstFit:
    """Places every pod on the first node that can take it."""

    def place(self, pod: PodAsk, feasible: tuple[str, ...]) -> str | None:
        return feasible[0]


class Reserved:
    """Places a pod where its owner has a reservation, and nowhere else."""

    def __init__(self) -> None:
        self.cluster: VirtualCluster | None = None

    def place(self, pod: PodAsk, feasible: tuple[str, ...]) -> str | None:
        assert self.cluster is not None
        for reservation in self.cluster.observe().reservations:
            for node, gpus in reservation.parts:
                if reservation.owner == pod.owner and gpus == pod.gpus and node in feasible:
                    return node
        return None


class Nowhere:
    """Lets every pod wait."""

    def place(self, pod: PodAsk, feasible: tuple[str, ...]) -> str | None:
        return None


def made(
    *,
    nodes: int = 2,
    steps: int = 720,
    start: float = 0.0,
    jobs: Sequence[JobSpec] = (),
    source: JobSource | None = None,
    faults: tuple[Fault, ...] = (),
    placer: FirstFit | Reserved | Nowhere | None = None,
    requests: float = 20.0,
    seed: int = 1,
) -> tuple[VirtualCluster, list[Event]]:
    cluster: ClusterSpec = build(nodes)
    demand = shifted(constant_demand(steps, start, requests), faults)
    setting = Setting(
        cluster=cluster,
        world=WORLD,
        demand=demand,
        workloads=workloads(WORLD, ["code"], demand.gpu_models),
        faults=faults,
        seed=seed,
    )
    events: list[Event] = []
    given = placer or FirstFit()
    found = VirtualCluster(setting, source or ListedJobs(tuple(jobs)), given, events.append, broken)
    if isinstance(given, Reserved):
        given.cluster = found
    return found, events


def job(name: str = "j", **changes: object) -> JobSpec:
    spec = JobSpec(
        id=name,
        tenant="archive",
        priority=1,
        pods=1,
        gpus_per_pod=8,
        min_pods=1,
        max_pods=1,
        submitted_seconds=-1e9,
        duration_seconds=600.0,
        declared_seconds=600.0,
        checkpoint_interval_seconds=200.0,
        checkpoint_write_seconds=20.0,
        writes_on_notice=True,
        restart_seconds=50.0,
    )
    return msgspec.structs.replace(spec, **changes)


def scale(to: int, expected: int, *retire: str, role: str = DECODE) -> ScaleRole:
    return ScaleRole(
        role=role,
        expected_replicas=expected,
        replicas=to,
        retire=retire,
        code="demand_rises",
        sentence="",
    )


def start(name: str = "j", attempt: int = 0, pods: int = 1) -> StartJob:
    loan = Loan(
        id=f"loan-{name}-{attempt}",
        job=name,
        gpus=8 * pods,
        granted_seconds=0.0,
        return_by_seconds=3600.0,
        promised_p99_seconds=100.0,
    )
    return StartJob(
        job=name, expected_attempt=attempt, pods=pods, loan=loan, code="lend", sentence=""
    )


def stop(name: str = "j", attempt: int = 1, for_role: str = "") -> StopJob:
    return StopJob(
        job=name, expected_attempt=attempt, for_role=for_role, code="recall_now", sentence=""
    )


def notify(name: str = "j", attempt: int = 1, for_role: str = "") -> NotifyJob:
    return NotifyJob(
        job=name,
        expected_attempt=attempt,
        deadline_seconds=1e6,
        for_role=for_role,
        code="recall",
        sentence="",
    )


def resize(pods: int, *release: str, name: str = "j", attempt: int = 1) -> ResizeJob:
    return ResizeJob(
        job=name,
        expected_attempt=attempt,
        pods=pods,
        release=release,
        code="shrink",
        sentence="",
    )


def details(cluster: VirtualCluster, *actions: Action, epoch: int = 0) -> list[str]:
    return [outcome.detail for outcome in cluster.apply(actions, epoch)]


def the_job(snapshot: Snapshot, name: str = "j") -> Job:
    return next(one for one in snapshot.jobs if one.id == name)


def held(snapshot: Snapshot) -> Counter[str]:
    return Counter(
        holder.owner
        for node in snapshot.nodes
        for device in node.devices
        for holder in device.holders
    )


def reservation(node: str, name: str = "r", owner: str = DECODE, **changes: object) -> Reservation:
    plain = Reservation(
        id=name, owner=owner, parts=((node, 1),), created_seconds=0.0, expires_seconds=300.0
    )
    return msgspec.structs.replace(plain, **changes)
