"""Batch Jobs as the planner sees them: how far each has come, what it holds, what it declares.

Only Jobs with the queue label are Tidal's. A finished Job is left out, as is one that asks for no
GPU or is paused by `parallelism: 0`; its pods count as strangers' for as long as they hold devices.

Pods speak for the whole job: the newest checkpoint that any of them tells counts, and one
acknowledgement acknowledges, so that only the rank that knows needs to tell.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from scheduler.adapters.cluster import budgets, inventory
from scheduler.adapters.cluster.around import Around
from scheduler.adapters.cluster.jobmarks import (
    Declared,
    acknowledges,
    checkpoint_started,
    declared,
    last_checkpoint,
)
from scheduler.adapters.cluster.optouts import opt_out
from scheduler.adapters.cluster.podfacts import PodFacts, time_of
from scheduler.apiserver import objects
from scheduler.apiserver.nodeterms import NodeTerms, node_terms
from scheduler.apiserver.requests import cpu_and_memory, gpus_of, part_asked
from scheduler.apiserver.sharing import Part, per_pod
from scheduler.planning import marks
from scheduler.planning.policy import Kubernetes
from scheduler.planning.snapshot import Job, Pod

EXPECTED_SECONDS = 4 * 3600.0
"""How long a run is expected to go on whose owner says nothing, at any age."""
LEAST_REMAINING_SECONDS = 300.0
"""A run that outlives its declaration is expected to go on this long."""
MOST_WEIGHT = 10_000

State = Literal["queued", "starting", "running", "notified", "acknowledged", "stopping"]


class JobFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One Job of Tidal's; all that is derived from its object and the policy alone."""

    id: str
    queue: str
    said: Declared
    pods: int
    gpus_per_pod: int
    part: Part | None
    """Of one GPU, which each pod asks."""
    cpu_milli: int
    """Of each pod, as `memory_mib`."""
    memory_mib: int
    gpu_models: tuple[str, ...]
    terms: NodeTerms
    """Beyond the GPU models."""
    suspended: bool
    created_seconds: float
    started_seconds: float | None
    priority: int | None
    priority_class: str
    labels: dict[str, str]
    annotations: dict[str, str]


def is_ours(job: objects.Job) -> bool:
    """Return whether the Job is handed to Tidal, and not finished."""
    ended = any(
        one.type in ("Complete", "Failed") and one.status == "True" for one in job.status.conditions
    )
    return bool(job.metadata.labels.get(marks.QUEUE)) and not ended


def asked(job: objects.Job) -> int:
    """Return how many pods the Job's controller keeps: no more than completions are missing."""
    spec = job.spec
    if spec.completions is None:
        return spec.parallelism
    return min(spec.parallelism, max(1, spec.completions - job.status.succeeded))


def facts_of(job: objects.Job, rules: Kubernetes) -> JobFacts | None:
    """Return the facts, or None for a Job that is not Tidal's or has nothing to place."""
    if not is_ours(job):
        return None
    meta, spec, template = job.metadata, job.spec, job.spec.template.spec
    resource, gpus = gpus_of(template, rules.gpu_resources)
    said = declared(job)
    if gpus == 0 or spec.parallelism < 1:
        return None
    cpu_milli, memory_mib = cpu_and_memory(template)
    return JobFacts(
        id=f"{meta.namespace}/{meta.name}",
        queue=meta.labels[marks.QUEUE],
        said=said,
        pods=asked(job),
        gpus_per_pod=gpus,
        part=part_asked(template, resource),
        cpu_milli=cpu_milli,
        memory_mib=memory_mib,
        gpu_models=_models(template, said, rules),
        terms=node_terms(template, rules.gpu_model_labels),
        suspended=spec.suspend,
        created_seconds=time_of(meta.creation_timestamp) or 0.0,
        started_seconds=time_of(job.status.start_time),
        priority=template.priority,
        priority_class=template.priority_class_name,
        labels=meta.labels,
        annotations=meta.annotations,
    )


