"""The virtual cluster through its ports: replicas, jobs, and actions on them."""

from collections import Counter

import pytest

from scheduler.planning.actions import (
    Action,
)
from scheduler.ports import Actuator, Clock, Observer, WorldEndedError
from scheduler.simulation.events import (
    JobLine,
    ReplicaLine,
)
from tests.simulation.virtual import (
    DECODE,
    PREFILL,
    STEP,
    details,
    held,
    job,
    made,
    notify,
    reservation,
    resize,
    scale,
    start,
    stop,
    the_job,
)

# ---- ports -------------------------------------------------------------------------------


def test_it_is_what_the_daemon_needs() -> None:
    cluster, _ = made()
    observer: Observer = cluster
    actuator: Actuator = cluster
    clock: Clock = cluster
    assert observer.observe().now_seconds == 0.0
    assert actuator.apply((), 0) == ()
    clock.wait_until(1.0)
    assert cluster.now_seconds == STEP
    clock.charge_planning("full")
    assert cluster.now_seconds == 2 * STEP


def test_time_goes_to_the_end_and_no_further() -> None:
    cluster, events = made(steps=3)
    cluster.wait_until(3 * STEP)
    assert cluster.ended
    count = len(events)
    with pytest.raises(WorldEndedError):
        cluster.wait_until(3 * STEP + 1)
    assert details(cluster, scale(1, 0)) == ["the run has ended"]
    assert len(events) == count


def test_demand_is_seen_as_it_closes() -> None:
    cluster, _ = made()
    assert [sample.key for sample in cluster.history()] == [
        "code/requests",
        "code/prompt_tokens",
        "code/generated_tokens",
    ]
    cluster.advance(299.0)
    assert [sample.start_seconds for sample in cluster.samples()] == [0.0, 0.0, 0.0]
    assert cluster.samples() == ()
    cluster.advance(900.0)
    assert {sample.start_seconds for sample in cluster.samples()} == {300.0, 600.0}


# ---- replicas ----------------------------------------------------------------------------


def test_a_replica_lives_its_life() -> None:
    cluster, events = made()
    assert details(cluster, scale(1, 0), scale(1, 0, role=PREFILL)) == ["", ""]
    (replica, _) = cluster.observe().replicas
    assert (replica.id, replica.state, replica.parts) == ("code-decode-00001", "pending", ())
    cluster.advance(STEP)
    replica = cluster.observe().replicas[0]
    assert (replica.state, replica.gpu_model) == ("starting", "H100-SXM-80GB")
    assert replica.pods[0].devices == (0,)
    assert replica.pods[0].bound_seconds == 0.0
    cluster.advance(600.0)
    snapshot = cluster.observe()
    replica = snapshot.replicas[0]
    assert replica.state == "ready"
    assert replica.ready_seconds is not None
    assert next(s for s in snapshot.starts if s.role == DECODE).samples == 1
    assert details(cluster, scale(0, 1, replica.id)) == [""]
    cluster.advance(605.0)
    assert cluster.observe().replicas[0].state == "draining"
    assert held(cluster.observe())[replica.id] == 1
    cluster.advance(1000.0)
    assert [one.role for one in cluster.observe().replicas] == [PREFILL]
    states = [e.state for e in events if isinstance(e, ReplicaLine) and e.id == replica.id]
    assert states == ["starting", "starting", "ready", "draining", "gone"]


def test_the_named_go_first_and_then_the_youngest() -> None:
    cluster, _ = made()
    cluster.apply((scale(5, 0),), 0)
    cluster.advance(600.0)
    cluster.apply((scale(3, 5, "code-decode-00002"),), 0)
    live = [one.id[-1] for one in cluster.observe().replicas if one.state != "draining"]
    assert live == ["1", "3", "4"]
    cluster.apply((scale(3, 3, "code-decode-00001"),), 0)
    live = [one.id[-1] for one in cluster.observe().replicas if one.state != "draining"]
    assert live == ["3", "4", "6"]


def test_what_waits_goes_at_once_and_before_what_runs() -> None:
    cluster, _ = made(nodes=1)
    cluster.apply((scale(10, 0),), 0)
    cluster.advance(600.0)
    assert Counter(one.state for one in cluster.observe().replicas) == {"ready": 8, "pending": 2}
    cluster.apply((scale(8, 10),), 0)
    assert Counter(one.state for one in cluster.observe().replicas) == {"ready": 8}


