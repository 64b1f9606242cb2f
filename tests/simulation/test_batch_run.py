"""The life of a batch job: progress, checkpoints, notice and SIGTERM, to the second."""

from collections.abc import Callable
from math import inf

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.simulation.batch import Run
from scheduler.simulation.jobs import JobSpec
from scheduler.simulation.worldfile import load_world

BATCH = load_world().batch

PLAIN = JobSpec(
    id="j",
    tenant="t",
    priority=1,
    pods=1,
    gpus_per_pod=2,
    min_pods=1,
    max_pods=1,
    submitted_seconds=0.0,
    duration_seconds=1000.0,
    declared_seconds=1000.0,
    restart_seconds=50.0,
    grace_seconds=30.0,
)
"""Two GPUs for 1000 s: 2000 GPU-seconds of work; writes no checkpoints."""

WRITES = msgspec.structs.replace(
    PLAIN, checkpoint_interval_seconds=300.0, checkpoint_write_seconds=20.0
)
"""Starts at 0, works from 10 to 310, writes to 330, works to 630, ..., is done at 1070."""

ON_NOTICE = msgspec.structs.replace(WRITES, writes_on_notice=True)
SLOW = msgspec.structs.replace(ON_NOTICE, checkpoint_write_seconds=40.0)
"""Its checkpoint takes longer than its grace."""


def begun(spec: JobSpec, *, pods: int | None = None) -> Run:
    run = Run(spec, BATCH)
    run.attempt = 1
    run.start(pods or spec.pods, 0.0)
    return run


def at(run: Run, now: float) -> tuple[str, float, float]:
    run.advance(now)
    return run.phase, run.kept_gpu_seconds(now), run.lost_gpu_seconds(now)


@pytest.mark.parametrize(
    ("spec", "now", "phase", "kept"),
    [
        (PLAIN, 9.0, "starting", 0.0),
        (PLAIN, 10.0, "working", 0.0),
        (PLAIN, 510.0, "working", 1000.0),
        (PLAIN, 1009.0, "working", 1998.0),
        (PLAIN, 1010.0, "done", 2000.0),
        (PLAIN, 9999.0, "done", 2000.0),
        (WRITES, 309.0, "working", 598.0),
        (WRITES, 320.0, "writing", 600.0),
        (WRITES, 331.0, "working", 602.0),
        (WRITES, 1069.0, "working", 1998.0),
        (WRITES, 1070.0, "done", 2000.0),
    ],
)
def test_an_undisturbed_job(spec: JobSpec, now: float, phase: str, kept: float) -> None:
    assert at(begun(spec), now) == (phase, kept, 0.0)


@pytest.mark.parametrize(
    ("spec", "stop", "gone", "kept", "lost"),
    [
        (PLAIN, 410.0, 413.0, 0.0, 800.0),  # never wrote one: all is lost
        (WRITES, 410.0, 413.0, 600.0, 160.0),  # back to the checkpoint at 310
        (WRITES, 320.0, 323.0, 0.0, 600.0),  # that one was not written yet
        (ON_NOTICE, 410.0, 430.0, 760.0, 0.0),  # writes inside its grace
        (ON_NOTICE, 320.0, 330.0, 600.0, 0.0),  # finishes the write it is in
        (SLOW, 410.0, 413.0, 600.0, 120.0),  # 40 s of write do not fit 30 s of grace
        (SLOW, 325.0, 350.0, 600.0, 0.0),  # 25 s of it are left, and fit
        (ON_NOTICE, 5.0, 8.0, 0.0, 0.0),  # nothing was done yet
    ],
)
def test_sigterm(spec: JobSpec, stop: float, gone: float, kept: float, lost: float) -> None:
    run = begun(spec)
    run.terminate(stop)
    assert at(run, gone - 0.5)[0] == "exiting"
    assert at(run, gone) == ("idle", kept, lost)
    assert run.wakes_seconds == inf


def test_progress_counts_as_kept_until_it_is_lost() -> None:
    run = begun(WRITES)
    run.terminate(410.0)
    assert at(run, 412.0) == ("exiting", 760.0, 0.0)
    assert at(run, 413.0) == ("idle", 600.0, 160.0)


def test_a_notice_writes_at_once_and_then_waits_with_its_gpus() -> None:
    run = begun(ON_NOTICE)
    run.notify(600.0, 410.0)
    assert at(run, 429.0) == ("writing", 760.0, 0.0)
    assert at(run, 430.0) == ("paused", 760.0, 0.0)
    assert run.last_checkpoint_seconds == 430.0
    assert at(run, 5000.0) == ("paused", 760.0, 0.0)
    run.terminate(5000.0)
    assert at(run, 5000.0 + BATCH.exit_seconds) == ("idle", 760.0, 0.0)
    assert (run.noticed, run.deadline_seconds) == (False, None)


