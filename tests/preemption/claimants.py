"""A claimant and rules to vary in tables."""

import msgspec

from preemption.values import Claimant, Rules, Stop

NOW = 10_000.0
RULES = Rules(
    minimum_runtime_seconds=600,
    protected_seconds=900,
    stops_per_hour=3,
    tenant_stops_per_hour=2,
    job_stops_per_hour=1,
)
JOB = Claimant(
    key="job",
    tenant="red",
    priority=2,
    gpus=4,
    parts=(("n1", 4),),
    started_seconds=NOW - 5000,
    last_checkpoint_seconds=NOW - 100,
    checkpoint_write_seconds=20,
    restart_seconds=60,
)


def job(**fields: object) -> Claimant:
    return msgspec.structs.replace(JOB, **fields)


def rules(**fields: object) -> Rules:
    return msgspec.structs.replace(RULES, **fields)


def stops(*tenants: str, age_seconds: float = 130, job: str = "earlier") -> tuple[Stop, ...]:
    return tuple(Stop(NOW - age_seconds, job, tenant, 1) for tenant in tenants)


def elastic(least: int, *nodes: str, gpus: int = 8, **fields: object) -> Claimant:
    """A job of one pod on each of the nodes that runs on with `least` of them."""
    parts = tuple((node, gpus) for node in nodes)
    return job(gpus=gpus * len(nodes), parts=parts, least_pods=least, **fields)