def job_of(
    facts: JobFacts, pods: Sequence[PodFacts], placed: tuple[Pod, ...], around: Around
) -> Job:
    """Return the job; `pods` are its pods that are not over, `placed` the same as values.

    Without pods nobody hears a notice, as when all have ended and the Job has yet to say so.
    """
    said = facts.said
    started = _started(facts, pods)
    deadline = _deadline(facts, started) if pods else None
    state = _state(facts, pods, deadline)
    kept = _kept(facts, pods)
    newest = _checkpoint(said, pods, around.now_seconds)
    gpus, share = per_pod(facts.gpus_per_pod, facts.part, around.card_memory_mib)
    return Job(
        id=facts.id,
        tenant=said.tenant,
        queue=facts.queue,
        priority=_weight(facts, around.priorities),
        state=state,
        pods=facts.pods,
        gpus_per_pod=gpus,
        share_per_pod=share,
        cpu_milli_per_pod=facts.cpu_milli,
        memory_mib_per_pod=facts.memory_mib,
        min_pods=min(said.min_pods, facts.pods),
        max_pods=said.max_pods if said.max_pods != said.min_pods else facts.pods,
        gpu_models=facts.gpu_models,
        shut=dict(around.shut.get(facts.terms, {})),
        submitted_seconds=facts.created_seconds,
        started_seconds=started,
        attempt=said.attempt,
        expected_remaining_seconds=_remaining(said, started, around.now_seconds),
        last_checkpoint_seconds=newest,
        checkpoint_started_seconds=_writing(said, pods, newest, around.now_seconds),
        checkpoint_interval_seconds=said.checkpoint_interval_seconds,
        checkpoint_write_seconds=said.checkpoint_write_seconds,
        restart_seconds=said.restart_seconds,
        preemptible=not kept,
        opt_out=kept,
        held_by=around.blocked.get(facts.id) or budgets.forbidden(pods, around.budgets),
        stops=said.stops,
        notice_deadline_seconds=deadline,
        notice_for="" if deadline is None else facts.annotations.get(marks.NOTICE_FOR, ""),
        placed=placed,
    )


def _models(template: objects.PodSpec, said: Declared, rules: Kubernetes) -> tuple[str, ...]:
    """A node selector on the GPU model's label decides, since kube-scheduler obeys it."""
    selected = inventory.gpu_model(template.node_selector or {}, rules)
    return (selected,) if selected else said.gpu_models


def _started(facts: JobFacts, pods: Sequence[PodFacts]) -> float | None:
    """Suspending clears the Job's start; what still runs then started when it was bound."""
    if not facts.suspended:
        return facts.started_seconds
    return min((pod.bound_seconds for pod in pods if pod.bound_seconds is not None), default=None)


def _deadline(facts: JobFacts, started: float | None) -> float | None:
    """Return the notice of this run; one that ended before the run began was an earlier run's."""
    deadline = facts.said.notice_deadline_seconds
    if facts.suspended or deadline is None or (started is not None and deadline < started):
        return None
    return deadline


def _state(facts: JobFacts, pods: Sequence[PodFacts], deadline: float | None) -> State:
    if facts.suspended:
        return "stopping" if pods else "queued"
    if deadline is not None:
        told = (facts.annotations, *(pod.annotations for pod in pods))
        done = any(acknowledges(one, deadline) for one in told)
        return "acknowledged" if done else "notified"
    up = sum(1 for pod in pods if pod.node and pod.running and not pod.terminating)
    return "running" if up >= facts.pods else "starting"


def _kept(facts: JobFacts, pods: Sequence[PodFacts]) -> str:
    """Return why the owner keeps it from being stopped; empty where he does not."""
    if facts.said.class_ == "protected":
        return f"annotation {marks.CLASS} is protected"
    own = ((facts.labels, facts.annotations),)
    return opt_out((*own, *((pod.labels, pod.annotations) for pod in pods)))


def _weight(facts: JobFacts, priorities: Mapping[str, int]) -> int:
    """Return the priority as the planner's weight: 1 to 10,000, whatever is below counts as 1."""
    given = facts.priority
    if given is None:
        given = priorities.get(facts.priority_class, priorities.get("", 0))
    return min(max(given, 1), MOST_WEIGHT)


def _remaining(said: Declared, started: float | None, now_seconds: float) -> float:
    if said.expected_seconds is None:
        return EXPECTED_SECONDS
    run = 0.0 if started is None else max(0.0, now_seconds - started)
    return max(said.expected_seconds - run, min(said.expected_seconds, LEAST_REMAINING_SECONDS))


def _checkpoint(said: Declared, pods: Sequence[PodFacts], now_seconds: float) -> float | None:
    if said.class_ == "killable":
        return None
    telling = (pod.annotations for pod in pods if marks.LAST_CHECKPOINT in pod.annotations)
    told = (said.last_checkpoint_seconds, *(last_checkpoint("", one)[0] for one in telling))
    known = [min(one, now_seconds) for one in told if one is not None]
    return max(known, default=None)


def _writing(
    said: Declared, pods: Sequence[PodFacts], newest: float | None, now_seconds: float
) -> float | None:
    """Return since when it writes a checkpoint that is not complete; None where none is told."""
    if said.class_ == "killable":
        return None
    told = (said.checkpoint_started_seconds, *(checkpoint_started(p.annotations) for p in pods))
    since = max((min(one, now_seconds) for one in told if one is not None), default=None)
    return None if since is None or (newest is not None and newest >= since) else since
