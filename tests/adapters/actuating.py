"""What tests of the actuator share: one fake server and the cluster as its watches show it."""

from typing import Any

import msgspec

from scheduler.adapters.cluster.actuator import KubernetesActuator
from scheduler.adapters.cluster.drivers.writing import Cluster
from scheduler.adapters.cluster.events import Reference
from scheduler.adapters.cluster.observed import Observed
from scheduler.apiserver import objects
from scheduler.planning.actions import NotifyJob, ResizeJob, ScaleRole, StartJob, StopJob
from scheduler.planning.policy import Policy, parse
from scheduler.planning.snapshot import Loan, Reservation
from tests.adapters.fakeapi import FakeApi, Object

NOW = 1_800_000_000.0
ROLE = "m/r"
VERSIONS = {
    "pods": "/api/v1",
    "jobs.batch": "/apis/batch/v1",
    "deployments.apps": "/apis/apps/v1",
    "statefulsets.apps": "/apis/apps/v1",
    "leaderworkersets.leaderworkerset.x-k8s.io": "/apis/leaderworkerset.x-k8s.io/v1",
    "rolebasedgroups.workloads.x-k8s.io": "/apis/workloads.x-k8s.io/v1alpha2",
    "rolebasedgroupscalingadapters.workloads.x-k8s.io": "/apis/workloads.x-k8s.io/v1alpha2",
}
FIELDS: dict[str, tuple[str, type[Any]]] = {
    "nodes": ("nodes", objects.Node),
    "pods": ("pods", objects.Pod),
    "jobs": ("jobs", objects.Job),
    "deployments": ("deployments", objects.Replicated),
    "statefulsets": ("stateful_sets", objects.Replicated),
    "leaderworkersets": ("leader_worker_sets", objects.LeaderWorkerSet),
    "rolebasedgroups": ("role_based_groups", objects.RoleBasedGroup),
    "rolebasedgroupscalingadapters": ("scaling_adapters", objects.ScalingAdapter),
    "horizontalpodautoscalers": ("autoscalers", objects.Autoscaler),
    "poddisruptionbudgets": ("budgets", objects.DisruptionBudget),
}


def meta(name: str, **more: Any) -> Object:  # noqa: ANN401
    return {"name": name, "namespace": "ns", "uid": f"uid-{name}", **more}


def controlled(kind: str, name: str) -> list[Object]:
    return [{"kind": kind, "name": name, "uid": "u", "controller": True}]


def path_of(plural: str, name: str) -> str:
    full = next(one for one in VERSIONS if one.partition(".")[0] == plural)
    return f"{VERSIONS[full]}/namespaces/ns/{plural}/{name}"


def pod(name: str, master: tuple[str, str] = ("ReplicaSet", "d-5d"), **more: Any) -> Object:  # noqa: ANN401
    """A pod with one GPU, ready on a node; `meta`, `spec` and `status` go on top."""
    template = {"pod-template-hash": "5d"} if master[0] == "ReplicaSet" else {}
    notes = {"labels": template, "ownerReferences": controlled(*master), **more.get("meta", {})}
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return {
        "metadata": meta(name, **notes),
        "spec": {"nodeName": "n1", "containers": [container], **more.get("spec", {})},
        "status": more.get("status", status),
    }


def deployment(replicas: int = 3, **more: Any) -> Object:  # noqa: ANN401
    return {"metadata": meta("d", **more), "spec": {"replicas": replicas}}


def job(*, suspend: bool = False, spec: Object | None = None, **more: Any) -> Object:  # noqa: ANN401
    labels = {"tidal.dev/queue": "q", **more.pop("labels", {})}
    whole = {"parallelism": 2, "completions": 2, "suspend": suspend, **(spec or {})}
    return {"metadata": meta("j", labels=labels, **more), "spec": whole}


