"""Verdicts: tables for each rule, and properties over generated clusters."""

from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binpacking.inventory import Device, Holder, Node
from scheduler.planning import reasons
from scheduler.planning.actions import Action, Plan, ResizeJob, ScaleRole, StopJob
from scheduler.planning.index import index_of
from scheduler.planning.policy import parse
from scheduler.planning.snapshot import Job, Pod, Replica, Reservation, Snapshot
from scheduler.planning.standing import Bind, Place, PodAsk, Standing, Victim, standing_of
from scheduler.planning.targets import Target
from scheduler.planning.verdicts import FilterVerdict, filter_nodes, preempt, prioritise
from scheduler.view import NoStandingError, View

JobState = Literal["running", "starting", "notified", "stopping"]
ReplicaState = Literal["starting", "ready", "draining"]

NOW = 1000.0
POLICY = parse(
    {
        "version": 1,
        "models": {
            "chat": {
                "roles": {"decode": {"tokens": "generated", "capacity_tokens_per_second": {"H": 1}}}
            }
        },
    }
)
STALE = POLICY.extender.plan_stale_seconds
GONE = POLICY.extender.heuristic_stale_seconds


def place(
    name: str,
    free: int,
    releasing: int = 0,
    leaf: tuple[str, ...] = ("s0", "H"),
    resource: str = "nvidia.com/gpu",
    cordoned: str = "",
) -> Place:
    return Place(name, leaf, resource, free, releasing, 8, not cordoned)


def held(owner: str, *parts: tuple[str, int], number: int = 0, until: float = 300.0) -> Reservation:
    return Reservation(
        id=f"{owner}-{number}",
        owner=owner,
        parts=parts,
        created_seconds=NOW,
        expires_seconds=NOW + until,
    )


def standing(
    *places: Place,
    reservations: tuple[Reservation, ...] = (),
    victims: tuple[Victim, ...] = (),
    seen: tuple[str, ...] = (),
) -> Standing:
    return Standing(
        now_seconds=NOW,
        planned_at_seconds=NOW,
        plan_stale_seconds=STALE,
        heuristic_stale_seconds=GONE,
        nodes=places,
        reservations=reservations,
        victims=victims,
        seen=seen,
    )


def ask(gpus: int = 4, owner: str = "", group: str = "", uid: str = "u") -> PodAsk:
    return PodAsk(uid=uid, name=uid, owner=owner, group=group, gpus=gpus)


def bind(uid: str, owner: str, node: str, gpus: int = 4, group: str = "") -> Bind:
    return Bind(uid, owner, group, node, gpus, NOW + 1)


def verdict(
    one: Standing, wanted: PodAsk, *binds: Bind, names: str = "abc", after: float = 2.0
) -> FilterVerdict:
    return filter_nodes(index_of(one), binds, wanted, tuple(names), NOW + after)


# ---- filter under a fresh plan -------------------------------------------------------------------


def test_an_owner_with_reservations_gets_their_nodes_and_no_other() -> None:
    one = standing(place("a", 8), place("b", 8), reservations=(held("chat/decode", ("b", 4)),))
    found = verdict(one, ask(4, "chat/decode"), names="ab")
    assert found.passed == ("b",)
    assert found.refused["a"] == "planned for b; waits until its GPUs are free"


def test_names_keep_their_order() -> None:
    one = standing(place("a", 8), place("b", 8), place("c", 8))
    assert verdict(one, ask(), names="cab").passed == ("c", "a", "b")


@pytest.mark.parametrize("owner", ["", "code/decode"])
def test_others_get_what_is_free_and_not_reserved(owner: str) -> None:
    one = standing(
        place("a", 7), place("b", 8), place("c", 3), reservations=(held("chat/decode", ("a", 4)),)
    )
    found = verdict(one, ask(4, owner))
    assert found.passed == ("b",)
    assert found.refused["a"] == reasons.kept_for("chat/decode")
    assert found.refused["c"] == reasons.FULL


def test_an_expired_reservation_holds_nothing() -> None:
    one = standing(place("a", 4), reservations=(held("chat/decode", ("a", 4), until=60.0),))
    assert verdict(one, ask(), names="a", after=59.0).passed == ()
    assert verdict(one, ask(), names="a", after=60.0).passed == ("a",)


