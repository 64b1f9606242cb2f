"""Who gives way, one world a test: shrunk jobs, jobs that may not go, gangs that are not whole."""

import msgspec
import pytest

from binpacking.inventory import Node
from preemption.values import Stop
from scheduler.planning.actions import NotifyJob, Plan, ResizeJob, StopJob
from scheduler.planning.invariants import broken_by
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from scheduler.planning.policy import Policy, parse
from scheduler.planning.snapshot import Job, Pod, Reservation, Snapshot
from scheduler.planning.supply import online_supplies, open_reservations
from tests.fixtures.worlds import forecasts, job, node, policy, role, signal, world

SEEN = Memory(since_seconds=0.0)


def told(made: Plan) -> list[tuple[str, str]]:
    """Whom the plan disturbs, and how."""
    kinds = (NotifyJob, StopJob, ResizeJob)
    return [(action.job, action.code) for action in made.actions if isinstance(action, kinds)]


def planned(snapshot: Snapshot, rules: Policy | None = None, memory: Memory = SEEN) -> Plan:
    made, _ = plan(snapshot, memory, rules or policy(), "full")
    assert broken_by(snapshot, made) == ()
    return made


def terms(**changes: object) -> Policy:
    document = policy().model_dump()
    document["preemption"] |= changes
    return parse(document)


def gang(name: str, *where: str, gpus: int = 4, **changes: object) -> Job:
    """A running job with one pod on each of the nodes, in this order."""
    pods = tuple(
        Pod(name=f"{name}-{n}", uid=f"{name}-{n}", gpus=gpus, node=on, bound_seconds=0.0)
        for n, on in enumerate(where)
    )
    fields = {"pods": len(pods), "min_pods": len(pods), "max_pods": len(pods), "placed": pods}
    return job(name, {}, **{**fields, "gpus_per_pod": gpus, **changes})


def wanting(*nodes: Node, replicas: int = 1, **parts: object) -> Snapshot:
    """A world in which `chat/decode` lacks so many replicas of 2 GPUs."""
    return world(
        *nodes,
        roles=(role(0),),
        signals=(signal(900.0 * replicas),),
        forecasts=forecasts(900.0 * replicas),
        **parts,
    )


def full(name: str, owner: str) -> Node:
    return node(name, dict.fromkeys(range(8), owner))


def test_an_elastic_job_loses_its_last_pod_and_runs_on() -> None:
    one = gang("e", "n0", "n1", gpus=8, min_pods=1)
    made = planned(wanting(full("n0", "e"), full("n1", "e"), jobs=(one,)))
    (action,) = (a for a in made.actions if isinstance(a, ResizeJob))
    assert (action.pods, action.release, action.for_role) == (1, ("e-1",), "chat/decode")
    assert [r.parts for r in made.reservations] == [(("n1", 2),)]


@pytest.mark.parametrize(
    "changes",
    [{"min_pods": 2}, {"state": "starting"}, {"priority": 9_000, "min_pods": 2}],
    ids=["rigid", "not whole yet", "dear"],
)
def test_a_job_that_cannot_shrink_goes_whole(changes: dict[str, object]) -> None:
    one = gang("e", "n0", "n1", gpus=8, **{"min_pods": 1, **changes})
    made = planned(wanting(full("n0", "e"), full("n1", "e"), jobs=(one,)))
    assert told(made) == [("e", "recall_now")]


def test_a_pod_that_leaves_frees_its_gpus_once() -> None:
    """The job was shrunk by the plan before; its last pod is still there."""
    one = gang("e", "n0", "n1", gpus=8, min_pods=1, pods=1)
    leaving = msgspec.structs.replace(one.placed[1], leaving=True)
    one = msgspec.structs.replace(one, placed=(one.placed[0], leaving))
    snapshot = wanting(full("n0", "e"), full("n1", "e"), replicas=4, jobs=(one,))
    assert [s.free for s in online_supplies(snapshot, ())] == [0, 8]
    assert told(planned(snapshot)) == []


