"""Which waiting jobs are worth starting on GPUs that the tide will want back, and until when.

Before packing batch. From the forecast's upper quantile follows how many GPUs online will need
within each lead time; what is left is the supply that lasts that long. A job that ends before
its GPUs are wanted keeps all its work; one that does not is worth what it will have saved.
"""

from math import ceil

import msgspec

from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.problem import BatchRequest
from scheduler.planning import placing
from scheduler.planning.admission import varieties
from scheduler.planning.beliefs import series_key
from scheduler.planning.holdings import Holding
from scheduler.planning.policy import Policy
from scheduler.planning.situation import Offer, Situation
from scheduler.planning.sizing import peak_of
from scheduler.planning.snapshot import Job, Snapshot


class Tide(msgspec.Struct, frozen=True):
    """How many GPUs batch may hold for at least so long."""

    leads_seconds: tuple[float, ...]
    lasting_gpus: tuple[int, ...]
    """Per lead: GPUs that the forecast leaves to batch over the whole lead; falls with it."""
    horizon_seconds: float


def tide(snapshot: Snapshot, policy: Policy, held: tuple[Holding, ...]) -> Tide:
    """Read off the forecast what lasts; without a forecast nothing is promised to last."""
    total = sum(len(node.devices) for node in snapshot.nodes if node.ready)
    forecasts = snapshot.forecasts
    if forecasts is None:
        return Tide((0.0,), (0,), policy.lending.horizon_seconds)
    leads = tuple(
        lead for lead in forecasts.leads_seconds if lead <= policy.lending.horizon_seconds
    )
    lasting = tuple(
        max(0, total - sum(_needed(snapshot, policy, holding, lead) for holding in held))
        for lead in leads
    )
    return Tide(leads, lasting, policy.lending.horizon_seconds)


def blind(snapshot: Snapshot) -> str:
    """Return why nothing may be lent: replicas serve, and no role of theirs has metrics.

    Roles are held at what they have then, and what they will want of the free GPUs is unknown. A
    role without ready replicas has nobody who could report, so its silence says nothing.
    """
    serving = {one.role for one in snapshot.replicas if one.state == "ready"}
    seen = {one.role for one in snapshot.signals if one.status not in ("stale", "absent")}
    if not serving or serving & seen:
        return ""
    return "the metrics of all roles that serve are missing: nothing more is lent"


def tidal_offers(situation: Situation) -> tuple[Offer, ...]:
    """Return terms read off the forecast for the first waiting jobs."""
    waters = tide(situation.snapshot, situation.policy, situation.held)
    return offers(situation.snapshot, situation.policy, waters)


def offers(snapshot: Snapshot, policy: Policy, waters: Tide) -> tuple[Offer, ...]:
    """Return terms for the first waiting jobs that some node takes, by priority and age."""
    there = varieties(snapshot)
    waiting = [job for job in snapshot.jobs if job.state == "queued"]
    waiting.sort(key=lambda job: (-job.priority, job.submitted_seconds, job.id))
    usable = ((job, there.models(job)) for job in waiting)
    able = [(job, models) for job, models in usable if models is not None]
    claims = _claims(snapshot, waters)
    return tuple(
        _offer(snapshot, policy, job, models, waters, claims)
        for job, models in able[: policy.lending.candidates]
    )


def _needed(snapshot: Snapshot, policy: Policy, holding: Holding, lead: float) -> int:
    """Return GPUs that a role needs within the lead; what it holds now if nothing is known."""
    target = holding.target
    each = target.gpus_per_pod * WHOLE_GPU_MILLI + target.share_per_pod.milli
    milli = target.pods_per_replica * each
    forecasts = snapshot.forecasts
    found = forecasts.series.get(series_key(policy, holding.role)) if forecasts else None
    if forecasts is None or found is None or found.status in ("stale", "absent"):
        return -(-ceil(holding.covered_milli / 1000) * milli // WHOLE_GPU_MILLI)
    peak = peak_of(
        found, forecasts.leads_seconds, forecasts.quantiles, lead, policy.lending.quantile
    )
    replicas = ceil(peak / next(iter(holding.capacity.values())))
    return -(-replicas * milli // WHOLE_GPU_MILLI)


def _claims(snapshot: Snapshot, waters: Tide) -> tuple[int, ...]:
    """Return milli-GPUs that running jobs are expected to hold still at the end of each lead."""
    running = [job for job in snapshot.jobs if job.state in ("starting", "running")]
    return tuple(
        sum(job.milli_gpus for job in running if job.expected_remaining_seconds > lead)
        for lead in waters.leads_seconds
    )


def _offer(
    snapshot: Snapshot,
    policy: Policy,
    job: Job,
    gpu_models: tuple[str, ...],
    waters: Tide,
    claims: tuple[int, ...],
) -> Offer:
    lasts = waters.horizon_seconds
    for lead, lasting, claimed in zip(
        waters.leads_seconds, waters.lasting_gpus, claims, strict=True
    ):
        lacks = claimed + job.milli_gpus > lasting * WHOLE_GPU_MILLI
        if lead < job.expected_remaining_seconds and lacks:
            lasts = lead
            break
    weight = policy.tenants.get(job.tenant, 1)
    value = job.priority * weight * job.milli_gpus * kept_percent(job, lasts, policy)
    request = BatchRequest(
        key=job.id,
        shape=placing.shape_of(job, job.pods),
        gpu_models=gpu_models,
        value=max(1, value // WHOLE_GPU_MILLI),
    )
    return Offer(job, snapshot.now_seconds + lasts, request)


def kept_percent(job: Job, lasts_seconds: float, policy: Policy) -> int:
    """Return the share of a run's GPU-time that is kept if it is recalled after `lasts`.

    A run that ends first keeps all. One that writes a checkpoint on notice loses the write and
    the restart; one with periodic checkpoints half an interval besides; the forecast is an upper
    quantile, so the recall is less than certain and half of that is charged. A run without
    checkpoints would lose everything, so it starts only where nothing else fits.
    """
    if job.expected_remaining_seconds <= lasts_seconds:
        return 100
    write = job.checkpoint_write_seconds
    if write is not None and write <= policy.preemption.notice_seconds:
        loss = write + job.restart_seconds
    elif job.checkpoint_interval_seconds is not None:
        loss = job.checkpoint_interval_seconds / 2 + job.restart_seconds
    else:
        return 1
    share = min(1.0, loss / max(lasts_seconds, 1.0))
    return max(1, round(100 * (1 - share / 2)))
