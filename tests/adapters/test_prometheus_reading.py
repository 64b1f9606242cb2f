"""A look's answer becomes signals and capacities."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.adapters.prometheus.connection import Value
from scheduler.adapters.prometheus.reading import (
    Duties,
    Reading,
    capacity,
    flow,
    late_share,
    reading,
    signal,
)
from scheduler.planning.policy import Slo
from scheduler.planning.snapshot import RoleSignal

WINDOW = 60.0
PREFILL = Duties("prompt", ttft=True, tpot=False)
DECODE = Duties("generated", ttft=False, tpot=True)
LIVE = {
    "prompt_live": 1000.0,
    "generated_live": 100.0,
    "running": 4.0,
    "before_running": 4.0,
    "waiting": 0.0,
    "before_waiting": 0.0,
    "long_prompt_live": 1000.0,
    "long_generated_live": 100.0,
    "long_requests": 2.0,
    "fresh": 2.0,
    "newest": 100.0,
}


def seen(**sums: float | None) -> Reading:
    """A live look with some sums changed; None: not there."""
    merged = {**LIVE, **sums}
    return Reading({name: one for name, one in merged.items() if one is not None}, {}, {}, ())


def of(look: Reading, duties: Duties = PREFILL, ready: int = 2) -> RoleSignal:
    return signal("m/r", look, duties, Slo(), WINDOW, ready, 4000.0)


@pytest.mark.parametrize(
    ("look", "status", "arrived", "queued"),
    [
        (seen(), "live", 1000.0, 0.0),
        # 12 more wait than a window ago, 500 tokens each.
        (seen(waiting=12.0), "live", 1100.0, 6000.0),
        # A queue that drains was served, not sent.
        (seen(waiting=0.0, before_waiting=12.0), "live", 900.0, 0.0),
        (seen(before_waiting=1e6), "live", 0.0, 0.0),
        # Engines that run more of the same say nothing when they count as they go ...
        (seen(running=16.0), "live", 1000.0, 0.0),
        # ... but those that count at the end have 12 requests more inside.
        (seen(prompt_live=None, prompt_finished=1000.0, running=16.0), "live", 1100.0, 0.0),
        (seen(prompt_live=0.0, running=0.0), "idle", 0.0, 0.0),
        (seen(prompt_live=0.0), "live", 0.0, 0.0),
        # The counter is born with the first request; until then nothing was served ...
        (seen(prompt_live=None, running=0.0), "idle", 0.0, 0.0),
        # ... but with requests inside, tokens are unknown, which is not zero.
        (seen(prompt_live=None), "partial", 0.0, 0.0),
        # Nobody knows how long those that wait are.
        (seen(waiting=3.0, long_requests=None), "partial", 1000.0, 0.0),
        (seen(waiting=0.0, long_requests=0.0), "live", 1000.0, 0.0),
        (seen(fresh=1.0), "partial", 1000.0, 0.0),
        # SGLang's queues of a pair count like the first.
        (seen(waiting_prefill=2.0, before_waiting_prefill=2.0), "live", 1000.0, 1000.0),
    ],
)
def test_demand_is_what_arrives(look: Reading, status: str, arrived: float, queued: float) -> None:
    made = of(look)
    assert made.status == status
    assert made.arrived_tokens_per_second == pytest.approx(arrived)
    assert made.queued_tokens == pytest.approx(queued)


def test_a_role_reads_the_stream_that_drives_it() -> None:
    assert of(seen(), DECODE).arrived_tokens_per_second == 100.0
    assert flow(seen(waiting=12.0), "generated", WINDOW).queued == pytest.approx(600.0)


def test_utilisation_is_served_over_capacity_and_at_most_one() -> None:
    assert of(seen()).utilisation == 0.25
    assert of(seen(prompt_live=9000.0)).utilisation == 1.0
    assert signal("m/r", seen(), PREFILL, Slo(), WINDOW, 0, 0.0).utilisation == 0.0


BUCKETS = {1.0: 50.0, 3.0: 90.0, inf: 100.0}


@pytest.mark.parametrize(
    ("limit", "share"),
    [(0.5, 0.75), (1.0, 0.5), (2.0, 0.3), (3.0, 0.1), (50.0, 0.1)],
)
def test_late_is_what_lies_above_the_limit_inside_its_bucket(limit: float, share: float) -> None:
    assert late_share(BUCKETS, limit) == pytest.approx(share)


def test_nothing_finished_is_nothing_late() -> None:
    assert late_share({}, 1.0) == 0.0
    assert late_share({1.0: 0.0, inf: 0.0}, 1.0) == 0.0


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6), st.floats(0.001, 100))
def test_late_share_is_a_share_and_falls_with_the_limit(counts: list[float], limit: float) -> None:
    bounds = [float(2**number) for number in range(len(counts) - 1)]
    total, buckets = 0.0, {}
    for bound, count in zip([*bounds, inf], counts, strict=True):
        total += count
        buckets[bound] = total
    assert 0 <= late_share(buckets, 2 * limit) <= late_share(buckets, limit) + 1e-9 <= 1 + 1e-9


def test_each_delay_is_late_by_its_own_limit() -> None:
    look = Reading(LIVE, BUCKETS, {0.05: 20.0, 0.1: 60.0, inf: 80.0}, ())
    # 500 tokens of prompt may take an eighth of a second more.
    assert of(look).late_share == pytest.approx(1 - (50 + 40 * 1.125 / 2) / 100)
    assert of(look, DECODE).late_share == pytest.approx(0.25)
    both = Duties("generated", ttft=True, tpot=True)
    assert of(look, both).late_share == pytest.approx(0.275)


def test_capacity_is_known_only_at_the_limit_and_inside_the_slo() -> None:
    full = Reading(LIVE, {}, {0.1: 96.0, inf: 100.0}, (90.0, 100.0, 200.0))
    slow = Reading(LIVE, {}, {0.1: 90.0, inf: 100.0}, (90.0, 100.0, 200.0))
    measured = capacity("m/r", "H100", full, DECODE, Slo())
    assert (measured.tokens_per_second, measured.samples) == (100.0, 3)
    for look, duties in ((slow, DECODE), (seen(), DECODE), (None, PREFILL)):
        assert capacity("m/r", "H100", look, duties, Slo()).samples == 0
    assert capacity("m/r", "H100", slow, PREFILL, Slo()).samples == 3, "its own queue makes it late"


def test_of_two_histograms_the_first_with_values_counts() -> None:
    def bucket(meaning: str, bound: str, value: float) -> Value:
        return Value({"meaning": meaning, "le": bound}, value)

    vector = [
        bucket("tpot_0", "0.1", 0.0),
        bucket("tpot_0", "+Inf", 0.0),
        bucket("tpot_1", "0.2", 5.0),
        bucket("tpot_1", "+Inf", 6.0),
        Value({"meaning": "each", "pod": "b"}, 7.0),
        Value({"meaning": "each", "pod": "a"}, 9.0),
        Value({"meaning": "newest"}, 12.0),
    ]
    look = reading(vector)
    assert look.tpot == {0.2: 5.0, inf: 6.0}
    assert look.ttft == {}
    assert look.limits == (7.0, 9.0)
    assert look.newest_seconds == 12.0
    assert reading([]).newest_seconds == -inf