def test_a_bind_fills_its_slot_and_frees_nothing() -> None:
    one = standing(
        place("a", 8),
        place("b", 8),
        reservations=(held("chat/decode", ("a", 4)), held("chat/decode", ("b", 4), number=1)),
    )
    first = bind("p1", "chat/decode", "a")
    assert verdict(one, ask(4, "chat/decode"), first, names="ab").passed == ("b",)
    assert verdict(one, ask(4), first, names="ab").passed == ("a", "b")
    assert verdict(one, ask(8), first, names="ab").passed == ()


def test_an_owner_whose_slots_are_filled_is_a_stranger_among_others() -> None:
    one = standing(place("a", 4), place("b", 8), reservations=(held("chat/decode", ("a", 4)),))
    found = verdict(one, ask(4, "chat/decode"), bind("p1", "chat/decode", "a"), names="ab")
    assert found.passed == ("b",)


def test_a_bind_from_before_the_reservation_does_not_fill_it() -> None:
    old = Bind("p1", "chat/decode", "", "a", 4, NOW - 60)
    one = standing(place("a", 4), place("b", 8), reservations=(held("chat/decode", ("a", 4)),))
    one = msgspec.structs.replace(one, bound=(old,))
    assert verdict(one, ask(4, "chat/decode"), names="ab").passed == ("a",)


def test_a_pod_larger_than_a_part_does_not_fill_it() -> None:
    one = standing(place("a", 8), place("b", 8), reservations=(held("j", ("a", 4), ("b", 8)),))
    large = bind("p1", "j", "a", 8, group="j")
    assert verdict(one, ask(8, "j", group="j"), large, names="ab").passed == ("b",)
    assert verdict(one, ask(4, "j", group="j"), large, names="ab").refused == {
        "a": reasons.planned_here(())
    }


def test_siblings_stay_with_their_reservation() -> None:
    two = (
        held("chat/decode", ("a", 8), ("b", 8)),
        held("chat/decode", ("c", 8), ("d", 8), number=1),
    )
    one = standing(*(place(name, 8) for name in "abcd"), reservations=two)
    sibling = bind("p1", "chat/decode", "c", 8, group="r1")
    same = ask(8, "chat/decode", group="r1")
    other = ask(8, "chat/decode", group="r2")
    assert verdict(one, same, sibling, names="abcd").passed == ("d",)
    assert verdict(one, other, sibling, names="abcd").passed == ("a", "b")
    alone = bind("p2", "chat/decode", "a", 8, group="r2")
    assert verdict(one, other, sibling, alone, names="abcd").passed == ("b",)


def test_two_pods_on_one_node_fill_two_parts() -> None:
    one = standing(place("a", 8), reservations=(held("j", ("a", 4), ("a", 4)),))
    first = bind("p1", "j", "a", group="j")
    second = bind("p2", "j", "a", group="j")
    assert verdict(one, ask(4, "j", group="j"), first, names="a").passed == ("a",)
    assert verdict(one, ask(4, "j", group="j"), first, second, names="a").passed == ()


def test_a_pod_larger_than_its_slots_is_treated_as_without_them() -> None:
    one = standing(place("a", 8), place("b", 8), reservations=(held("chat/decode", ("a", 4)),))
    assert verdict(one, ask(8, "chat/decode"), names="ab").passed == ("b",)


def test_a_slot_counts_on_gpus_being_released_and_others_do_not() -> None:
    one = standing(place("a", 0, releasing=4), reservations=(held("chat/decode", ("a", 4)),))
    assert verdict(one, ask(4, "chat/decode"), names="a").passed == ("a",)
    assert verdict(one, ask(4), names="a").refused == {"a": reasons.FULL}
    empty = standing(place("a", 0), reservations=(held("chat/decode", ("a", 4)),))
    assert verdict(empty, ask(4, "chat/decode"), names="a").refused == {
        "a": reasons.planned_here(())
    }


def test_a_group_without_slots_stays_under_its_leaf() -> None:
    one = standing(place("a", 8), place("b", 8, leaf=("s1", "H")), place("c", 8, leaf=("s1", "H")))
    found = verdict(one, ask(8, "j", group="j"), bind("p1", "j", "b", 8, group="j"))
    assert found.passed == ("c",)
    assert found.refused["a"] == reasons.OTHER_LEAF


