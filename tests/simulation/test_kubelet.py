"""The fake kubelet's pure core: phases in time, devices, images, terminations."""

from math import inf

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.simulation.kubelet.facts import Facts
from scheduler.simulation.kubelet.images import MOST_LISTED, Images
from scheduler.simulation.kubelet.ledger import Ledger
from scheduler.simulation.kubelet.manners import Manners
from scheduler.simulation.kubelet.node import (
    ADMISSION_ERROR,
    Event,
    NodeState,
    Passed,
    Seen,
    Told,
    Vanished,
    step,
)
from scheduler.simulation.kubelet.writes import Remove, Report, ReportImages, Write

MANNERS = Manners(
    start_seconds=2.0,
    exit_seconds=1.0,
    image_mib=100,
    pull_mib_per_second=10.0,
    relist_seconds=0.0,
    unready_seconds=0.5,
)
replace = msgspec.structs.replace


def pod(uid: str = "a", gpus: int = 1, **more: object) -> Facts:
    base = Facts(uid=uid, namespace="ns", name=f"pod-{uid}", gpus=gpus)
    return replace(base, **more)


class Play:
    """One node of 4 GPUs, its clock, and all it said."""

    def __init__(self, manners: Manners = MANNERS, gpus: int = 4) -> None:
        self.node = NodeState("n", Ledger(gpus))
        self.manners = manners
        self.now = 0.0
        self.said: list[tuple[float, Write]] = []

    def do(self, event: Event, after: float = 0.0) -> tuple[Write, ...]:
        self.now += after
        self.node, writes = step(self.node, event, self.now, self.manners)
        self.said.extend((self.now, write) for write in writes)
        return writes

    def run(self, until: float) -> None:
        """Let time pass as the shell does: at each due moment; reports are told at once."""
        while (due := self.node.due_seconds()) <= until:
            self.now = max(self.now, due)
            self.tell(self.do(Passed()))
        self.now = until

    def tell(self, writes: tuple[Write, ...]) -> None:
        for write in writes:
            if isinstance(write, Report) and write.terminal:
                self.tell(self.do(Told(write.uid)))

    def phases(self, uid: str = "a") -> list[tuple[float, str, bool]]:
        return [
            (at, one.phase, one.ready)
            for at, one in self.said
            if isinstance(one, Report) and one.uid == uid
        ]

    def removed(self) -> list[tuple[float, str]]:
        return [(at, one.uid) for at, one in self.said if isinstance(one, Remove)]


def deleted(of: Facts, grace: float = 30.0) -> Seen:
    return Seen(replace(of, deleting=True, grace_seconds=grace))


# ---- phases ----------------------------------------------------------------------------------


def test_a_pod_pulls_starts_and_becomes_ready() -> None:
    play = Play()
    play.do(Seen(pod(containers=(("main", "engine:1"),))))
    play.run(100.0)
    assert play.phases() == [(0.0, "Pending", False), (12.0, "Running", True)]


def test_an_image_that_is_there_is_not_pulled_again_and_one_on_its_way_is_shared() -> None:
    play = Play()
    for uid in ("a", "b"):
        play.do(Seen(pod(uid, containers=(("main", "engine:1"),))))
    play.run(20.0)
    play.do(Seen(pod("c", containers=(("main", "engine:1"),))))
    play.run(100.0)
    assert [play.phases(uid)[-1][0] for uid in ("a", "b", "c")] == [12.0, 12.0, 22.0]


def test_images_of_one_node_are_pulled_one_after_the_other() -> None:
    play = Play()
    play.do(Seen(pod("a", containers=(("main", "big"),), image_mib=300)))
    play.do(Seen(pod("b", containers=(("main", "small"),), image_mib=10)))
    play.run(100.0)
    assert [play.phases(uid)[-1][0] for uid in ("a", "b")] == [32.0, 33.0]


def test_a_job_pod_ends_by_itself_and_stays_until_somebody_deletes_it() -> None:
    play = Play()
    job = pod(run_seconds=10.0)
    play.do(Seen(job))
    play.run(50.0)
    assert play.phases()[-1] == (12.0, "Succeeded", False)
    assert play.removed() == []
    play.do(deleted(replace(job, phase="Succeeded")))
    assert play.removed() == [(50.0, "a")]


def test_ready_follows_the_readiness_gates() -> None:
    play = Play()
    shut, opened = pod(gates_open=False), pod()
    play.do(Seen(shut))
    play.run(5.0)
    play.do(Seen(opened))
    play.do(Seen(opened))
    play.do(Seen(shut), after=1.0)
    assert play.phases()[1:] == [
        (2.0, "Running", False),
        (5.0, "Running", True),
        (6.0, "Running", False),
    ]