@pytest.mark.parametrize(
    ("changes", "rules", "word"),
    [
        ({"preemptible": False, "opt_out": "so"}, {}, "1 opted out"),
        ({"held_by": "PodDisruptionBudget b"}, {}, "1 held by a disruption budget"),
        ({"checkpoint_started_seconds": 9_990.0}, {}, "1 writing a checkpoint"),
        ({"started_seconds": 9_900.0}, {}, "1 short of the minimum runtime"),
        ({"started_seconds": 9_500.0, "attempt": 2}, {}, "1 protected after a resume"),
        ({}, {"online_priority": 1}, "1 of online priority"),
        ({}, {"guaranteed_gpus": {"research": 8}}, "1 in a guaranteed share"),
        ({}, {"stops_per_hour": 0}, "1 past the stops of this hour"),
        ({}, {"tenant_stops_per_hour": 0}, "1 past its tenant's stops of this hour"),
        ({}, {"job_stops_per_hour": 0}, "1 past its own stops of this hour"),
        ({"stops": ((1, 0, 9_950.0),)}, {}, "1 told to go already"),
    ],
)
def test_who_may_not_go_stays_and_the_shortage_says_why(
    changes: dict[str, object], rules: dict[str, object], word: str
) -> None:
    snapshot = wanting(full("n0", "j"), jobs=(gang("j", "n0", gpus=8, **changes),))
    made = planned(snapshot, terms(**rules))
    assert told(made) == []
    if "told" not in word:  # its GPUs come free as far as anybody knows
        (lack,) = made.unplaced
        assert lack.sentence.endswith(f"no further GPU can be freed; of 1 running jobs {word}")


def test_nobody_goes_for_gpus_that_nobody_can_use() -> None:
    """One stands on a cordoned node, one on devices that broke, one where all is well."""
    cordoned = msgspec.structs.replace(full("n0", "a"), cordoned=True)
    fine = full("n1", "b")
    sick = tuple(msgspec.structs.replace(one, healthy=False) for one in full("n2", "c").devices)
    broken = msgspec.structs.replace(fine, name="n2", devices=sick)
    jobs = [gang(name, on, gpus=8) for name, on in [("a", "n0"), ("c", "n2"), ("b", "n1")]]
    whole = tuple(
        msgspec.structs.replace(
            one, placed=(msgspec.structs.replace(one.placed[0], devices=tuple(range(8))),)
        )
        for one in jobs
    )
    dear = (*whole[:2], msgspec.structs.replace(whole[2], priority=500))
    made = planned(wanting(cordoned, fine, broken, jobs=dear))
    assert told(made) == [("b", "recall_now")]


def test_a_notice_whose_job_must_not_go_any_more_is_not_ended_and_others_are_asked() -> None:
    held = gang(
        "held",
        "n0",
        gpus=8,
        state="acknowledged",
        notice_deadline_seconds=9_990.0,
        notice_for="chat/decode",
        held_by="a budget",
    )
    place = Reservation(
        id="r",
        owner="chat/decode",
        parts=(("n0", 2),),
        created_seconds=9_950.0,
        expires_seconds=10_250.0,
    )
    snapshot = wanting(
        full("n0", "held"),
        full("n1", "other"),
        jobs=(held, gang("other", "n1", gpus=8)),
        reservations=(place,),
    )
    assert open_reservations(snapshot) == ()
    assert told(planned(snapshot)) == [("other", "recall_now")]


def test_who_was_told_is_not_told_again_while_the_cluster_shows_nothing() -> None:
    snapshot = wanting(
        full("n0", "j"), full("n1", "k"), jobs=(gang("j", "n0", gpus=8), gang("k", "n1", gpus=8))
    )
    first, memory = plan(snapshot, SEEN, policy(), "full")
    later = msgspec.structs.replace(snapshot, now_seconds=10_030.0, reservations=first.reservations)
    assert told(first) == [("j", "recall_now")]
    assert told(planned(later, memory=memory)) == []
    lost = msgspec.structs.replace(later, now_seconds=10_130.0)  # it was not told after all
    second = planned(lost, memory=memory)
    assert told(second) == [("j", "recall_now")]


def test_what_is_only_recommended_uses_up_no_budget() -> None:
    snapshot = wanting(full("n0", "j"), jobs=(gang("j", "n0", gpus=8),))
    rules = policy().model_copy(update={"mode": "recommend"})
    made, memory = plan(snapshot, SEEN, rules, "full")
    assert told(made) == [("j", "recall_now")]
    assert memory.stops == ()
    assert told(plan(snapshot, memory, rules, "full")[0]) == [("j", "recall_now")]