def test_signals_are_those_of_the_last_minute() -> None:
    cluster, _ = made()
    cluster.apply((scale(1, 0), scale(1, 0, role=PREFILL)), 0)
    cluster.advance(1200.0)
    snapshot = cluster.observe()
    decode_signal = next(one for one in snapshot.signals if one.role == DECODE)
    assert decode_signal.status == "live"
    assert decode_signal.arrived_tokens_per_second == pytest.approx(20 * 200 / STEP, rel=0.05)
    assert 0 < decode_signal.utilisation < 1
    known = [one for one in snapshot.capacities if one.samples]
    assert {one.role for one in known} == {DECODE, PREFILL}
    assert cluster.observe().capacities == snapshot.capacities


# ---- actions -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (scale(3, 1), "expected 1, spec has 2"),
        (scale(2, 2), "nothing to do"),
        (scale(-1, 2), "must not be negative"),
        (scale(1, 2, "code-decode-00009"), "cannot retire code-decode-00009"),
        (scale(1, 0, role="code/ghost"), "there is no role code/ghost"),
        (start("ghost"), "there is no job ghost"),
        (start("j", attempt=0), "expected attempt 0, it is at 1"),
        (start("j", attempt=1), "it is running, not queued"),
        (start("q", pods=2), "pods must lie in 1 to 1"),
        (stop("q", attempt=0), "it is queued"),
        (notify("q", attempt=0), "it is queued"),
        (resize(2), "pods must lie in 1 to 1"),
        (resize(1), "nothing to do"),
    ],
)
def test_an_action_whose_precondition_fails_is_dropped(action: Action, said: str) -> None:
    cluster, events = made(jobs=[job(), job("q")])
    cluster.apply((scale(2, 0), start()), 0)
    cluster.advance(60.0)
    before, count = cluster.observe(), len(events)
    (outcome,) = cluster.apply((action,), 0)
    assert not outcome.applied
    assert said in outcome.detail
    assert cluster.observe() == before
    assert len(events) == count


@pytest.mark.parametrize("action", [scale(3, 2), scale(1, 2), start("q"), stop(), notify()])
def test_the_second_time_does_nothing(action: Action) -> None:
    cluster, events = made(jobs=[job(), job("q")])
    cluster.apply((scale(2, 0), start()), 0)
    cluster.advance(60.0)
    assert cluster.apply((action,), 0)[0].applied
    before, count = cluster.observe(), len(events)
    assert not cluster.apply((action,), 0)[0].applied
    assert cluster.observe() == before
    assert len(events) == count


def test_an_old_epoch_is_fenced_off() -> None:
    cluster, _ = made()
    assert details(cluster, scale(1, 0), epoch=4) == [""]
    assert details(cluster, scale(2, 1), epoch=3) == ["epoch 3 is fenced off by 4"]
    cluster.reserve((reservation("node-0001"),), 3)
    assert cluster.observe().reservations == ()
    assert cluster.observe().epoch == 4
    cluster.reserve((reservation("node-0001"),), 5)
    assert details(cluster, scale(2, 1), epoch=4) == ["epoch 4 is fenced off by 5"]


# ---- jobs --------------------------------------------------------------------------------


def test_a_job_runs_on_a_loan_and_is_done() -> None:
    cluster, events = made(jobs=[job()])
    queued = the_job(cluster.observe())
    assert (queued.state, queued.attempt, queued.gpus) == ("queued", 0, 8)
    cluster.apply((start(),), 0)
    assert [loan.job for loan in cluster.observe().loans] == ["j"]
    cluster.advance(60.0)
    running = the_job(cluster.observe())
    assert (running.state, running.attempt, running.parts) == ("running", 1, (("node-0001", 8),))
    assert running.expected_remaining_seconds == 550.0
    cluster.advance(900.0)
    assert cluster.observe().jobs == ()
    assert cluster.observe().loans == ()
    lines = [event for event in events if isinstance(event, JobLine)]
    assert [line.state for line in lines] == ["queued", "running", "running", "done"]
    # 10 s of start, 600 s of work, two checkpoints of 20 s; seen on the step grid
    assert (lines[-1].t, lines[-1].kept_gpu_seconds) == (650.0, 4800.0)


