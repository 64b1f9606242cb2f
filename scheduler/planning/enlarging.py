"""Elastic jobs that have fewer pods than they may get some back, on GPUs no waiting job can use.

After lending, before consolidation. A job grows within its bounds, in its own leaf, and only where
that pays: the terms on which the missing pods would start if they were a waiting job leave
them the GPUs for longer than a resumed job is protected, and what they do by then is more than
what the gang loses by forming anew, now and when it is shrunk again. A job that was told to give
way within that time is left alone, so that none is grown and shrunk in turn. While waiting jobs
want whole nodes of a GPU model, its holes are left to `consolidating`: a hole that is filled can
take no job that moves off such a node. A job whose pods share cards stays as it is.
"""

from collections import Counter
from collections.abc import Collection

import msgspec

from binpacking.problem import BatchRequest, Placed
from scheduler.planning import placing, supply
from scheduler.planning.actions import Action, ResizeJob, ScaleRole, StartJob
from scheduler.planning.consolidating import wanted_nodes
from scheduler.planning.lendout import Lent
from scheduler.planning.situation import Offer, Situation, Tactics
from scheduler.planning.snapshot import Job, Reservation

SETTLED_SECONDS = 300.0
"""A change to a gang is not followed by another sooner, whatever the policy protects."""


class Enlarged(msgspec.Struct, frozen=True):
    """Jobs that grow, the places of their new pods, and what stays empty then."""

    actions: tuple[ResizeJob, ...]
    reservations: tuple[Reservation, ...]
    free_by_node: dict[str, int]


def enlarge(
    situation: Situation, lent: Lent, tactics: Tactics, actions: tuple[Action, ...]
) -> Enlarged:
    """Give pods back, the job that waiting would be first offered first."""
    nothing = Enlarged((), (), lent.free_by_node)
    lacking = _lacking(situation, lent, actions) if lent.free_by_node else {}
    if not lacking:
        return nothing
    jobs = {job.id: job for job in situation.snapshot.jobs}
    grown: list[ResizeJob] = []
    places: tuple[Reservation, ...] = ()
    left = Counter(lent.free_by_node)
    for offer in tactics.offers(_as_if_waiting(situation, lacking, actions)):
        job = jobs[offer.job.id]
        if not _pays(situation, job, offer, offer.job.pods):
            continue
        reserved = (*situation.reserved, *lent.reservations, *places)
        parts = _seats(situation, reserved, job, offer.job.pods)
        if parts and _pays(situation, job, offer, len(parts)):
            grown.append(_more(situation, job, offer, len(parts)))
            places += placing.reservations(situation, (Placed(job.id, parts),), "more pods of")
            for node, gpus in parts:
                left[node] -= gpus
    return Enlarged(tuple(grown), places, {node: n for node, n in left.items() if n > 0})


def _lacking(situation: Situation, lent: Lent, actions: tuple[Action, ...]) -> dict[str, int]:
    """Return the jobs that may grow, and by how many pods at most."""
    touched = {one.job for one in actions if not isinstance(one, ScaleRole)}
    touched |= {one.owner for one in (*situation.reserved, *lent.reservations)}
    touched |= situation.told.keys()
    since = situation.now - _settled_seconds(situation)
    touched |= {stop.job for stop in situation.memory.stops if stop.at_seconds > since}
    wanted = wanted_nodes(situation, touched)
    found = {}
    for job in situation.snapshot.jobs:
        there = len(job.staying)
        whole = job.state == "running" and there == len(job.placed) > 0
        settled = job.started_seconds is not None and job.started_seconds <= since
        calm = settled and job.checkpoint_started_seconds is None and supply.releasable(job)
        may = job.max_pods > there and job.gpus_per_pod > 0 and job.id not in touched
        if whole and calm and may:
            room = _room(situation, lent, job, wanted)
            if room:
                found[job.id] = min(job.max_pods - there, room)
    return found


def _room(situation: Situation, lent: Lent, job: Job, wanted: Collection[str]) -> int:
    """Return how many more of its pods the GPUs that stay empty in its leaf would hold.

    `wanted`: varieties of nodes of which whole ones are.
    """
    leaves = {node.name: node.packing_leaf for node in situation.snapshot.nodes}
    home = leaves.get(job.staying[0].node, ("",))
    free = (gpus for node, gpus in lent.free_by_node.items() if leaves[node] == home)
    return 0 if home[-1] in wanted else sum(gpus // job.gpus_per_pod for gpus in free)


def _settled_seconds(situation: Situation) -> float:
    return max(SETTLED_SECONDS, situation.policy.preemption.protected_seconds)


def _as_if_waiting(
    situation: Situation, lacking: dict[str, int], actions: tuple[Action, ...]
) -> Situation:
    """Return the situation in which the missing pods wait, and jobs started just now run."""
    started = {one.job for one in actions if isinstance(one, StartJob)}
    jobs: list[Job] = []
    for job in situation.snapshot.jobs:
        if job.id in started:
            jobs.append(msgspec.structs.replace(job, state="starting"))
        elif job.state != "queued":
            jobs.append(job)
        if job.id in lacking:
            more = {"state": "queued", "pods": lacking[job.id], "placed": ()}
            jobs.append(msgspec.structs.replace(job, **more))
    snapshot = msgspec.structs.replace(situation.snapshot, jobs=tuple(jobs))
    return msgspec.structs.replace(situation, snapshot=snapshot)


def _pays(situation: Situation, job: Job, offer: Offer, pods: int) -> bool:
    lasts = offer.return_by_seconds - situation.now
    useful = min(lasts, job.expected_remaining_seconds) - job.restart_seconds
    lost = 2 * job.restart_seconds * len(job.staying)
    return lasts >= _settled_seconds(situation) and pods * useful > lost


def _seats(
    situation: Situation, reserved: tuple[Reservation, ...], job: Job, pods: int
) -> tuple[tuple[str, int], ...]:
    """Return places for as many of the pods as the job's leaf has room for."""
    keep = situation.policy.lending.reserve_gpus
    free = supply.batch_supplies(situation.snapshot, reserved, keep)
    home = next(one.leaf for one in free if one.node == job.staying[0].node)
    shape = placing.shape_of(job, 1)
    asked = tuple(
        BatchRequest(key=f"{job.id} {number:04}", shape=shape, gpu_models=(), value=1)
        for number in range(pods)
    )
    here = tuple(one for one in free if one.leaf == home)
    effort = placing.effort_of("heuristic", situation.policy)
    packing, _ = placing.pack_batch(here, asked, situation, effort)
    return tuple(sorted(part for one in packing.batch for part in one.parts))


def _more(situation: Situation, job: Job, offer: Offer, pods: int) -> ResizeJob:
    there = len(job.staying)
    lasts = offer.return_by_seconds - situation.now
    return ResizeJob(
        job=job.id,
        expected_attempt=job.attempt,
        pods=there + pods,
        release=(),
        for_role="",
        code="grow",
        sentence=f"{pods * job.gpus_per_pod} GPUs lent again to {job.id}: it runs on with "
        f"{there + pods} pods instead of {there}; the tide leaves them for {lasts / 60:.0f} min",
    )
