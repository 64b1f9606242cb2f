"""Sliding windows: what they allow, what they forget, and that nothing is counted twice."""

from hypothesis import given
from hypothesis import strategies as st

from binpacking.problem import StopLimit
from preemption.budgets import (
    SAME_SECONDS,
    WINDOW_SECONDS,
    happened,
    limits,
    merged,
    recent,
    share_limits,
)
from preemption.candidates import candidates
from preemption.values import Rules, Stop
from preemption.victims import bounds
from tests.preemption.claimants import NOW, RULES, elastic, job, rules, stops


def test_what_is_left_of_the_budgets_limits_the_packer() -> None:
    gangs_of = {"red": ("r0", "r1", "r2"), "blue": ("b0",)}
    assert limits(gangs_of, RULES, stops("red"), NOW) == (
        StopLimit("all tenants", ("b0", "r0", "r1", "r2"), 2),
        StopLimit("tenant red", ("r0", "r1", "r2"), 1),
    )
    assert limits({"blue": ("b0",)}, RULES, (), NOW) == ()


def test_a_share_is_kept_by_counting_the_largest() -> None:
    sizes = {"red": {"a": 8, "b": 4, "c": 2, "d": 1}}
    assert share_limits(sizes, {"red": 6}) == (
        StopLimit("share of red", ("a",), 0),
        StopLimit("share of red", ("b", "c", "d"), 2),
    )
    assert share_limits(sizes, {"red": 15, "blue": 0}) == ()


@given(st.lists(st.integers(1, 9), max_size=7), st.integers(-5, 40))
def test_whatever_goes_within_its_limits_a_share_is_kept(sizes: list[int], left: int) -> None:
    """The worst that limits allow: of each, its largest gangs."""
    gangs = {f"g{number}": gpus for number, gpus in enumerate(sizes)}
    found = share_limits({"red": gangs}, {"red": left})
    limited = {gang for limit in found for gang in limit.gangs}
    taken = sum(gpus for gang, gpus in gangs.items() if gang not in limited)
    for limit in found:
        taken += sum(sorted((gangs[gang] for gang in limit.gangs), reverse=True)[: limit.most])
    assert taken <= max(0, left)


def test_an_elastic_job_above_its_share_may_shrink_and_not_go() -> None:
    one = elastic(1, "a", "b", "c")
    found = bounds((one,), (one,), rules(guaranteed_gpus={"red": 8}), (), NOW)
    assert found == (StopLimit("share of red", ("job",), 0),)


histories = st.lists(st.tuples(st.floats(0, 900), st.sampled_from("ab"), st.sampled_from("rg")))


@given(histories, st.integers(0, 4), st.integers(0, 3), st.integers(0, 2))
def test_no_history_passes_a_budget_in_any_window(
    history: list[tuple[float, str, str]], most: int, tenant_most: int, job_most: int
) -> None:
    """Jobs are asked for at any time; whoever is a candidate is stopped."""
    terms = Rules(
        minimum_runtime_seconds=0,
        stops_per_hour=most,
        tenant_stops_per_hour=tenant_most,
        job_stops_per_hour=job_most,
    )
    done: list[Stop] = []
    now = 0.0
    for number, (pause, name, tenant) in enumerate(history):
        now += pause
        one = job(key=name + tenant, tenant=tenant, attempt=number + 1)
        allowed, _ = candidates((one,), terms, done, now, notice_seconds=0)
        done += [Stop(now, one.key, tenant, one.attempt) for one in allowed]
    for end in [stop.at_seconds for stop in done]:
        window = [s for s in done if end - WINDOW_SECONDS < s.at_seconds <= end]
        assert len(window) <= most
        for tenant in "rg":
            assert sum(stop.tenant == tenant for stop in window) <= tenant_most
        for name in {stop.job for stop in window}:
            assert sum(stop.job == name for stop in window) <= job_most


spread = st.lists(
    st.builds(
        Stop,
        st.integers(0, 40).map(lambda n: NOW - 100.0 * n),
        st.sampled_from(["a", "b"]),
        st.just("red"),
        st.integers(1, 3),
    )
)


@given(spread, st.floats(0, 0.99))
def test_what_the_cluster_tells_again_counts_once(memory: list[Stop], late: float) -> None:
    """The same stops, rounded to seconds by the cluster, add nothing; a lost memory is made up."""
    known = merged((), memory, NOW)
    told = [Stop(s.at_seconds + late, s.job, s.tenant, s.attempt) for s in known]
    assert merged(known, told, NOW + 1) == tuple(recent(known, NOW + 1))
    assert len(merged((), told, NOW + 1)) == len(recent(told, NOW + 1))


def test_a_stop_that_nothing_came_of_is_forgotten() -> None:
    old, new = NOW - SAME_SECONDS, NOW - 1
    runs = {("runs", 1): 4, ("shrunk", 1): 2}
    past = [
        Stop(old, "runs", "red", 1),
        Stop(new, "runs", "red", 1),
        Stop(old, "runs", "red", 2),  # another run
        Stop(old, "shrunk", "red", 1, 2),
        Stop(old, "shrunk", "red", 1, 1),
        Stop(old, "gone", "red", 1),
    ]
    assert happened(past, runs, NOW) == [past[1], past[2], past[3], past[5]]
