"""Whatever happens, in whatever order: what the planner promises, on random histories.

Capacity is never passed, a gang is never left half placed, nobody is told to go without a fit,
nobody goes in vain, no budget is passed in any hour, and nobody is disturbed twice in a run.
"""

from collections import Counter
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import settings

from scheduler.planning.actions import NotifyJob, Plan, ResizeJob, StopJob
from scheduler.planning.invariants import broken, broken_by
from scheduler.planning.planner import plan
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Job, Pod, Reservation, Snapshot
from tests.planning.books import HOUR, ROLE
from tests.planning.eventful import World

BLOCKS = 8 if settings.default.max_examples < 1000 else 200  # type: ignore[union-attr]
WORLDS_PER_BLOCK = 5
TICKS = 40
ENOUGH = 4
LAG_SECONDS = 30.0
STALLED_SECONDS = 1500.0
"""A gang that is not whole after this time was forgotten; the world's pauses are long."""

Asked = NotifyJob | StopJob | ResizeJob


@pytest.mark.parametrize("block", range(BLOCKS))
def test_promises_hold_whatever_happens(block: int) -> None:
    for seed in range(block * WORLDS_PER_BLOCK, (block + 1) * WORLDS_PER_BLOCK):
        world = World(seed)
        for number in range(TICKS):
            try:
                tick(world, number)
            except AssertionError as failure:
                raise AssertionError(f"world {seed}, tick {number}: {failure}") from failure
        budgets_held(world)


def tick(world: World, number: int) -> None:
    """One observation, plan and act; what was seen may be a tick old."""
    world.happen()
    now = world.snapshot()
    assert broken(now) == ()
    whole_in_time(world, now)
    late = world.now - world.before.now_seconds <= LAG_SECONDS and world.chance.random() < 0.2
    if not late and world.chance.random() < 0.05:
        world.taken_over()
    seen = msgspec.structs.replace(
        world.before,
        now_seconds=world.now,
        reservations=world.reservations,
        stops=world.stops,
    )
    snapshot = seen if late else now
    effort = "full" if number % 4 == 0 else "quick"
    told = just_told(world, snapshot)
    made, world.memory = plan(snapshot, world.memory, world.policy, effort)
    assert broken_by(snapshot, made) == ()
    asked = [action for action in made.actions if isinstance(action, Asked)]
    for action in asked:
        terms_kept(world, snapshot, action)
    room_for_all(snapshot, made, asked, told)
    apart_enough(world.policy, snapshot, made)
    world.before = now
    world.apply(made)


def job_of(snapshot: Snapshot, action: Asked) -> Job:
    return next(job for job in snapshot.jobs if job.id == action.job)


def is_end_of_notice(job: Job) -> bool:
    return job.state in ("notified", "acknowledged")


def terms_kept(world: World, snapshot: Snapshot, action: Asked) -> None:
    """Nobody who may not be asked is asked; a notice ends at its deadline or by word of the job."""
    job, rules = job_of(snapshot, action), world.policy.preemption
    assert job.preemptible, action
    assert not job.held_by, action
    if action.code == "grow":
        quiet = max(300.0, rules.protected_seconds)
        assert all(
            one.job != job.id or world.now - one.at_seconds >= quiet for one in world.disturbed
        ), ("shrunk and grown", action)
        return
    if is_end_of_notice(job):
        assert isinstance(action, StopJob), action
        assert job.notice_deadline_seconds is not None
        assert job.state == "acknowledged" or job.notice_deadline_seconds <= snapshot.now_seconds
        return
    if action.code == "stalled":
        assert job.state == "starting", action
        return
    assert job.state in ("starting", "running"), action
    assert job.started_seconds is not None
    ran = snapshot.now_seconds - job.started_seconds
    assert ran >= rules.minimum_runtime_seconds, action
    assert job.attempt < 2 or ran >= rules.protected_seconds, action
    if job.checkpoint_started_seconds is not None and not isinstance(action, NotifyJob):
        assert snapshot.now_seconds - job.checkpoint_started_seconds >= 600, action
    assert rules.online_priority is None or job.priority < rules.online_priority, action


