"""Tick in, document out."""

import msgspec
import pytest

from binpacking.inventory import Holder, Node
from binpacking.shares import Share
from scheduler.daemon.documents.decision import decision
from scheduler.daemon.documents.explain import explain
from scheduler.daemon.documents.metrics import metrics
from scheduler.daemon.documents.shapes import Explanation, Fact, Facts, FleetGpus
from scheduler.daemon.documents.status import fleet_gpus, status
from scheduler.planning.snapshot import Pod, Queue, Reservation
from scheduler.ports import Tick
from tests.fixtures.ticks import busy_tick, tick_of
from tests.fixtures.worlds import forecasts, job, node, policy, replica, role, signal, world

LACKS = "chat/decode lacks 1.0 replicas: no further GPU can be freed; of 2 running jobs 2 give way"


def calm(**changes: object) -> Tick:
    """A tick of one node where nothing is asked for."""
    return tick_of(world(node("n0"), **changes), policy())


def sick(one: Node, *indices: int) -> Node:
    devices = tuple(
        msgspec.structs.replace(device, healthy=device.index not in indices)
        for device in one.devices
    )
    return msgspec.structs.replace(one, devices=devices)


# ---- status


def test_every_gpu_is_in_exactly_one_place() -> None:
    assert fleet_gpus(busy_tick()) == FleetGpus(
        total=16, online=2, lent=10, other=1, reserved=3, free=0, unhealthy=0, closed=0
    )


def test_sick_and_cordoned_gpus_are_not_free() -> None:
    cordoned = msgspec.structs.replace(node("n1", {0: "x"}), cordoned=True)
    tick = tick_of(world(sick(node("n0"), 3, 4), sick(cordoned, 1)), policy())
    assert fleet_gpus(tick) == FleetGpus(
        total=16, online=0, lent=0, other=1, reserved=0, free=6, unhealthy=3, closed=6
    )


@pytest.mark.parametrize(
    ("bound_seconds", "reserved"),
    [(9_950.0, 2), (9_000.0, 4)],
    ids=["fills one part", "older than the reservation"],
)
def test_a_reserved_part_counts_until_its_pod_is_bound(bound_seconds: float, reserved: int) -> None:
    kept = Reservation(
        id="kept",
        owner="chat/decode",
        parts=(("n0", 2), ("n0", 2)),
        created_seconds=9_900.0,
        expires_seconds=10_200.0,
    )
    snapshot = world(
        node("n0", {0: "r0", 1: "r0"}),
        roles=(role(2),),
        replicas=(replica("r0", "n0", bound_seconds=bound_seconds), replica("r1", "")),
        reservations=(kept,),
        signals=(signal(1500.0),),
        forecasts=forecasts(2000.0),
    )
    tick = tick_of(snapshot, policy())
    assert "kept" in [one.id for one in tick.plan.reservations]
    only = msgspec.structs.replace(tick.plan, reservations=(kept,))
    assert fleet_gpus(msgspec.structs.replace(tick, plan=only)).reserved == reserved


def test_the_shown_utilisation_is_allocation_on_ready_nodes_and_says_so() -> None:
    away = msgspec.structs.replace(node("n1", {0: "x"}), ready=False)
    shown = status(tick_of(world(node("n0", {0: "x", 1: "x"}), away), policy()), Facts())
    assert shown.allocated_utilisation == 2 / 8
    assert "neither DCGM's GPU_UTIL nor SM_ACTIVE" in shown.allocated_utilisation_note


def test_without_a_ready_node_the_utilisation_is_unknown() -> None:
    assert status(tick_of(world(), policy()), Facts()).allocated_utilisation is None


def test_a_role_line_sets_what_is_beside_what_should_be() -> None:
    (line,) = status(busy_tick(), Facts()).roles
    assert (line.role, line.gpus_per_replica) == ("chat/decode", 2)
    assert (line.ready, line.replicas, line.desired_replicas) == (1, 1, 7)
    assert (line.wanted_milli, line.lacking_milli) == (8000, 1000)
    assert (line.arriving_tokens_per_second, line.capacity_tokens_per_second) == (2500.0, 1000.0)
    assert line.metrics == "live"


@pytest.mark.parametrize("state", ["stale", "absent"])
def test_missing_metrics_are_unknown_and_not_zero(state: str) -> None:
    snapshot = world(node("n0"), roles=(role(0),), signals=(signal(9.0, status=state),))
    (line,) = status(tick_of(snapshot, policy()), Facts()).roles
    assert (line.arriving_tokens_per_second, line.utilisation, line.late_share) == (None,) * 3
    assert line.metrics == state


