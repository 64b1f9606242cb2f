"""State in, plan out: one world a test, and what the plan does in it."""

import msgspec
import pytest

from binpacking.problem import Problem
from scheduler.planning.actions import NotifyJob, Plan, ScaleRole, StartJob, StopJob
from scheduler.planning.invariants import broken, broken_by
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from scheduler.planning.snapshot import Replica, Reservation, RoleSignal, Snapshot
from tests.fixtures.worlds import forecasts, job, node, policy, replica, role, signal, world

SEEN = Memory(since_seconds=0.0)


def actions(made: Plan, kind: type) -> list[object]:
    return [action for action in made.actions if isinstance(action, kind)]


def planned(snapshot: Snapshot, effort: str = "full", **changes: object) -> Plan:
    made, _ = plan(snapshot, SEEN, policy(**changes), effort)
    assert broken(snapshot) == ()
    assert broken_by(snapshot, made) == ()
    return made


def test_demand_ahead_grows_the_role_and_reserves_its_slots() -> None:
    snapshot = world(
        node("n0"), roles=(role(0),), signals=(signal(100.0),), forecasts=forecasts(2500.0)
    )
    made = planned(snapshot)
    (scaled,) = actions(made, ScaleRole)
    assert isinstance(scaled, ScaleRole)
    assert (scaled.expected_replicas, scaled.replicas) == (0, 3)
    assert [r.parts for r in made.reservations] == [(("n0", 2),)] * 3
    assert "3 more replicas" in scaled.sentence


@pytest.mark.parametrize("effort", ["quick", "full"])
def test_replicas_stand_where_their_cpu_is_and_victims_give_theirs_back(effort: str) -> None:
    """`n0` has the CPU of one replica, and `n1` that of two once its job is gone."""
    poor = msgspec.structs.replace(node("n0"), cpu_milli=19_000)
    rich = msgspec.structs.replace(
        node("n1", dict.fromkeys(range(2), "night")), cpu_milli=32_000, cpu_held_milli=30_000
    )
    snapshot = world(
        poor,
        rich,
        roles=(role(0, cpu_milli_per_pod=10_000),),
        jobs=(job("night", {"n1": 2}, cpu_milli_per_pod=30_000),),
        signals=(signal(100.0),),
        forecasts=forecasts(2500.0),
    )
    made = planned(snapshot, effort)
    assert [r.parts for r in made.reservations] == [(("n0", 2),), *[(("n1", 2),)] * 2]
    assert [one.job for one in actions(made, StopJob)] == ["night"]  # type: ignore[attr-defined]


def test_what_arrives_now_counts_even_if_the_forecast_is_lower() -> None:
    snapshot = world(
        node("n0"), roles=(role(0),), signals=(signal(3500.0),), forecasts=forecasts(100.0)
    )
    (sizing,) = planned(snapshot).sizings
    assert sizing.wanted_milli == 3500
    assert [reason.step for reason in sizing.reasons] == ["lead_peak", "level", "replicas"]


@pytest.mark.parametrize(("demand", "wanted"), [(0.5, 0), (1.5, 2)])
def test_less_than_a_thousandth_of_a_replica_is_no_demand(demand: float, wanted: int) -> None:
    snapshot = world(
        node("n0"), roles=(role(0),), signals=(signal(demand),), forecasts=forecasts(0.0)
    )
    (sizing,) = planned(snapshot, min_replicas=0).sizings
    assert sizing.wanted_milli == wanted


def test_demand_behind_retires_replicas_but_keeps_what_is_wanted() -> None:
    replicas = tuple(replica(f"r{n}", "n0") for n in range(4))
    held = {n: f"r{n // 2}" for n in range(8)}
    snapshot = world(
        node("n0", held),
        roles=(role(4),),
        replicas=replicas,
        signals=(signal(1500.0),),
        forecasts=forecasts(1500.0),
    )
    (scaled,) = actions(planned(snapshot), ScaleRole)
    assert isinstance(scaled, ScaleRole)
    assert scaled.replicas == 2
    assert scaled.retire == ("r0", "r1")


def slot_on(name: str) -> Reservation:
    """Two GPUs of a node that an earlier plan keeps for a replica."""
    return Reservation(
        id="a",
        owner="chat/decode",
        parts=((name, 2),),
        created_seconds=9_900.0,
        expires_seconds=10_200.0,
    )


