"""Figures from a stream of events made by hand, so that each can be checked on paper."""

import io

import msgspec
import pytest

from scheduler.simulation.events import (
    Event,
    FileSink,
    JobLine,
    Load,
    LoanLine,
    NodeLine,
    PlanLine,
    RecallLine,
    ReplicaLine,
    ReserveLine,
    Slo,
    ViolationLine,
    tee,
)
from scheduler.simulation.score import Figures, Score

STEP = 5.0
END = 3600.0
POOL = ("m", "decode", "H100")


def load(t: float, served: float, capacity: float, *, arrived: float = 0.0) -> Load:
    return Load(t, *POOL, arrived, served, 0.0, 1, capacity, 7.0, 3.0)


def replica(t: float, state: str, gpus: int = 0, name: str = "r") -> ReplicaLine:
    names = tuple(f"{name}/{index}" for index in range(gpus))
    line = {"kind": "replica", "t": t, "id": name, "model": "m", "role": "decode"}
    line |= {"gpu_model": "H100", "state": state, "tier": "weights", "gpus": names}
    return msgspec.convert(line, ReplicaLine)


def job(t: float, state: str, gpus: str = "", kept: float = 0.0, lost: float = 0.0) -> JobLine:
    line = {"kind": "job", "t": t, "id": "j", "tenant": "a", "state": state}
    line |= {"gpus": gpus.split(), "kept_gpu_seconds": kept, "lost_gpu_seconds": lost}
    return msgspec.convert(line, JobLine)


def figures(*events: Event) -> Figures:
    fold = Score(STEP, END)
    for event in events:
        fold(event)
    return fold.figures()


def test_online_hours_count_from_bound_to_gone_and_reserved_gpus_with_them() -> None:
    found = figures(
        NodeLine(-100.0, "n", 8, ready=True),
        replica(-50.0, "starting"),
        replica(600.0, "starting", 2),
        replica(700.0, "ready", 2),
        ReserveLine(900.0, ("n/6", "n/7")),
        ReserveLine(1800.0, ("n/7",)),
        replica(2400.0, "draining", 2),
        replica(2500.0, "gone"),
    )
    held, reserved = 2 * 1900, 2 * 900 + 1800
    assert found.gpu_hours == 8.0
    assert found.online_gpu_hours == pytest.approx((held + reserved) / 3600)
    assert found.allocated_utilisation == pytest.approx(held / 3600 / 8)
    assert found.batch_gpu_hours_lendable == pytest.approx(8 - (held + reserved) / 3600)


def test_a_lost_node_leaves_the_denominator_until_it_is_back() -> None:
    found = figures(
        NodeLine(-100.0, "n", 8, ready=True),
        NodeLine(0.0, "n", 8, ready=True),
        NodeLine(900.0, "n", 8, ready=False),
        NodeLine(1800.0, "n", 8, ready=True),
    )
    assert found.gpu_hours == 6.0
    assert found.wasted_gpu_hours == 6.0


def test_online_progress_is_the_share_of_true_capacity_and_never_more() -> None:
    found = figures(
        NodeLine(0.0, "n", 8, ready=True),
        replica(-9.0, "starting", 4),
        replica(-5.0, "ready", 4),
        load(-5.0, served=50.0, capacity=10.0),  # before 0: not scored
        load(0.0, served=25.0, capacity=10.0, arrived=40.0),  # half of 50
        load(5.0, served=60.0, capacity=10.0, arrived=20.0),  # more than all
        load(10.0, served=0.0, capacity=0.0),
        load(3600.0, served=50.0, capacity=10.0),  # after the end
    )
    assert found.online_productive_gpu_hours == pytest.approx(4 * (2.5 + 5.0) / 3600)
    assert (found.tokens_demanded, found.tokens_served) == (60.0, 85.0)
    assert (found.tokens_served_draining, found.tokens_refused) == (21.0, 9.0)
    productive = found.online_productive_gpu_hours / 8
    assert found.productive_utilisation == pytest.approx(productive)


def test_batch_progress_is_kept_at_the_end_less_kept_at_0() -> None:
    found = figures(
        NodeLine(0.0, "n", 8, ready=True),
        job(-900.0, "running", "n/0 n/1"),
        job(0.0, "running", "n/0 n/1", kept=1000.0, lost=50.0),
        job(1000.0, "stopped", "n/0 n/1", kept=2800.0, lost=50.0),
        job(1005.0, "queued", kept=400.0, lost=2450.0),
        job(2000.0, "running", "n/4 n/5", kept=400.0, lost=2450.0),
        job(3600.0, "running", "n/4 n/5", kept=3400.0, lost=2550.0),
    )
    assert found.batch_productive_gpu_hours == pytest.approx(2400 / 3600)
    assert found.batch_gpu_hours_lost == pytest.approx(2500 / 3600)
    assert found.batch_gpu_hours_lent == pytest.approx(2 * (1005 + 1600) / 3600)
    assert (found.evictions, found.moves) == (1, 1)


