"""A ledger written behind: everything arrives, in order, and a failure is not swallowed."""

import threading
from pathlib import Path

import msgspec
import pytest

from scheduler.adapters.ledger import open_ledger
from scheduler.daemon.writebehind import MOST_WAITING, WriteBehind
from scheduler.planning.actions import Plan
from scheduler.planning.memory import Memory
from scheduler.planning.snapshot import Snapshot
from scheduler.ports import Ledger, Tick

TICK = Tick(
    number=1,
    snapshot=Snapshot(now_seconds=0.0, nodes=()),
    memory_before=Memory(),
    memory_after=Memory(),
    policy=b"{}",
    effort="quick",
    plan=Plan(at_seconds=0.0, source="quick"),
    outcomes=(),
)


def numbered(number: int) -> Tick:
    return msgspec.structs.replace(TICK, number=number)


def record_until_refused(ledger: Ledger) -> None:
    with WriteBehind(ledger) as behind:
        behind.record(numbered(1))
        while True:
            behind.record(numbered(1))


def record_twice(ledger: Ledger) -> None:
    with WriteBehind(ledger) as behind:
        behind.record(numbered(1))
        behind.record(numbered(1))


class Held:
    """A ledger that writes once it is let, and notes the order."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.let = threading.Event()

    def record(self, tick: Tick) -> None:
        self.let.wait()
        self.numbers.append(tick.number)

    def next_number(self) -> int:
        return 7


def test_everything_is_in_the_file_at_the_end(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "ledger") as ledger:
        with WriteBehind(ledger) as behind:
            assert behind.next_number() == 1
            for number in range(1, 4 * MOST_WAITING):
                behind.record(numbered(number))
        assert [line.number for line in ledger.ticks(0, 1000)] == [*range(1, 4 * MOST_WAITING)]


def test_a_tick_does_not_wait_for_the_file() -> None:
    held = Held()
    with WriteBehind(held) as behind:
        for number in range(MOST_WAITING):
            behind.record(numbered(number))
        assert held.numbers == []
        held.let.set()
    assert held.numbers == [*range(MOST_WAITING)]


def test_a_failed_write_fails_the_daemon(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "ledger") as ledger:
        with pytest.raises(ValueError, match=r"tick\.number is 1"):
            record_until_refused(ledger)
        assert len(ledger.ticks(0, 1000)) == 1


def test_a_failed_last_write_is_told_at_the_end(tmp_path: Path) -> None:
    refused = pytest.raises(ValueError, match=r"tick\.number is 1")
    with open_ledger(tmp_path / "ledger") as ledger, refused:
        record_twice(ledger)
