"""Physics as signals: the fluid queues of a demand, led by counts of ready replicas."""

import pytest

from scheduler.simulation.cluster import workloads
from scheduler.simulation.demand import LIVE_BIN_SECONDS, Demand, build
from scheduler.simulation.events import Event, Load, Slo
from scheduler.simulation.generated import generate
from scheduler.simulation.load import LoadSignals
from scheduler.simulation.worldfile import load_world

GPU = "H100-SXM-80GB"
WORLD = load_world()
BEGINS = 1_800_000_000.0
DAY = 86400.0
WARM_UP = 600.0
READY = {("chat/prefill", GPU): 4, ("chat/decode", GPU): 4}


@pytest.fixture(scope="module")
def demand() -> Demand:
    return build(
        WORLD,
        {"chat": generate("chat", 1.5, 1)},
        history_seconds=DAY,
        days=0.1,
        total_gpus_by_model={GPU: 32},
        peak_share=0.5,
        demand_shares={},
        seed=1,
        warm_up_seconds=WARM_UP,
    )


def signals(demand: Demand, lines: list[Event], drain: float = 120.0) -> LoadSignals:
    return LoadSignals(
        WORLD,
        demand,
        workloads(WORLD, ("chat",), (GPU,)),
        begins_seconds=BEGINS,
        drain_seconds=drain,
        seed=1,
        sink=lines.append,
    )


def test_history_ends_where_the_run_begins(demand: Demand) -> None:
    past = signals(demand, []).history(BEGINS)
    assert max(one.start_seconds + one.width_seconds for one in past) == BEGINS
    assert min(one.start_seconds for one in past) == BEGINS - DAY
    assert {one.key.partition("/")[0] for one in past} == {"chat"}


def test_samples_are_told_once_and_in_the_clusters_time(demand: Demand) -> None:
    load = signals(demand, [])
    assert load.samples(BEGINS + LIVE_BIN_SECONDS - 1) == []
    first = load.samples(BEGINS + 2 * LIVE_BIN_SECONDS)
    starts = {one.start_seconds for one in first}
    assert starts == {BEGINS, BEGINS + LIVE_BIN_SECONDS}
    assert load.samples(BEGINS + 2 * LIVE_BIN_SECONDS) == []


def test_counts_hold_from_one_look_to_the_next(demand: Demand) -> None:
    lines: list[Event] = []
    load = signals(demand, lines)
    load.roles(BEGINS, READY)
    assert lines == []
    load.roles(BEGINS + 60, {})
    load.roles(BEGINS + 90, READY)
    ready = [one.ready for one in lines if isinstance(one, Load) and one.role == "decode"]
    assert ready == [4] * 12 + [0] * 6


def test_physics_reports_what_the_replicas_do(demand: Demand) -> None:
    load = signals(demand, [])
    load.roles(BEGINS, READY)
    busy = {one.role: one for one in load.roles(BEGINS + 300, READY)}
    assert busy["chat/prefill"].status == "live"
    assert busy["chat/prefill"].served_tokens_per_second > 0
    measured = {one.role: one for one in load.capacities(BEGINS + 300, READY)}
    assert measured["chat/decode"].samples == 4
    assert measured["chat/decode"].tokens_per_second > 0


def test_without_replicas_requests_wait_and_are_late(demand: Demand) -> None:
    lines: list[Event] = []
    load = signals(demand, lines)
    load.roles(BEGINS, {})
    roles = {one.role: one for one in load.roles(BEGINS + 600, {})}
    assert roles["chat/prefill"].queued_tokens > 0
    assert roles["chat/prefill"].late_share == 1.0
    met = [one for one in lines if isinstance(one, Slo) and one.tokens_met]
    assert met == []


@pytest.mark.parametrize(("drain", "served"), [(0.0, False), (120.0, True)])
def test_a_replica_that_goes_drains_for_as_long_as_its_pod_takes(
    demand: Demand, drain: float, *, served: bool
) -> None:
    lines: list[Event] = []
    load = signals(demand, lines, drain)
    load.roles(BEGINS, READY)
    load.roles(BEGINS + 300, {**READY, ("chat/decode", GPU): 0})
    load.roles(BEGINS + 360, {})
    late = [one for one in lines if isinstance(one, Load) and one.t >= demand.start_seconds + 300]
    assert any(one.served_draining > 0 for one in late) is served


def test_replicas_where_no_engine_runs_count_nothing(demand: Demand) -> None:
    lines: list[Event] = []
    load = signals(demand, lines)
    load.roles(BEGINS, {("chat/decode", "unknown"): 3, ("other/decode", GPU): 1})
    load.roles(BEGINS + 5, {})
    assert all(one.ready == 0 for one in lines if isinstance(one, Load))


def test_the_end_of_the_demand_settles_what_is_unfinished(demand: Demand) -> None:
    lines: list[Event] = []
    load = signals(demand, lines)
    load.roles(BEGINS, {})
    length = demand.end_seconds - demand.start_seconds
    load.roles(BEGINS + length + 1000, {})
    due = sum(one.tokens_due for one in lines if isinstance(one, Slo))
    chat = demand.models["chat"]
    assert due == pytest.approx(chat.prompt_tokens.sum() + chat.generated_tokens.sum())
    before = len(lines)
    load.roles(BEGINS + length + 2000, {})
    assert len(lines) == before