def test_a_done_job_keeps_what_it_made() -> None:
    found = figures(
        job(0.0, "queued"),
        job(100.0, "running", "n/0"),
        job(460.0, "done", kept=350.0),
    )
    assert found.batch_productive_gpu_hours == pytest.approx(350 / 3600)
    assert found.batch_gpu_hours_lent == pytest.approx(0.1)


def test_the_same_gpus_again_are_no_move() -> None:
    found = figures(
        job(1.0, "running", "n/0 n/1"),
        job(2.0, "stopped", "n/0 n/1"),
        job(3.0, "queued"),
        job(4.0, "running", "n/1 n/0"),
    )
    assert (found.evictions, found.moves) == (1, 0)


def test_attainment_is_over_tokens_due_and_the_worst_model_stands_alone() -> None:
    found = figures(
        Slo(-5.0, "a", 1000.0, 0.0),
        Slo(0.0, "a", 90.0, 90.0),
        Slo(0.0, "b", 10.0, 5.0),
        Slo(5.0, "silent", 0.0, 0.0),
    )
    assert found.slo_attainment == pytest.approx(0.95)
    assert found.slo_attainment_worst_model == pytest.approx(0.5)


def test_starts_run_from_the_creation_to_ready() -> None:
    found = figures(
        replica(-40.0, "starting", 0, "a"),
        replica(-10.0, "starting", 2, "a"),
        replica(20.0, "ready", 2, "a"),
        replica(20.0, "ready", 2, "a"),  # the same state again is no second start
        replica(100.0, "starting", 2, "b"),
        replica(200.0, "ready", 2, "b"),
        replica(300.0, "starting", 2, "never"),
    )
    record = found.record()
    assert record["starts"] == record["starts_weights"] == 2
    assert record["start_seconds_p50"] == pytest.approx(80.0)
    assert record["start_seconds_p99_weights"] == pytest.approx(60 + 0.99 * 40)


def test_scale_changes_count_a_role_once_per_instant() -> None:
    found = figures(
        replica(10.0, "starting", 0, "a"),
        replica(10.0, "starting", 0, "b"),  # same instant, same role
        replica(15.0, "starting", 2, "a"),  # bound
        replica(15.0, "gone", 0, "b"),  # taken back before it was bound
        replica(90.0, "ready", 2, "a"),
        replica(100.0, "draining", 2, "a"),
        replica(120.0, "gone", 0, "a"),
    )
    assert found.scale_changes == 3


def test_a_recall_is_late_beyond_what_was_promised() -> None:
    found = figures(
        LoanLine(5.0, "l", 8, 900.0),
        RecallLine(300.0, "l", need_t=150.0, promised_p99_seconds=150.0, ready_t=300.0),
        RecallLine(400.0, "k", need_t=245.0, promised_p99_seconds=150.0, ready_t=400.0),
        PlanLine(400.0, "full", 3, 2.0),
        ViolationLine(-7.0, "world", "two holders"),
    )
    assert (found.loans, found.recalls, found.late_recalls) == (1, 2, 1)
    assert (found.plans, found.actions, found.violations) == (1, 3, 1)


def test_an_empty_run_has_no_division_by_nothing() -> None:
    found = figures()
    assert found.productive_utilisation == 0.0
    assert found.record()["start_seconds_p99"] is None


def test_lines_come_back_from_the_file_as_they_went_in() -> None:
    events: list[Event] = [
        NodeLine(-1.5, "n", 8, ready=True),
        replica(0.0, "asleep", 2),
        job(0.0, "notified", "n/0", kept=1.25),
        load(0.0, served=1.0, capacity=0.1),
    ]
    file, copy = io.BytesIO(), list[Event]()
    sink = tee(FileSink(file), copy.append)
    for event in events:
        sink(event)
    lines = file.getvalue().splitlines()
    assert [msgspec.json.decode(line, type=Event) for line in lines] == events == copy
    assert lines[0] == b'{"kind":"node","t":-1.5,"id":"n","gpus":8,"ready":true}'
