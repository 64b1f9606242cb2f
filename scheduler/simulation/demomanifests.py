"""Kubernetes objects of a demonstration on a real cluster. Pure: values in, bodies out.

Everything carries one label, by which it is found and removed again. Nodes carry a taint of the
same key, which only the demonstration's pods tolerate: nobody else's pod shall land where nothing
runs. Annotations `tidal.dev/sim-` say how long pods take, in seconds of the world.
"""

from typing import Any

from scheduler.planning import marks
from scheduler.planning.policy import Policy
from scheduler.simulation.clusterfile import NodeSpec
from scheduler.simulation.jobs import JobSpec
from scheduler.simulation.kubelet import bodies
from scheduler.simulation.kubelet.facts import EXIT, GPU, IMAGE_MIB, RUN, START
from scheduler.simulation.owners import Course
from scheduler.simulation.replica import Workload
from scheduler.simulation.worldfile import Batch, World

Body = dict[str, Any]

NAMESPACE = "tidal-demo"
MARK = "tidal.dev/demo"
SELECTOR = f"{MARK}=true"
LABELS = {MARK: "true"}
ONLINE_CLASS = "tidal-demo-online"
ONLINE_PRIORITY = 100_000
DRAIN_SECONDS = 120.0
"""From SIGTERM to a serving pod's end; long enough for nearly all that it has begun."""
ONLINE_GRACE_SECONDS = 300
IMAGE = "tidal.dev/demo:none"
"""Nobody pulls it; nodes of a demonstration hold it."""

# what docs/batch.md offers to owners of Jobs


def namespace() -> Body:
    """Return the namespace that holds everything that has one."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": _named(NAMESPACE)}


def node(spec: NodeSpec) -> Body:
    """Return a node; its kubelet adds the rest."""
    body = bodies.node(spec)
    body["metadata"]["labels"] |= LABELS
    body["spec"]["taints"] = [{"key": MARK, "value": "true", "effect": "NoSchedule"}]
    return body


def priority_classes(priorities: tuple[int, ...]) -> tuple[Body, ...]:
    """Return a class for online and one for each priority of jobs; none of them preempts."""
    wanted = {ONLINE_CLASS: ONLINE_PRIORITY, **{_batch_class(one): one for one in priorities}}
    return tuple(
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": _named(name),
            "value": value,
            "preemptionPolicy": "Never",
        }
        for name, value in sorted(wanted.items())
    )


def deployment_name(workload: Workload) -> str:
    """Return the name of the role's Deployment."""
    plain = "".join(one if one.isalnum() else "-" for one in workload.model.lower())
    return f"{plain.strip('-')}-{workload.role}"


def deployment(workload: Workload, world: World, scheduler: str) -> Body:
    """Return the role's Deployment, without a replica: Tidal says how many."""
    name = deployment_name(workload)
    start = world.starts.spread(world.starts.tier).p50_seconds
    labels = {**LABELS, "app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _named(name),
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": _life(start, exit_seconds=DRAIN_SECONDS),
                },
                "spec": _pod(workload.gpus_per_pod, ONLINE_CLASS, scheduler)
                | {"terminationGracePeriodSeconds": ONLINE_GRACE_SECONDS},
            },
        },
    }


def job(spec: JobSpec, batch: Batch, course: Course, scheduler: str) -> Body:
    """Return a batch Job, suspended and handed to Tidal."""
    writes = spec.checkpoint_interval_seconds is not None
    exits = batch.exit_seconds
    if spec.writes_on_notice and spec.checkpoint_write_seconds <= spec.grace_seconds:
        exits = max(exits, spec.checkpoint_write_seconds)
    life = _life(course.start_seconds, course.run_seconds, exits)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": spec.id,
            "labels": {**LABELS, marks.QUEUE: spec.tenant},
            "annotations": _declared(spec, writes=writes),
        },
        "spec": {
            "suspend": True,
            "parallelism": spec.pods,
            "completions": spec.pods,
            "completionMode": "Indexed",
            "backoffLimit": 1000,
            "template": {
                "metadata": {"labels": LABELS, "annotations": life},
                "spec": _pod(spec.gpus_per_pod, _batch_class(spec.priority), scheduler)
                | {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": round(spec.grace_seconds),
                },
            },
        },
    }


