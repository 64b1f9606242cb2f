"""The virtual cluster: reservations, recalls, and what goes wrong."""

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
from scheduler.simulation.faults import (
    LevelShift,
    MetricsAway,
    NodeLoss,
    ScrapesMissing,
    SickGpu,
)
from tests.simulation.virtual import (
    DECODE,
    PREFILL,
    STEP,
    Reserved,
    job,
    made,
    reservation,
    scale,
    start,
    stop,
    the_job,
)

# ---- reservations and recalls --------------------------------------------------------------


def reserve_lines(events: list[Event]) -> list[tuple[float, tuple[str, ...]]]:
    return [(event.t, event.gpus) for event in events if isinstance(event, ReserveLine)]


def test_reserved_gpus_are_said_until_they_are_filled_or_expire() -> None:
    cluster, events = made(placer=Reserved())
    asked = (reservation("node-0001", "a"), reservation("node-0002", "b"))
    cluster.reserve((*asked, reservation("node-0002", "job", owner="j")), 0)
    cluster.advance(60.0)
    cluster.apply((scale(1, 0),), 0)
    cluster.advance(65.0)
    assert [one.id for one in cluster.observe().reservations] == ["b", "job"]
    cluster.reserve(asked, 0)  # the plan had not seen the bind yet
    assert [one.id for one in cluster.observe().reservations] == ["b"]
    cluster.advance(400.0)
    assert cluster.observe().reservations == ()
    assert reserve_lines(events) == [
        (0.0, ("node-0001/0", "node-0002/0")),
        (60.0, ("node-0002/0",)),
        (300.0, ()),
    ]


def recall_run(scale_at: float, requests: float) -> RecallLine:
    """Stop a job for decode at 300 s, and ask for another replica on its node at `scale_at`."""
    cluster, events = made(nodes=1, jobs=[job(duration_seconds=9000.0)], requests=requests)
    cluster.apply((start(),), 0)
    cluster.advance(300.0)
    cluster.apply((stop(for_role=DECODE),), 0)
    cluster.advance(scale_at)
    cluster.apply((scale(1, 0),), 0)
    cluster.advance(3600.0)
    (line,) = [event for event in events if isinstance(event, RecallLine)]
    ready = [e.t for e in events if isinstance(e, ReplicaLine) and e.state == "ready"]
    assert (line.ready_t, line.t) == (ready[0], ready[0])
    assert (line.loan, line.promised_p99_seconds) == ("loan-j-0", 100.0)
    return line


def test_without_need_a_recall_is_not_late() -> None:
    # no prefill replica, so nothing ever reaches decode
    assert recall_run(400.0, requests=20.0).need_t == recall_run(400.0, requests=20.0).ready_t


def test_need_is_the_first_step_in_which_demand_exceeds_what_is_ready() -> None:
    cluster, events = made(nodes=1, jobs=[job(duration_seconds=9000.0, gpus_per_pod=4)])
    cluster.apply((start(), scale(1, 0, role=PREFILL)), 0)
    cluster.advance(600.0)
    cluster.apply((stop(for_role=DECODE),), 0)
    cluster.advance(660.0)
    cluster.apply((scale(1, 0),), 0)
    cluster.advance(1200.0)
    (line,) = [event for event in events if isinstance(event, RecallLine)]
    assert line.need_t == 600.0
    assert line.ready_t > 660.0


def test_a_recall_that_nothing_answers_is_closed() -> None:
    cluster, events = made(nodes=2, jobs=[job()])
    cluster.apply((start(),), 0)
    cluster.advance(60.0)
    cluster.apply((stop(for_role=DECODE),), 0)
    cluster.advance(3600.0)
    (line,) = [event for event in events if isinstance(event, RecallLine)]
    assert (line.t, line.need_t, line.ready_t) == (80.0 + 1800.0,) * 3


# ---- faults ------------------------------------------------------------------------------


