import pytest

from binpacking.problem import Gang
from preemption.candidates import LONGEST_WRITE_SECONDS, candidates
from preemption.cost import cost, shrink_cost
from preemption.values import Claimant, Rules, Stop
from preemption.victims import gangs
from tests.preemption.claimants import NOW, RULES, elastic, job, rules, stops


@pytest.mark.parametrize(
    ("claimant", "past", "reason"),
    [
        (job(), (), None),
        (job(opted_out="so"), (), "opted_out"),
        (job(opted_out="so", started_seconds=NOW), stops("red", "red"), "opted_out"),
        (job(held="pdb"), (), "held"),
        (job(writing_since_seconds=NOW - 5), (), "writing"),
        (job(writing_since_seconds=NOW - LONGEST_WRITE_SECONDS), (), None),
        (job(started_seconds=NOW - 599), (), "minimum_runtime"),
        (job(started_seconds=NOW - 600), (), None),
        (job(started_seconds=NOW - 899, attempt=2), (), "protected"),
        (job(started_seconds=NOW - 900, attempt=2), (), None),
        (job(started_seconds=NOW - 899, attempt=1), (), None),
        (job(), stops("red", age_seconds=119, job="job"), "told"),
        (job(attempt=2), stops("red", age_seconds=119, job="job"), "job_budget"),
        (job(), stops("red", age_seconds=120, job="job"), "job_budget"),
        (job(), stops("red", age_seconds=3600, job="job"), None),
        (job(), stops("blue", "blue", "green"), "budget"),
        (job(), stops("blue", "blue", "green", age_seconds=3599), "budget"),
        (job(), stops("blue", "blue", "green", age_seconds=3600), None),
        (job(), stops("red", "red"), "tenant_budget"),
        (job(), stops("red", "blue"), None),
        (job(tenant="green"), stops("red", "red"), None),
    ],
)
def test_who_may_be_stopped(claimant: Claimant, past: tuple[Stop, ...], reason: str | None) -> None:
    allowed, refused = candidates((claimant,), RULES, past, NOW, notice_seconds=0)
    assert (claimant in allowed) is (reason is None)
    assert [one.reason for one in refused] == ([reason] if reason else [])
    assert all(one.sentence.startswith("job ") for one in refused)


@pytest.mark.parametrize(
    ("claimant", "reason"),
    [
        (job(), None),
        (job(last_checkpoint_seconds=NOW - 101), "dear"),
        (job(last_checkpoint_seconds=None), "dear"),
        (job(last_checkpoint_seconds=None, checkpoint_write_seconds=10), None),
        (elastic(1, "a", "b", last_checkpoint_seconds=None), None),
    ],
)
def test_who_would_lose_too_much_is_spared(claimant: Claimant, reason: str | None) -> None:
    _, refused = candidates((claimant,), RULES, (), NOW, notice_seconds=10, most_lost_seconds=100)
    assert [one.reason for one in refused] == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("terms", "others", "reason"),
    [
        (rules(online_priority=2), (), "priority"),
        (rules(online_priority=3), (), None),
        (rules(guaranteed_gpus={"red": 1}), (), "tenant_share"),
        (rules(guaranteed_gpus={"red": 4}), (job(key="b"),), None),
        (rules(guaranteed_gpus={"red": 5}), (job(key="b"),), "tenant_share"),
        (rules(guaranteed_gpus={"blue": 9}), (), None),
    ],
)
def test_who_may_be_stopped_by_rank_and_share(
    terms: Rules, others: tuple[Claimant, ...], reason: str | None
) -> None:
    _, refused = candidates((job(), *others), terms, (), NOW, notice_seconds=0)
    assert {one.key: one.reason for one in refused}.get("job") == reason


@pytest.mark.parametrize(("notice", "refused"), [(19, ["writing"]), (20, [])])
def test_a_writer_may_be_given_notice_that_lets_it_finish(
    notice: float, refused: list[str]
) -> None:
    writer = job(writing_since_seconds=NOW - 5)
    _, found = candidates((writer,), RULES, (), NOW, notice_seconds=notice)
    assert [one.reason for one in found] == refused


