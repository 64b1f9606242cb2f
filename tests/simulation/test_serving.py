"""The fleet in steps: books that balance, bounds that hold, and more replicas that never hurt."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.simulation.decoding import length_classes
from scheduler.simulation.demand import Demand
from scheduler.simulation.generated import generate
from scheduler.simulation.serving import Fleet, Key, StepReport
from scheduler.simulation.worldfile import load_world
from tests.fixtures.demands import H100, H200, run, trace

WORLD = load_world()
MODELS = ("chat", "code")
DEMAND = run(
    WORLD,
    {"chat": trace([3.0, 9, 2]), "code": trace([20.0, 5, 30], 2000, 30, iat_cv=3.0)},
)
KEYS = Fleet(WORLD, DEMAND).keys
PREFILL = ("chat", "prefill", H100)
DECODE = ("chat", "decode", H100)


def constant(rate: float, generated: float = 200.0, bins: int = 3) -> Demand:
    """Chat that needs `rate` GPUs, without noise in arrivals."""
    return run(
        WORLD,
        {"chat": trace([1.0] * bins, generated=generated, iat_cv=0.0)},
        gpus={H100: 1000},
        peak_share=rate / 1000,
    )


def attained(demand: Demand, ready: dict[Key, int]) -> tuple[float, list[StepReport]]:
    fleet = Fleet(WORLD, demand)
    reports = [fleet.step(index, ready, {}, {}) for index in range(demand.steps)]
    left = sum(fleet.flush().values())
    due = sum(sum(report.tokens_due.values()) for report in reports) + left
    return sum(sum(report.tokens_met.values()) for report in reports) / due, reports


CHANGES = st.lists(
    st.tuples(st.sampled_from(KEYS), st.integers(0, 6), st.booleans(), st.integers(1, 40)),
    min_size=1,
    max_size=12,
)


@given(changes=CHANGES)
def test_books_balance_and_bounds_hold_whatever_replicas_do(
    changes: list[tuple[Key, int, bool, int]],
) -> None:
    fleet = Fleet(WORLD, DEMAND)
    ready = dict.fromkeys(KEYS, 1)
    draining = dict.fromkeys(KEYS, 0)
    due = dict.fromkeys(MODELS, 0.0)
    queued = {(model, role): 0.0 for model in MODELS for role in ("prefill", "decode")}
    index = 0
    for key, count, drains, steps in changes:
        gone = max(0, ready[key] - count)
        lost = {} if drains else {key: gone}
        draining[key] += gone if drains else 0
        ready[key] = count
        for _ in range(steps):
            if index == DEMAND.steps:
                break
            report = fleet.step(index, ready, draining, lost)
            index, lost = index + 1, {}
            check_step(report, queued)
            for model in MODELS:
                due[model] += report.tokens_due[model]
            for one, flow in report.flows.items():
                draining[one] -= flow.drained
    for model, left in fleet.flush().items():
        arrays = DEMAND.models[model]
        arrived = arrays.prompt_tokens[:index].sum() + arrays.generated_tokens[:index].sum()
        assert due[model] + left == pytest.approx(arrived)


def check_step(report: StepReport, queued: dict[tuple[str, str], float]) -> None:
    """One step's books: tokens of each role are conserved, and nobody outruns capacity."""
    for (model, role), before in queued.items():
        flows = [flow for key, flow in report.flows.items() if key[:2] == (model, role)]
        now = sum(flow.queued for flow in flows)
        done = sum(flow.served + flow.served_draining + flow.refused for flow in flows)
        arrived = sum(flow.arrived for flow in flows)
        assert arrived - done == pytest.approx(now - before, rel=1e-6, abs=1e-3)
        queued[model, role] = now
        for flow in flows:
            assert min(flow.arrived, flow.served, flow.refused, flow.drained) >= 0
            assert -1e-6 <= flow.waiting <= flow.queued + 1e-6
            assert flow.served <= flow.capacity * WORLD.step_seconds * (1 + 1e-9)
        met, late = report.tokens_met[model], report.tokens_late_prefill[model]
        assert met + late <= report.tokens_due[model] * (1 + 1e-9) + 1e-9