@pytest.mark.parametrize(
    ("spot", "reason"),
    [
        (place("a", 8, cordoned="by a person"), reasons.CLOSED),
        (place("a", 8, resource="amd.com/gpu"), "offers amd.com/gpu, the pod asks for nvidia"),
        (place("b", 8), reasons.UNKNOWN),
    ],
)
def test_nodes_that_cannot_be_taken_say_why(spot: Place, reason: str) -> None:
    assert verdict(standing(spot), ask(), names="a").refused["a"].startswith(reason)


def test_a_pod_without_gpus_passes_everywhere() -> None:
    assert verdict(standing(place("a", 0)), ask(0), names="ab").passed == ("a", "b")


def test_a_bind_that_the_snapshot_shows_is_not_counted_twice() -> None:
    one = standing(place("a", 4), seen=("p1",))
    assert verdict(one, ask(4), bind("p1", "", "a"), names="a").passed == ("a",)


def test_asking_again_after_a_late_bind_gives_the_same_node() -> None:
    one = standing(place("a", 4), reservations=(held("chat/decode", ("a", 4)),))
    again = ask(4, "chat/decode", uid="p1")
    assert verdict(one, again, bind("p1", "chat/decode", "a"), names="a").passed == ("a",)


# ---- gangs, jobs that stop, and what is said ---------------------------------------------------


def test_no_pod_of_a_gang_starts_before_all_its_nodes_can_be_had() -> None:
    gang = (held("j", ("a", 8), ("b", 8)),)
    waits = standing(place("a", 8), place("b", 0, releasing=8), place("c", 8), reservations=gang)
    pod = ask(8, "j", "j")
    assert verdict(waits, pod, names="ac").passed == ()
    assert verdict(waits, pod, names="abc").passed == ("a", "b")  # offered: its GPUs are free
    begun = bind("p0", "j", "b", 8, group="j")
    assert verdict(waits, pod, begun, names="ac").passed == ("a",)
    free = standing(place("a", 8), place("b", 8), reservations=gang)
    assert verdict(free, pod, names="a").passed == ("a",)


def test_a_pod_of_a_job_that_the_plan_stops_gets_nothing_under_that_plan() -> None:
    one = msgspec.structs.replace(standing(place("a", 8)), stopping=("j",))
    assert verdict(one, ask(4, "j"), names="a").refused == {"a": reasons.stopping("j")}
    assert chosen(one, ask(4, "j"), a="v1") == {}
    assert verdict(one, ask(4, "j"), names="a", after=STALE + 1).passed == ("a",)


def test_pods_of_tidal_without_slots_get_what_is_free_and_say_what_they_wait_for() -> None:
    """The same sentence on every node, so that kube-scheduler adds them up."""
    one = msgspec.structs.replace(
        standing(place("a", 4), place("b", 2), reservations=(held("x/y", ("a", 2)),)),
        jobs=("default/job",),
        targets=(("chat/decode", Target("Deployment", "default", "chat")),),
    )
    assert verdict(one, ask(2, "default/job"), names="ab").passed == ("a", "b")
    assert set(verdict(one, ask(4, "default/job"), names="ab").refused.values()) == {
        "Tidal has lent no GPU to default/job yet; it waits for a plan"
    }
    assert set(verdict(one, ask(4, "chat/decode"), names="ab").refused.values()) == {
        "Tidal has reserved no GPU for chat/decode yet; it waits for a plan"
    }


def test_a_pod_that_waits_for_its_node_names_it_and_who_leaves_it() -> None:
    busy = msgspec.structs.replace(place("a", 0, releasing=2), leaving=("default/j", "chat/x"))
    one = standing(busy, place("b", 8), place("c", 8), reservations=(held("r", ("a", 4)),))
    released = "waits until its GPUs are released by chat/x, default/j"
    assert verdict(one, ask(4, "r")).refused == {
        "a": f"planned for this node; {released}",
        "b": f"planned for a; {released}",
        "c": f"planned for a; {released}",
    }


@given(st.lists(st.text("abc", min_size=1), max_size=6))
def test_a_sentence_names_three_at_most_and_counts_nothing(names: list[str]) -> None:
    said = reasons.planned_elsewhere(("n",), names)
    assert said == reasons.planned_elsewhere(("n",), reversed(names))
    assert said.count(", ") < 3
    assert not any(letter.isdigit() for letter in said)


