"""The built-in tides: their shapes, and that a seed settles them."""

import numpy as np
import pytest

from scheduler.simulation.generated import generate


def test_the_same_arguments_give_the_same_bytes() -> None:
    one, two = generate("chat", 2, 7), generate("chat", 2, 7)
    assert one.requests.tobytes() == two.requests.tobytes()
    assert one.prompt_tokens.tobytes() == two.prompt_tokens.tobytes()
    assert one.requests.tobytes() != generate("chat", 2, 8).requests.tobytes()
    assert one.requests.tobytes() != generate("other", 2, 7).requests.tobytes()


@pytest.mark.parametrize(
    ("model", "prompt", "generated"),
    [("chat", 1200, 200), ("code", 2000, 30), ("reason", 800, 2000), ("any", 1000, 250)],
)
def test_lengths_are_those_of_the_mix(model: str, prompt: float, generated: float) -> None:
    trace = generate(model, 14, 1)
    total = trace.requests.sum()
    assert trace.prompt_tokens.sum() / total == pytest.approx(prompt, rel=0.05)
    assert trace.generated_tokens.sum() / total == pytest.approx(generated, rel=0.05)
    assert len(trace.valid) == 14 * 144


def by_day(model: str) -> np.ndarray:
    return generate(model, 7, 3).requests.reshape(7, 144)


def test_code_keeps_office_hours_and_a_quiet_weekend() -> None:
    days = by_day("code")
    assert days[:5, 14 * 6].mean() > 6 * days[:5, 2 * 6].mean()
    assert days[:5].mean() > 3 * days[5:].mean()


def test_chat_peaks_in_the_evening_of_every_day() -> None:
    days = by_day("chat")
    assert (days[:, 20 * 6] > 2 * days[:, 8 * 6]).all()


def test_reason_is_the_smoothest() -> None:
    spread = {model: by_day(model).std() / by_day(model).mean() for model in ("chat", "reason")}
    assert spread["reason"] < spread["chat"]
