"""Tick in, document out: status, plan and metrics."""

import msgspec
import pytest

from scheduler.daemon.documents.decision import decision
from scheduler.daemon.documents.metrics import metrics
from scheduler.daemon.documents.shapes import Facts, FleetGpus
from scheduler.daemon.documents.status import fleet_gpus, status
from scheduler.planning.snapshot import Reservation
from tests.daemon.telling import LACKS, calm, sick
from tests.fixtures.ticks import busy_tick, tick_of
from tests.fixtures.worlds import forecasts, job, node, policy, replica, role, signal, world

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