@pytest.mark.parametrize("kept", [0, 1])
def test_a_role_waits_while_its_controller_has_yet_to_take_replicas(kept: int) -> None:
    """Neither are more retired, nor does a slot that is kept from before ask for one again."""
    slot = slot_on("n1")
    snapshot = world(
        node("n0", {n: f"r{n // 2}" for n in range(8)}),
        node("n1"),
        roles=(role(1),),
        replicas=tuple(replica(f"r{n}", "n0") for n in range(4)),
        reservations=(slot,) * kept,
        signals=(signal(900.0),),
        forecasts=forecasts(900.0),
    )
    assert actions(planned(snapshot), ScaleRole) == []


def test_a_slot_that_nobody_will_fill_is_given_back_before_a_replica() -> None:
    """A person took back the replica that it was kept for."""
    slot = slot_on("n1")
    snapshot = world(
        node("n0", {n: f"r{n // 2}" for n in range(4)}),
        node("n1"),
        roles=(role(2),),
        replicas=tuple(replica(f"r{n}", "n0") for n in range(2)),
        reservations=(slot,),
        signals=(signal(1500.0),),
        forecasts=forecasts(1500.0),
    )
    made = planned(snapshot)
    assert actions(made, ScaleRole) == []
    assert made.reservations == ()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("metrics stale", {"signals": (signal(0.0, status="stale"),)}),
        ("metrics partial", {"signals": (signal(0.0, status="partial"),)}),
        ("metrics absent", {"signals": ()}),
        ("forecast stale", {"forecasts": forecasts(10.0, status="stale")}),
        ("no forecast", {"forecasts": None}),
        ("scaled by an HPA", {"roles": (role(2, scaled_by_other="hpa/chat"),)}),
    ],
)
def test_nothing_shrinks_on_ignorance(name: str, changes: dict[str, object]) -> None:
    snapshot = world(
        node("n0", {0: "r0", 1: "r0", 2: "r1", 3: "r1"}),
        roles=(role(2),),
        replicas=(replica("r0", "n0"), replica("r1", "n0")),
        signals=(signal(10.0),),
        forecasts=forecasts(10.0),
    )
    blind = msgspec.structs.replace(snapshot, **changes)
    assert actions(planned(blind), ScaleRole) == []


def test_a_fresh_memory_holds_until_its_window_is_full() -> None:
    snapshot = world(
        node("n0", {0: "r0", 1: "r0", 2: "r1", 3: "r1"}),
        roles=(role(2),),
        replicas=(replica("r0", "n0"), replica("r1", "n0")),
        signals=(signal(10.0),),
        forecasts=forecasts(10.0),
    )
    braked = policy(scale_down={"stabilization_window_seconds": 120})
    made, memory = plan(snapshot, Memory(), braked, "full")
    assert actions(made, ScaleRole) == []
    later = msgspec.structs.replace(snapshot, now_seconds=10_130.0)
    made, _ = plan(later, memory, braked, "full")
    assert len(actions(made, ScaleRole)) == 1


def test_the_cheapest_job_gives_way_with_notice() -> None:
    old = job("old", {"n0": 4}, last_checkpoint_seconds=0.0)
    fresh = job("fresh", {"n0": 4}, last_checkpoint_seconds=9_990.0, checkpoint_write_seconds=30.0)
    held = {n: "old" if n < 4 else "fresh" for n in range(8)}
    snapshot = world(
        node("n0", held),
        roles=(role(0),),
        jobs=(old, fresh),
        signals=(signal(0.0, status="idle"),),
        forecasts=forecasts(900.0),
    )
    made = planned(snapshot)
    (told,) = actions(made, NotifyJob)
    assert isinstance(told, NotifyJob)
    assert (told.job, told.for_role) == ("fresh", "chat/decode")
    assert told.deadline_seconds == 10_060.0
    assert actions(made, StopJob) == []


def test_times_before_the_origin_protect_nobody() -> None:
    only = job("only", {"n0": 8}, started_seconds=-9_000.0)
    snapshot = world(
        node("n0", dict.fromkeys(range(8), "only")),
        roles=(role(0),),
        jobs=(only,),
        signals=(signal(900.0, queued_tokens=9_000.0),),
        forecasts=forecasts(900.0, issued_at=-5_000.0),
    )
    early = msgspec.structs.replace(snapshot, now_seconds=-5_000.0)
    (told,) = actions(planned(early), StopJob)
    assert isinstance(told, StopJob)


