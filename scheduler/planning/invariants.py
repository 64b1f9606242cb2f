"""What must never break, stated once; the simulator, the tests and the daemon check this list.

Each rule takes a snapshot (or a snapshot and the plan made from it) and returns one sentence
for each breach. Rules look at observed facts only, not at how a plan was found.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from binpacking.inventory import WHOLE_GPU_MILLI
from scheduler.planning.actions import NotifyJob, Plan, ResizeJob, ScaleRole, StartJob, StopJob
from scheduler.planning.snapshot import Job, Replica, Snapshot, amount

HOLDING_STATES = ("starting", "running", "notified", "acknowledged", "stopping")


def broken(snapshot: Snapshot) -> tuple[str, ...]:
    """Return a sentence for every breach in the world as observed."""
    return tuple(line for rule in WORLD_RULES for line in rule(snapshot))


def broken_by(snapshot: Snapshot, plan: Plan) -> tuple[str, ...]:
    """Return a sentence for every breach that the plan would cause."""
    return tuple(line for rule in PLAN_RULES for line in rule(snapshot, plan))


def devices_not_shared_beyond_whole(snapshot: Snapshot) -> Iterator[str]:
    """No device is held by more than one whole GPU in all, nor more than all its memory."""
    for node in snapshot.nodes:
        for device in node.devices:
            if not device.holders:
                continue
            held = sum(holder.milli_gpu for holder in device.holders)
            if held > WHOLE_GPU_MILLI:
                yield f"device {node.name}/{device.index} is held by {held} milli-GPU"
            memory = sum(holder.memory_mib for holder in device.holders)
            if memory > device.memory_mib > 0:
                yield f"device {node.name}/{device.index} is held by {memory} MiB"


def ids_unique(snapshot: Snapshot) -> Iterator[str]:
    """Node names, replica ids, job ids and reservation ids occur once."""
    kinds = {
        "node": [node.name for node in snapshot.nodes],
        "replica": [replica.id for replica in snapshot.replicas],
        "job": [job.id for job in snapshot.jobs],
        "reservation": [reservation.id for reservation in snapshot.reservations],
    }
    for kind, names in kinds.items():
        if len(set(names)) == len(names):
            continue
        for name, count in Counter(names).items():
            if count > 1:
                yield f"{kind} {name} occurs {count} times"


def gangs_under_one_leaf(snapshot: Snapshot) -> Iterator[str]:
    """All pods of a replica, and of a job, are under one leaf switch."""
    leaves = {node.name: node.leaf for node in snapshot.nodes}
    holders: list[Replica | Job] = [*snapshot.replicas, *snapshot.jobs]
    for holder in holders:
        pods = holder.pods if isinstance(holder, Replica) else holder.placed
        found = {leaves[pod.node] for pod in pods if pod.node in leaves}
        if len(found) > 1:
            yield f"{holder.id} is spread over {len(found)} leaf switches"


def queued_jobs_hold_nothing(snapshot: Snapshot) -> Iterator[str]:
    """A job that waits holds no GPU; one that runs holds some.

    One that starts may have no pod yet: its controller makes them after it was resumed.
    """
    for job in snapshot.jobs:
        if job.state == "queued" and job.placed:
            yield f"job {job.id} is queued and holds {len(job.placed)} pods"
        if job.state in HOLDING_STATES and job.state != "starting" and not job.placed:
            yield f"job {job.id} is {job.state} without pods"


def loans_belong_to_running_jobs(snapshot: Snapshot) -> Iterator[str]:
    """Every loan names a job that holds GPUs."""
    running = {job.id for job in snapshot.jobs if job.state in HOLDING_STATES}
    for loan in snapshot.loans:
        if loan.job not in running:
            yield f"loan {loan.id} names {loan.job}, which does not run"


def one_action_per_target(snapshot: Snapshot, plan: Plan) -> Iterator[str]:
    """A plan has at most one action for each role and for each job."""
    targets = Counter(
        action.role if isinstance(action, ScaleRole) else action.job for action in plan.actions
    )
    for target, count in sorted(targets.items()):
        if count > 1:
            yield f"plan acts {count} times on {target}"


def actions_fit_the_world(snapshot: Snapshot, plan: Plan) -> Iterator[str]:
    """Stops name running preemptible jobs, starts waiting ones, each at its present attempt."""
    jobs = {job.id: job for job in snapshot.jobs}
    for action in plan.actions:
        if isinstance(action, ScaleRole):
            continue
        job = jobs.get(action.job)
        if job is None:
            yield f"plan names job {action.job}, which does not exist"
        elif action.expected_attempt != job.attempt:
            yield f"plan expects attempt {action.expected_attempt} of {job.id}"
        elif isinstance(action, StartJob) and job.state != "queued":
            yield f"plan starts {job.id}, which is {job.state}"
        elif isinstance(action, (StopJob, NotifyJob, ResizeJob)) and not job.preemptible:
            yield f"plan disturbs {job.id}, which has opted out"


def reservations_fit(snapshot: Snapshot, plan: Plan) -> Iterator[str]:
    """On no node are more GPUs reserved than it has healthy ones, parts of cards included."""
    healthy = {node.name: sum(d.healthy for d in node.devices) for node in snapshot.nodes}
    reserved: Counter[str] = Counter()
    for reservation in plan.reservations:
        for node, gpus in reservation.parts:
            reserved[node] += gpus * WHOLE_GPU_MILLI + reservation.share.milli
    for node, milli in sorted(reserved.items()):
        if milli > healthy.get(node, 0) * WHOLE_GPU_MILLI:
            yield f"{amount(milli)} reserved on {node}, which has {healthy.get(node, 0)}"


def places_are_open(snapshot: Snapshot, plan: Plan) -> Iterator[str]:
    """No place is on a node that does not take its owner's pods."""
    sections = {node.name: node.section for node in snapshot.nodes}
    shut = {role.key: role.shut for role in snapshot.roles}
    shut |= {job.id: job.shut for job in snapshot.jobs}
    for reservation in plan.reservations:
        for node, _ in reservation.parts:
            if sections.get(node, "") in shut.get(reservation.owner, {}):
                yield f"{node} is planned for {reservation.owner}, whose pods it does not take"


WORLD_RULES: tuple[Callable[[Snapshot], Iterator[str]], ...] = (
    devices_not_shared_beyond_whole,
    ids_unique,
    gangs_under_one_leaf,
    queued_jobs_hold_nothing,
    loans_belong_to_running_jobs,
)
PLAN_RULES: tuple[Callable[[Snapshot, Plan], Iterator[str]], ...] = (
    one_action_per_target,
    actions_fit_the_world,
    reservations_fit,
    places_are_open,
)
