"""Tick and name in, explanation out."""

import msgspec
import pytest

from binpacking.inventory import Holder
from binpacking.shares import Share
from scheduler.daemon.documents.explain import explain
from scheduler.daemon.documents.shapes import Explanation, Fact, Facts
from scheduler.daemon.documents.status import status
from scheduler.planning.snapshot import Pod, Reservation
from tests.daemon.telling import LACKS, calm, sick
from tests.fixtures.ticks import busy_tick, tick_of
from tests.fixtures.worlds import forecasts, job, node, policy, replica, role, signal, world


def facts_of(told: Explanation) -> dict[str, object]:
    return {fact.name: fact.value for fact in told.facts}


def test_a_role_is_explained_by_its_chain_of_reasons() -> None:
    told = explain(busy_tick(), "chat/decode")
    assert told.kind == "role"
    assert told.sentence == "chat/decode: 1 of 1 replicas are ready; wanted: 8"
    assert [reason.step for reason in told.reasons] == ["lead_peak", "replicas"]
    assert [line.kind for line in told.actions] == ["StopJob", "StopJob", "ScaleRole"]
    assert told.remarks == (LACKS,)
    assert told.holdings[0].holder == "r0"
    assert sum(holding.gpus for holding in told.holdings) == 2 + 6 * 2


def test_a_role_tells_who_else_scales_it() -> None:
    tick = calm(roles=(role(1, scaled_by_other="hpa/chat", override_until_seconds=10_060.0),))
    told = explain(tick, "chat/decode")
    assert told.remarks == (
        "hpa/chat scales the same target; Tidal does not act on it",
        "a person set the replica count; it is respected for 60 s more",
    )


def test_a_replica_that_goes_knows_the_action() -> None:
    snapshot = world(
        node("n0", {0: "r0", 1: "r0", 2: "r1", 3: "r1"}),
        roles=(role(2),),
        replicas=(replica("r0", "n0"), replica("r1", "n0")),
        signals=(signal(500.0),),
        forecasts=forecasts(500.0),
    )
    tick = tick_of(snapshot, policy())
    told = explain(tick, "r0")
    assert told.sentence == "r0 is ready on n0"
    assert [line.code for line in told.actions] == ["demand_falls"]
    assert explain(tick, "r1").actions == ()


def test_a_node_tells_who_holds_what() -> None:
    told = explain(busy_tick(), "n0")
    assert told.sentence == "n0 is Ready; 3 of 8 GPUs are free"
    held = {holding.holder: holding.gpus for holding in told.holdings}
    assert (held["r0"], held["a-0"], held["stranger"]) == (2, 2, 1)
    assert sum("reservation" in holder for holder in held) == 2


def test_a_sick_device_is_remarked() -> None:
    told = explain(tick_of(world(sick(node("n0"), 5)), policy()), "n0")
    assert told.remarks == ("device n0/5 is unhealthy",)


def test_a_loan_tells_when_it_is_due() -> None:
    told = explain(busy_tick(), "loan-b-1")
    assert told.sentence == "8 GPUs lent to b-1, due back in 2000 s"
    assert [(h.holder, h.node, h.gpus) for h in told.holdings] == [("b-1", "n1", 8)]


def test_a_new_reservation_is_known() -> None:
    tick = busy_tick()
    told = explain(tick, tick.plan.reservations[0].id)
    assert told.sentence == "2 GPUs kept for chat/decode; held for 300 s more"


def test_a_reservation_that_the_plan_dropped_says_so() -> None:
    void = Reservation(
        id="void",
        owner="chat/decode",
        parts=(("n0", 2),),
        created_seconds=0.0,
        expires_seconds=10.0,
    )
    told = explain(calm(reservations=(void,)), "void")
    assert told.sentence.endswith("filled, void or released in the last plan")


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({}, "may be asked to give way: "),
        ({"preemptible": False}, "may not be stopped: j has opted out of preemption"),
        ({"held_by": "a budget"}, "may not be stopped: j must not be evicted now: a budget"),
        ({"started_seconds": 9_900.0}, "may not be stopped: j is 200 s short of its minimum"),
        (
            {"state": "notified", "notice_deadline_seconds": 10_030.0, "notice_for": "chat/decode"},
            "under notice for chat/decode: 30 s to its deadline",
        ),
    ],
)
def test_a_running_job_tells_whether_it_may_be_stopped(
    changes: dict[str, object], remark: str
) -> None:
    tick = calm(jobs=(job("j", {"n0": 2}, **changes),))
    (line,) = explain(tick, "j").remarks
    assert line.startswith(remark)


def test_a_job_tells_why_it_was_chosen_or_why_not() -> None:
    held = {0: "dear", 1: "dear", 2: "cheap", 3: "cheap", 4: "e", 5: "e", 6: "e", 7: "e"}
    one = job("e", {"n0": 2}, priority=60)
    grown = msgspec.structs.replace(one, pods=2, min_pods=1, max_pods=2)
    twin = msgspec.structs.replace(grown.placed[0], name="e-1", uid="e-1")
    snapshot = world(
        node("n0", held),
        roles=(role(0),),
        jobs=(
            job("dear", {"n0": 2}, priority=100),
            job("cheap", {"n0": 2}, priority=50),
            msgspec.structs.replace(grown, placed=(*grown.placed, twin)),
        ),
        signals=(signal(1500.0),),
        forecasts=forecasts(1500.0),
    )
    tick = tick_of(snapshot, policy())
    assert [o.action.code for o in tick.outcomes] == ["recall_now", "shrink", "demand_rises"]
    lines = {name: explain(tick, f"job/{name}").remarks for name in ("dear", "cheap", "e")}
    assert lines["dear"][-1] == "not chosen: cheap, e (surplus pods) make room at a loss of 1000120"
    assert lines["cheap"][-1].startswith("chosen: with 1 others it makes room at the least loss")
    assert lines["e"][1].startswith("may be shrunk: 120 priority-weighted")
    assert lines["e"][-1].startswith("chosen: with 1 others")
    assert explain(tick, "job/e").actions[0].sentence == (
        "chat/decode needs 2 GPUs of e: it runs on with 1 of 2 pods"
    )