# ---- terminations ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "grace", "lasts", "phase", "code"),
    [
        (pod(), 30.0, 1.0, "Failed", 143),
        (pod(exit_code=0), 30.0, 1.0, "Succeeded", 0),
        (pod(exit_seconds=12.0), 30.0, 12.0, "Failed", 143),
        (pod(exit_seconds=1e9), 30.0, 30.0, "Failed", 137),
        (pod(exit_seconds=1e9, exit_code=0), 5.0, 5.0, "Failed", 137),
        (pod(pre_stop_seconds=10.0), 30.0, 11.0, "Failed", 143),
        (pod(pre_stop_seconds=60.0), 30.0, 31.0, "Failed", 143),
        (pod(pre_stop_seconds=60.0, exit_seconds=1e9), 30.0, 32.0, "Failed", 137),
    ],
)
def test_a_termination_lasts_pre_stop_and_exit_but_no_longer_than_the_grace(
    of: Facts, grace: float, lasts: float, phase: str, code: int
) -> None:
    play = Play()
    play.do(Seen(of))
    play.run(10.0)
    play.do(deleted(of, grace))
    play.run(100.0)
    at, last = [(at, one) for at, one in play.said if isinstance(one, Report)][-1]
    assert (at, last.phase, last.exit_code) == (10.0 + lasts, phase, code)
    assert play.removed() == [(10.0 + lasts, "a")]


def test_ready_is_false_soon_after_the_deletion() -> None:
    play = Play()
    of = pod(exit_seconds=20.0)
    play.do(Seen(of))
    play.run(10.0)
    play.do(deleted(of))
    play.run(60.0)
    assert play.phases()[1:] == [
        (2.0, "Running", True),
        (10.5, "Running", False),
        (30.0, "Failed", False),
    ]


def test_a_second_deletion_with_less_grace_shortens_the_first() -> None:
    play = Play()
    of = pod(exit_seconds=1e9)
    play.do(Seen(of))
    play.run(10.0)
    play.do(deleted(of, 600.0))
    play.run(15.0)
    play.do(deleted(of, 8.0))
    play.run(100.0)
    assert play.removed() == [(18.0, "a")]


def test_a_pod_deleted_while_it_pulls_is_over_at_once() -> None:
    play = Play()
    of = pod(containers=(("main", "engine:1"),))
    play.do(Seen(of))
    play.tell(play.do(deleted(of), after=3.0))
    assert [phase for _, phase, _ in play.phases()] == ["Pending", "Failed"]
    assert play.removed() == [(3.0, "a")]


def test_the_dead_container_is_seen_at_the_next_relist() -> None:
    lags = set()
    for uid in "abcdefgh":
        play = Play(replace(MANNERS, relist_seconds=1.0))
        play.do(Seen(pod(uid, run_seconds=1.0)))
        play.run(10.0)
        lags.add(play.phases(uid)[-1][0] - 3.0)
    assert len(lags) == 8
    assert all(0 <= lag < 1 for lag in lags)


# ---- devices ---------------------------------------------------------------------------------


def rejected(play: Play, uid: str) -> bool:
    found = [w for _, w in play.said if isinstance(w, Report) and w.uid == uid and w.reason]
    return [one.reason for one in found] == [ADMISSION_ERROR]


def test_a_pod_bound_before_the_devices_are_free_is_rejected_for_good() -> None:
    play = Play()
    old = pod("old", gpus=4, exit_seconds=5.0)
    play.do(Seen(old))
    play.run(10.0)
    play.do(deleted(old))
    play.do(Seen(pod("early", gpus=1)), after=4.0)
    assert rejected(play, "early")
    play.run(100.0)
    assert [phase for _, phase, _ in play.phases("early")] == ["Failed"]
    play.do(Seen(pod("late", gpus=4)))
    assert not rejected(play, "late")


def test_a_pod_bound_before_the_report_was_acknowledged_finds_its_devices() -> None:
    """The server binds the next pod the moment it hears; its answer may come later."""
    play = Play()
    play.do(Seen(pod("old", gpus=4, run_seconds=1.0)))
    play.do(Passed(), after=50.0)
    assert play.phases("old")[-1][1] == "Succeeded"
    play.do(Seen(pod("next", gpus=4)))
    assert not rejected(play, "next")