def test_a_role_without_signal_has_absent_metrics() -> None:
    (line,) = status(calm(roles=(role(0),)), Facts()).roles
    assert (line.metrics, line.arriving_tokens_per_second) == ("absent", None)


def test_a_role_that_the_policy_does_not_name_is_shown_unsized() -> None:
    strange = role(3, key="other/decode", model="other")
    (line,) = status(calm(roles=(strange,)), Facts()).roles
    assert (line.wanted_milli, line.desired_replicas) == (None, 3)


def test_the_batch_line_counts_states_and_names_the_next_return() -> None:
    batch = status(busy_tick(), Facts()).batch
    assert (batch.waiting, batch.running, batch.lent_gpus) == (1, 2, 10)
    assert (batch.loans, batch.next_return_seconds) == (1, 12_000.0)


def test_what_the_process_knows_is_shown() -> None:
    facts = Facts(
        age_seconds=3.0,
        full_plan_seconds=9_940.0,
        extender_port=9331,
        worker_failures=2,
        policy_errors=("models: is empty",),
    )
    shown = status(busy_tick(), facts)
    assert (shown.plan_age_seconds, shown.full_plan_age_seconds) == (3.0, 60.0)
    assert (shown.extender_port, shown.worker_failures) == (9331, 2)
    assert shown.policy_errors == ("models: is empty",)


def test_actions_say_why_they_were_not_carried_out() -> None:
    lines = status(busy_tick("recommend"), Facts()).actions
    assert {(line.applied, line.detail) for line in lines} == {(False, "mode recommend")}


# ---- plan


def test_the_decision_carries_reasons_answers_and_what_has_no_place() -> None:
    tick = busy_tick()
    shown = decision(tick)
    assert shown.actions[0].sentence == tick.plan.actions[0].sentence
    assert [reason.step for reason in shown.sizings[0].reasons] == ["lead_peak", "replicas"]
    (answer,) = shown.answers
    assert (answer.question, answer.asked, answer.placed) == ("online", 1, 6)
    assert (answer.rung, answer.stopped) == (tick.plan.answers[0].rung, ("a-0", "b-1"))
    assert shown.unplaced == (LACKS,)
    assert shown.reservations == tick.plan.reservations


def test_a_batch_question_is_told_apart() -> None:
    shown = decision(calm(jobs=(job("c"),), forecasts=forecasts(0.0)))
    assert [(a.question, a.asked, a.placed) for a in shown.answers] == [("batch", 1, 1)]


# ---- explain


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
        ((job("j"),), {"queues": (Queue(name="default", tenant="x", paused=True),)}, "is paused"),
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


# ---- metrics


def samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_are_openmetrics_with_one_prefix() -> None:
    text = metrics(status(busy_tick(), Facts(worker_failures=3)))
    assert text.endswith("# EOF\n")
    kinds: dict[str, str] = {}
    for line in text.splitlines()[:-1]:
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split()
            assert family not in kinds
            kinds[family] = kind
        elif not line.startswith("# HELP "):
            suffix = "_total" if kinds[family] == "counter" else ""
            assert line.startswith((f"{family}{suffix} ", f"{family}{suffix}{{"))
    assert all(family.startswith("tidal_") for family in kinds)
    assert samples(text)["tidal_planner_failures_total"] == 3


def test_metrics_say_what_the_status_says() -> None:
    found = samples(metrics(status(busy_tick(), Facts())))
    assert found['tidal_gpus{place="lent"}'] == 10
    assert found['tidal_role_replicas{role="chat/decode",state="ready"}'] == 1
    assert found['tidal_role_desired_replicas{role="chat/decode"}'] == 7
    assert found['tidal_role_wanted_replicas{role="chat/decode"}'] == 8
    assert found["tidal_allocated_utilisation_ratio"] == 13 / 16


@pytest.mark.parametrize(("mode", "exported"), [("act", True), ("recommend", True), ("off", False)])
def test_mode_off_exports_nothing_to_act_on(mode: str, exported: bool) -> None:
    assert ("desired_replicas" in metrics(status(busy_tick(mode), Facts()))) == exported


def test_labels_are_escaped() -> None:
    strange = role(0, key='a"b\\c\nd')
    text = metrics(status(calm(roles=(strange,)), Facts()))
    assert r'role="a\"b\\c\nd"' in text
