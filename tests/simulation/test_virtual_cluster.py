"""The virtual cluster as a whole, through its ports alone."""

import io
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting import Sample
from scheduler.planning.actions import (
    Action,
    NotifyJob,
    ResizeJob,
    ScaleRole,
    StartJob,
    StopJob,
)
from scheduler.planning.invariants import broken
from scheduler.planning.snapshot import Job, Loan, Reservation, Snapshot
from scheduler.planning.standing import PodAsk
from scheduler.ports import Actuator, Clock, Observer, WorldEndedError
from scheduler.simulation.cluster import (
    JOB_STREAM,
    Setting,
    VirtualCluster,
    stream,
    workloads,
)
from scheduler.simulation.clusterfile import ClusterSpec, build
from scheduler.simulation.demand import Demand, ModelDemand
from scheduler.simulation.events import (
    Event,
    FileSink,
    JobLine,
    Load,
    LoanLine,
    NodeLine,
    RecallLine,
    ReplicaLine,
    ReserveLine,
    Slo,
    ViolationLine,
    decode,
)
from scheduler.simulation.faults import (
    Fault,
    LevelShift,
    MetricsAway,
    NodeLoss,
    ScrapesMissing,
    SickGpu,
    shifted,
)
from scheduler.simulation.jobs import DrawnJobs, JobSource, JobSpec, ListedJobs
from scheduler.simulation.score import score
from scheduler.simulation.worldfile import load_world

WORLD = load_world()
STEP = WORLD.step_seconds
DECODE = "code/decode"
PREFILL = "code/prefill"


def constant_demand(steps: int, start: float, requests: float) -> Demand:
    full = np.full(steps, requests)
    model = ModelDemand(
        requests=full,
        prompt_tokens=full * 1000,
        generated_tokens=full * 200,
        mean_prompt_tokens=np.full(steps, 1000.0),
        mean_generated_tokens=np.full(steps, 200.0),
        iat_cv=np.ones(steps),
        known=np.ones(steps, bool),
    )
    past = tuple(
        Sample(f"code/{field}", start - 300, 300, 1.0)
        for field in ("requests", "prompt_tokens", "generated_tokens")
    )
    return Demand(
        start_seconds=start,
        step_seconds=STEP,
        steps=steps,
        gpu_models=("H100-SXM-80GB", "H200-SXM-141GB"),
        models={"code": model},
        factors={"code": 1.0},
        past={"code": past},
    )


class FirstFit:
    """Places every pod on the first node that can take it."""

    def place(self, pod: PodAsk, feasible: tuple[str, ...]) -> str | None:
        return feasible[0]


class Reserved:
    """Places a pod where its owner has a reservation, and nowhere else."""

    def __init__(self) -> None:
        self.cluster: VirtualCluster | None = None

    def place(self, pod: PodAsk, feasible: tuple[str, ...]) -> str | None:
        assert self.cluster is not None
        for reservation in self.cluster.observe().reservations:
            for node, gpus in reservation.parts:
                if reservation.owner == pod.owner and gpus == pod.gpus and node in feasible:
                    return node
        return None


class Nowhere:
    """Lets every pod wait."""

    def place(self, pod: PodAsk, feasible: tuple[str, ...]) -> str | None:
        return None


def made(
    *,
    nodes: int = 2,
    steps: int = 720,
    start: float = 0.0,
    jobs: Sequence[JobSpec] = (),
    source: JobSource | None = None,
    faults: tuple[Fault, ...] = (),
    placer: FirstFit | Reserved | Nowhere | None = None,
    requests: float = 20.0,
    seed: int = 1,
) -> tuple[VirtualCluster, list[Event]]:
    cluster: ClusterSpec = build(nodes)
    demand = shifted(constant_demand(steps, start, requests), faults)
    setting = Setting(
        cluster=cluster,
        world=WORLD,
        demand=demand,
        workloads=workloads(WORLD, ["code"], demand.gpu_models),
        faults=faults,
        seed=seed,
    )
    events: list[Event] = []
    given = placer or FirstFit()
    found = VirtualCluster(
        setting, source or ListedJobs(tuple(jobs)), given, events.append, broken
    )
    if isinstance(given, Reserved):
        given.cluster = found
    return found, events


def job(name: str = "j", **changes: object) -> JobSpec:
    spec = JobSpec(
        id=name,
        tenant="archive",
        priority=1,
        pods=1,
        gpus_per_pod=8,
        min_pods=1,
        max_pods=1,
        submitted_seconds=-1e9,
        duration_seconds=600.0,
        declared_seconds=600.0,
        checkpoint_interval_seconds=200.0,
        checkpoint_write_seconds=20.0,
        writes_on_notice=True,
        restart_seconds=50.0,
    )
    return msgspec.structs.replace(spec, **changes)


