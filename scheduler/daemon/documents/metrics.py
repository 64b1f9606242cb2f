"""The status once more, as OpenMetrics: one prefix, base units, labels where a thing repeats.

In mode `recommend` the desired replica counts are for an HPA or KEDA to act on; in mode `off`
they are left out, so that nobody acts.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from binpacking.inventory import WHOLE_GPU_MILLI
from scheduler.daemon.documents.shapes import FragmentLine, PriceLine, RoleLine, Status

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Sample = tuple[dict[str, str], float]


class Family(NamedTuple):
    """One metric with its samples."""

    name: str
    help: str
    samples: tuple[Sample, ...]
    type: str = "gauge"


def metrics(status: Status) -> str:
    """Return the exposition text."""
    return "".join(_text(family) for family in (*_process(status), *_world(status))) + "# EOF\n"


def _process(status: Status) -> Iterator[Family]:
    yield _one("tick", "Number of the newest tick.", status.tick)
    yield _one("plan_age_seconds", "Time since the newest plan.", status.plan_age_seconds)
    yield _one("invariant_violations", "Broken in the newest tick.", len(status.violations))
    yield _one("policy_errors", "Errors of a refused edit.", len(status.policy_errors))
    yield _one("leader", "1 where this replica plans for real.", status.leads)
    yield _one("problems", "Parts of what Tidal reads that are missing.", len(status.problems))
    failures: Sample = ({}, float(status.worker_failures))
    yield Family(
        "planner_failures", "Plans the worker failed to make.", (failures,), type="counter"
    )
    applied = [line.applied for line in status.actions]
    yield Family(
        "actions",
        "Actions of the newest plan.",
        (({"applied": "true"}, sum(applied)), ({"applied": "false"}, applied.count(False))),
    )


def _world(status: Status) -> Iterator[Family]:
    gpus = {k: v for k, v in msgspec.structs.asdict(status.gpus).items() if k != "total"}
    yield Family("gpus", "GPUs by place.", tuple(({"place": k}, v) for k, v in gpus.items()))
    yield _one("shared_gpus", "GPUs of which pods hold parts.", status.shared_gpus)
    idle = status.shared_idle_milli_gpus / WHOLE_GPU_MILLI
    yield _one("shared_idle_gpus", "What is left of shared GPUs.", idle)
    yield from _fragments(status.fragments)
    yield _prices(status.prices)
    if status.allocated_utilisation is not None:
        yield _one(
            "allocated_utilisation_ratio",
            "Share of the GPUs of Ready nodes that pods hold; not GPU_UTIL, not SM_ACTIVE.",
            status.allocated_utilisation,
        )
    if status.gpu_use is not None and status.gpu_use.gpu_util is not None:
        yield _one("gpu_util_ratio", "Mean DCGM_FI_DEV_GPU_UTIL.", status.gpu_use.gpu_util)
    batch = status.batch
    jobs = {k: getattr(batch, k) for k in ("waiting", "running", "notified", "stopping")}
    yield Family("jobs", "Batch jobs by state.", tuple(({"state": k}, v) for k, v in jobs.items()))
    yield _one("lendable_gpus", "GPUs the newest plan could lend.", batch.lendable_gpus)
    yield from _roles(status.roles)
    if status.mode != "off":
        desired = tuple(({"role": r.role}, float(r.desired_replicas)) for r in status.roles)
        yield Family("role_desired_replicas", "Replicas that the plan asks for.", desired)


def _fragments(lines: tuple[FragmentLine, ...]) -> Iterator[Family]:
    for name, text, values in (
        (
            "fragment_gpus",
            "Idle GPUs of no use to what queue and forecast will ask; GPU-weighted, so floor 0.",
            [line.fragment_milli_gpus / WHOLE_GPU_MILLI for line in lines],
        ),
        (
            "idle_gpus",
            "Free GPUs by model and switch, parts of shared ones included.",
            [line.idle_milli_gpus / WHOLE_GPU_MILLI for line in lines],
        ),
    ):
        labels = ({"gpu_model": line.gpu_model, "switch": line.switch} for line in lines)
        yield Family(name, text, tuple(zip(labels, values, strict=True)))


def _prices(lines: tuple[PriceLine, ...]) -> Family:
    samples = tuple(
        ({"gpu_model": line.gpu_model, "gpus": str(line.gpus)}, line.milli_gpus / WHOLE_GPU_MILLI)
        for line in lines
    )
    text = "Worth of room for a pod of so many GPUs on one node, by which single pods are placed."
    return Family("room_price_gpus", text, samples)


def _roles(roles: tuple[RoleLine, ...]) -> Iterator[Family]:
    states = ("ready", "starting", "pending", "draining")
    yield Family(
        "role_replicas",
        "Replicas by state.",
        tuple(({"role": r.role, "state": s}, getattr(r, s)) for r in roles for s in states),
    )
    for name, text, values in (
        ("wanted_replicas", "Reference replicas wanted.", [_units(r.wanted_milli) for r in roles]),
        ("lacking_replicas", "Wanted without a place.", [r.lacking_milli / 1000 for r in roles]),
        ("arriving_tokens_per_second", "Demand.", [r.arriving_tokens_per_second for r in roles]),
        ("capacity_tokens_per_second", "Of ready.", [r.capacity_tokens_per_second for r in roles]),
        ("utilisation_ratio", "Served over capacity.", [r.utilisation for r in roles]),
        ("late_ratio", "Tokens outside the SLO.", [r.late_share for r in roles]),
    ):
        pairs = zip(roles, values, strict=True)
        samples = tuple(({"role": r.role}, float(v)) for r, v in pairs if v is not None)
        yield Family(f"role_{name}", text, samples)


def _units(milli: int | None) -> float | None:
    return None if milli is None else milli / 1000


def _one(name: str, text: str, value: float) -> Family:
    return Family(name, text, (({}, float(value)),))


def _text(family: Family) -> str:
    name = f"tidal_{family.name}"
    suffix = "_total" if family.type == "counter" else ""
    lines = [f"# TYPE {name} {family.type}", f"# HELP {name} {family.help}"]
    lines += [f"{name}{suffix}{_labels(labels)} {value:.10g}" for labels, value in family.samples]
    return "\n".join(lines) + "\n"


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{key}="{_escaped(value)}"' for key, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
