"""Times of the API server on the line of a faster clock."""

import msgspec
import pytest

from scheduler.adapters.cluster.quickened import Quickened
from scheduler.adapters.wallclock import WallClock
from scheduler.apiserver.objects import Condition, Job, JobStatus, Meta, Node, Pod, PodStatus
from scheduler.apiserver.times import seconds, text

ORIGIN = 1_800_000_000.0
RATE = 60.0
READ = Quickened(WallClock(RATE, ORIGIN).of_wall)
WRITTEN = text(ORIGIN + 10)


def test_a_clock_agrees_with_the_wall_at_its_origin_and_runs_faster() -> None:
    clock = WallClock(RATE, ORIGIN)
    assert clock.of_wall(ORIGIN) == ORIGIN
    assert clock.of_wall(ORIGIN + 2) == ORIGIN + 120
    assert WallClock(1.0, ORIGIN).of_wall(ORIGIN + 2) == ORIGIN + 2


@pytest.mark.parametrize("after", [0.0, 0.4, 0.99])
def test_what_follows_a_moment_of_the_clock_in_its_second_is_later(after: float) -> None:
    moved = READ(Pod(metadata=Meta(name="p", creation_timestamp=text(ORIGIN + 10 + after))))
    reserved = WallClock(RATE, ORIGIN).of_wall(ORIGIN + 10)
    assert seconds(moved.metadata.creation_timestamp) >= reserved


def test_pods_and_jobs_are_moved() -> None:
    expected = text(ORIGIN + RATE * 11)
    condition = Condition(type="Ready", status="True", last_transition_time=WRITTEN)
    pod = Pod(
        metadata=Meta(name="p", creation_timestamp=WRITTEN),
        status=PodStatus(phase="Running", start_time=WRITTEN, conditions=(condition,)),
    )
    moved = READ(pod)
    assert moved.metadata.creation_timestamp == expected
    assert moved.status.start_time == expected
    assert moved.status.conditions[0].last_transition_time == expected
    assert moved.status.phase == "Running"
    job = Job(metadata=Meta(name="j"), status=JobStatus(start_time=WRITTEN))
    assert READ(job).status.start_time == expected
    assert READ(job).metadata.creation_timestamp is None


def test_distances_grow_by_the_rate() -> None:
    def at(wall: float) -> float:
        pod = Pod(metadata=Meta(name="p", creation_timestamp=text(wall)))
        return seconds(READ(pod).metadata.creation_timestamp)

    assert at(ORIGIN + 7) - at(ORIGIN + 2) == 5 * RATE


def test_other_kinds_stay_as_they_are() -> None:
    node = msgspec.convert({"metadata": {"name": "n"}}, Node)
    assert READ(node) is node
