"""The forecaster's state in a file: whole or not at all, and refused where it is not ours."""

import errno
import os
from pathlib import Path

import pytest

from forecasting import Sample, State, forecast, initial_state
from forecasting.saved import packed
from scheduler.adapters.statefile import StateFileError, beside, load, save

BEGUN = initial_state()
NOW = 288 * 300.0


@pytest.fixture(scope="module")
def state() -> State:
    samples = [Sample("a/requests", n * 300.0, 300.0, 5.0 + n % 7) for n in range(288)]
    return forecast(initial_state(), samples, NOW)[1]


@pytest.fixture
def file(tmp_path: Path, state: State) -> Path:
    path = tmp_path / "ledger.sqlite.forecast"
    save(path, state)
    return path


def test_the_file_lives_beside_the_ledger() -> None:
    assert beside(Path("/var/lib/tidal/ledger.sqlite")) == Path(
        "/var/lib/tidal/ledger.sqlite.forecast"
    )


def test_a_saved_state_is_read_back(file: Path, state: State) -> None:
    again = load(file, BEGUN, NOW)
    assert again is not None
    assert packed(again) == packed(state)
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_without_a_file_there_is_no_state(tmp_path: Path) -> None:
    assert load(tmp_path / "none", BEGUN, NOW) is None


def test_a_newer_state_replaces_the_file(file: Path, state: State) -> None:
    _, later = forecast(state, [], NOW + 300.0)
    save(file, later)
    again = load(file, BEGUN, NOW + 300.0)
    assert again is not None
    assert again.store.end == state.store.end + 1


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: whole[:0], "no state of a forecaster"),
        (lambda whole: whole[:20], "no state of a forecaster"),
        (lambda whole: b"SQLite format 3\x00" + whole[16:], "no state of a forecaster"),
        (lambda whole: whole[:8] + b"\x00\x00\x00\x00" + whole[12:], "version 0, and this"),
        (lambda whole: whole[:8] + b"\x00\x00\x00\x63" + whole[12:], "version 99, and this"),
        (lambda whole: whole[:-1], "damaged"),
        (lambda whole: whole + b"x", "damaged"),
        (lambda whole: whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], "damaged"),
        (lambda whole: whole[:30] + bytes([whole[30] ^ 1]) + whole[31:], "damaged"),
    ],
    ids=["empty", "short", "foreign", "older", "newer", "cut", "longer", "flipped", "digest"],
)
def test_a_file_that_is_not_whole_is_refused_with_its_name(
    file: Path,
    damage: object,
    words: str,
) -> None:
    assert callable(damage)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(StateFileError, match=words) as caught:
        load(file, BEGUN, NOW)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_state_of_a_time_to_come_is_of_another_world(file: Path) -> None:
    with pytest.raises(StateFileError, match="ends 300 s after now, in another world"):
        load(file, BEGUN, NOW - 300.0)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateFileError, match="cannot be read: Is a directory"):
        load(tmp_path, BEGUN, NOW)


def test_a_full_disk_leaves_the_old_file(
    file: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    _, later = forecast(state, [], NOW + 300.0)
    before = file.read_bytes()
    monkeypatch.setattr("scheduler.adapters.statefile.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(file, later)
    assert file.read_bytes() == before
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_a_folder_that_is_not_there_is_an_error_of_writing(tmp_path: Path, state: State) -> None:
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "nowhere" / "state", state)
