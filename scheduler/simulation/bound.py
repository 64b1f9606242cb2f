"""The least online GPU-hours that any planner could hold: a diagnostic, not a rival.

For each 5-minute slot and role, the fewest GPUs whose whole replicas serve the slot's tokens at
true capacity, on the GPU model that needs fewest; no ready times, no queues. Everything else is
taken to be productive batch, so utilisation is 1.
"""

from math import ceil

import numpy as np

from scheduler.simulation.capacity import ROLES, Role, tokens_per_second
from scheduler.simulation.demand import Demand
from scheduler.simulation.demandfile import Floats
from scheduler.simulation.worldfile import World

SLOT_SECONDS = 300.0
SECONDS_PER_HOUR = 3600.0


def online_gpu_hours(world: World, demand: Demand) -> float:
    """Return the bound over the scored time."""
    gpus = sum(
        slot_gpus(world, demand, model, role).sum() for model in demand.models for role in ROLES
    )
    return float(gpus) * SLOT_SECONDS / SECONDS_PER_HOUR


def slot_gpus(world: World, demand: Demand, model: str, role: Role) -> Floats:
    """Return the fewest GPUs per scored slot; a last slot that is cut short counts whole."""
    engine = world.engine(model)
    prompt, generated = (totals(demand, model, field) for field in TOKEN_FIELDS)
    requests = np.maximum(totals(demand, model, "requests"), 1e-9)
    tokens = prompt if role == "prefill" else generated
    lengths = (prompt / requests, generated / requests)
    needs = [
        np.ceil(
            tokens / SLOT_SECONDS / tokens_per_second(world, model, role, gpu_model, lengths) - 1e-9
        )
        for gpu_model in demand.gpu_models
        if gpu_model in engine.speeds
    ]
    return np.asarray(np.min(needs, axis=0) * engine.gpus)


TOKEN_FIELDS = ("prompt_tokens", "generated_tokens")


def totals(demand: Demand, model: str, field: str) -> Floats:
    """Return totals per slot of scored time."""
    values = getattr(demand.models[model], field)
    scored = values[round(-demand.start_seconds / demand.step_seconds) :]
    width = round(SLOT_SECONDS / demand.step_seconds)
    padded = np.zeros(ceil(len(scored) / width) * width)
    padded[: len(scored)] = scored
    return np.asarray(padded.reshape(-1, width).sum(axis=1))
