"""The ledger: what goes in comes out, byte for byte; gaps, retention, foreign files."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binpacking.inventory import Device, Node
from scheduler.adapters import deltas
from scheduler.adapters.ledger import (
    KEY_EVERY,
    Gap,
    LedgerFormatError,
    SqliteLedger,
    UnknownTickError,
    open_ledger,
)
from scheduler.planning.actions import Plan, Sizing, StopJob
from scheduler.planning.memory import Memory, Vote
from scheduler.planning.snapshot import Role, Snapshot
from scheduler.ports import Outcome, Tick
from tests.fixtures.everything import full_snapshot

ROOT = Path(__file__).parents[2]
KILLED = """
import os, sys
from pathlib import Path
from scheduler.adapters.ledger import open_ledger
from tests.adapters.test_ledger import tick
ledger = open_ledger(Path(sys.argv[1]))
for number in (1, 2):
    ledger.record(tick(number))
os._exit(9)
"""


def memory(number: int) -> Memory:
    return Memory(since_seconds=0.5, votes={"chat/decode": (Vote(float(number), 1000),)})


def tick(number: int, snapshot: Snapshot | None = None) -> Tick:
    """A tick whose memory follows on the tick before."""
    stop = StopJob(job="j", expected_attempt=1, for_role="r", code="recall_now", sentence="now")
    sizing = Sizing(
        role="r",
        tokens_per_second=1.5,
        replica_tokens_per_second=2.5,
        held_milli=0,
        wanted_milli=number,
    )
    return Tick(
        number=number,
        snapshot=snapshot or world(number),
        memory_before=memory(number - 1),
        memory_after=memory(number),
        policy=b'{"version": 1}',
        effort="quick" if number % 4 else "full",
        plan=Plan(
            at_seconds=15.0 * number,
            source="full",
            actions=(stop,),
            sizings=(sizing,),
            summary=f"tick {number}",
        ),
        outcomes=(Outcome(stop, applied=number % 2 == 0, detail="done"),),
        violations=("lost a GPU",) if number == 3 else (),
    )


def world(number: int) -> Snapshot:
    """The full snapshot, a little different at each number."""
    snapshot = full_snapshot()
    some = number % len(snapshot.jobs)
    return msgspec.structs.replace(
        snapshot,
        now_seconds=15.0 * number,
        jobs=(*snapshot.jobs[some:], *snapshot.jobs[:some]),
        replicas=snapshot.replicas[: 1 + number % 4],
        forecasts=snapshot.forecasts if number % 5 else None,
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with open_ledger(tmp_path / "ledger.db") as opened:
        yield opened


def test_a_tick_comes_back_byte_for_byte(ledger: SqliteLedger) -> None:
    recorded = [tick(number) for number in range(1, 2 * KEY_EVERY + 5)]
    for one in recorded:
        assert ledger.next_number() == one.number
        ledger.record(one)
    for one in recorded:
        found = ledger.tick(one.number)
        assert found == one
        assert msgspec.msgpack.encode(found) == msgspec.msgpack.encode(one)


def test_a_memory_that_does_not_follow_is_kept(ledger: SqliteLedger) -> None:
    ledger.record(tick(1))
    fresh = msgspec.structs.replace(tick(2), memory_before=Memory())
    ledger.record(fresh)
    assert ledger.tick(2) == fresh


def test_lines_say_what_a_tick_did(ledger: SqliteLedger) -> None:
    for number in range(1, 5):
        ledger.record(tick(number))
    lines = ledger.ticks(2, 9)
    assert [line.number for line in lines] == [2, 3, 4]
    second = lines[1]
    assert (second.at_seconds, second.effort, second.source) == (45.0, "quick", "full")
    assert (second.actions, second.applied, second.violations) == (1, 0, 1)
    assert second.summary == "tick 3"


def test_an_unknown_tick_is_an_error_that_names_the_range(ledger: SqliteLedger) -> None:
    with pytest.raises(UnknownTickError, match="tick 1 is not in the ledger; it holds none"):
        ledger.tick(1)
    for number in (4, 5):
        ledger.record(tick(number))
    with pytest.raises(UnknownTickError, match="tick 6 is not in the ledger; it holds 4 to 5"):
        ledger.tick(6)


def test_a_number_is_recorded_once(ledger: SqliteLedger) -> None:
    ledger.record(tick(4))
    with pytest.raises(ValueError, match=r"tick\.number is 4; .* at least 5"):
        ledger.record(tick(4))


def test_a_clean_end_leaves_no_gap(tmp_path: Path) -> None:
    for number in (1, 2):
        with open_ledger(tmp_path / "l.db") as opened:
            opened.record(tick(number))
    with open_ledger(tmp_path / "l.db") as opened:
        assert opened.gaps() == ()
        assert [opened.tick(number) for number in (1, 2)] == [tick(1), tick(2)]


def test_an_unclean_end_and_a_hole_are_gaps(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, path], cwd=ROOT, check=False, capture_output=True
    )
    assert killed.returncode == 9, killed.stderr
    with open_ledger(path) as reader:
        assert reader.gaps() == ()
    with open_ledger(path) as opened:
        assert opened.next_number() == 3
        opened.record(tick(3))
        opened.record(tick(7))
        assert opened.gaps() == (Gap(2, 3), Gap(3, 7))
        assert [opened.tick(number) for number in (2, 3, 7)] == [tick(2), tick(3), tick(7)]


def test_retention_drops_whole_groups(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "l.db", retain_ticks=KEY_EVERY + 2) as opened:
        for number in range(1, 4 * KEY_EVERY + 2):
            one = tick(number)
            policy = f'{{"version": {number // KEY_EVERY}}}'.encode()
            opened.record(msgspec.structs.replace(one, policy=policy))
        first = 2 * KEY_EVERY + 1
        assert opened.ticks(0, 999)[0].number == first
        assert opened.tick(first).snapshot == tick(first).snapshot
        with pytest.raises(UnknownTickError, match=f"it holds {first} to"):
            opened.tick(first - 1)


def test_a_refused_write_stores_nothing_and_the_next_tick_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    with open_ledger(path) as opened:
        opened.record(tick(1))
        with sqlite3.connect(path) as other:
            other.execute(
                "CREATE TRIGGER full BEFORE INSERT ON ticks WHEN NEW.number = 2"
                " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        other.close()
        with pytest.raises(sqlite3.Error, match="disk full"):
            opened.record(tick(2))
        opened.record(tick(3))
        assert opened.tick(3) == tick(3)
        assert opened.gaps() == (Gap(1, 3),)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE TABLE other (a)", "something else"),
        ("PRAGMA user_version = 99", "version 99, this Tidal reads version 1; move the file"),
    ],
)
def test_another_database_is_refused(tmp_path: Path, statement: str, named: str) -> None:
    path = tmp_path / "l.db"
    if "user_version" in statement:
        open_ledger(path).close()
    with sqlite3.connect(path) as other:
        other.execute(statement)
    other.close()
    with pytest.raises(LedgerFormatError, match=named):
        open_ledger(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    path.write_bytes(b"not a database, and long enough to show it" * 40)
    with pytest.raises(LedgerFormatError, match=r"l\.db is no ledger"):
        open_ledger(path)


# ---- deltas ----------------------------------------------------------------------------------

NAMES = st.lists(st.sampled_from("abcde"), max_size=6)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Snapshots whose entities come, go, change, change places and repeat."""
    devices = tuple(Device(index, f"d{index}", 80) for index in range(2))
    nodes = tuple(
        Node(
            name=name,
            gpu_model="H",
            switch_path=("s",),
            devices=devices[: draw(st.integers(0, 2))],
        )
        for name in draw(NAMES)
    )
    roles = tuple(
        Role(key=name, model="m", role="r", replicas=draw(st.integers(0, 1)))
        for name in draw(NAMES)
    )
    forecasts = full_snapshot().forecasts if draw(st.booleans()) else None
    return Snapshot(
        now_seconds=draw(st.floats(0, 9)), nodes=nodes, roles=roles, forecasts=forecasts
    )


@given(st.lists(snapshots(), min_size=1, max_size=5))
def test_a_chain_of_deltas_gives_every_snapshot_back(chain: list[Snapshot]) -> None:
    frame: deltas.Frame = {}
    bodies: dict[str, dict[str, bytes]] = {}
    for snapshot in chain:
        after = deltas.frame_of(snapshot, frame)
        bodies = deltas.applied(bodies, deltas.delta(frame, after))
        frame = after
        found = deltas.snapshot_of(bodies)
        assert msgspec.msgpack.encode(found) == msgspec.msgpack.encode(snapshot)


def test_an_unchanged_snapshot_costs_next_to_nothing() -> None:
    before = deltas.frame_of(full_snapshot(), {})
    assert len(deltas.delta({}, before)) > 1000
    assert len(deltas.delta(before, deltas.frame_of(full_snapshot(), before))) < 20


def test_every_collection_of_a_snapshot_is_stored_by_entity() -> None:
    collections = {
        field.name for field in msgspec.structs.fields(Snapshot) if field.default == ()
    } | {"nodes"}
    assert set(deltas.KEYS) == collections