def test_a_share_lets_an_elastic_job_shrink_that_may_not_go() -> None:
    terms = rules(guaranteed_gpus={"red": 8})
    allowed, _ = candidates((elastic(1, "a", "b"),), terms, (), NOW, notice_seconds=0)
    assert len(allowed) == 1


def test_refusals_tell_how_long_they_last_and_what_forbids() -> None:
    three = (
        job(started_seconds=NOW - 400),
        job(started_seconds=NOW - 810, attempt=3),
        job(opted_out="annotation x is true"),
        job(held="PodDisruptionBudget x allows 0 evictions of 1"),
    )
    _, refused = candidates(three, RULES, (), NOW, notice_seconds=0)
    assert [one.sentence for one in refused] == [
        "job is 200 s short of its minimum runtime",
        "job is protected for 90 s more after its resume",
        "job has opted out of preemption: annotation x is true",
        "job must not be evicted now: PodDisruptionBudget x allows 0 evictions of 1",
    ]


def test_the_order_given_is_kept() -> None:
    three = tuple(job(key=key, opted_out="so" if key == "b" else "") for key in "cba")
    allowed, refused = candidates(three, RULES, (), NOW, notice_seconds=0)
    assert [one.key for one in allowed] == ["c", "a"]
    assert [one.key for one in refused] == ["b"]


@pytest.mark.parametrize(
    ("claimant", "lost_seconds"),
    [
        (job(), 20),  # it can write on notice: only the write is lost
        (job(checkpoint_write_seconds=30), 30),
        (job(checkpoint_write_seconds=31), 100),  # too slow for the notice
        (job(checkpoint_write_seconds=None), 100),
        (job(checkpoint_write_seconds=None, last_checkpoint_seconds=None), 5000),
        (job(checkpoint_write_seconds=None, last_checkpoint_seconds=NOW + 5), 0),
    ],
)
def test_cost_is_priority_times_gpus_times_work_at_stake_and_restart(
    claimant: Claimant, lost_seconds: int
) -> None:
    assert cost(claimant, NOW, notice_seconds=30) == 2 * 4 * (lost_seconds + 60)


def test_cost_is_rounded_up_and_never_free() -> None:
    slow = job(restart_seconds=0.01, checkpoint_write_seconds=0)
    assert cost(slow, NOW, notice_seconds=0) == 1
    assert cost(job(priority=0), NOW, notice_seconds=0) == 1


@pytest.mark.parametrize(("attempt", "tenths"), [(0, 10), (1, 10), (2, 11), (6, 15), (99, 15)])
def test_a_job_that_was_stopped_before_is_dearer_up_to_a_bound(attempt: int, tenths: int) -> None:
    assert cost(job(attempt=attempt), NOW, notice_seconds=30) == tenths * 64


@pytest.mark.parametrize("restart_seconds", [0.0, 60.0, 1e5])
@pytest.mark.parametrize("at_stake_seconds", [0.0, 100.0])
def test_shrinking_is_cheaper_than_stopping(
    restart_seconds: float, at_stake_seconds: float
) -> None:
    one = elastic(
        1,
        "a",
        "b",
        restart_seconds=restart_seconds,
        checkpoint_write_seconds=None,
        last_checkpoint_seconds=NOW - at_stake_seconds,
    )
    assert 1 <= shrink_cost(one) < cost(one, NOW, notice_seconds=0)


def test_gangs_carry_key_parts_and_cost_in_order_of_key() -> None:
    pair = (job(key="b"), job(key="a", gpus=1, parts=(("n2", 1),)))
    assert gangs(pair, NOW, notice_seconds=30) == (
        Gang(key="a", parts=(("n2", 1),), cost=160),
        Gang(key="b", parts=(("n1", 4),), cost=640),
    )