class World:
    """Objects by plural and name; what the watches show is what the fake server holds at start."""

    def __init__(self, kind: str = "Deployment", name: str = "d", role: str = "") -> None:
        self.api = FakeApi()
        self.extra: dict[str, list[Object]] = {}
        self.now = NOW
        self.told: list[tuple[str, str, str]] = []
        self._seen: Observed | None = None
        self.policy = policy(kind, name, role)
        self.cluster = Cluster(
            api=self.api,
            observed=self.observed,
            versions=lambda: VERSIONS,
            policy=lambda: self.policy,
            now_seconds=lambda: self.now,
            tell=self._tell,
        )
        self.actuator = KubernetesActuator(self.cluster)

    def add(self, plural: str, *bodies: Object) -> "World":
        for body in bodies:
            try:
                self.api.objects[path_of(plural, body["metadata"]["name"])] = body
            except StopIteration:
                self.extra.setdefault(plural, []).append(body)
        return self

    def freeze(self) -> None:
        """From here on the watches show this, whatever is written."""
        self._seen = self.observed()

    def observed(self) -> Observed:
        if self._seen is not None:
            return self._seen
        found: dict[str, list[Object]] = {key: list(each) for key, each in self.extra.items()}
        for path, body in sorted(self.api.objects.items()):
            found.setdefault(path.split("/")[-2], []).append(body)
        return Observed(
            **{
                FIELDS[plural][0]: msgspec.convert(each, tuple[FIELDS[plural][1], ...])  # type: ignore[misc]
                for plural, each in found.items()
                if plural in FIELDS
            }
        )

    def now_at(self, plural: str, name: str) -> Object:
        return self.api.objects[path_of(plural, name)]

    def notes(self, plural: str, name: str) -> dict[str, str]:
        found: dict[str, str] = self.now_at(plural, name)["metadata"].get("annotations", {})
        return found

    def apply(self, action: Any, epoch: int = 1) -> tuple[bool, str]:  # noqa: ANN401
        (outcome,) = self.actuator.apply((action,), epoch)
        return outcome.applied, outcome.detail

    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.told]

    def _tell(self, about: Reference, kind: str, reason: str, message: str) -> None:
        self.told.append((f"{about.kind} {about.namespace}/{about.name}", reason, message))


def policy(kind: str, name: str, role: str = "") -> Policy:
    target = {"kind": kind, "namespace": "ns", "name": name, "role": role}
    body = {
        "tokens": "prompt",
        "capacity_tokens_per_second": {"H100": 1.0},
        "target": target,
    }
    other = {**body, "target": {**target, "role": "other"}} if role else None
    roles = {"r": body, **({"o": other} if other else {})}
    return parse({"version": 1, "models": {"m": {"roles": roles}}})


def scale(expected: int, replicas: int, *retire: str, role: str = ROLE) -> ScaleRole:
    return ScaleRole(
        role=role,
        expected_replicas=expected,
        replicas=replicas,
        retire=retire,
        code="demand_falls",
        sentence="because",
    )


LOAN = Loan(
    id="l",
    job="ns/j",
    gpus=2,
    granted_seconds=NOW,
    return_by_seconds=NOW + 60,
    promised_p99_seconds=1.0,
)


def start(pods: int = 2, attempt: int = 0) -> StartJob:
    return StartJob(
        job="ns/j", expected_attempt=attempt, pods=pods, loan=LOAN, code="lend", sentence="because"
    )


def notify(attempt: int = 1) -> NotifyJob:
    return NotifyJob(
        job="ns/j",
        expected_attempt=attempt,
        deadline_seconds=NOW + 60.5,
        for_role=ROLE,
        code="recall",
        sentence="because",
    )


def stop(attempt: int = 1, name: str = "ns/j") -> StopJob:
    return StopJob(
        job=name, expected_attempt=attempt, for_role=ROLE, code="deadline", sentence="because"
    )


def resize(pods: int, *release: str) -> ResizeJob:
    return ResizeJob(
        job="ns/j",
        expected_attempt=1,
        pods=pods,
        release=release,
        code="shrink" if release else "grow",
        sentence="because",
    )


def reservation(
    name: str, owner: str, *parts: tuple[str, int], created: float = NOW
) -> Reservation:
    return Reservation(
        id=name, owner=owner, parts=parts, created_seconds=created, expires_seconds=NOW + 300
    )
