"""The newest state is written beside the tick; a disk that is full stops nothing."""

import errno
import json
import threading
from contextlib import ExitStack
from io import StringIO
from pathlib import Path

import msgspec

from forecasting import Sample, State, initial_state
from scheduler.daemon.forecast import SeriesForecaster
from scheduler.daemon.keeper import Keeper
from scheduler.wiring.parts import kept_forecaster, logger

MEMBERS = initial_state().members
FULL = OSError(errno.ENOSPC, "No space left on device")
WAIT_SECONDS = 60.0


def state(end: int) -> State:
    empty = initial_state()
    return msgspec.structs.replace(empty, store=msgspec.structs.replace(empty.store, end=end))


class Disk:
    """Keeps what is written; `refuse` of the first writes fail."""

    def __init__(self, refuse: int = 0) -> None:
        self.written: list[int] = []
        self.refuse = refuse
        self.tried = threading.Semaphore(0)

    def write(self, one: State) -> None:
        try:
            if self.refuse:
                self.refuse -= 1
                raise FULL
            self.written.append(one.store.end)
        finally:
            self.tried.release()

    def wait(self) -> None:
        assert self.tried.acquire(timeout=WAIT_SECONDS)


def unheard(error: OSError) -> None:
    raise AssertionError(error)


def test_states_that_come_fast_are_written_once_and_the_last_at_the_end() -> None:
    disk = Disk()
    with Keeper(disk.write, unheard, spacing_seconds=3600.0) as keeper:
        keeper.keep(state(1))
        disk.wait()
        for end in (2, 3, 4):
            keeper.keep(state(end))
    assert disk.written == [1, 4]


def test_after_the_spacing_the_next_is_written() -> None:
    disk = Disk()
    with Keeper(disk.write, unheard, spacing_seconds=0.0) as keeper:
        for end in (1, 2):
            keeper.keep(state(end))
            disk.wait()
        assert disk.written == [1, 2]
    assert disk.written == [1, 2]


def test_without_a_state_nothing_is_written() -> None:
    disk = Disk()
    with Keeper(disk.write, unheard):
        pass
    assert disk.written == []


def test_a_full_disk_is_told_once_and_tried_again() -> None:
    disk, told = Disk(refuse=2), list[OSError]()
    with Keeper(disk.write, told.append, spacing_seconds=0.0) as keeper:
        for end in (1, 2, 3):
            keeper.keep(state(end))
            disk.wait()
    assert told == [FULL]
    assert disk.written == [3]


# ---- the forecaster of a daemon, with its file


def samples(first: int, stop: int) -> list[Sample]:
    return [Sample("a/requests", n * 300.0, 300.0, 5.0 + n % 7) for n in range(first, stop)]


class Life:
    """A daemon's forecaster from start to stop; its log afterwards."""

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._stack = path, StringIO(), ExitStack()

    def __enter__(self) -> SeriesForecaster:
        log = logger(verbose=False, file=self._file)
        return kept_forecaster(MEMBERS, self._path, self._stack, log)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def said(self) -> list[str]:
        return [json.loads(line)["event"] for line in self._file.getvalue().splitlines()]


def test_a_restarted_daemon_goes_on_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    straight = SeriesForecaster(MEMBERS)
    with (first := Life(path)) as forecaster:
        for each in (forecaster, straight):
            each.update(samples(0, 288), 288 * 300.0)
            each.update(samples(288, 289), 289 * 300.0)
    with (second := Life(path)) as forecaster:
        resumed = forecaster.update(samples(0, 290), 290 * 300.0)
    assert resumed == straight.update(samples(289, 290), 290 * 300.0)
    assert (first.said, second.said) == ([], ["forecast_state_restored"])


def test_a_damaged_file_costs_a_line_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"something else")
    with (life := Life(path)) as forecaster:
        rebuilt = forecaster.update(samples(0, 288), 288 * 300.0)
    assert life.said == ["forecast_state_refused"]
    assert rebuilt == SeriesForecaster(MEMBERS).update(samples(0, 288), 288 * 300.0)
    with (again := Life(path)) as forecaster:
        forecaster.update([], 289 * 300.0)
    assert again.said == ["forecast_state_restored"]


def test_a_state_of_another_world_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with Life(path) as forecaster:
        forecaster.update(samples(0, 288), 288 * 300.0)
    with (life := Life(path)) as forecaster:
        assert forecaster.update(samples(0, 3), 3 * 300.0).issued_at_seconds == 900.0
    assert life.said == ["forecast_state_refused"]


def test_a_folder_that_is_not_there_stops_nothing(tmp_path: Path) -> None:
    with (life := Life(tmp_path / "nowhere" / "state")) as forecaster:
        assert forecaster.update(samples(0, 3), 900.0).series
    assert life.said == ["forecast_state_not_saved"]