def test_the_same_run_gives_the_same_bytes() -> None:
    ready = dict.fromkeys(KEYS, 2)
    one, two = attained(DEMAND, ready), attained(DEMAND, ready)
    assert one == two


def test_at_low_load_every_request_is_met() -> None:
    # the few that still decode at the end are not met; bins enough make them few
    share, _ = attained(constant(8, bins=24), {PREFILL: 8, DECODE: 8})
    assert share > 0.999


def test_a_higher_slo_attainment_never_comes_from_fewer_replicas() -> None:
    demand = run(WORLD, {"chat": trace([3.0, 9, 2])}, gpus={H100: 1000}, peak_share=0.02)
    for grown in (PREFILL, DECODE):
        shares = [attained(demand, {PREFILL: 14, DECODE: 8, grown: n})[0] for n in range(1, 15)]
        assert shares == sorted(shares)
        assert shares[0] < 0.5
        assert shares[-1] > 0.99


@pytest.mark.parametrize(("short", "waits"), [(PREFILL, True), (DECODE, True), (None, False)])
def test_beyond_capacity_the_queue_grows_until_requests_are_refused(
    short: Key | None, waits: bool
) -> None:
    demand = constant(40)
    ready = {PREFILL: 40, DECODE: 20}
    share, reports = attained(demand, ready | ({short: 2} if short else {}))
    flows = [report.flows[short or DECODE] for report in reports]
    assert (sum(flow.refused for flow in flows) > 0) is waits
    assert (share < 0.6) is waits
    if waits:
        queued = [flow.waiting for flow in flows]
        assert queued[:8] == sorted(queued[:8])
        # refusals bound the queue: what waits has waited less than the timeout
        arriving = flows[-1].arrived / WORLD.step_seconds
        assert queued[-1] < arriving * (WORLD.request_timeout_seconds + 4 * WORLD.step_seconds)
        busy = [flow.served / flow.capacity / WORLD.step_seconds for flow in flows[20:]]
        assert np.mean(busy) > 0.97


def test_decode_runs_at_the_speed_of_its_batch() -> None:
    """In balance, B = arrivals x tokens x TPOT(B) per replica, whatever the step."""
    demand = constant(20, generated=400.0)
    _, reports = attained(demand, {PREFILL: 20, DECODE: 5})
    last = reports[-1].flows[DECODE]
    assert last.served == pytest.approx(last.arrived, rel=0.05)
    speed = WORLD.engine("chat").speeds[H100]
    slope = (speed.beta_ms + speed.gamma_ms * 1.4) / 1000
    per_replica = last.served / WORLD.step_seconds / 5
    running = per_replica * speed.alpha_ms / 1000 / (1 - per_replica * slope)
    tpot = speed.alpha_ms / 1000 + running * slope
    # a sequence of g tokens has on average its size-biased half left
    classes = length_classes(WORLD.noise.generated_length_sigma)
    half = sum(share * factor * factor for share, factor in classes) * 400 / 2
    assert last.queued == pytest.approx(5 * running * half, rel=0.1)
    assert tpot < 0.1


def test_a_slower_tpot_than_the_slo_is_missed_and_not_prefills_fault() -> None:
    document = WORLD.model_dump()
    slo = {"ttft_seconds": 2, "ttft_seconds_per_1k_prompt_tokens": 0.25, "tpot_seconds": 0.01}
    document["models"]["chat"] = {"engine": "qwen3-32b", "slo": slo}
    world = type(WORLD).model_validate(document)
    fleet = Fleet(world, constant(8))
    reports = [fleet.step(i, {PREFILL: 8, DECODE: 90}, {}, {}) for i in range(100)]
    assert sum(report.tokens_due["chat"] for report in reports) > 0
    assert sum(report.tokens_met["chat"] for report in reports) == 0
    assert sum(report.tokens_late_prefill["chat"] for report in reports) < 1e-3


