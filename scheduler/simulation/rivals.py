"""Rivals as tactics: what a cluster without Tidal would decide, in the same frame.

A rival sizes in its own way, ranks victims as kube-scheduler does (lowest priority, then the
newest), gives no notice, and lends without looking at the forecast. Reservations, packing and
actions are the shared frame, so a comparison shows these decisions and nothing else.
"""

from collections.abc import Mapping
from functools import partial
from math import ceil

import msgspec

from binpacking.problem import BatchRequest, Gang, Shape
from scheduler.planning.actions import Plan, Reason, Sizing
from scheduler.planning.holdings import Holding
from scheduler.planning.memory import Memory
from scheduler.planning.placing import running
from scheduler.planning.planner import plan_with
from scheduler.planning.policy import Policy
from scheduler.planning.situation import Haste, Offer, Situation, Tactics, Victims
from scheduler.planning.sizing import votes_within
from scheduler.planning.snapshot import RoleSignal, Snapshot
from scheduler.ports import Planner

STATIC_SHARES = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
HPA_TARGETS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
HPA_TOLERANCE = 0.1
HPA_STABILIZATION_SECONDS = 300.0
HPA_MAX_GROWTH = 2.0
"""Default `scaleUp`: at most double, or 4 pods more, in 15 s."""
HPA_MAX_PODS_MILLI = 4000
PRIORITY_WEIGHT = 10**7
"""Above any age in seconds, so that priority decides first."""


def static(counts_milli: Mapping[str, int]) -> Planner:
    """Return a planner that holds the same count per role for ever."""
    return _planner(partial(_static_sizes, dict(counts_milli)))


def hpa(target_utilisation: float) -> Planner:
    """Return the HPA's algorithm with default behaviour on utilisation of capacity."""
    return _planner(partial(_hpa_sizes, target_utilisation))


def _planner(size: partial[tuple[Sizing, ...]]) -> Planner:
    tactics = Tactics(
        size=size,
        haste=lambda *_: Haste(notice_seconds=0.0),
        victims=priority_victims,
        offers=offers_by_priority,
    )

    def planner(
        snapshot: Snapshot, memory: Memory, policy: Policy, effort: str
    ) -> tuple[Plan, Memory]:
        return plan_with(tactics, snapshot, memory, policy, "heuristic")

    return planner


def _static_sizes(counts_milli: dict[str, int], situation: Situation) -> tuple[Sizing, ...]:
    return tuple(
        _sizing(holding, counts_milli.get(holding.role, 0), "static: a fixed count")
        for holding in situation.held
    )


def _hpa_sizes(target: float, situation: Situation) -> tuple[Sizing, ...]:
    return tuple(_hpa_size(target, situation, holding) for holding in situation.held)


def _hpa_size(target: float, situation: Situation, holding: Holding) -> Sizing:
    """Apply the documented rule: ceil(ready x utilisation / target), tolerance, windows."""
    signal = next((s for s in situation.snapshot.signals if s.role == holding.role), None)
    profile = situation.policy.role(holding.role)
    least = 1000 * (profile.min_replicas if profile else 1)
    current = holding.covered_milli
    asked = _hpa_wanted(target, holding, signal)
    growth = max(HPA_MAX_GROWTH * current, current + HPA_MAX_PODS_MILLI, least)
    asked = max(least, ceil(min(asked, growth)))
    sizing = _sizing(holding, asked, f"hpa: utilisation target {target:.0%}")
    votes = votes_within(situation.memory, holding.role, situation.now - HPA_STABILIZATION_SECONDS)
    highest = min(current, max((vote.wanted_milli for vote in votes), default=asked))
    if highest <= asked:
        return sizing
    reason = Reason("stabilise", asked, highest, "highest count in the window")
    return msgspec.structs.replace(sizing, wanted_milli=highest, reasons=(*sizing.reasons, reason))


def _hpa_wanted(target: float, holding: Holding, signal: RoleSignal | None) -> float:
    current = holding.covered_milli
    if signal is None or signal.status in ("stale", "absent"):
        return current
    reference = next(iter(holding.capacity.values()))
    load_milli = 1000 * signal.arrived_tokens_per_second / reference
    if holding.ready_milli and abs(load_milli / holding.ready_milli / target - 1) <= HPA_TOLERANCE:
        return max(current, holding.ready_milli)
    return load_milli / target


def _sizing(holding: Holding, wanted_milli: int, sentence: str) -> Sizing:
    reference = next(iter(holding.capacity.values()))
    return Sizing(
        role=holding.role,
        tokens_per_second=wanted_milli * reference / 1000,
        replica_tokens_per_second=reference,
        held_milli=holding.covered_milli,
        wanted_milli=wanted_milli,
        reasons=(Reason("replicas", holding.covered_milli, wanted_milli, sentence),),
    )


def priority_victims(situation: Situation, haste: Haste) -> Victims:
    """Return every preemptible job, dearer the higher its priority and the longer it runs."""
    whole = [
        msgspec.structs.replace(one, least_pods=0)
        for one in running(situation.snapshot)
        if one.parts and not one.opted_out
    ]
    gangs = (
        Gang(
            key=one.key,
            parts=tuple(sorted(one.parts)),
            cost=one.gpus
            * (one.priority * PRIORITY_WEIGHT + int(situation.now - one.started_seconds)),
        )
        for one in whole
    )
    return Victims(tuple(gangs), claimants=tuple(whole))


def offers_by_priority(situation: Situation) -> tuple[Offer, ...]:
    """Return the first waiting jobs by priority and age, each worth priority x GPUs."""
    waiting = sorted(
        (job for job in situation.snapshot.jobs if job.state == "queued"),
        key=lambda job: (-job.priority, job.submitted_seconds, job.id),
    )
    horizon = situation.policy.lending.horizon_seconds
    return tuple(
        Offer(
            job,
            situation.now + horizon,
            BatchRequest(
                key=job.id,
                shape=Shape(job.pods, job.gpus_per_pod),
                gpu_models=job.gpu_models,
                value=job.priority * job.gpus,
            ),
        )
        for job in waiting[: situation.policy.lending.candidates]
    )
