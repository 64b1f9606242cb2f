import msgspec
import pytest

from binpacking.problem import Gang, StopLimit
from preemption.budgets import limits
from preemption.candidates import candidates
from preemption.cost import cost
from preemption.values import Claimant, Rules, Stop
from preemption.victims import gangs

NOW = 10_000.0
RULES = Rules(
    minimum_runtime_seconds=600, notice_seconds=30, stops_per_hour=3, tenant_stops_per_hour=2
)
JOB = Claimant(
    key="job",
    tenant="red",
    priority=2,
    gpus=4,
    parts=(("n1", 4),),
    started_seconds=NOW - 5000,
    last_checkpoint_seconds=NOW - 100,
    checkpoint_write_seconds=20,
    restart_seconds=60,
)


def job(**fields: object) -> Claimant:
    return msgspec.structs.replace(JOB, **fields)


def stops(*tenants: str, age_seconds: float = 10) -> tuple[Stop, ...]:
    return tuple(Stop(NOW - age_seconds, "earlier", tenant) for tenant in tenants)


@pytest.mark.parametrize(
    ("claimant", "past", "reason"),
    [
        (job(), (), None),
        (job(opted_out=True), (), "opted_out"),
        (job(opted_out=True, started_seconds=NOW), stops("red", "red"), "opted_out"),
        (job(started_seconds=NOW - 599), (), "minimum_runtime"),
        (job(started_seconds=NOW - 600), (), None),
        (job(protected_until_seconds=NOW + 1), (), "protected"),
        (job(protected_until_seconds=NOW), (), None),
        (job(), stops("blue", "blue", "green"), "budget"),
        (job(), stops("blue", "blue", "green", age_seconds=3599), "budget"),
        (job(), stops("blue", "blue", "green", age_seconds=3600), None),
        (job(), stops("red", "red"), "tenant_budget"),
        (job(), stops("red", "blue"), None),
        (job(tenant="green"), stops("red", "red"), None),
    ],
)
def test_who_may_be_stopped(claimant: Claimant, past: tuple[Stop, ...], reason: str | None) -> None:
    allowed, refused = candidates((claimant,), RULES, past, NOW)
    assert (claimant in allowed) is (reason is None)
    assert [one.reason for one in refused] == ([reason] if reason else [])
    assert all(one.sentence.startswith("job ") for one in refused)


def test_refusals_tell_how_long_they_last() -> None:
    young, safe = job(started_seconds=NOW - 400), job(protected_until_seconds=NOW + 90)
    _, refused = candidates((young, safe), RULES, (), NOW)
    assert [one.sentence for one in refused] == [
        "job is 200 s short of its minimum runtime",
        "job is protected for 90 s more after its resume",
    ]


def test_the_order_given_is_kept() -> None:
    three = tuple(job(key=key, opted_out=key == "b") for key in "cba")
    allowed, refused = candidates(three, RULES, (), NOW)
    assert [one.key for one in allowed] == ["c", "a"]
    assert [one.key for one in refused] == ["b"]


def test_what_is_left_of_the_budgets_limits_the_packer() -> None:
    red = tuple(job(key=f"r{n}") for n in range(3))
    blue = (job(key="b0", tenant="blue"),)
    assert limits((*red, *blue), RULES, stops("red"), NOW) == (
        StopLimit("all tenants", ("r0", "r1", "r2", "b0"), 2),
        StopLimit("tenant red", ("r0", "r1", "r2"), 1),
    )
    assert limits(blue, RULES, (), NOW) == ()


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


def test_gangs_carry_key_parts_and_cost_in_order_of_key() -> None:
    pair = (job(key="b"), job(key="a", gpus=1, parts=(("n2", 1),)))
    assert gangs(pair, NOW, notice_seconds=30) == (
        Gang(key="a", parts=(("n2", 1),), cost=160),
        Gang(key="b", parts=(("n1", 4),), cost=640),
    )