# ---- an old plan ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "passed"),
    [(STALE, "a"), (STALE + 1, "ab"), (GONE, "ab"), (GONE + 1, "abc")],
)
def test_an_old_plan_gives_way_step_by_step(after: float, passed: str) -> None:
    one = standing(
        place("a", 4),
        place("b", 4),
        place("c", 4),
        reservations=(
            held("chat/decode", ("a", 4), until=1e6),
            held("code/decode", ("c", 4), until=1e6),
        ),
    )
    found = verdict(one, ask(4, "chat/decode"), names="abc", after=after)
    assert found.passed == tuple(passed)


def test_an_unknown_node_passes_once_the_plan_is_old() -> None:
    assert verdict(standing(place("a", 8)), ask(), names="x", after=STALE + 1).passed == ("x",)


# ---- prioritise ----------------------------------------------------------------------------------


def scores(one: Standing, wanted: PodAsk, names: str) -> dict[str, int]:
    return dict(prioritise(index_of(one), (), wanted, tuple(names), NOW))


def test_best_fit_wins_and_ties_go_by_name() -> None:
    one = standing(place("a", 8), place("b", 4), place("c", 4), place("d", 6), place("e", 2))
    assert scores(one, ask(4), "edcbax") == {"e": 0, "d": 8, "c": 9, "b": 10, "a": 7, "x": 0}


def test_best_fit_counts_what_is_kept_for_others() -> None:
    one = standing(place("a", 8), place("b", 6), reservations=(held("chat/decode", ("a", 4)),))
    assert scores(one, ask(4), "ab") == {"a": 10, "b": 8}


# ---- preempt -------------------------------------------------------------------------------------

VICTIMS = (Victim("v1", "a", 4), Victim("v2", "a", 4), Victim("v3", "b", 2))


def chosen(
    one: Standing, wanted: PodAsk, after: float = 2.0, **offers: str
) -> dict[str, list[str]]:
    candidates = {node: tuple(uids.split()) for node, uids in offers.items()}
    kept = preempt(index_of(one), (), wanted, candidates, NOW + after)
    return {node: list(uids) for node, uids in kept.items()}


def test_preempt_keeps_nodes_that_filter_will_accept() -> None:
    one = standing(place("a", 0, releasing=8), place("b", 0, releasing=2), victims=VICTIMS)
    assert chosen(one, ask(4), a="v2", b="v3") == {"a": ["v2"]}


def test_preempt_spares_pods_that_the_plan_keeps() -> None:
    one = standing(place("a", 0, releasing=8), victims=VICTIMS)
    assert chosen(one, ask(4), a="x v1") == {"a": ["v1"]}
    assert chosen(one, ask(8), a="x v1") == {}


def test_preempt_chooses_no_victims_of_its_own() -> None:
    """Synthesised: nodes offered with empty victim lists are announced for a release after 1.36.

    No published release sends them. The daemon evicts by its own plan, and an answer without a
    victim, or with others than offered, would start a second eviction beside it: such nodes are
    dropped, whether the pod's own slot is being emptied there or not, and the pod waits.
    """
    one = standing(
        place("a", 0, releasing=8),
        place("b", 8),
        victims=VICTIMS,
        reservations=(held("chat/decode", ("a", 8)),),
    )
    assert chosen(one, ask(8, "chat/decode"), a="", b="") == {}
    assert chosen(one, ask(8), a="", b="") == {}
    assert chosen(one, ask(8, "chat/decode"), a="v1 v2", b="") == {"a": ["v1", "v2"]}


def test_preempt_is_not_for_a_gang_whose_other_node_is_not_free() -> None:
    gang = (held("chat/decode", ("a", 8), ("b", 8)),)
    places = (place("a", 0, releasing=8), place("b", 0, releasing=8))
    wanted = ask(8, "chat/decode", "r1")
    assert chosen(standing(*places, victims=VICTIMS, reservations=gang), wanted, a="v1 v2") == {}
    free = standing(places[0], place("b", 8), victims=VICTIMS, reservations=gang)
    assert chosen(free, wanted, a="v1 v2") == {"a": ["v1", "v2"]}


def test_preempt_keeps_reserved_gpus_for_their_owner() -> None:
    one = standing(
        place("a", 0, releasing=8), victims=VICTIMS, reservations=(held("chat/decode", ("a", 8)),)
    )
    assert chosen(one, ask(8), a="v1 v2") == {}
    assert chosen(one, ask(8, "chat/decode"), a="v1 v2") == {"a": ["v1", "v2"]}


