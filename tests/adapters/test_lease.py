"""The Lease: one leader at any time, whatever is killed, late, deleted or cut off."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.adapters.cluster.lease import Leadership
from tests.fixtures.memoryapi import MemoryApi, refusal

PATH = "/apis/coordination.k8s.io/v1/namespaces/tidal/leases/tidal-planner"


class Hand:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def api() -> MemoryApi:
    return MemoryApi()


def follower(
    api: MemoryApi, clock: Hand, name: str, known_epoch: Callable[[], int] = lambda: 0
) -> Leadership:
    return Leadership(
        api, "tidal", name, clock, lambda: 1.7e9 + clock.seconds, known_epoch=known_epoch
    )


def test_the_first_creates_the_lease_and_leads(api: MemoryApi, clock: Hand) -> None:
    one, two = follower(api, clock, "a"), follower(api, clock, "b")
    assert not one.is_leader
    one.step()
    two.step()
    assert (one.is_leader, one.epoch, one.holder) == (True, 1, "a")
    assert (two.is_leader, two.epoch, two.holder) == (False, 0, "a")
    spec = api.objects[PATH]["spec"]
    assert spec["holderIdentity"] == "a"
    assert spec["renewTime"] == "2023-11-14T22:15:00.000000Z"


def test_a_leader_that_is_killed_is_followed_within_15_seconds(api: MemoryApi, clock: Hand) -> None:
    one, two = follower(api, clock, "a"), follower(api, clock, "b")
    one.step()
    killed_at = clock.seconds
    while not two.is_leader:
        clock.seconds += two.step()
        assert clock.seconds - killed_at < 15
    assert not one.is_leader
    assert two.epoch == 2


def test_a_leader_that_renews_stays(api: MemoryApi, clock: Hand) -> None:
    one, two = follower(api, clock, "a"), follower(api, clock, "b")
    for _ in range(50):
        one.step()
        assert one.is_leader
        clock.seconds += 1
        two.step()
        assert not two.is_leader
        clock.seconds += 1
    assert one.epoch == 1


def test_a_leader_that_cannot_renew_stops_before_another_may_begin(
    api: MemoryApi, clock: Hand
) -> None:
    one = follower(api, clock, "a")
    one.step()
    api.away("GET", "POST", "PATCH")
    clock.seconds += 5.9
    assert one.is_leader
    one.step()
    assert one.is_leader
    assert "refused" in one.error
    clock.seconds += 0.1
    assert not one.is_leader


def test_a_renewal_that_hangs_counts_from_when_it_was_sent(api: MemoryApi, clock: Hand) -> None:
    one = follower(api, clock, "a")
    one.step()

    def hang(method: str, _path: str) -> None:
        if method == "PATCH":
            clock.seconds += 7

    api.before = hang
    one.step()
    assert not one.is_leader
    api.away()
    one.step()
    assert (one.is_leader, one.epoch) == (True, 1)


def test_a_clean_stop_lets_the_follower_begin_at_its_next_look(api: MemoryApi, clock: Hand) -> None:
    one, two = follower(api, clock, "a"), follower(api, clock, "b")
    one.start()
    one.stop()
    assert not one.is_leader
    assert api.objects[PATH]["spec"]["holderIdentity"] == ""
    assert two.step() <= 2
    assert (two.is_leader, two.epoch) == (True, 2)


def test_a_stop_takes_nothing_from_another_leader(api: MemoryApi, clock: Hand) -> None:
    one, two = follower(api, clock, "a"), follower(api, clock, "b")
    one.step()
    two.start()
    two.stop()
    assert api.objects[PATH]["spec"]["holderIdentity"] == "a"


def test_who_was_overtaken_steps_down_though_its_time_is_not_over(
    api: MemoryApi, clock: Hand
) -> None:
    one = follower(api, clock, "a")
    one.step()
    api.patch(PATH, {"spec": {"holderIdentity": "b", "leaseTransitions": 1}}, "merge")
    one.step()
    assert not one.is_leader


@pytest.mark.parametrize("known", [0, 7])
def test_a_deleted_lease_does_not_start_the_epochs_again(
    api: MemoryApi, clock: Hand, known: int
) -> None:
    one, two = follower(api, clock, "a"), follower(api, clock, "b", lambda: known)
    one.step()
    clock.seconds += 9
    two.step()
    clock.seconds += 9
    one.step()
    clock.seconds += 9
    one.step()
    before = one.epoch
    api.delete(PATH)
    one.step()
    assert one.is_leader
    assert one.epoch == before + 1
    api.delete(PATH)
    two.step()
    assert two.epoch > known


def test_a_restarted_process_is_another_holder(api: MemoryApi, clock: Hand) -> None:
    follower(api, clock, "pod-1").step()
    again = follower(api, clock, "pod-2")
    again.step()
    clock.seconds += 9
    again.step()
    assert again.epoch == 2


def test_two_that_take_it_at_once_are_told_apart_by_the_version(
    api: MemoryApi, clock: Hand
) -> None:
    one, two = follower(api, clock, "a"), follower(api, clock, "b")
    follower(api, clock, "dead").step()
    one.step()
    two.step()
    clock.seconds += 9
    raced: list[bool] = []

    def race(method: str, _path: str) -> None:
        if method == "PATCH" and not raced:
            raced.append(True)
            two.step()

    api.before = race
    one.step()
    assert (one.is_leader, two.is_leader) == (False, True)
    assert "409" in one.error


def test_the_change_is_told_once(api: MemoryApi, clock: Hand) -> None:
    told = []
    one = Leadership(
        api, "tidal", "a", clock, lambda: 1.7e9, on_change=lambda: told.append(one.is_leader)
    )
    one.step()
    one.step()
    clock.seconds += 6
    api.away("GET")
    one.step()
    assert told == [True, False]


def test_a_refusal_is_said_and_ends_nothing(api: MemoryApi, clock: Hand) -> None:
    def forbid(_method: str, _path: str) -> None:
        raise refusal(403, "leases is forbidden")

    one = follower(api, clock, "a")
    api.before = forbid
    one.step()
    assert "forbidden" in one.error
    api.away()
    one.step()
    assert one.is_leader
    assert one.error == ""


STEP = st.tuples(
    st.sampled_from(["a", "b", "c"]),
    st.floats(0, 4),
    st.sampled_from([(), ("GET",), ("PATCH",), ("GET", "POST", "PATCH")]),
)


@given(st.lists(STEP, max_size=60))
def test_there_are_never_two_leaders_and_epochs_only_rise(
    steps: list[tuple[str, float, tuple[str, ...]]],
) -> None:
    api, clock = MemoryApi(), Hand()
    all_of_them = {name: follower(api, clock, name) for name in "abc"}
    highest, holder = 0, ""
    for name, passed, away in steps:
        clock.seconds += passed
        api.away(*away)
        all_of_them[name].step()
        leaders = [one for one in all_of_them.values() if one.is_leader]
        assert len(leaders) <= 1
        for one in leaders:
            assert one.epoch >= highest
            assert one.epoch > highest or one.identity == holder
            highest, holder = one.epoch, one.identity