def test_a_stopped_job_holds_its_gpus_until_it_is_gone_and_is_queued_again() -> None:
    cluster, events = made(jobs=[job()])
    cluster.apply((start(),), 0)
    cluster.advance(110.0)
    cluster.apply((stop(),), 0)
    assert the_job(cluster.observe()).state == "stopping"
    cluster.advance(125.0)
    assert held(cluster.observe())["j"] == 8
    cluster.advance(130.0)  # 20 s of write fit its grace
    again = the_job(cluster.observe())
    assert (again.state, again.attempt, again.placed) == ("queued", 1, ())
    assert again.expected_remaining_seconds == 550.0
    assert held(cluster.observe()) == Counter()
    assert cluster.observe().loans == ()
    last = [event for event in events if isinstance(event, JobLine)][-1]
    assert (last.state, last.kept_gpu_seconds, last.lost_gpu_seconds) == ("queued", 800.0, 0.0)


def test_notice_acknowledgement_stop() -> None:
    cluster, _ = made(jobs=[job()])
    cluster.apply((start(),), 0)
    cluster.advance(110.0)
    cluster.apply((notify(for_role=DECODE),), 0)
    noticed = the_job(cluster.observe())
    assert (noticed.state, noticed.notice_for) == ("notified", DECODE)
    assert noticed.notice_deadline_seconds == 1e6
    cluster.advance(130.0)
    assert the_job(cluster.observe()).state == "acknowledged"
    cluster.apply((stop(for_role=DECODE),), 0)
    cluster.advance(135.0)
    back = the_job(cluster.observe())
    assert (back.state, back.notice_for, back.notice_deadline_seconds) == ("queued", "", None)


def test_a_gang_starts_when_all_its_pods_are_bound_and_not_before() -> None:
    cluster, _ = made(nodes=2, jobs=[job(pods=2, min_pods=2, max_pods=2), job("small")])
    cluster.apply((start("small"),), 0)
    cluster.advance(STEP)
    cluster.apply((start(pods=2),), 0)
    cluster.advance(300.0)
    waiting = the_job(cluster.observe())
    assert (waiting.state, len(waiting.parts)) == ("starting", 1)
    cluster.apply((stop("small"),), 0)
    cluster.advance(400.0)
    assert the_job(cluster.observe()).state == "running"


def test_a_gang_that_never_got_whole_gives_back_what_it_held() -> None:
    cluster, events = made(nodes=1, jobs=[job(pods=2, min_pods=2, max_pods=2)])
    cluster.apply((start(pods=2),), 0)
    cluster.advance(60.0)
    cluster.apply((stop(),), 0)
    assert the_job(cluster.observe()).state == "stopping"
    cluster.advance(65.0)
    assert the_job(cluster.observe()).state == "queued"
    assert held(cluster.observe()) == Counter()
    last = [event for event in events if isinstance(event, JobLine)][-1]
    assert (last.kept_gpu_seconds, last.lost_gpu_seconds) == (0.0, 0.0)


def test_an_elastic_job_shrinks_and_grows() -> None:
    cluster, _ = made(nodes=4, jobs=[job(pods=3, min_pods=1, max_pods=3)])
    cluster.apply((start(pods=3),), 0)
    cluster.advance(60.0)
    assert details(cluster, resize(2, "j-1-0")) == [""]
    shrinking = the_job(cluster.observe())
    assert len(shrinking.parts) == 3  # the pod holds its devices until it is gone
    cluster.advance(65.0)
    assert [pod.name for pod in the_job(cluster.observe()).placed] == ["j-1-1", "j-1-2"]
    assert details(cluster, resize(3)) == [""]
    cluster.advance(70.0)
    assert [pod.name for pod in the_job(cluster.observe()).placed] == ["j-1-1", "j-1-2", "j-1-3"]


def test_online_pods_are_bound_before_batch_pods() -> None:
    cluster, _ = made(nodes=1, jobs=[job()])
    cluster.apply((start(), scale(1, 0)), 0)
    cluster.advance(STEP)
    assert held(cluster.observe()) == Counter({"code-decode-00001": 1})
