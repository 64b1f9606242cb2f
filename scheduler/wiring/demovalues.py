"""What a demonstration on a real cluster is given, shows and comes to."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from scheduler.planning.policy import Policy
from scheduler.simulation.clusterfile import ClusterSpec
from scheduler.simulation.demand import Demand
from scheduler.simulation.jobs import JobSource
from scheduler.simulation.replica import Workload
from scheduler.simulation.score import Figures
from scheduler.simulation.timeline import Timeline
from scheduler.simulation.worldfile import World
from scheduler.wiring.parts import LOOPBACK


class ClusterDemo(msgspec.Struct, frozen=True, kw_only=True):
    """What is played; all files lie in the folder `out`, which exists."""

    kubeconfig: Path
    context: str | None
    scheduler_name: str
    cluster: ClusterSpec
    world: World
    demand: Demand
    workloads: tuple[Workload, ...]
    policy: Policy
    """With targets."""
    jobs: JobSource
    rate: float
    """World seconds in one of the wall's."""
    seed: int
    out: Path
    api_port: int
    extender_port: int
    keep: bool

    @property
    def policy_file(self) -> Path:
        """What the daemon reads; an edit counts at once."""
        return self.out / "policy.yaml"

    @property
    def ledger(self) -> Path:
        """The daemon's ledger."""
        return self.out / "ledger.sqlite"

    @property
    def log(self) -> Path:
        """What the daemon says, one JSON object a line."""
        return self.out / "daemon.log"

    @property
    def extender_url(self) -> str:
        """What kube-scheduler must ask."""
        return f"http://{LOOPBACK}:{self.extender_port}"


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """The play at one moment."""

    now_seconds: float
    """Of the demand; negative before scored time."""
    end_seconds: float
    gpus: dict[str, int]
    """online, lent, free"""
    replicas: dict[str, int]
    """Ready ones by role."""
    jobs: dict[str, int]
    """By state."""
    filter_calls: int


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, by the daemon's own ledger and the extender's counters."""

    scaled_up: int
    scaled_down: int
    jobs_started: int
    jobs_preempted: int
    jobs_finished: int
    dropped_actions: int
    ticks: int
    violations: int
    pods_bound: int
    filter_calls: int
    filter_passed: int
    preempt_calls: int
    rejected_pods: int
    """That came to a node before its GPUs were free."""


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What the demonstration came to."""

    figures: Figures
    timeline: Timeline
    counts: Counts
    wall_seconds: float
    complete: bool
    """Played to the end of the demand."""


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told what."""

    shown: Callable[[Scene], None]
    said: Callable[[str], None]