def scale(to: int, expected: int, *retire: str, role: str = DECODE) -> ScaleRole:
    return ScaleRole(
        role=role,
        expected_replicas=expected,
        replicas=to,
        retire=retire,
        code="demand_rises",
        sentence="",
    )


def start(name: str = "j", attempt: int = 0, pods: int = 1) -> StartJob:
    loan = Loan(
        id=f"loan-{name}-{attempt}",
        job=name,
        gpus=8 * pods,
        granted_seconds=0.0,
        return_by_seconds=3600.0,
        promised_p99_seconds=100.0,
    )
    return StartJob(
        job=name, expected_attempt=attempt, pods=pods, loan=loan, code="lend", sentence=""
    )


def stop(name: str = "j", attempt: int = 1, for_role: str = "") -> StopJob:
    return StopJob(
        job=name, expected_attempt=attempt, for_role=for_role, code="recall_now", sentence=""
    )


def notify(name: str = "j", attempt: int = 1, for_role: str = "") -> NotifyJob:
    return NotifyJob(
        job=name,
        expected_attempt=attempt,
        deadline_seconds=1e6,
        for_role=for_role,
        code="recall",
        sentence="",
    )


def resize(pods: int, *release: str) -> ResizeJob:
    return ResizeJob(
        job="j", expected_attempt=1, pods=pods, release=release, code="shrink", sentence=""
    )


def details(cluster: VirtualCluster, *actions: Action, epoch: int = 0) -> list[str]:
    return [outcome.detail for outcome in cluster.apply(actions, epoch)]


def the_job(snapshot: Snapshot, name: str = "j") -> Job:
    return next(one for one in snapshot.jobs if one.id == name)