def test_a_queue_that_is_here_leaves_no_time_for_notice() -> None:
    only = job("only", {"n0": 8}, checkpoint_write_seconds=30.0)
    snapshot = world(
        node("n0", dict.fromkeys(range(8), "only")),
        roles=(role(0),),
        jobs=(only,),
        signals=(signal(900.0, queued_tokens=9_000.0),),
        forecasts=forecasts(900.0),
    )
    (told,) = actions(planned(snapshot), StopJob)
    assert isinstance(told, StopJob)
    assert told.code == "recall_now"


@pytest.mark.parametrize("there", [(replica("r0", "", state="pending"),), ()])
def test_a_slot_that_waits_is_not_asked_for_twice(there: tuple[Replica, ...]) -> None:
    """The replica waits for a node, or its controller has not made its pod yet."""
    held = slot_on("n0")
    snapshot = world(
        node("n0"),
        roles=(role(1),),
        replicas=there,
        reservations=(held,),
        signals=(signal(900.0),),
        forecasts=forecasts(900.0),
    )
    made = planned(snapshot)
    assert made.actions == ()
    assert made.reservations == (msgspec.structs.replace(held, created_seconds=10_000.0),)


@pytest.mark.parametrize(
    ("state", "deadline", "code"),
    [("acknowledged", 10_500.0, "acknowledged"), ("notified", 10_000.0, "deadline")],
)
def test_a_notice_ends_in_one_stop(state: str, deadline: float, code: str) -> None:
    told = job("told", {"n0": 2}, state=state, notice_deadline_seconds=deadline, notice_for="x")
    snapshot = world(node("n0", {0: "told", 1: "told"}), jobs=(told,))
    (stop,) = actions(planned(snapshot), StopJob)
    assert isinstance(stop, StopJob)
    assert (stop.job, stop.expected_attempt, stop.code) == ("told", 1, code)


@pytest.mark.parametrize(
    ("notice_for", "place", "ending"),
    [
        ("chat/decode", "n0", "its GPUs go to chat/decode"),
        ("chat/decode", "n1", "chat/decode does not need its GPUs any more; it may start again"),
        ("", "n0", "its node comes free"),
    ],
)
def test_a_stop_says_where_the_gpus_go(notice_for: str, place: str, ending: str) -> None:
    told = job(
        "told",
        {"n0": 2},
        state="acknowledged",
        notice_deadline_seconds=10_060.0,
        notice_for=notice_for,
    )
    kept = Reservation(
        id="r",
        owner="chat/decode",
        parts=((place, 2),),
        created_seconds=9_900.0,
        expires_seconds=10_200.0,
    )
    snapshot = world(
        node("n0", {0: "told", 1: "told"}), node("n1"), jobs=(told,), reservations=(kept,)
    )
    (stop,) = actions(planned(snapshot), StopJob)
    assert isinstance(stop, StopJob)
    assert stop.sentence.endswith(ending)


def test_a_notice_that_runs_is_left_alone() -> None:
    told = job("told", {"n0": 2}, state="notified", notice_deadline_seconds=10_060.0)
    snapshot = world(node("n0", {0: "told", 1: "told"}), jobs=(told,))
    assert planned(snapshot).actions == ()


def test_free_gpus_are_lent_until_the_tide_wants_them() -> None:
    snapshot = world(
        node("n0"),
        roles=(role(0),),
        jobs=(job("short", expected_remaining_seconds=600.0), job("long")),
        signals=(signal(0.0, status="idle"),),
        forecasts=forecasts(0.0, 0.0, 0.0, 3500.0),
    )
    made = planned(snapshot, min_replicas=0)
    started = {a.job: a.loan for a in made.actions if isinstance(a, StartJob)}
    assert set(started) == {"short", "long"}
    assert started["short"].return_by_seconds == 10_000.0 + 28_800.0
    assert sorted(r.owner for r in made.reservations) == ["long", "short"]