def test_draining_replicas_finish_what_they_run_and_admit_nothing() -> None:
    fleet = Fleet(WORLD, constant(6, generated=2000.0))
    for index in range(40):
        fleet.step(index, {PREFILL: 4, DECODE: 10}, {}, {})
    before = fleet.step(40, {PREFILL: 4, DECODE: 10}, {}, {}).flows[DECODE]
    missed, finished = 0.0, 41
    for index in range(41, 200):
        report = fleet.step(index, {PREFILL: 4, DECODE: 5}, {DECODE: 5}, {})
        flow = report.flows[DECODE]
        missed += report.tokens_due["chat"] - report.tokens_met["chat"]
        finished = index
        if flow.drained:
            break
    assert before.drained == 0
    assert flow.drained == 5
    assert finished > 60  # the longest class runs for minutes
    assert missed == pytest.approx(0, abs=1)


@pytest.mark.parametrize("how", ["lost", "killed while draining"])
def test_what_runs_on_a_lost_replica_is_missed(how: str) -> None:
    fleet = Fleet(WORLD, constant(20, generated=2000.0))
    for index in range(60):
        fleet.step(index, {PREFILL: 4, DECODE: 10}, {}, {})
    if how == "lost":
        report = fleet.step(60, {PREFILL: 4, DECODE: 5}, {}, {DECODE: 5})
    else:
        fleet.step(60, {PREFILL: 4, DECODE: 5}, {DECODE: 5}, {})
        report = fleet.step(61, {PREFILL: 4, DECODE: 5}, {}, {})
    flow = report.flows[DECODE]
    assert flow.refused == pytest.approx(flow.queued - flow.waiting, rel=0.3)
    assert report.tokens_due["chat"] - report.tokens_met["chat"] > 0.5 * flow.refused


def test_without_replicas_the_first_gpu_model_has_the_queue() -> None:
    fleet = Fleet(WORLD, DEMAND)
    flows = fleet.step(0, {}, {}, {}).flows
    assert flows["chat", "prefill", H100].arrived == DEMAND.models["chat"].prompt_tokens[0]
    assert flows["chat", "prefill", H200].arrived == 0
    assert flows["chat", "prefill", H100].queued == flows["chat", "prefill", H100].arrived


def test_work_is_split_by_capacity() -> None:
    fleet = Fleet(WORLD, DEMAND)
    ready = dict.fromkeys(KEYS, 3)
    flows = [fleet.step(index, ready, {}, {}).flows for index in range(30)][-1]
    for role in ("prefill", "decode"):
        one, two = flows["chat", role, H100], flows["chat", role, H200]
        assert one.arrived / one.capacity == pytest.approx(two.arrived / two.capacity)
        assert one.served / one.capacity == pytest.approx(two.served / two.capacity, rel=0.35)


def test_length_classes_share_the_tokens_equally() -> None:
    for sigma in (0.0, 0.5, 1.0):
        classes = length_classes(sigma)
        assert sum(share for share, _ in classes) == pytest.approx(1)
        assert sum(share * length for share, length in classes) == pytest.approx(1)
    assert len({round(share * length, 12) for share, length in length_classes(1.0)}) == 1


def test_steps_come_in_order_and_keys_are_known() -> None:
    fleet = Fleet(WORLD, DEMAND)
    with pytest.raises(ValueError, match="step 1; expected 0"):
        fleet.step(1, {}, {}, {})
    with pytest.raises(ValueError, match="no such role"):
        fleet.step(0, {("chat", "encode", H100): 1}, {}, {})
    fleet.step(0, {}, {}, {})


def test_three_models_over_half_a_day_lose_no_token() -> None:
    traces = {model: generate(model, 0.5, 3) for model in ("chat", "code", "reason")}
    demand = run(WORLD, traces, peak_share=0.6)
    fleet = Fleet(WORLD, demand)
    ready = dict.fromkeys(fleet.keys, 3)
    reports = [fleet.step(index, ready, {}, {}) for index in range(demand.steps)]
    left = fleet.flush()
    for model, arrays in demand.models.items():
        due = sum(report.tokens_due[model] for report in reports) + left[model]
        assert due == pytest.approx(arrays.prompt_tokens.sum() + arrays.generated_tokens.sum())
