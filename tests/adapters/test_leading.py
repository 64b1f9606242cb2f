"""What a replica's extender answers from: its own plan while it leads, else the shared one."""

import threading
from collections.abc import Iterator

import pytest

from binpacking.cards import PodShape
from preemption.values import Stop
from scheduler.adapters.cluster.leading import Publisher, Shared, own_state
from scheduler.adapters.cluster.lease import Leadership
from scheduler.adapters.cluster.shared import PlanReader, PlanWriter
from scheduler.planning.actions import Plan, StopJob
from scheduler.planning.policy import parse
from scheduler.planning.snapshot import Reservation, Snapshot
from scheduler.planning.standing import Standing
from tests.fixtures.memoryapi import MemoryApi, refusal

DECODE = {"tokens": "generated", "capacity_tokens_per_second": {"H": 1}}
POLICY = parse({"version": 1, "models": {"m": {"roles": {"decode": DECODE}}}})
WAIT_SECONDS = 60.0
OWN_MIX = ((PodShape(0, 0, 2, 1000), 3),)


class Replica:
    """One replica of several on one API server; its lease is stepped by hand."""

    def __init__(self, api: MemoryApi, name: str) -> None:
        self.api, self.sent = api, list[Standing]()
        self.changed = threading.Event()
        self.leadership = Leadership(api, "tidal", name, lambda: 100.0, lambda: 1.7e9)
        self.reader = PlanReader(api, "tidal", self.changed.set)
        self.shared = Shared(self.reader, PlanWriter(api, "tidal"))
        self.publisher = Publisher(
            self.leadership, self.shared, lambda: POLICY, self.sent.append, lambda: 77.0
        )
        self.reader.start()

    def tick(self, plan: Plan) -> None:
        self.publisher(Snapshot(now_seconds=50.0, nodes=(), epoch=self.leadership.epoch), plan)

    def sees(self, at_seconds: float) -> None:
        """Wait until the plan of that time has been read."""
        while True:
            self.changed.clear()
            newest = self.shared.newest()
            if newest is not None and newest.at_seconds == at_seconds:
                return
            assert self.changed.wait(WAIT_SECONDS)


@pytest.fixture
def pair() -> Iterator[tuple[Replica, Replica]]:
    """A leader and a follower."""
    api = MemoryApi()
    leader, follower = Replica(api, "a"), Replica(api, "b")
    for one in (leader, follower):
        one.leadership.step()
    assert leader.leadership.is_leader
    assert not follower.leadership.is_leader
    yield leader, follower
    for one in (leader, follower):
        one.reader.stop()


def plan(at_seconds: float, *reserved: str, stops: tuple[str, ...] = ()) -> Plan:
    reservations = tuple(
        Reservation(
            id=name, owner="m/decode", parts=(("n", 1),), created_seconds=1.0, expires_seconds=2e9
        )
        for name in reserved
    )
    actions = tuple(
        StopJob(job=job, expected_attempt=0, for_role="", code="recall", sentence="")
        for job in stops
    )
    return Plan(
        at_seconds=at_seconds,
        source="full",
        actions=actions,
        reservations=reservations,
        to_come=OWN_MIX,
    )


def ids(standing: Standing) -> tuple[str, ...]:
    return tuple(one.id for one in standing.reservations)


def test_a_follower_answers_from_a_newly_shared_plan_before_its_next_tick(
    pair: tuple[Replica, Replica],
) -> None:
    leader, follower = pair
    follower.tick(plan(40.0, "own"))
    assert ids(follower.sent[-1]) == (), "nobody has shared a plan: its own holds nothing"
    leader.tick(plan(50.0, "shared", stops=("j",)))
    follower.sees(50.0)
    follower.publisher.follow()
    newest = follower.sent[-1]
    assert (ids(newest), newest.stopping, newest.now_seconds) == (("shared",), (), 77.0)
    assert newest.to_come == OWN_MIX, "what is to come follows from its own observation"
    assert newest.planned_at_seconds == 50.0
    follower.publisher.follow()
    assert len(follower.sent) == 2, "the same plan is not sent twice"


def test_a_replica_that_has_observed_nothing_publishes_nothing(
    pair: tuple[Replica, Replica],
) -> None:
    leader, follower = pair
    leader.tick(plan(50.0, "shared"))
    follower.sees(50.0)
    follower.publisher.follow()
    assert follower.sent == []


def test_the_leader_follows_nobody(pair: tuple[Replica, Replica]) -> None:
    leader, _ = pair
    leader.tick(plan(50.0, "mine"))
    leader.sees(50.0)
    leader.publisher.follow()
    (only,) = leader.sent
    assert ids(only) == ("mine",)


def test_a_plan_that_was_not_shared_is_no_problem_of_who_follows_since(
    pair: tuple[Replica, Replica],
) -> None:
    leader, _ = pair
    leader.api.before = refuse_maps
    leader.tick(plan(50.0, "mine"))
    assert leader.shared.problems
    before_its_term = Snapshot(now_seconds=60.0, nodes=(), epoch=0)
    leader.publisher(before_its_term, plan(60.0, "mine"))
    assert leader.shared.problems == ()


def refuse_maps(method: str, path: str) -> None:
    if method != "GET" and "configmaps" in path:
        raise refusal(503, "the server is restarting")


def test_after_the_end_nothing_is_published(pair: tuple[Replica, Replica]) -> None:
    leader, follower = pair
    follower.tick(plan(40.0))
    follower.publisher.stop()
    leader.tick(plan(50.0, "shared"))
    follower.sees(50.0)
    follower.publisher.follow()
    assert len(follower.sent) == 1


def test_the_stops_of_an_hour_outlive_the_process_that_made_them(
    pair: tuple[Replica, Replica],
) -> None:
    leader, _ = pair
    stops = (Stop(40.0, "batch/gone", "red", attempt=1),)
    leader.tick(Plan(at_seconds=50.0, source="quick", stops=stops))
    heir = Replica(leader.api, "c")
    heir.sees(50.0)
    assert own_state(heir.leadership, heir.shared, dict)().stops == stops
    heir.reader.stop()