def test_a_pod_whose_object_vanished_keeps_its_devices_until_its_process_ended() -> None:
    play = Play()
    play.do(Seen(pod("old", gpus=4, exit_seconds=20.0)))
    play.run(10.0)
    play.do(Vanished("old"))
    play.run(29.0)
    play.do(Seen(pod("early")))
    play.run(31.0)
    play.do(Seen(pod("late")))
    assert (rejected(play, "early"), rejected(play, "late")) == (True, False)
    assert [phase for _, phase, _ in play.phases("old")] == ["Pending", "Running"]


def test_the_choice_among_free_devices_is_even() -> None:
    counts = [0] * 8
    ledger = Ledger(8)
    for draw in range(4000):
        (device,) = replace(ledger, draws=draw).pick(1, "7/n")
        counts[device] += 1
    # 500 each; 3.5 standard deviations of a binomial are 73
    assert all(427 < count < 573 for count in counts)


def test_a_device_that_is_held_is_not_given() -> None:
    with pytest.raises(ValueError, match="not all free"):
        Ledger(2, {0: "a"}).give("b", (0, 1))


def test_a_new_process_takes_over_what_the_old_one_gave() -> None:
    play = Play()
    play.do(Seen(pod("a", gpus=2, phase="Running", published=(1, 3))))
    play.do(Seen(pod("b", gpus=2)))
    assert play.node.ledger.holders == {1: "a", 3: "a", 0: "b", 2: "b"}


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["bind", "delete", "vanish", "tell", "wait"]),
        st.integers(0, 5),
        st.integers(0, 4),
    ),
    max_size=60,
)


@given(MOVES)
def test_no_device_ever_has_two_owners(moves: list[tuple[str, int, int]]) -> None:
    play = Play()
    owned: dict[str, tuple[int, ...]] = {}
    known: dict[str, Facts] = {}
    reported: list[str] = []
    for move, which, amount in moves:
        uids = sorted(known)
        chosen = known[uids[which % len(uids)]] if uids else None
        event: Event = Passed()
        if move == "bind":
            fresh = pod(f"u{len(play.said)}-{which}", gpus=amount, exit_seconds=float(which))
            known.setdefault(fresh.uid, fresh)
            event = Seen(known[fresh.uid])
        elif move == "delete" and chosen:
            known[chosen.uid] = replace(chosen, deleting=True, grace_seconds=float(amount))
            event = Seen(known[chosen.uid])
        elif move == "vanish" and chosen:
            del known[chosen.uid]
            event = Vanished(chosen.uid)
        elif move == "tell" and reported:
            uid = reported.pop(which % len(reported))
            owned.pop(uid, None)
            event = Told(uid)
        for write in play.do(event, after=float(amount) if move == "wait" else 0.0):
            if isinstance(write, Report) and write.devices is not None:
                others = {
                    one for uid, held in owned.items() if uid in play.node.lives for one in held
                }
                assert not others & set(write.devices)
                owned[write.uid] = write.devices
            if isinstance(write, Report) and write.terminal:
                reported.append(write.uid)


@given(MOVES)
def test_nothing_is_removed_before_its_terminal_phase_was_taken(
    moves: list[tuple[str, int, int]],
) -> None:
    play = Play()
    told: set[str] = set()
    reports: list[str] = []
    for number, (move, which, amount) in enumerate(moves):
        of = pod(f"u{which}", gpus=1, exit_seconds=float(amount))
        event: Event = Passed()
        if move in {"bind", "delete"}:
            event = Seen(replace(of, deleting=move == "delete"))
        elif move == "tell" and reports:
            told.add(reports[0])
            event = Told(reports.pop(0))
        for write in play.do(event, after=float(amount * (number % 3))):
            assert not (isinstance(write, Remove) and write.uid not in told)
            if isinstance(write, Report) and write.terminal:
                reports.append(write.uid)


# ---- images ----------------------------------------------------------------------------------


def test_the_status_lists_the_fifty_largest_images() -> None:
    images = Images()
    for number in range(60):
        images = images.pull(f"image-{number:02d}", number, inf, 0.0)
    listed = images.listed(0.0)
    assert len(listed) == MOST_LISTED
    assert listed[0] == ("image-59", 59)
    assert listed[-1] == ("image-10", 10)


def test_the_list_is_told_when_an_image_is_there_also_where_its_pod_has_gone() -> None:
    play = Play()
    of = pod(containers=(("main", "engine:1"),))
    play.do(Seen(of))
    play.do(deleted(of), after=1.0)
    play.run(100.0)
    told = [(at, write) for at, write in play.said if isinstance(write, ReportImages)]
    assert told == [(10.0, ReportImages("n", (("engine:1", 100),)))]