@pytest.mark.parametrize(
    ("spec", "notice", "later", "phase"),
    [
        (ON_NOTICE, 320.0, 330.0, "paused"),  # the write under way is the one
        (ON_NOTICE, 5.0, 5.0, "paused"),  # while it starts there is nothing to write
        (WRITES, 410.0, 500.0, "working"),  # cannot write on notice: works on
        (WRITES, 410.0, 1070.0, "done"),
    ],
)
def test_a_notice(spec: JobSpec, notice: float, later: float, phase: str) -> None:
    run = begun(spec)
    run.notify(600.0, notice)
    assert at(run, later)[0] == phase


def test_a_second_start_costs_the_restart_and_counts_it_as_lost() -> None:
    run = begun(WRITES)
    run.terminate(410.0)
    run.advance(500.0)
    run.attempt = 2
    run.start(1, 500.0)
    assert at(run, 530.0) == ("starting", 600.0, 160.0 + 60.0)
    assert at(run, 550.0) == ("working", 600.0, 160.0 + 100.0)
    assert at(run, 560.0) == ("working", 620.0, 260.0)


def test_a_restart_cut_short_counts_as_far_as_it_came() -> None:
    run = begun(PLAIN)
    run.tear_away(20.0)
    run.start(1, 30.0)
    run.tear_away(40.0)
    assert at(run, 40.0) == ("idle", 0.0, 20.0 + 20.0)


def test_what_is_torn_away_is_lost_at_once() -> None:
    run = begun(ON_NOTICE)
    run.tear_away(410.0)
    assert at(run, 410.0) == ("idle", 600.0, 160.0)


def test_speed_is_proportional_to_pods() -> None:
    spec = msgspec.structs.replace(WRITES, pods=4, min_pods=2, max_pods=4)
    run = begun(spec)
    run.resize(2, 110.0)  # 100 s at 8 GPUs, then 4
    assert at(run, 210.0) == ("working", 800.0 + 400.0, 0.0)
    run.resize(4, 210.0)
    assert at(run, 310.0) == ("writing", 1200.0 + 800.0, 0.0)


def test_a_shrunken_job_still_writes_its_checkpoint_before_it_is_done() -> None:
    spec = msgspec.structs.replace(WRITES, pods=2, max_pods=2, checkpoint_interval_seconds=1500.0)
    run = begun(spec)  # would be done at 1010, before its first checkpoint
    run.resize(1, 10.0)
    assert at(run, 1511.0)[0] == "writing"


def test_remaining_is_what_the_owner_declared_and_the_restart_to_come() -> None:
    spec = msgspec.structs.replace(WRITES, declared_seconds=700.0)
    run = begun(spec)
    assert run.remaining_seconds(0.0) == 700.0 + BATCH.first_start_seconds
    run.advance(110.0)
    assert run.remaining_seconds(110.0) == 600.0
    run.tear_away(110.0)
    assert run.remaining_seconds(110.0) == 700.0 + 50.0


Deed = Callable[[Run, float], None]
DEEDS: dict[str, Deed] = {
    "notify": lambda run, now: run.notify(now + 60.0, now),
    "stop": lambda run, now: run.terminate(now),
    "tear": lambda run, now: run.tear_away(now),
    "shrink": lambda run, now: run.resize(1, now) if run.phase == "working" else None,
    "start": lambda run, now: run.start(2, now) if run.phase == "idle" else None,
}


@given(
    st.sampled_from((PLAIN, WRITES, ON_NOTICE, SLOW)),
    st.lists(st.tuples(st.integers(1, 400), st.sampled_from(sorted(DEEDS))), max_size=12),
)
def test_books_balance_and_do_not_depend_on_when_one_looks(
    spec: JobSpec, deeds: list[tuple[int, str]]
) -> None:
    spec = msgspec.structs.replace(spec, pods=2, max_pods=2)
    seldom, often = begun(spec), begun(spec)
    now, lost_before = 0.0, 0.0
    for wait, deed in deeds:
        for second in range(0, wait, 7):
            often.advance(now + second)
        now += wait
        often.advance(now)
        seldom.advance(now)
        for run in (seldom, often):
            DEEDS[deed](run, now)
        kept, lost = seldom.kept_gpu_seconds(now), seldom.lost_gpu_seconds(now)
        assert (kept, lost) == pytest.approx(
            (often.kept_gpu_seconds(now), often.lost_gpu_seconds(now))
        )
        assert 0 <= kept <= spec.work_gpu_seconds
        assert lost >= lost_before - 1e-6
        assert kept + lost <= now * spec.gpus + 1e-6
        lost_before = lost
