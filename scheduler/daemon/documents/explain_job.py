"""What concerns one job: on what terms it runs or waits, and whether it may be asked to go."""

from collections.abc import Iterator

import msgspec

from binpacking.problem import BatchRequest, Packing, Problem
from binpacking.shares import NO_SHARE
from preemption.victims import SURPLUS, gangs
from scheduler.daemon.documents.shapes import Fact
from scheduler.planning import admission, lending
from scheduler.planning.actions import StartJob
from scheduler.planning.placing import claimants
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Job, Role, amount
from scheduler.planning.supply import releasable
from scheduler.ports import Tick

NAMED = 3
"""So many names stand in a sentence."""


class JobTold(msgspec.Struct, frozen=True):
    """A job's part of an explanation."""

    sentence: str
    facts: tuple[Fact, ...]
    remarks: tuple[str, ...]


def explain_job(tick: Tick, job: Job) -> JobTold:
    """Return what is known of the job and why it runs, waits, or may not be stopped."""
    sentence = f"{job.id} of {job.tenant} is {job.state}, {job.amount} at priority {job.priority}"
    waits = job.state == "queued"
    remarks = _why_it_waits(tick, job) if waits else _may_it_be_stopped(tick, job)
    shut = admission.refusals(tick.snapshot, job)
    return JobTold(sentence, tuple(_facts(tick, job)), (*remarks, *shut))


def _facts(tick: Tick, job: Job) -> Iterator[Fact]:
    now = tick.snapshot.now_seconds
    yield Fact("tenant", job.tenant)
    yield Fact("queue", job.queue)
    yield Fact("pods", job.pods)
    yield Fact("gpus_per_pod", job.gpus_per_pod)
    yield from share_facts(job)
    yield Fact("attempt", job.attempt)
    yield Fact("expected_remaining_seconds", job.expected_remaining_seconds)
    if job.last_checkpoint_seconds is not None:
        yield Fact("checkpoint_age_seconds", now - job.last_checkpoint_seconds)
    for loan in tick.snapshot.loans:
        if loan.job == job.id:
            yield Fact("loan", loan.id)
            yield Fact("return_in_seconds", loan.return_by_seconds - now)


def share_facts(owner: Job | Role) -> Iterator[Fact]:
    """Yield what each pod asks of one card, where it asks that."""
    share = owner.share_per_pod
    if share != NO_SHARE:
        yield Fact("milli_gpu_per_pod", share.milli)
        yield Fact("card_memory_mib_per_pod", share.memory_mib)


def _why_it_waits(tick: Tick, job: Job) -> Iterator[str]:
    if any(isinstance(a, StartJob) and a.job == job.id for a in tick.plan.actions):
        return
    blind = lending.blind(tick.snapshot)
    if blind:
        yield f"waits: {blind}"
        return
    if admission.varieties(tick.snapshot).models(job) is None:
        yield "waits: no node takes its pods"
        return
    lendable = tick.plan.lendable_gpus
    if job.gpus > lendable:
        yield f"waits: it asks for {job.amount}, {lendable} were lendable"
        return
    asked = _offered(tick, job.id)
    if asked is None and job.share_per_pod != NO_SHARE and not lendable:
        yield f"waits: it asks for {job.amount}, no GPU was lendable and no shared card had room"
        return
    if asked is None:
        yield "waits: jobs of higher priority or greater age were looked at first"
        return
    each = amount(asked.shape.size_milli // asked.shape.pieces)
    shape = f"{asked.shape.pieces} pods of {each} under one leaf switch"
    yield f"waits: {shape} had no room, or other jobs there were worth more than its {asked.value}"


def _offered(tick: Tick, job: str) -> BatchRequest | None:
    """Return the job as the packer was asked about it, if it was."""
    for answer in tick.plan.answers:
        problem = msgspec.msgpack.decode(answer.problem, type=Problem)
        for request in problem.batch:
            if request.key == job:
                return request
    return None


def _may_it_be_stopped(tick: Tick, job: Job) -> Iterator[str]:
    if job.notice_deadline_seconds is not None:
        left = job.notice_deadline_seconds - tick.snapshot.now_seconds
        yield f"under notice for {job.notice_for or 'online'}: {left:.0f} s to its deadline"
        if not releasable(job):
            yield f"runs on past its deadline: {job.opt_out or job.held_by}"
    policy = Policy.model_validate_json(tick.policy)
    willing, refused = claimants(tick.snapshot, tick.memory_before, policy)
    yield from (f"may not be stopped: {r.sentence}" for r in refused if r.key == job.id)
    mine = [claimant for claimant in willing if claimant.key == job.id]
    notice = policy.preemption.notice_seconds
    for gang in gangs(mine, tick.snapshot.now_seconds, notice_seconds=notice):
        shrinks = gang.key.endswith(SURPLUS)
        verb = "may be shrunk" if shrinks else "may be asked to give way"
        terms = "" if shrinks else f" with {notice:.0f} s notice"
        yield f"{verb}: {gang.cost} priority-weighted GPU-seconds would be lost{terms}"
    if mine:
        yield from _was_it_chosen(tick, job)


def _was_it_chosen(tick: Tick, job: Job) -> Iterator[str]:
    """Why it is a victim of the plan, or why others are, as the packer was asked."""
    for answer in tick.plan.answers:
        problem = msgspec.msgpack.decode(answer.problem, type=Problem)
        packing = msgspec.msgpack.decode(answer.packing, type=Packing)
        costs = {gang.key: gang.cost for gang in problem.gangs}
        mine = {job.id, job.id + SURPLUS}
        if not mine & costs.keys():
            continue
        others = sorted(set(packing.killed) - mine)
        if mine & set(packing.killed):
            spent = sum(costs[key] for key in packing.killed)
            yield (
                f"chosen: with {len(others)} others it makes room at the least loss found, "
                f"{spent} in all of {len(costs)} candidates; without it the request has no place"
            )
        elif others:
            yield f"not chosen: {some(others)} make room at a loss of {packing.tiers.loss}"
        else:
            yield "not chosen: nobody had to give way in this plan"


def some(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(names[:NAMED])
    more = len(names) - NAMED
    return f"{shown} and {more} more" if more > 0 else shown