@pytest.mark.parametrize(
    ("signals", "serving", "lent"),
    [
        ((signal(100.0),), "ready", 1),
        ((signal(0.0, status="idle"),), "ready", 1),
        ((signal(100.0, status="partial"),), "ready", 1),
        ((signal(100.0, status="stale"),), "ready", 0),
        ((signal(0.0, status="absent"),), "ready", 0),
        ((), "ready", 0),
        # another role is seen; and where nobody serves yet, nobody can report
        ((signal(100.0, status="stale"), signal(1.0, role="chat/prefill")), "ready", 0),
        ((signal(0.0, status="absent"),), "starting", 1),
    ],
)
def test_nothing_is_lent_while_nobody_who_serves_reports(
    signals: tuple[RoleSignal, ...], serving: str, lent: int
) -> None:
    snapshot = world(
        node("n0", {0: "r0", 1: "r0"}),
        roles=(role(1),),
        replicas=(replica("r0", "n0", state=serving),),
        jobs=(job("waits"),),
        signals=signals,
        forecasts=forecasts(100.0),
    )
    made = planned(snapshot)
    assert len(actions(made, StartJob)) == lent
    assert ("nothing more is lent" in made.summary) == (lent == 0)


@pytest.mark.parametrize(("waiting", "mix"), [(0, ((2, 6),)), (3, ((2, 6), (4, 12)))])
def test_the_packer_is_told_what_is_to_come(waiting: int, mix: tuple[tuple[int, int], ...]) -> None:
    """Three replicas of two GPUs, and the pods of a job that waits."""
    snapshot = world(
        node("n0"),
        roles=(role(0),),
        signals=(signal(100.0),),
        forecasts=forecasts(2500.0),
        jobs=(job("waits", gpus_per_pod=4, pods=waiting),) if waiting else (),
    )
    asked = planned(snapshot).answers[0]
    assert msgspec.msgpack.decode(asked.problem, type=Problem).mix == mix


@pytest.mark.parametrize(("effort", "movers"), [("full", ["b"]), ("quick", [])])
def test_small_jobs_move_together_for_one_that_wants_a_node(effort: str, movers: list[str]) -> None:
    jobs = (
        job("a", {"n0": 4}, checkpoint_write_seconds=30.0, priority=2),
        job("b", {"n1": 4}, checkpoint_write_seconds=30.0),
        job("whole", gpus_per_pod=8),
    )
    snapshot = world(
        node("n0", dict.fromkeys(range(4), "a")),
        node("n1", dict.fromkeys(range(4), "b")),
        jobs=jobs,
        forecasts=forecasts(0.0),
    )
    told = [a for a in planned(snapshot, effort).actions if isinstance(a, NotifyJob)]
    assert [(a.job, a.code) for a in told] == [(name, "consolidate") for name in movers]


def test_sick_and_cordoned_devices_take_nothing() -> None:
    broken_device = msgspec.structs.replace(node("n0").devices[0], healthy=False)
    sick = msgspec.structs.replace(node("n0"), devices=(broken_device,) * 8)
    cordoned = msgspec.structs.replace(node("n1"), cordoned=True)
    snapshot = world(
        sick, cordoned, roles=(role(0),), signals=(signal(900.0),), forecasts=forecasts(900.0)
    )
    made = planned(snapshot)
    assert made.reservations == ()
    assert [lack.owner for lack in made.unplaced] == ["chat/decode"]


def test_the_same_inputs_give_the_same_plan() -> None:
    snapshot = world(
        node("n0"),
        roles=(role(0),),
        jobs=(job("a"), job("b")),
        signals=(signal(900.0),),
        forecasts=forecasts(900.0),
    )
    first, again = (plan(snapshot, SEEN, policy(), "full") for _ in range(2))
    assert msgspec.msgpack.encode(first) == msgspec.msgpack.encode(again)


@pytest.mark.parametrize(("leaf", "movers"), [("leaf-0", ["small"]), ("leaf-1", [])])
@pytest.mark.parametrize("moves", [False, True])
def test_small_jobs_leave_a_node_that_a_gang_wants_beside_a_free_one(
    leaf: str, movers: list[str], moves: bool
) -> None:
    """In the same leaf, and not while another move is under way."""
    going = job("going", {"n2": 4}, state="notified" if moves else "running", preemptible=False)
    snapshot = world(
        node("n0", leaf=leaf),
        node("n1", dict.fromkeys(range(4), "small")),
        node("n2", dict.fromkeys(range(4), "going")),
        jobs=(
            job("small", {"n1": 4}, checkpoint_write_seconds=30.0),
            going,
            job("gang", gpus_per_pod=8, pods=2),
        ),
        forecasts=forecasts(0.0),
    )
    told = [a.job for a in planned(snapshot).actions if isinstance(a, NotifyJob)]
    assert told == ([] if moves else movers)