def test_stops_that_jobs_tell_of_count_after_a_restart() -> None:
    """Two of an hour's two are noted on a job that runs elsewhere."""
    other = gang("other", "n1", gpus=8, stops=((1, 0, 8_000.0), (2, 0, 9_000.0)), attempt=3)
    snapshot = wanting(full("n0", "j"), full("n1", "other"), jobs=(gang("j", "n0", gpus=8), other))
    assert told(planned(snapshot, terms(stops_per_hour=3))) == [("j", "recall_now")]
    assert told(planned(snapshot, terms(stops_per_hour=2))) == []


def test_stops_of_jobs_that_have_ended_count_after_a_restart() -> None:
    """The plan in force tells of two, of jobs that are gone; a planner without memory counts them
    and hands them on, until the hour is over.
    """
    gone = tuple(Stop(at, f"gone{at}", "red", attempt=1) for at in (8_000.0, 9_000.0))
    snapshot = wanting(full("n0", "j"), jobs=(gang("j", "n0", gpus=8),))
    snapshot = msgspec.structs.replace(snapshot, stops=gone)
    assert told(planned(snapshot, terms(stops_per_hour=3))) == [("j", "recall_now")]
    made, memory = plan(snapshot, SEEN, terms(stops_per_hour=2), "full")
    assert told(made) == []
    assert made.stops == memory.stops == gone
    later = msgspec.structs.replace(snapshot, now_seconds=gone[0].at_seconds + 3600.0)
    assert plan(later, SEEN, terms(stops_per_hour=2), "full")[0].stops[0] == gone[1]


def test_a_stop_that_nothing_came_of_is_not_handed_on() -> None:
    """The plan in force tells of it, and the job runs on two minutes later."""
    snapshot = wanting(full("n0", "j"), jobs=(gang("j", "n0", gpus=8),))
    lost = Stop(snapshot.now_seconds - 121.0, "j", "red", attempt=1)
    made = planned(msgspec.structs.replace(snapshot, stops=(lost,)), terms(stops_per_hour=1))
    assert told(made) == [("j", "recall_now")]
    assert lost not in made.stops


def test_a_gang_that_lost_its_place_goes_back_to_its_queue() -> None:
    half = gang("g", "n0", "", gpus=4, state="starting", started_seconds=9_700.0)
    snapshot = world(node("n0", dict.fromkeys(range(4), "g")), jobs=(half,))
    (action,) = planned(snapshot).actions
    assert isinstance(action, StopJob)
    assert (action.code, action.for_role) == ("stalled", "")
    assert action.sentence.startswith("g has 1 of 2 pods after 300 s and no place for the others")
    _, memory = plan(snapshot, SEEN, policy(), "full")
    assert memory.stops == ()  # it has done no work, so nobody was preempted


@pytest.mark.parametrize(
    "changes",
    [
        {"started_seconds": 9_701.0},
        {"attempt": 0},  # somebody else started it
        {"preemptible": False},
        {"placed": gang("g", "n0", "n0").placed},
    ],
)
def test_a_gang_that_may_still_come_is_left_alone(changes: dict[str, object]) -> None:
    fields = {"state": "starting", "started_seconds": 9_700.0, **changes}
    half = gang("g", "n0", "", gpus=4, **fields)
    snapshot = world(node("n0", dict.fromkeys(range(8), "g")), jobs=(half,))
    assert told(planned(snapshot)) == []


def test_a_place_without_gpus_behind_it_is_void() -> None:
    """A stranger took the GPUs; what is reserved first comes first."""
    places = tuple(
        Reservation(
            id=name,
            owner="chat/decode",
            parts=(("n0", 2),),
            created_seconds=created,
            expires_seconds=10_200.0,
        )
        for name, created in [("late", 9_950.0), ("early", 9_900.0)]
    )
    snapshot = world(
        node("n0", dict.fromkeys(range(5), "stranger")), roles=(role(2),), reservations=places
    )
    assert [one.id for one in open_reservations(snapshot)] == ["early"]
