"""Is all well, and where does every GPU go: the first thing a person looks at.

`allocated_utilisation` counts GPUs that a pod holds, whatever they do; a role's `utilisation` is
served work over measured capacity. Neither is read from DCGM.
"""

from collections import Counter
from collections.abc import Iterator

from binpacking.inventory import Device, Node
from scheduler.daemon.documents.actions import action_lines, desired_replicas
from scheduler.daemon.documents.fragments import fragment_lines, price_lines
from scheduler.daemon.documents.shapes import (
    ALLOCATION_NOTE,
    BatchLine,
    Facts,
    FleetGpus,
    RoleLine,
    Status,
)
from scheduler.planning.cards import left_of, shared_devices
from scheduler.planning.holdings import Holding, holdings
from scheduler.planning.policy import Policy
from scheduler.planning.slots import open_slots
from scheduler.planning.snapshot import Role, Snapshot
from scheduler.planning.standing import Bind
from scheduler.ports import Tick


def status(tick: Tick, facts: Facts) -> Status:
    """Return `tidal.status/1`."""
    snapshot, planned = tick.snapshot, tick.plan
    policy = Policy.model_validate_json(tick.policy)
    gpus = fleet_gpus(tick)
    shared = [left_of(one) for node in snapshot.nodes for one in shared_devices(node)]
    full = facts.full_plan_seconds
    return Status(
        tick=tick.number,
        now_seconds=snapshot.now_seconds,
        mode=policy.mode,
        plan_source=planned.source,
        plan_age_seconds=facts.age_seconds,
        full_plan_age_seconds=None if full is None else snapshot.now_seconds - full,
        summary=planned.summary,
        gpus=gpus,
        shared_gpus=len(shared),
        shared_idle_milli_gpus=sum(left.milli for left in shared),
        allocated_utilisation=_allocated(snapshot),
        allocated_utilisation_note=ALLOCATION_NOTE,
        roles=_roles(tick, policy),
        batch=_batch(tick, gpus.lent),
        actions=action_lines(tick),
        violations=tick.violations,
        policy_errors=facts.policy_errors,
        extender_port=facts.extender_port,
        worker_failures=facts.worker_failures,
        leads=facts.leads,
        leadership=facts.leadership,
        problems=facts.problems,
        gpu_use=facts.gpu_use,
        fragments=fragment_lines(tick),
        prices=price_lines(tick),
    )


def fleet_gpus(tick: Tick) -> FleetGpus:
    """Return every GPU in exactly one place; a shared device counts for its first holder."""
    snapshot = tick.snapshot
    jobs = {job.id for job in snapshot.jobs}
    replicas = {replica.id for replica in snapshot.replicas}
    places = Counter(
        _place(node, device, jobs, replicas) for node in snapshot.nodes for device in node.devices
    )
    reserved = _reserved_free(tick)
    return FleetGpus(
        total=places.total(),
        online=places["online"],
        lent=places["lent"],
        other=places["other"],
        reserved=reserved,
        free=places["free"] - reserved,
        unhealthy=places["unhealthy"],
        closed=places["closed"],
    )


def _place(node: Node, device: Device, jobs: set[str], replicas: set[str]) -> str:
    if device.holders:
        owner = device.holders[0].owner
        return "lent" if owner in jobs else "online" if owner in replicas else "other"
    if not device.healthy:
        return "unhealthy"
    return "free" if node.schedulable else "closed"


def _reserved_free(tick: Tick) -> int:
    """Count free GPUs under reserved parts that no pod has filled."""
    snapshot = tick.snapshot
    owners = {reservation.owner for reservation in tick.plan.reservations}
    waiting: Counter[str] = Counter()
    binds = tuple(_binds(snapshot, owners))
    for slot in open_slots(tick.plan.reservations, binds, snapshot.now_seconds):
        waiting[slot.node] += slot.gpus
    return sum(min(node.free_gpus, waiting[node.name]) for node in snapshot.nodes)


def _binds(snapshot: Snapshot, owners: set[str]) -> Iterator[Bind]:
    """Yield the bound pods of owners that have reservations; of unknown age means old."""
    groups = [(r.role, r.id, r.pods) for r in snapshot.replicas if r.role in owners]
    groups += [(job.id, job.id, job.placed) for job in snapshot.jobs if job.id in owners]
    for owner, group, pods in groups:
        for pod in pods:
            if pod.node:
                yield Bind(pod.uid, owner, group, pod.node, pod.gpus, pod.bound_seconds or 0.0)


def _allocated(snapshot: Snapshot) -> float | None:
    devices = [device for node in snapshot.nodes if node.ready for device in node.devices]
    return sum(bool(device.holders) for device in devices) / len(devices) if devices else None


def _roles(tick: Tick, policy: Policy) -> tuple[RoleLine, ...]:
    held = holdings(tick.snapshot, tick.memory_after, policy, tick.plan.reservations)
    known = {holding.role: holding for holding in held}
    ordered = sorted(tick.snapshot.roles, key=lambda role: role.key)
    return tuple(_role(tick, role, known.get(role.key)) for role in ordered)


def _role(tick: Tick, role: Role, held: Holding | None) -> RoleLine:
    states = Counter(r.state for r in tick.snapshot.replicas if r.role == role.key)
    signal = next((s for s in tick.snapshot.signals if s.role == role.key), None)
    seen = signal if signal and signal.status not in ("stale", "absent") else None
    lacking = sum(u.milli_replicas for u in tick.plan.unplaced if u.owner == role.key)
    return RoleLine(
        role=role.key,
        gpus_per_replica=role.pods_per_replica * role.gpus_per_pod,
        ready=states["ready"],
        starting=states["starting"],
        pending=states["pending"],
        draining=states["draining"],
        replicas=role.replicas,
        desired_replicas=desired_replicas(tick).get(role.key, role.replicas),
        wanted_milli=next((s.wanted_milli for s in tick.plan.sizings if s.role == role.key), None),
        lacking_milli=lacking,
        arriving_tokens_per_second=seen.arrived_tokens_per_second if seen else None,
        capacity_tokens_per_second=_ready_rate(held),
        utilisation=seen.utilisation if seen else None,
        late_share=seen.late_share if seen else None,
        metrics=signal.status if signal else "absent",
    )


def _ready_rate(held: Holding | None) -> float:
    if held is None:
        return 0.0
    return held.ready_milli * next(iter(held.capacity.values())) / 1000


def _batch(tick: Tick, lent_gpus: int) -> BatchLine:
    states = Counter(job.state for job in tick.snapshot.jobs)
    loans = tick.snapshot.loans
    return BatchLine(
        waiting=states["queued"],
        running=states["starting"] + states["running"],
        notified=states["notified"] + states["acknowledged"],
        stopping=states["stopping"],
        lent_gpus=lent_gpus,
        lendable_gpus=tick.plan.lendable_gpus,
        loans=len(loans),
        next_return_seconds=min((loan.return_by_seconds for loan in loans), default=None),
    )