def test_preempt_without_a_fresh_plan() -> None:
    one = standing(place("a", 0), victims=VICTIMS)
    assert chosen(one, ask(4), after=STALE + 1, a="v1") == {}
    assert chosen(one, ask(4), after=GONE + 1, a="x", b="") == {"a": ["x"]}


# ---- the standing --------------------------------------------------------------------------------


def device(index: int, owner: str = "") -> Device:
    return Device(index, f"d{index}", 80, holders=(Holder(owner),) if owner else ())


def job(
    name: str, node: str, state: JobState = "running", pods: int = 1, *, leaving: bool = False
) -> Job:
    pod = Pod(
        name=f"{name}-0", uid=f"{name}-0", gpus=1, node=node, bound_seconds=5.0, leaving=leaving
    )
    return Job(
        id=name,
        tenant="t",
        priority=1,
        state=state,
        pods=pods,
        gpus_per_pod=1,
        min_pods=pods,
        max_pods=pods,
        submitted_seconds=0.0,
        started_seconds=0.0,
        expected_remaining_seconds=60.0,
        placed=(pod,),
    )


def replica(name: str, *nodes: str, state: ReplicaState = "starting") -> Replica:
    pods = (Pod(name=f"{name}-{i}", uid=f"{name}-{i}", gpus=1, node=n) for i, n in enumerate(nodes))
    return Replica(id=name, role="chat/decode", state=state, pods=tuple(pods))


def stood(
    *actions: Action, jobs: tuple[Job, ...] = (), replicas: tuple[Replica, ...] = ()
) -> Standing:
    holders = [*(one.id for one in jobs), *(one.id for one in replicas)]
    node = Node(
        name="a",
        gpu_model="H",
        switch_path=("s0",),
        devices=tuple(device(i, owner) for i, owner in enumerate([*holders, "stranger", ""])),
    )
    snapshot = Snapshot(now_seconds=NOW, nodes=(node,), jobs=jobs, replicas=replicas)
    return standing_of(snapshot, Plan(at_seconds=NOW, source="full", actions=actions), POLICY)


def stop(name: str) -> StopJob:
    return StopJob(job=name, expected_attempt=0, for_role="r", code="recall_now", sentence="")


def test_victims_are_only_the_pods_that_are_on_their_way_out() -> None:
    release = ResizeJob(
        job="j3", expected_attempt=0, pods=0, release=("j3-0",), code="shrink", sentence=""
    )
    sent = (job("j4", "a", "stopping", leaving=True), job("j5", "a", "stopping"))
    jobs = (job("j1", "a"), job("j2", "a"), job("j3", "a"), *sent)
    one = stood(stop("j1"), release, jobs=jobs)
    assert [victim.uid for victim in one.victims] == ["j4-0"], "j5: a budget holds it back"
    assert (one.nodes[0].free, one.nodes[0].releasing) == (1, 4)
    assert one.nodes[0].leaving == ("j1", "j3", "j4", "j5")
    assert one.stopping == ("j1", "j4", "j5")


def test_jobs_under_notice_and_retiring_replicas_release_without_being_victims() -> None:
    scale = ScaleRole(
        role="chat/decode",
        expected_replicas=2,
        replicas=1,
        retire=("r1",),
        code="demand_falls",
        sentence="",
    )
    replicas = (replica("r1", "a", state="ready"), replica("r2", "a", state="draining"))
    one = stood(scale, jobs=(job("j1", "a", "notified"),), replicas=replicas)
    assert one.victims == ()
    assert one.nodes[0].releasing == 3
    assert one.nodes[0].leaving == ("chat/decode", "j1")


def test_only_pods_of_groups_that_still_wait_are_told() -> None:
    replicas = (replica("r1", "a", ""), replica("r2", "a"))
    one = stood(jobs=(job("j1", "a", "starting", pods=2), job("j2", "a")), replicas=replicas)
    assert [(bind.uid, bind.owner, bind.group) for bind in one.bound] == [
        ("r1-0", "chat/decode", "r1"),
        ("j1-0", "j1", "j1"),
    ]
    assert set(one.seen) == {"r1-0", "r2-0", "stranger"}
    assert one.jobs == ("j1",)


