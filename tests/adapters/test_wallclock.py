"""The daemon's clock: waits end at their time, at a wake, and at a stop."""

import threading
from time import time  # noqa: TID251 - what is tested is that it is this time

import pytest

from scheduler.adapters.wallclock import SPACING_SECONDS, WallClock, steady_seconds
from scheduler.ports import WorldEndedError

FAR = 1e12


def test_time_is_unix_time() -> None:
    before = time()
    assert before <= WallClock().now_seconds() <= time()


def test_with_a_rate_time_runs_from_its_origin() -> None:
    origin = time() - 10
    clock = WallClock(rate=60.0, origin=origin)
    low = origin + (time() - origin) * 60
    assert low <= clock.now_seconds() <= origin + (time() - origin) * 60


def test_a_wait_for_the_past_returns() -> None:
    WallClock().wait_until(0.0)


def test_a_wait_ends_at_its_time() -> None:
    clock = WallClock(rate=1000.0)
    until = clock.now_seconds() + 20
    clock.wait_until(until)
    assert clock.now_seconds() >= until


def test_a_wake_ends_a_wait() -> None:
    clock = WallClock()
    timer = threading.Timer(0.01, clock.wake)
    timer.start()
    clock.wait_until(FAR)
    timer.join()


def test_wakes_keep_their_distance_and_none_is_lost() -> None:
    clock = WallClock()
    clock.wake()
    clock.wait_until(FAR)
    first = steady_seconds()
    clock.wake()
    clock.wait_until(FAR)
    assert steady_seconds() - first >= SPACING_SECONDS * 0.99


@pytest.mark.parametrize("before", [True, False])
def test_a_stop_ends_a_wait_for_good(before: bool) -> None:
    clock = WallClock()
    timer = threading.Timer(0.0 if before else 0.01, clock.stop)
    timer.start()
    with pytest.raises(WorldEndedError):
        clock.wait_until(FAR)
    timer.join()
    with pytest.raises(WorldEndedError):
        clock.wait_until(0.0)
