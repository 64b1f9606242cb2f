"""What users have written that Tidal cannot follow: sentences with object, field and fix.

Shown to people, never acted on; the snapshot already holds the safe meaning.
"""

from collections.abc import Iterable, Iterator

from scheduler.adapters.cluster import batchjobs, jobmarks
from scheduler.adapters.cluster.inventory import gpu_model
from scheduler.adapters.cluster.observed import Observed
from scheduler.adapters.cluster.overrides import moment
from scheduler.adapters.cluster.workloads import Scalers, Workload, workloads
from scheduler.apiserver import objects
from scheduler.apiserver.requests import gpus_of
from scheduler.planning import marks
from scheduler.planning.policy import Policy
from scheduler.planning.targets import JOB_NAME, Target


def complaints(observed: Observed, policy: Policy) -> tuple[str, ...]:
    """Return all of them, in order: roles by the policy, then Jobs and their pods by name."""
    jobs = sorted(
        (one for one in observed.jobs if batchjobs.is_ours(one)),
        key=lambda one: (one.metadata.namespace, one.metadata.name),
    )
    rules = policy.kubernetes
    return (
        *_roles(observed, policy),
        *_models(observed, policy),
        *_namesakes(jobs, policy),
        *(line for one in jobs for line in _job(one, rules.gpu_resources)),
        *_pods(jobs, observed.pods),
    )


def _roles(observed: Observed, policy: Policy) -> Iterator[str]:
    targets = dict(policy.targets())
    found = workloads(observed, targets.items(), policy.kubernetes.gpu_resources)
    scalers = Scalers(observed)
    for key, target in targets.items():
        model, _, role = key.partition("/")
        field = f"models.{model}.roles.{role}.target"
        workload = found.get(key)
        if workload is None:
            yield f"{field}: {_words(target)} does not exist; create it or mend the policy"
            continue
        if other := scalers.of(target):
            yield f"{field}: {other} scales {_words(target)} too; delete one of the two"
        yield from _marks(workload)


def _models(observed: Observed, policy: Policy) -> Iterator[str]:
    """Roles that no node can run, because each of their GPU models has another name there."""
    rules = policy.kubernetes
    there = sorted({gpu_model(one.metadata.labels, rules) for one in observed.nodes} - {""})
    for key, _ in policy.targets() if there else ():
        model, _, role = key.partition("/")
        wanted = policy.models[model].roles[role].capacity_tokens_per_second
        if not set(wanted) & set(there):
            field = f"models.{model}.roles.{role}.capacity_tokens_per_second"
            yield (
                f"{field}: no node has {' or '.join(wanted)}; nodes have {', '.join(there)}: "
                "use these names, or map them in kubernetes.gpu_models"
            )


def _namesakes(jobs: Iterable[objects.Job], policy: Policy) -> Iterator[str]:
    keys = {key for key, _ in policy.targets()}
    for one in jobs:
        if f"{one.metadata.namespace}/{one.metadata.name}" in keys:
            name = f"{one.metadata.namespace}/{one.metadata.name}"
            yield f"Job {name}: a role has the same name, so the Job is left out; rename it"


def _words(target: Target) -> str:
    words = f"{target.kind} {target.namespace}/{target.name}"
    return f"role {target.role} of {words}" if target.role else words


def _marks(workload: Workload) -> Iterator[str]:
    until = marks.OVERRIDE_UNTIL + workload.suffix
    given = workload.annotations.get(until)
    if given and moment(given) is None:
        yield (
            f"{workload.path}: annotation {until} is {given[:40]!r}: write an RFC 3339 time, "
            "such as 2026-11-21T09:30:00Z"
        )


def _job(job: objects.Job, resources: tuple[str, ...]) -> Iterator[str]:
    path = f"Job {job.metadata.namespace}/{job.metadata.name}"
    _, gpus = gpus_of(job.spec.template.spec, resources)
    if gpus == 0:
        yield f"{path}: no container asks for a GPU ({', '.join(resources)}); remove {marks.QUEUE}"
    if job.spec.parallelism < 1:
        yield f"{path}: spec.parallelism is 0, so it never starts; set it to 1 or more"
    yield from jobmarks.declared(job).complaints


def _pods(jobs: Iterable[objects.Job], pods: Iterable[objects.Pod]) -> Iterator[str]:
    """A pod's own annotations, where the pod belongs to one of the Jobs."""
    names = {(one.metadata.namespace, one.metadata.name) for one in jobs}
    told = {marks.LAST_CHECKPOINT, marks.CHECKPOINT_STARTED}
    telling = (one.metadata for one in pods if told & one.metadata.annotations.keys())
    for meta in sorted(telling, key=lambda one: (one.namespace, one.name)):
        if (meta.namespace, meta.labels.get(JOB_NAME, "")) in names:
            path = f"Pod {meta.namespace}/{meta.name}"
            yield from jobmarks.last_checkpoint(path, meta.annotations)[1]