def test_a_lost_node_takes_its_work_with_it_and_the_controllers_make_up() -> None:
    loss = NodeLoss(kind="node_loss", node="node-0001", at_seconds=1000.0, for_seconds=500.0)
    big = job(duration_seconds=5000.0, checkpoint_interval_seconds=None, writes_on_notice=False)
    cluster, events = made(nodes=2, jobs=[big], faults=(loss,))
    cluster.apply((scale(4, 0),), 0)
    cluster.advance(STEP)
    cluster.apply((start(),), 0)  # on the second node: the first has 4 GPUs left
    cluster.advance(995.0)
    assert {one.state for one in cluster.observe().replicas} == {"ready"}
    cluster.advance(1000.0)
    snapshot = cluster.observe()
    assert not snapshot.nodes[0].ready
    assert [one.state for one in snapshot.replicas] == ["pending"] * 4
    assert [one.id[-1] for one in snapshot.replicas] == ["5", "6", "7", "8"]
    assert the_job(snapshot).state == "running"
    cluster.advance(1505.0)
    assert {one.state for one in cluster.observe().replicas} == {"starting"}
    nodes = [(e.t, e.ready) for e in events if isinstance(e, NodeLine) and e.id == "node-0001"]
    assert nodes[-2:] == [(1000.0, False), (1500.0, True)]


def test_a_job_on_a_lost_node_loses_what_it_had_not_saved() -> None:
    loss = NodeLoss(kind="node_loss", node="node-0001", at_seconds=300.0, for_seconds=60.0)
    cluster, events = made(jobs=[job()], faults=(loss,))
    cluster.apply((start(),), 0)
    cluster.advance(300.0)
    assert the_job(cluster.observe()).state == "queued"
    last = [event for event in events if isinstance(event, JobLine)][-1]
    # saved at 210, written by 230, lost what it did from then to 300
    assert (last.kept_gpu_seconds, last.lost_gpu_seconds) == (1600.0, 560.0)


def test_a_sick_gpu_takes_no_new_pod() -> None:
    sick = SickGpu(kind="sick_gpu", node="node-0001", index=0, at_seconds=0.0, for_seconds=600.0)
    cluster, _ = made(nodes=1, faults=(sick,))
    cluster.apply((scale(8, 0),), 0)
    cluster.advance(60.0)
    snapshot = cluster.observe()
    assert not snapshot.nodes[0].devices[0].healthy
    assert sorted(pod.devices for r in snapshot.replicas for pod in r.pods) == [
        (),
        *((index,) for index in range(1, 8)),
    ]
    cluster.advance(660.0)
    assert sum(bool(r.parts) for r in cluster.observe().replicas) == 8


def test_blind_spots_are_shown_as_such() -> None:
    faults = (
        ScrapesMissing(kind="scrapes_missing", at_seconds=600.0, for_seconds=60.0, roles=(DECODE,)),
        MetricsAway(kind="metrics_away", at_seconds=1000.0, for_seconds=60.0),
    )
    cluster, _ = made(faults=faults)
    cluster.apply((scale(1, 0), scale(1, 0, role=PREFILL)), 0)
    seen = {}
    for now in (595.0, 600.0, 660.0, 1000.0, 1060.0):
        cluster.advance(now)
        snapshot = cluster.observe()
        seen[now] = tuple(signal.status for signal in snapshot.signals)
    assert seen == {
        595.0: ("live", "live"),
        600.0: ("stale", "live"),
        660.0: ("live", "live"),
        1000.0: ("absent", "absent"),
        1060.0: ("live", "live"),
    }
    cluster.advance(1500.0)
    valid = {s.start_seconds: s.valid for s in cluster.samples() if s.key == "code/requests"}
    assert valid == {0.0: True, 300.0: True, 600.0: False, 900.0: False, 1200.0: True}


def test_a_level_shift_is_in_the_demand() -> None:
    shift = LevelShift(kind="level_shift", model="code", at_seconds=600.0, factor=3.0)
    cluster, events = made(faults=(shift,), steps=240)
    cluster.advance(1200.0)
    arrived: dict[float, float] = {}
    for event in events:
        if isinstance(event, Load) and event.role == "prefill":
            arrived[event.t] = arrived.get(event.t, 0.0) + event.arrived
    assert arrived[600.0] == pytest.approx(3 * arrived[595.0])