def just_told(world: World, snapshot: Snapshot) -> dict[str, int]:
    """Jobs that were told within two minutes and do not show it, and with how many pods to go on.

    Their GPUs count as coming free; if the word got lost, somebody else goes after these minutes.
    """
    runs = {(j.id, j.attempt) for j in snapshot.jobs if j.state in ("starting", "running")}
    return {
        stop.job: stop.pods
        for stop in (*world.memory.stops, *snapshot.stops)
        if (stop.job, stop.attempt) in runs and world.now - stop.at_seconds < 120
    }


def room_for_all(snapshot: Snapshot, made: Plan, asked: list[Asked], told: dict[str, int]) -> None:
    """New places fit on what is free, comes free, and is asked for; and less would not do."""
    old = {reservation.id for reservation in snapshot.reservations}
    fresh = [one for one in made.reservations if one.id not in old]
    room = room_before(snapshot, [one for one in made.reservations if one.id in old], told)
    victims = [a for a in asked if a.for_role and not is_end_of_notice(job_of(snapshot, a))]
    for action in asked:
        if action in victims or (action.code == "stalled" and isinstance(action, StopJob)):
            give(room, freed(snapshot, action))
    online = [one for one in fresh if one.owner == ROLE]
    for reservation in online:
        give(room, [(node, -gpus) for node, gpus in reservation.parts])
    assert min(room.values()) >= 0, ("no fit", victims, online)
    for action in victims:
        nodes = dict.fromkeys(node for node, _ in freed(snapshot, action))
        assert any(node in nodes for one in online for node, _ in one.parts), ("in vain", action)
        without = dict(room)
        give(without, [(node, -gpus) for node, gpus in freed(snapshot, action)])
        assert min(without.values()) < 0, ("could be spared", action)
    more = {action.job: action for action in asked if action.code == "grow"}
    empty = {node.name: node.free_gpus for node in snapshot.nodes}
    for reservation in fresh:
        if reservation.owner != ROLE:
            give(empty, [(node, -gpus) for node, gpus in reservation.parts])
            whole_gang(snapshot, reservation.owner, reservation.parts, more)
    assert min(empty.values()) >= 0, "batch on GPUs that are not free"


