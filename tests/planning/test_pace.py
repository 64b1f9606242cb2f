"""Pace: the level follows shifts, not noise; care follows what the users saw."""

import pytest

from scheduler.planning import pace
from scheduler.planning.memory import Memory, Pace
from tests.fixtures.worlds import node, policy, signal, world

ROLE = "chat/decode"


def learnt(rates: list[float], *, late: float = 0.0, every: float = 15.0) -> Pace:
    """Return the pace after one signal every `every` seconds."""
    memory = Memory()
    for number, rate in enumerate(rates):
        seen = world(node("n0"), signals=(signal(rate, late_share=late),))
        seen = type(seen)(now_seconds=number * every, nodes=seen.nodes, signals=seen.signals)
        memory = pace.learn(seen, memory, policy())
    found = pace.found(memory, ROLE)
    assert found is not None
    return found


def test_the_level_reaches_a_shift_within_minutes() -> None:
    found = learnt([1000.0] * 40 + [2000.0] * 40)
    assert found.level_tokens_per_second == pytest.approx(2000.0, rel=0.02)


def test_noise_is_measured_and_a_jump_is_not_noise() -> None:
    noisy = learnt([1000.0, 1100.0, 900.0] * 200)
    assert 0.05 < noisy.minute_variance**0.5 < 0.12
    jumped = learnt([1000.0] * 300 + [5000.0] * 3)
    assert jumped.minute_variance**0.5 < 0.05


@pytest.mark.parametrize(("late", "direction"), [(0.0, -1), (0.5, 1)])
def test_care_follows_the_slo(late: float, direction: int) -> None:
    found = learnt([1000.0] * 200, late=late)
    assert (found.care - 1.0) * direction > 0


def test_late_minutes_before_anything_runs_teach_nothing() -> None:
    assert learnt([1000.0] * 50, late=1.0).care == 1.0


def test_care_stays_inside_its_bounds() -> None:
    assert learnt([1000.0] * 3000, late=1.0).care == pace.MOST_CARE


@pytest.mark.parametrize(
    ("spread", "sigmas", "more_than"), [(0.0, 0.0, 0.999), (0.2, 0.0, 1.2), (0.0, 2.0, 1.05)]
)
def test_room_adds_both_errors(spread: float, sigmas: float, more_than: float) -> None:
    assert pace.room(None, spread, sigmas) >= more_than
    assert pace.room(None, spread, sigmas) <= pace.room(None, 0.2, 2.0)


def test_missing_metrics_change_nothing() -> None:
    memory = pace.learn(world(node("n0"), signals=(signal(1000.0),)), Memory(), policy())
    blind = world(node("n0"), signals=(signal(0.0, status="stale"),))
    assert pace.learn(blind, memory, policy()) == memory
