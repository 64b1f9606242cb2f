"""The start policy: what an operator knew, not what came later."""

import msgspec
import numpy as np

from scheduler.simulation.generated import generate
from scheduler.simulation.startpolicy import start_policy
from scheduler.simulation.worldfile import load_world

DAY = 86400.0
MODELS = ("H100-SXM-80GB", "H200-SXM-141GB")


def test_later_lengths_change_nothing() -> None:
    trace = generate("chat", 3.0, 1)
    later = np.arange(len(trace.valid)) * trace.bin_seconds >= DAY
    longer = msgspec.structs.replace(
        trace, prompt_tokens=np.where(later, 9.0, 1.0) * trace.prompt_tokens
    )
    known, unknown = (
        start_policy(load_world(), {"chat": one}, DAY, MODELS, 7) for one in (trace, longer)
    )
    assert known == unknown


def test_the_error_is_seeded_and_within_its_bounds() -> None:
    world = load_world()
    exact = world.model_copy(
        update={"observation": world.observation.model_copy(update={"policy_error": 0.0})}
    )
    trace = {"chat": generate("chat", 2.0, 1)}
    off, again, true = (start_policy(one, trace, DAY, MODELS, 7) for one in (world, world, exact))
    assert off == again
    for name in ("prefill", "decode"):
        wrong, right = (policy.role(f"chat/{name}") for policy in (off, true))
        assert wrong is not None
        assert right is not None
        pairs = zip(
            wrong.capacity_tokens_per_second.values(),
            right.capacity_tokens_per_second.values(),
            strict=True,
        )
        assert all(0.8 <= one / other <= 1.2 and one != other for one, other in pairs)


def test_prefill_and_decode_prefer_the_card_that_suits_them() -> None:
    policy = start_policy(load_world(), {"chat": generate("chat", 2.0, 1)}, DAY, MODELS, 7)
    first = {
        name: next(iter(role.capacity_tokens_per_second))
        for name, role in policy.models["chat"].roles.items()
    }
    assert first == {"prefill": "H100-SXM-80GB", "decode": "H200-SXM-141GB"}