def apart_enough(policy: Policy, snapshot: Snapshot, made: Plan) -> None:
    """Where new replicas go, no domain has more than half of all, rounded up.

    Of all that the plan would have where the GPUs sufficed; with one domain left, it takes all.
    """
    rules = policy.role(ROLE)
    if rules is None or rules.spread is None:
        return
    node = rules.spread.level == "node"
    domain = {one.name: one.name if node else one.switch_path for one in snapshot.nodes}
    able = {domain[n.name] for n in snapshot.nodes if n.schedulable and n.healthy_gpus > 1}
    there = [one.parts for one in snapshot.replicas if one.state != "draining" and one.parts]
    parts = [*there, *(one.parts for one in made.reservations if one.owner == ROLE)]
    held = Counter(domain[where] for some in parts for where, _ in some)
    total = len(parts) + sum(-(-one.milli_replicas // 1000) for one in made.unplaced)
    most = total if len(able) < 2 else -(-total // 2)
    old = {reservation.id for reservation in snapshot.reservations}
    for fresh in made.reservations:
        for name, _ in fresh.parts if fresh.owner == ROLE and fresh.id not in old else ():
            assert held[domain[name]] <= most, ("too many in one domain", name)


def room_before(
    snapshot: Snapshot, kept: list[Reservation], told: dict[str, int]
) -> dict[str, int]:
    """GPUs free or coming free by node, less those that older reservations keep."""
    room = {node.name: node.free_gpus if node.schedulable else 0 for node in snapshot.nodes}
    for replica in snapshot.replicas:
        if replica.state == "draining":
            give(room, usable(snapshot, replica.pods))
    for job in snapshot.jobs:
        free = job.preemptible and not job.held_by
        if job.state == "stopping" or (free and is_end_of_notice(job)):
            give(room, usable(snapshot, job.placed))
        else:
            give(room, usable(snapshot, [pod for pod in job.placed if pod.leaving]))
            if job.id in told and not is_end_of_notice(job):
                give(room, usable(snapshot, job.staying[told[job.id] :]))
    for reservation in kept:
        give(room, [(node, -gpus) for node, gpus in reservation.parts])
    return {node: max(0, gpus) for node, gpus in room.items()}


def give(room: dict[str, int], parts: list[tuple[str, int]]) -> None:
    for node, gpus in parts:
        room[node] += gpus


def freed(snapshot: Snapshot, action: Asked) -> list[tuple[str, int]]:
    job = job_of(snapshot, action)
    gone = job.staying
    if isinstance(action, ResizeJob):
        gone = tuple(pod for pod in gone if pod.name in action.release)
        assert gone == job.staying[action.pods :], "the last go"
        assert job.min_pods <= action.pods < len(job.staying), action
    return usable(snapshot, gone)


def usable(snapshot: Snapshot, pods: Iterable[Pod]) -> list[tuple[str, int]]:
    """GPUs of pods, less those on devices that broke."""
    sick = {
        (node.name, device.index)
        for node in snapshot.nodes
        for device in node.devices
        if not (device.healthy and node.schedulable)
    }
    return [
        (pod.node, sum((pod.node, index) not in sick for index in pod.devices))
        for pod in pods
        if pod.node
    ]


def whole_gang(
    snapshot: Snapshot, name: str, parts: tuple[tuple[str, int], ...], more: dict[str, Asked]
) -> None:
    """All pods of a job that starts, or those that a running one gets, under its leaf."""
    job = next(job for job in snapshot.jobs if job.id == name)
    grows = more.get(name)
    pods = grows.pods - len(job.staying) if isinstance(grows, ResizeJob) else job.pods
    everywhere = (*parts, *job.parts)
    leaves = {node.leaf for node in snapshot.nodes for part, _ in everywhere if node.name == part}
    assert [gpus for _, gpus in parts] == [job.gpus_per_pod] * pods, name
    assert len(leaves) == 1, name


def whole_in_time(world: World, snapshot: Snapshot) -> None:
    """No gang waits for its last pods for ever, unless its owner forbids to touch it."""
    for job in snapshot.jobs:
        waits = job.state == "starting" and job.preemptible and not job.held_by
        since = world.waiting.setdefault(job.id, world.now) if waits else world.now
        if not waits:
            world.waiting.pop(job.id, None)
        assert world.now - since < STALLED_SECONDS, ("half placed", job.id)


def budgets_held(world: World) -> None:
    """In every hour that ends with a disturbance; and once per run for each kind."""
    rules = world.policy.preemption
    for last in world.disturbed:
        window = [
            one
            for one in world.disturbed
            if last.at_seconds - HOUR < one.at_seconds <= last.at_seconds
        ]
        assert len(window) <= rules.stops_per_hour
        tenants = Counter(one.tenant for one in window)
        assert max(tenants.values()) <= rules.tenant_stops_per_hour
        jobs = Counter(one.job for one in window)
        assert max(jobs.values()) <= rules.job_stops_per_hour
    runs = Counter((one.job, one.attempt) for one in world.disturbed if one.kind != "shrink")
    assert max(runs.values(), default=0) <= 1, "told to go twice in a run"


def test_the_histories_have_something_to_promise() -> None:
    """Each kind of disturbance happens in some of the worlds above, and some job gets pods back."""
    kinds: Counter[str] = Counter()
    for seed in range(BLOCKS * WORLDS_PER_BLOCK):
        world = World(seed)
        for number in range(TICKS):
            tick(world, number)
        kinds.update(one.kind for one in world.disturbed)
        kinds["grow"] += world.grown
        enough = min(kinds[kind] for kind in ("notice", "stop", "shrink")) >= ENOUGH
        if enough and kinds["grow"]:
            return
    pytest.fail(f"only {kinds}")
