"""From offers to loans: starts the waiting jobs that are worth most on what is free.

Last step of a plan. Every started job is a loan with a return-by time.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.problem import Placed
from scheduler.planning import lending, placing, supply
from scheduler.planning.actions import SolverAnswer, StartJob
from scheduler.planning.situation import Offer, Situation, Tactics
from scheduler.planning.snapshot import Loan, Reservation, Snapshot

START_SECONDS = 60.0
"""After this time a job that was started and is queued still is started again."""
DEFAULT_START_P99_SECONDS = 98.0
"""Until starts were measured; weights on local disk, `warm-pools.md` section 2."""


class Lent(msgspec.Struct, frozen=True):
    """Jobs started, their slots, and how much there was to lend."""

    actions: tuple[StartJob, ...]
    reservations: tuple[Reservation, ...]
    answer: SolverAnswer | None
    lendable_gpus: int
    free_by_node: dict[str, int]
    """GPUs that stay empty: too few together for any job that waits."""
    held_back: str = ""
    """Why nothing is lent, whatever is free; empty where that is not so."""


def lend(situation: Situation, tactics: Tactics) -> Lent:
    """Lend the free GPUs that nothing is reserved on; nothing while nobody knows the demand."""
    blind = lending.blind(situation.snapshot)
    if blind:
        return Lent((), (), None, 0, {}, blind)
    keep = situation.policy.lending.reserve_gpus
    supplies = supply.batch_supplies(situation.snapshot, situation.reserved, keep)
    lendable = sum(s.free for s in supplies)
    coming = {reservation.owner: reservation for reservation in situation.reserved}
    waits = any(job.state == "queued" and job.id in coming for job in situation.snapshot.jobs)
    if not waits and not any(s.free or s.cards for s in supplies):
        return Lent((), (), None, 0, {})
    offers = {offer.job.id: offer for offer in tactics.offers(situation)}
    requests = tuple(offer.request for key, offer in offers.items() if key not in coming)
    packing, answer = placing.pack_batch(supplies, requests, situation, situation.effort)
    promised = _promised_p99(situation.snapshot)
    again = [key for key in offers if key in coming and _overdue(coming[key], situation)]
    names = (*again, *(placed.key for placed in packing.batch))
    started = tuple(_start(offers[name], situation, promised) for name in names)
    slots = placing.reservations(situation, packing.batch, "job")
    left = Counter({s.node: s.free for s in supplies})
    left.subtract(_gpus_by_node(packing.batch, {s.node: len(s.cards) for s in supplies}))
    return Lent(started, slots, answer, lendable, {node: n for node, n in left.items() if n > 0})


def _overdue(reservation: Reservation, situation: Situation) -> bool:
    """Whether a job that has its place should be seen to run by now.

    A queued job with a place was started, and the cluster does not show it yet; or its start was
    refused. Until this is clear it is not started again, and then on the same GPUs.
    """
    made_seconds = reservation.expires_seconds - situation.policy.packing.reservation_seconds
    return situation.now - made_seconds >= START_SECONDS


def _gpus_by_node(batch: Iterable[Placed], shared: Mapping[str, int]) -> Counter[str]:
    """Count whole GPUs taken, cards that are opened for sharers among them.

    `shared`: cards of each node that were shared before.
    """
    counted: Counter[str] = Counter()
    opened = set[tuple[str, int]]()
    for placed in batch:
        for node, gpus in placed.parts:
            counted[node] += gpus
        parts = zip(placed.parts, placed.cards, strict=False)
        opened |= {(node, card) for (node, _), card in parts if card >= shared[node]}
    return counted + Counter(node for node, _ in opened)


def _start(offer: Offer, situation: Situation, promised_p99_seconds: float) -> StartJob:
    job = offer.job
    lasts = offer.return_by_seconds - situation.now
    loan = Loan(
        id=f"loan-{job.id}-{job.attempt + 1}",
        job=job.id,
        gpus=job.gpus,
        share_milli=job.milli_gpus - job.gpus * WHOLE_GPU_MILLI,
        granted_seconds=situation.now,
        return_by_seconds=offer.return_by_seconds,
        promised_p99_seconds=promised_p99_seconds,
    )
    return StartJob(
        job=job.id,
        expected_attempt=job.attempt,
        pods=job.pods,
        loan=loan,
        code="resume" if job.attempt else "lend",
        sentence=f"{job.amount} lent to {job.id}; the tide leaves them for {lasts / 60:.0f} min",
    )


def _promised_p99(snapshot: Snapshot) -> float:
    measured = [start.p99_seconds for start in snapshot.starts if start.samples]
    return max(measured, default=DEFAULT_START_P99_SECONDS)
