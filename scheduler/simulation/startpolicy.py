"""The policy that a simulation starts with when none is given.

It is what an operator would write from a benchmark: capacity of each role at the mean request
lengths of the known past, off by a seeded factor within the world's `policy_error` per role, as
benchmarks are. GPU models are preferred by comparative advantage, so that a card that decodes well
is left to decode.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from scheduler.planning.policy import Policy, parse
from scheduler.simulation.capacity import ROLES, Role, tokens_per_second
from scheduler.simulation.demandfile import Trace
from scheduler.simulation.worldfile import World

TOKENS = {"prefill": "prompt", "decode": "generated"}
SEED_STREAM = 0x504F4C
"""Keeps these draws apart from the world's."""


def start_policy(
    world: World,
    traces: Mapping[str, Trace],
    history_seconds: float,
    gpu_models: tuple[str, ...],
    seed: int,
) -> Policy:
    """Return a policy for the traced models on the cluster's GPU models.

    Lengths are those of the first `history_seconds` that the traces share; of the whole trace for
    a model that was silent then.
    """
    rng = np.random.default_rng([seed, SEED_STREAM])
    known = max(trace.start_seconds for trace in traces.values()) + history_seconds
    models = {
        model: _model(world, model, mean_lengths(_before(traces[model], known)), gpu_models, rng)
        for model in sorted(traces)
    }
    tenants = {tenant.name: tenant.weight for tenant in world.batch.tenants}
    return parse({"version": 1, "models": models, "tenants": tenants})


def _before(trace: Trace, end_seconds: float) -> Trace:
    """Return the trace with later bins unknown, or whole where nothing came before."""
    starts = trace.start_seconds + np.arange(len(trace.valid)) * trace.bin_seconds
    valid = trace.valid & (starts < end_seconds)
    if not trace.requests[valid].sum():
        return trace
    return msgspec.structs.replace(trace, valid=valid)


def mean_lengths(trace: Trace) -> tuple[float, float]:
    """Return mean prompt and generated tokens per request over the valid bins."""
    known = trace.valid.astype(bool)
    requests = max(float(trace.requests[known].sum()), 1.0)
    prompt = float(trace.prompt_tokens[known].sum()) / requests
    generated = float(trace.generated_tokens[known].sum()) / requests
    return max(prompt, 1.0), max(generated, 1.0)


def _model(
    world: World,
    model: str,
    lengths: tuple[float, float],
    gpu_models: tuple[str, ...],
    rng: np.random.Generator,
) -> dict[str, Any]:
    engine, slo = world.engine(model), world.served(model).slo
    usable = tuple(name for name in gpu_models if name in engine.speeds)
    if not usable:
        known = ", ".join(engine.speeds)
        raise ValueError(
            f"cluster: no node can serve {model!r}: its engine runs on {known}, "
            f"the cluster has {', '.join(gpu_models)}"
        )
    roles = {}
    for role in ROLES:
        error = world.observation.policy_error
        factor = 1 + float(rng.uniform(-error, error))
        roles[role] = {
            "gpus_per_pod": engine.gpus_per_pod,
            "pods_per_replica": engine.pods_per_replica,
            "tokens": TOKENS[role],
            "capacity_tokens_per_second": {
                name: factor * float(tokens_per_second(world, model, role, name, lengths))
                for name in _preferred(world, model, role, usable, lengths)
            },
        }
    return {"slo": slo.model_dump(), "roles": roles}


def _preferred(
    world: World, model: str, role: Role, usable: tuple[str, ...], lengths: tuple[float, float]
) -> list[str]:
    """Order GPU models by how much better they are in this role than in the other."""
    other: Role = "decode" if role == "prefill" else "prefill"

    def advantage(name: str) -> tuple[float, str]:
        mine = float(tokens_per_second(world, model, role, name, lengths))
        theirs = float(tokens_per_second(world, model, other, name, lengths))
        return -mine / theirs, name

    return sorted(usable, key=advantage)