def next_course(course: Course) -> Body:
    """Return the merge patch of a suspended Job that says how its pods go on."""
    life = _life(course.start_seconds, course.run_seconds)
    return {"spec": {"template": {"metadata": {"annotations": life}}}}


def policy_document(policy: Policy, workloads: tuple[Workload, ...], pace: float) -> Body:
    """Return the policy with a Deployment for each role, at a pace of `pace` times the wall's.

    What Tidal, API server and kube-scheduler need passes `pace` times as fast for the world, so
    looks are rarer, plans are believed and places kept for longer, and capacity is ordered earlier.
    """
    document = policy.model_dump(mode="json")
    document["mode"] = "act"
    cadence, extender = document["cadence"], document["extender"]
    cadence["observe_seconds"] = max(cadence["observe_seconds"], LOOK_SECONDS * pace)
    cadence["plan_seconds"] = max(cadence["plan_seconds"], PLAN_SECONDS * pace)
    cadence["forecast_seconds"] = max(cadence["forecast_seconds"], cadence["plan_seconds"])
    for name in ("plan_stale_seconds", "heuristic_stale_seconds"):
        extender[name] = max(extender[name], STALE_SECONDS * pace)
    packing = document["packing"]
    packing["reservation_seconds"] = max(packing["reservation_seconds"], KEPT_SECONDS * pace)
    for one in workloads:
        role = document["models"][one.model]["roles"][one.role]
        name = deployment_name(one)
        role["target"] = {"kind": "Deployment", "namespace": NAMESPACE, "name": name}
        role["lead_seconds"] += LEAD_SECONDS * pace
    return document


LOOK_SECONDS = 0.5
PLAN_SECONDS = 1.0
STALE_SECONDS = 30.0
KEPT_SECONDS = 15.0
"""Of the wall: from a plan until the controllers have made the last pod and it was bound."""
LEAD_SECONDS = 3.0
"""Of the wall: from a plan to a bound pod, a recalled job's end in between."""


def _named(name: str) -> Body:
    return {"name": name, "labels": LABELS}


def _batch_class(priority: int) -> str:
    return f"tidal-demo-batch-{priority}"


def _pod(gpus: int, priority: str, scheduler: str) -> Body:
    return {
        "schedulerName": scheduler,
        "priorityClassName": priority,
        "nodeSelector": LABELS,
        "tolerations": [{"key": MARK, "operator": "Exists"}],
        "automountServiceAccountToken": False,
        "containers": [{"name": "main", "image": IMAGE, "resources": {"limits": {GPU: str(gpus)}}}],
    }


def _life(
    start_seconds: float, run_seconds: float | None = None, exit_seconds: float | None = None
) -> dict[str, str]:
    """The image is on the node: what a world's tier says of pulling is in the start."""
    given = {START: start_seconds, RUN: run_seconds, EXIT: exit_seconds, IMAGE_MIB: 0}
    return {key: f"{value:.0f}" for key, value in given.items() if value is not None}


def _declared(spec: JobSpec, *, writes: bool) -> dict[str, str]:
    notes = {marks.TENANT: spec.tenant, marks.EXPECTED_SECONDS: f"{spec.declared_seconds:.0f}"}
    notes[marks.RESTART_SECONDS] = f"{spec.restart_seconds:.0f}"
    if not spec.preemptible:
        notes[marks.CLASS] = "protected"
    elif writes:
        notes[marks.CLASS] = "checkpoint"
        notes[marks.CHECKPOINT_INTERVAL] = f"{spec.checkpoint_interval_seconds:.0f}"
        if spec.writes_on_notice:
            notes[marks.CHECKPOINT_WRITE] = f"{spec.checkpoint_write_seconds:.0f}"
    if spec.gpu_models:
        notes[marks.GPU_MODELS] = ",".join(spec.gpu_models)
    return notes