def test_a_standing_is_small_and_survives_its_encoding() -> None:
    one = stood(stop("j1"), jobs=(job("j1", "a"),), replicas=(replica("r1", "a", ""),))
    encoded = msgspec.msgpack.encode(one)
    assert msgspec.msgpack.decode(encoded, type=Standing) == one
    assert len(encoded) < 500


# ---- the view ------------------------------------------------------------------------------------


def test_a_view_without_a_standing_says_so() -> None:
    view = View()
    for call in (
        lambda: view.filter(ask(), ("a",), NOW),
        lambda: view.prioritise(ask(), ("a",), NOW),
        lambda: view.preempt(ask(), {}, NOW),
        lambda: view.claim(ask(), "a", NOW),
    ):
        with pytest.raises(NoStandingError, match="has not read the cluster"):
            call()


def test_a_view_remembers_a_bind_until_snapshot_and_plan_have_seen_it() -> None:
    view = View()
    one = standing(place("a", 4))
    view.publish(one)
    view.bound(ask(4, uid="p1"), "a", NOW + 1)
    assert view.filter(ask(4), ("a",), NOW + 2).passed == ()
    view.publish(msgspec.structs.replace(one, now_seconds=NOW + 15))
    assert view.filter(ask(4), ("a",), NOW + 15).passed == ()
    freed = msgspec.structs.replace(one, now_seconds=NOW + 15, seen=("p1",))
    view.publish(freed)
    assert view.filter(ask(4), ("a",), NOW + 15).passed == ("a",)
    for older in (freed, one):
        later = msgspec.structs.replace(older, now_seconds=NOW + 30, planned_at_seconds=NOW + 30)
        view.publish(later)
    assert view.filter(ask(4), ("a",), NOW + 30).passed == ("a",)


def test_a_bind_fills_its_slot_until_a_plan_has_seen_it() -> None:
    view = View()
    one = standing(place("a", 8), reservations=(held("chat/decode", ("a", 4)),))
    view.publish(one)
    view.bound(ask(4, "chat/decode", uid="p1"), "a", NOW + 1)
    observed = msgspec.structs.replace(
        one, nodes=(place("a", 4),), now_seconds=NOW + 15, seen=("p1",)
    )
    view.publish(observed)
    assert view.filter(ask(4), ("a",), NOW + 15).passed == ("a",)
    view.publish(msgspec.structs.replace(observed, planned_at_seconds=NOW + 15))
    assert view.filter(ask(4), ("a",), NOW + 15).passed == ()


def test_a_view_forgets_a_bind_that_never_shows() -> None:
    view = View()
    one = standing(place("a", 4))
    view.publish(one)
    view.bound(ask(4, uid="p1"), "a", NOW)
    view.publish(msgspec.structs.replace(one, now_seconds=NOW + 119))
    assert view.filter(ask(4), ("a",), NOW + 119).passed == ()
    view.publish(msgspec.structs.replace(one, now_seconds=NOW + 120))
    assert view.filter(ask(4), ("a",), NOW + 120).passed == ("a",)


def test_of_two_pods_that_passed_filter_one_may_claim() -> None:
    view = View()
    view.publish(standing(place("a", 4)))
    assert view.claim(ask(4, uid="p1"), "a", NOW) == ""
    assert view.claim(ask(4, uid="p1"), "a", NOW) == ""
    assert view.claim(ask(4, uid="p2"), "a", NOW) == reasons.FULL
    view.release("p1")
    assert view.claim(ask(4, uid="p3"), "a", NOW) == ""


# ---- properties ----------------------------------------------------------------------------------

NAMES = "abcd"
OWNERS = ("", "j1", "r/x", "r/y")
GPUS = st.sampled_from((1, 2, 4, 8))


@st.composite
def standings(draw: st.DrawFn) -> Standing:
    """A cluster whose reservations fit what is free or being released, as plans guarantee."""
    places, victims, room = [], [], {}
    for name in NAMES:
        free = draw(st.integers(0, 8))
        gone = draw(st.integers(0, 8 - free))
        leaf = (draw(st.sampled_from(("s0", "s1"))), "H")
        places.append(place(name, free, releasing=gone, leaf=leaf))
        victims += [Victim(f"v-{name}", name, gone)] * bool(gone)
        room[name] = free + gone
    reservations = []
    for number in range(draw(st.integers(0, 5))):
        parts = []
        for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2)):
            gpus = draw(GPUS)
            if room[name] >= gpus:
                room[name] -= gpus
                parts.append((name, gpus))
        owner = draw(st.sampled_from(OWNERS[1:]))
        until = draw(st.sampled_from((1.0, 300.0)))
        if parts:
            reservations.append(held(owner, *sorted(parts), number=number, until=until))
    return standing(*places, reservations=tuple(reservations), victims=tuple(victims))


