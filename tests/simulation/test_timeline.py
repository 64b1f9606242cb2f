"""GPUs over time: every band by hand on a short stream, and equal to the score on a real one."""

from collections.abc import Sequence

import pytest

from scheduler.simulation.events import (
    Event,
    JobLine,
    Load,
    NodeLine,
    RecallLine,
    ReplicaLine,
    ReserveLine,
)
from scheduler.simulation.score import Score
from scheduler.simulation.timeline import Timeline, TimelineFold
from tests.simulation import virtual

HOUR = 3600.0


def folded(events: Sequence[Event], until: float, start: float = 0.0) -> Timeline:
    fold = TimelineFold(step_seconds=5, start_seconds=start, end_seconds=30, bin_seconds=10)
    for event in events:
        fold(event)
    return fold.timeline(until)


def load(t: float, served: float, arrived: float = 50.0) -> Load:
    return Load(t, "m", "decode", "H", arrived, served, 0.0, 1, 10.0, 0.0, 0.0)


def replica(t: float, state: str, *gpus: str) -> ReplicaLine:
    return ReplicaLine(t, "r", "m", "decode", "H", state, "weights", gpus)  # type: ignore[arg-type]


def job(t: float, state: str, kept: float, *gpus: str) -> JobLine:
    return JobLine(t, "j", "a", state, gpus, kept, 0.0)  # type: ignore[arg-type]


def test_online_is_productive_as_far_as_it_serves() -> None:
    events: list[Event] = [
        NodeLine(0, "n", 8, ready=True),
        replica(0, "starting", "n/0", "n/1"),
        replica(10, "ready", "n/0", "n/1"),
        load(10, served=25.0),
        load(15, served=50.0),
        replica(20, "gone"),
    ]
    found = folded(events, 30)
    assert found.ready == pytest.approx((8, 8, 8))
    assert found.online_productive == pytest.approx((0, 1.5, 0))
    assert found.online_idle == pytest.approx((2, 0.5, 0))
    assert found.empty == pytest.approx((6, 6, 8))
    assert found.utilisation == pytest.approx((0, 1.5 / 8, 0))
    assert found.demand_tokens_per_second["m"] == pytest.approx((0, 10, 0))


def test_reserved_gpus_are_idle_online_ones() -> None:
    events: list[Event] = [
        NodeLine(0, "n", 8, ready=True),
        ReserveLine(5, ("n/0",)),
        ReserveLine(15, ()),
    ]
    assert folded(events, 30).online_idle == pytest.approx((0.5, 0.5, 0))


def test_what_a_run_kept_is_spread_over_its_stay() -> None:
    events: list[Event] = [
        NodeLine(0, "n", 8, ready=True),
        job(0, "running", 0.0, "n/0", "n/1"),
        job(20, "stopped", 10.0, "n/0", "n/1"),
        job(25, "queued", 10.0),
    ]
    found = folded(events, 30)
    assert found.batch_kept == pytest.approx((0.4, 0.4, 0.2))
    assert found.batch_lost == pytest.approx((1.6, 1.6, 0.8))


def test_a_run_that_goes_on_is_hoped_to_be_kept() -> None:
    events: list[Event] = [job(0, "running", 0.0, "n/0", "n/1")]
    found = folded(events, 15)
    assert found.batch_kept == pytest.approx((2, 2))
    assert found.batch_lost == pytest.approx((0, 0))


def test_a_second_run_counts_from_what_the_first_kept() -> None:
    events: list[Event] = [
        job(0, "running", 0.0, "n/0"),
        job(10, "queued", 10.0),
        job(20, "running", 10.0, "n/0"),
        job(30, "done", 15.0),
    ]
    found = folded(events, 30)
    assert found.batch_kept == pytest.approx((1, 0, 0.5))
    assert found.batch_lost == pytest.approx((0, 0, 0.5))


def test_a_node_that_is_not_ready_has_no_gpus() -> None:
    events: list[Event] = [NodeLine(0, "n", 8, ready=True), NodeLine(5, "n", 8, ready=False)]
    assert folded(events, 30).ready == pytest.approx((4, 0, 0))


def test_a_recall_is_late_beyond_its_promise() -> None:
    events: list[Event] = [
        RecallLine(5, "a", need_t=1, promised_p99_seconds=3, ready_t=4),
        RecallLine(5, "b", need_t=0, promised_p99_seconds=3, ready_t=4),
    ]
    assert [one.late for one in folded(events, 30).recalls] == [False, True]


def test_bins_may_begin_before_scored_time_and_the_last_is_a_mean_of_its_begun_part() -> None:
    found = folded([NodeLine(-10, "n", 8, ready=True)], 5, start=-10)
    assert found.start_seconds == -10
    assert found.ready == pytest.approx((8, 8))
    assert folded([NodeLine(-10, "n", 8, ready=True)], -10, start=-10).ready == ()


def test_its_sums_are_the_figures_of_the_score() -> None:
    jobs = [virtual.job(name, duration_seconds=900.0) for name in ("a", "b")]
    cluster, events = virtual.made(nodes=2, steps=720, jobs=jobs)
    cluster.apply((virtual.scale(2, 0), virtual.scale(1, 0, role=virtual.PREFILL)), 0)
    cluster.apply((virtual.start("a"),), 0)
    cluster.advance(600)
    cluster.apply((virtual.stop("a"), virtual.start("b")), 0)
    cluster.advance(1800)
    cluster.apply((virtual.start("a", attempt=1),), 0)
    cluster.advance(HOUR)
    score = Score(virtual.STEP, HOUR)
    fold = TimelineFold(
        step_seconds=virtual.STEP, start_seconds=0, end_seconds=HOUR, bin_seconds=300
    )
    for event in events:
        score(event)
        fold(event)
    figures, found = score.figures(), fold.timeline(HOUR)

    def hours(*bands: tuple[float, ...]) -> float:
        return sum(sum(band) for band in bands) * 300 / HOUR

    assert figures.batch_gpu_hours_lost > 0
    assert figures.online_productive_gpu_hours > 0
    assert hours(found.ready) == pytest.approx(figures.gpu_hours)
    assert hours(found.online_productive) == pytest.approx(figures.online_productive_gpu_hours)
    assert hours(found.online_productive, found.online_idle) == pytest.approx(
        figures.online_gpu_hours
    )
    assert hours(found.batch_kept) == pytest.approx(figures.batch_productive_gpu_hours)
    assert hours(found.batch_kept, found.batch_lost) == pytest.approx(figures.batch_gpu_hours_lent)