@pytest.mark.parametrize(
    ("jobs", "changes", "remark"),
    [
        ((job("j", gpus_per_pod=8, pods=2),), {}, "it asks for 16 GPUs, 8 were lendable"),
        (
            (job("j", gpus_per_pod=8), job("i", gpus_per_pod=8, priority=9)),
            {},
            "waits: 1 pods of 8 GPUs under one leaf switch had no room, or other jobs",
        ),
    ],
)
def test_a_waiting_job_tells_why(
    jobs: tuple[object, ...], changes: dict[str, object], remark: str
) -> None:
    (line,) = explain(calm(jobs=jobs, **changes), "j").remarks
    assert remark in line


def test_nodes_that_do_not_take_somebodys_pods_are_told_from_both_sides() -> None:
    shut = {"n1": "taint team=a:NoSchedule is not tolerated"}
    fenced = [msgspec.structs.replace(node(name), section="n1") for name in ("n1", "n2")]
    nowhere = job("nowhere", shut=shut | {"": "node selector disk=ssd"})
    jobs = (job("runs", {"n0": 8}, shut=shut), nowhere)
    tick = tick_of(world(node("n0"), *fenced, roles=(role(0, shut=shut),), jobs=jobs), policy())
    words = f"n1 and 1 more are not for its pods: {shut['n1']}"
    assert explain(tick, "chat/decode").remarks == (words,)
    assert explain(tick, "runs").remarks[-1] == words
    assert explain(tick, "nowhere").remarks == (
        "waits: no node takes its pods",
        "n0 is not for its pods: node selector disk=ssd",
        words,
    )
    assert explain(tick, "n1").remarks == (f"takes no pods of chat/decode, nowhere: {shut['n1']}",)
    assert explain(tick, "n0").remarks == ("takes no pods of nowhere: node selector disk=ssd",)


def test_sharers_are_told_by_their_parts_of_cards() -> None:
    plain = node("n0")
    card = msgspec.structs.replace(
        plain.devices[0], holders=(Holder("a", 250, 20_000), Holder("b", 500, 40_000))
    )
    shared = msgspec.structs.replace(
        plain,
        sharing="parts",
        devices=(card, msgspec.structs.replace(plain.devices[1], holders=(Holder("b"),))),
    )
    pod = Pod(name="a-0", uid="a-0", gpus=0, share=Share(250, 20_000), node="n0", devices=(0,))
    jobs = (
        job("a", {"n0": 0}, placed=(pod,), gpus_per_pod=0, share_per_pod=pod.share),
        job("waits", gpus_per_pod=0, share_per_pod=Share(500, 40_000)),
    )
    tick = tick_of(world(shared, jobs=jobs), policy())
    told = explain(tick, "n0")
    assert told.sentence == "n0 is Ready; 0 of 2 GPUs are free, 1 are shared"
    assert Fact("left_of_gpu_0", "250 milli-GPU, 21920 MiB") in told.facts
    shown = status(tick, Facts())
    assert (shown.shared_gpus, shown.shared_idle_milli_gpus) == (1, 250)
    assert [(h.holder, h.gpus, h.share_milli) for h in told.holdings] == [
        ("a", 0, 250),
        ("b", 1, 500),
    ]
    assert "0.25 GPUs" in explain(tick, "a").sentence
    assert Fact("milli_gpu_per_pod", 500) in explain(tick, "waits").facts
    (why,) = explain(tick, "waits").remarks
    assert why.startswith("waits: 1 pods of 0.5 GPUs under one leaf switch had no room")


def test_a_job_that_starts_is_explained_by_its_action() -> None:
    told = explain(calm(jobs=(job("j"),)), "j")
    assert [line.kind for line in told.actions] == ["StartJob"]
    assert told.remarks == ()


def test_facts_that_are_spans_say_so_in_their_names() -> None:
    tick = busy_tick()
    for name in ("chat/decode", "r0", "a-0", "n0", "loan-b-1", tick.plan.reservations[0].id):
        for fact in explain(tick, name).facts:
            assert isinstance(fact, Fact)
            assert isinstance(fact.value, float) == fact.name.endswith("_seconds"), fact


def test_a_name_of_two_things_asks_for_the_kind() -> None:
    tick = calm(jobs=(job("n0"),))
    with pytest.raises(LookupError, match="say job/n0 or node/n0"):
        explain(tick, "n0")
    assert explain(tick, "job/n0").kind == "job"
    assert explain(tick, "node/n0").kind == "node"


@pytest.mark.parametrize("name", ["chat/decod", "role/chat/decod"])
def test_an_unknown_name_tells_the_kinds_and_what_is_near(name: str) -> None:
    with pytest.raises(LookupError, match="object: there is no") as caught:
        explain(busy_tick(), name)
    assert "roles, replicas, jobs, nodes, loans, reservations" in str(caught.value)
    assert "near: chat/decode" in str(caught.value)