def held(snapshot: Snapshot) -> Counter[str]:
    return Counter(
        holder.owner
        for node in snapshot.nodes
        for device in node.devices
        for holder in device.holders
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
    assert cluster.observe().jobs == cluster.observe().loans == ()
    lines = [event for event in events if isinstance(event, JobLine)]
    assert [line.state for line in lines] == ["queued", "running", "done"]
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


# ---- reservations and recalls --------------------------------------------------------------


def reservation(node: str, name: str = "r", owner: str = DECODE, **changes: object) -> Reservation:
    made = Reservation(
        id=name, owner=owner, parts=((node, 1),), created_seconds=0.0, expires_seconds=300.0
    )
    return msgspec.structs.replace(made, **changes)


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
    cluster, events = made(nodes=2, jobs=[job(duration_seconds=9000.0)])
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
    assert line.t == line.ready_t == 80.0 + 1800.0


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
        ScrapesMissing(
            kind="scrapes_missing", at_seconds=600.0, for_seconds=60.0, roles=(DECODE,)
        ),
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
    _, events = made(faults=(shift,), steps=240)
    cluster, events = made(faults=(shift,), steps=240)
    cluster.advance(1200.0)
    arrived = {e.t: e.arrived for e in events if isinstance(e, Load) and e.role == "prefill"}
    total = Counter({t: 0.0 for t in arrived})
    for event in events:
        if isinstance(event, Load) and event.role == "prefill":
            total[event.t] += event.arrived
    assert total[600.0] == pytest.approx(3 * total[595.0])


# ---- the event stream --------------------------------------------------------------------


def scripted(cluster: VirtualCluster, moves: Sequence[int]) -> None:
    """Do what the numbers say, whether it makes sense or not."""
    for move in moves:
        snapshot = cluster.observe()
        role = snapshot.roles[move % len(snapshot.roles)]
        actions: list[Action] = []
        if move % 5 < 2:
            actions.append(scale(move % 7, role.replicas, role=role.key))
        for index, one in enumerate(snapshot.jobs):
            choice = (move + index) % 6
            loan = start(one.id, one.attempt, one.pods).loan
            if one.state == "queued" and choice < 3:
                actions.append(start(one.id, one.attempt, one.pods))
                assert loan.job == one.id
            elif choice == 3:
                actions.append(notify(one.id, one.attempt, role.key))
            elif choice == 4:
                actions.append(stop(one.id, one.attempt, role.key))
            elif one.max_pods > 1:
                smaller = resize(one.min_pods)
                actions.append(msgspec.structs.replace(smaller, job=one.id, expected_attempt=one.attempt))
        cluster.apply(tuple(actions), 0)
        cluster.advance(cluster.now_seconds + STEP * (1 + move % 9))


def drawn_run(moves: Sequence[int], *, seed: int = 1) -> tuple[VirtualCluster, list[Event]]:
    loss = NodeLoss(kind="node_loss", node="node-0002", at_seconds=400.0, for_seconds=300.0)
    jobs = DrawnJobs(WORLD.batch, build(4), stream(seed, JOB_STREAM))
    cluster, events = made(
        nodes=4, steps=300, start=-300.0, source=jobs, faults=(loss,), seed=seed
    )
    scripted(cluster, moves)
    cluster.advance(1e9)
    return cluster, events


def test_the_same_inputs_give_the_same_bytes() -> None:
    files = []
    for seed in (1, 1, 2):
        file = io.BytesIO()
        sink = FileSink(file)
        for event in drawn_run([3, 1, 4, 1, 5, 9, 2, 6], seed=seed)[1]:
            sink(event)
        files.append(file.getvalue())
    assert files[0] == files[1] != files[2]
    assert b"job" in files[0]
    assert [decode(line).t for line in files[0].splitlines()][0] == -300.0


@settings(max_examples=12)
@given(st.lists(st.integers(0, 200), min_size=3, max_size=25))
def test_whatever_is_done_devices_and_books_hold(moves: list[int]) -> None:
    cluster, events = drawn_run(moves)
    assert not [event for event in events if isinstance(event, ViolationLine)]
    times = [event.t for event in events]
    assert times == sorted(times)
    snapshot = cluster.observe()
    pods = [(r.id, pod) for r in snapshot.replicas for pod in r.pods]
    pods += [(j.id, pod) for j in snapshot.jobs for pod in j.placed]
    bound = [(owner, pod) for owner, pod in pods if pod.node]
    assert all(len(pod.devices) == pod.gpus for _, pod in bound)
    claims = Counter((pod.node, index) for _, pod in bound for index in pod.devices)
    assert max(claims.values(), default=1) == 1
    assert held(snapshot) == Counter(owner for owner, pod in bound for _ in pod.devices)
    assert_same_gpus(events, snapshot)
    figures = score(events, STEP, cluster.end_seconds)
    assert figures.violations == 0
    assert 0 <= figures.allocated_utilisation <= 1
    assert figures.wasted_gpu_hours >= 0


def assert_same_gpus(events: list[Event], snapshot: Snapshot) -> None:
    """What the last lines hold is what the nodes hold."""
    last: dict[str, tuple[str, ...]] = {}
    for event in events:
        if isinstance(event, JobLine | ReplicaLine):
            last[event.id] = event.gpus
    names = Counter(name for gpus in last.values() for name in gpus)
    assert max(names.values(), default=1) == 1
    assert set(names) == {
        f"{node.name}/{device.index}"
        for node in snapshot.nodes
        for device in node.devices
        if device.holders
    }


def test_everything_alive_has_a_line_at_0_and_at_the_end() -> None:
    cluster, events = drawn_run([0, 1, 2, 3, 5, 6])
    for moment, now in ((0.0, None), (cluster.end_seconds, cluster.observe())):
        named = {e.id for e in events if isinstance(e, JobLine | NodeLine) and e.t == moment}
        assert {f"node-000{n}" for n in range(1, 5)} <= named
        if now is not None:
            assert {one.id for one in now.jobs} <= named


def test_the_unfinished_is_missed_at_the_end() -> None:
    cluster, events = made(steps=24)
    cluster.advance(1e9)
    due = sum(event.tokens_due for event in events if isinstance(event, Slo))
    assert due == pytest.approx(24 * 20 * 1200)
    assert score(events, STEP, cluster.end_seconds).slo_attainment == 0.0


def test_a_loan_is_said_when_it_is_granted() -> None:
    cluster, events = made(jobs=[job()])
    cluster.apply((start(),), 0)
    assert [event for event in events if isinstance(event, LoanLine)] == [
        LoanLine(0.0, "loan-j-0", 8, 3600.0)
    ]


def test_what_did_not_change_is_the_same_object() -> None:
    cluster, _ = made(nodes=4, jobs=[job()], placer=Nowhere())
    cluster.apply((scale(2, 0),), 0)
    before = cluster.observe()
    cluster.advance(60.0)
    after = cluster.observe()
    for name in ("nodes", "roles", "replicas", "jobs"):
        pairs = zip(getattr(before, name), getattr(after, name), strict=True)
        assert all(one is other for one, other in pairs)
