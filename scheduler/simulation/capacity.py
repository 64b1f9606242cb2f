"""True speed of one replica, from the physical row of its engine on its GPU model.

Prefill works one prompt at a time at a speed that depends on the prompt's length. Decode runs B
sequences at once, each one token per TPOT = alpha + B x (beta + gamma x context / 1000), the
linear step-time model fitted per engine and GPU model; context = prompt + half of the generated
tokens, the mean over a sequence's life. Lengths may be scalars or arrays of equal shape; results
have the same shape.
"""

from typing import Literal

import msgspec
import numpy as np

from scheduler.planning.policy import Slo
from scheduler.simulation.demandfile import Floats
from scheduler.simulation.worldfile import Speed, World

Role = Literal["prefill", "decode"]
ROLES: tuple[Role, Role] = ("prefill", "decode")


class Decode(msgspec.Struct, frozen=True, eq=False):
    """Decode of one replica at given lengths: TPOT = `alpha` + B x `slope`, in seconds."""

    alpha: float
    slope: Floats
    batch: Floats
    """Most sequences at once: by KV memory, the engine's cap and the TPOT of the SLO; 1 or more."""
    tokens_per_second: Floats
    """At that batch."""


def prefill_tokens_per_second(speed: Speed, prompt_tokens: Floats | float) -> Floats:
    """Return prompt tokens/s of one replica: straight lines between points, flat outside."""
    lengths, rates = zip(*speed.prefill, strict=True)
    return np.asarray(np.interp(prompt_tokens, lengths, rates) * speed.prefill_served_share)


def decode(
    speed: Speed, prompt_tokens: Floats | float, generated_tokens: Floats | float, slo: Slo
) -> Decode:
    """Return the decode side of one replica for mean lengths per request."""
    context = np.maximum(np.asarray(prompt_tokens) + np.asarray(generated_tokens) / 2, 1.0)
    alpha = speed.alpha_ms / 1000
    slope = (speed.beta_ms + speed.gamma_ms * context / 1000) / 1000
    by_memory = np.minimum(speed.kv_tokens / context, speed.max_sequences)
    spare = slo.tpot_seconds - alpha
    by_slo = np.divide(spare, slope, out=np.full_like(slope, np.inf), where=slope > 0)
    batch = np.maximum(np.minimum(by_memory, by_slo), 1.0)
    return Decode(alpha, slope, batch, batch / (alpha + batch * slope))


def tokens_per_second(
    world: World,
    model: str,
    role: Role,
    gpu_model: str,
    lengths: tuple[Floats | float, Floats | float],
) -> Floats:
    """Return the capacity of one replica in its role's tokens: prompt for prefill, else generated.

    `lengths` are mean prompt and generated tokens per request. Raises KeyError for a GPU model on
    which the model's engine does not run.
    """
    speed = world.engine(model).speeds[gpu_model]
    if role == "prefill":
        return prefill_tokens_per_second(speed, lengths[0])
    return decode(speed, *lengths, world.served(model).slo).tokens_per_second