@st.composite
def asks(draw: st.DrawFn, uid: str = "u") -> PodAsk:
    owner = draw(st.sampled_from(OWNERS))
    return ask(draw(GPUS), owner, draw(st.sampled_from(("", "g1", "g2"))) if owner else "", uid)


@given(standings(), asks(), st.floats(0, 2 * GONE))
def test_filter_is_idempotent_and_splits_the_names(
    one: Standing, wanted: PodAsk, after: float
) -> None:
    before = msgspec.msgpack.encode(one)
    first = verdict(one, wanted, names=NAMES + "x", after=after)
    assert verdict(one, wanted, names=NAMES + "x", after=after) == first
    assert sorted((*first.passed, *first.refused)) == sorted(NAMES + "x")
    assert verdict(one, wanted, names="".join(first.passed), after=after).passed == first.passed
    assert all(first.refused.values())
    assert msgspec.msgpack.encode(one) == before


@given(standings(), asks(), st.lists(st.sampled_from(NAMES), unique=True))
def test_preempt_and_filter_agree(one: Standing, wanted: PodAsk, nodes: list[str]) -> None:
    """Filter accepts the nominated node while the victims go, and once they are gone."""
    offers = {node: (f"v-{node}", f"other-{node}") for node in nodes}
    for node, uids in preempt(index_of(one), (), wanted, offers, NOW + 2).items():
        assert set(uids) <= set(offers[node])
        assert uids
        nominated = msgspec.structs.replace(wanted, nominated=node)
        assert verdict(one, nominated, names=node).passed == (node,)
        view = View()
        view.publish(one)
        assert view.steer(nominated, (node,), NOW + 2).passed == (node,)
        gone = tuple(
            msgspec.structs.replace(spot, free=spot.free + spot.releasing, releasing=0)
            if spot.name == node
            else spot
            for spot in one.nodes
        )
        after = msgspec.structs.replace(one, nodes=gone, victims=())
        assert verdict(after, nominated, names=node).passed == (node,)


@given(standings(), st.lists(st.tuples(asks(), st.integers(0, 3)), max_size=12))
def test_no_gpu_has_two_owners(one: Standing, pods: list[tuple[PodAsk, int]]) -> None:
    """Whatever is bound in whatever order, nobody takes a slot that is kept for another.

    The offered names are those where GPUs are free, as in kube-scheduler; victims are gone.
    """
    view = View()
    view.publish(one)
    room = {spot.name: spot.free + spot.releasing for spot in one.nodes}
    kept: dict[str, dict[str, int]] = {name: {} for name in NAMES}
    for reservation in one.reservations:
        if reservation.expires_seconds > NOW + 2:
            for node, gpus in reservation.parts:
                kept[node][reservation.owner] = kept[node].get(reservation.owner, 0) + gpus
    for number, (wanted, pick) in enumerate(pods):
        pod = msgspec.structs.replace(wanted, uid=f"p{number}")
        names = tuple(name for name, free in room.items() if free >= pod.gpus)
        passed = view.filter(pod, names, NOW + 2).passed
        if not passed:
            continue
        node = passed[pick % len(passed)]
        assert view.claim(pod, node, NOW + 2) == ""
        room[node] -= pod.gpus
        own = kept[node].get(pod.owner, 0)
        kept[node][pod.owner] = max(0, own - pod.gpus)
        others = sum(gpus for owner, gpus in kept[node].items() if owner != pod.owner)
        assert room[node] >= others


@given(standings(), asks())
def test_scores_are_integers_with_one_winner(one: Standing, wanted: PodAsk) -> None:
    given_scores = prioritise(index_of(one), (), wanted, tuple(NAMES), NOW)
    assert [name for name, _ in given_scores] == list(NAMES)
    assert all(type(score) is int for _, score in given_scores)
    assert all(0 <= score <= 10 for _, score in given_scores)
    assert sum(score == 10 for _, score in given_scores) <= 1
