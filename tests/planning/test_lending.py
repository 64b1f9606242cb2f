"""Loans: what lasts, until when, and what a job is worth that will be recalled."""

import msgspec
import pytest

from scheduler.planning.actions import StartJob
from scheduler.planning.holdings import holdings
from scheduler.planning.lending import Tide, kept_percent, offers, tide
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from scheduler.planning.snapshot import Reservation
from tests.fixtures.worlds import forecasts, job, node, policy, role, world

HOUR = 3600.0


def test_what_lasts_falls_with_the_tide() -> None:
    snapshot = world(node("n0"), roles=(role(0),), forecasts=forecasts(500.0, 1500.0, 2500.0))
    held = holdings(snapshot, Memory(), policy(), ())
    waters = tide(snapshot, policy(), held)
    assert waters.leads_seconds == (300.0, 900.0, 3600.0, 28800.0)
    assert waters.lasting_gpus == (6, 4, 2, 2)


def test_without_a_forecast_nothing_is_promised() -> None:
    waters = tide(world(node("n0"), roles=(role(0),)), policy(), ())
    assert waters.lasting_gpus == (0,)


@pytest.mark.parametrize(
    ("remaining", "expected"),
    [(600.0, 28_800.0), (2 * HOUR, 900.0)],
)
def test_a_loan_returns_when_the_tide_comes(remaining: float, expected: float) -> None:
    waters = Tide((300.0, 900.0, 3600.0), (8, 1, 1), 28_800.0)
    waiting = job("a", expected_remaining_seconds=remaining)
    (offer,) = offers(world(node("n0"), jobs=(waiting,)), policy(), waters)
    assert offer.return_by_seconds - 10_000.0 == expected


@pytest.mark.parametrize(
    ("changes", "lasts", "percent"),
    [
        ({"expected_remaining_seconds": 900.0}, 900.0, 100),
        ({"checkpoint_write_seconds": 60.0, "restart_seconds": 40.0}, 1000.0, 95),
        ({"checkpoint_interval_seconds": 600.0, "restart_seconds": 100.0}, 1000.0, 80),
        ({}, 1000.0, 1),
    ],
)
def test_a_recalled_run_is_worth_what_it_saves(
    changes: dict[str, object], lasts: float, percent: int
) -> None:
    run = msgspec.structs.replace(job("a"), **changes)
    assert kept_percent(run, lasts, policy()) == percent


def test_priority_goes_first() -> None:
    snapshot = world(node("n0"), jobs=(job("low"), job("high", priority=4)))
    found = offers(snapshot, policy(), Tide((300.0,), (8,), 28_800.0))
    assert [offer.job.id for offer in found] == ["high", "low"]


def test_a_job_is_worth_its_tenants_weight() -> None:
    rules = policy().model_copy(update={"tenants": {"red": 3}})
    snapshot = world(node("n0"), jobs=(job("a", tenant="red"), job("b", tenant="blue")))
    one, other = offers(snapshot, rules, Tide((300.0,), (8,), 28_800.0))
    assert one.request.value == 3 * other.request.value


@pytest.mark.parametrize(("age", "started"), [(15.0, []), (60.0, ["a"])])
def test_a_job_that_has_its_place_is_given_no_second_one(age: float, started: list[str]) -> None:
    """It was started, and the snapshot lags behind; after a minute it is started again, there."""
    place = Reservation(
        id="r",
        owner="a",
        parts=(("n0", 2),),
        created_seconds=10_000.0 - age,
        expires_seconds=10_300.0 - age,
    )
    snapshot = world(node("n0"), jobs=(job("a"),), reservations=(place,), forecasts=forecasts(0.0))
    made, _ = plan(snapshot, Memory(), policy(), "full")
    assert [action.job for action in made.actions if isinstance(action, StartJob)] == started
    assert [one.id for one in made.reservations] == ["r"]


def test_a_job_that_waits_gets_no_second_start_with_the_first_one_under_way() -> None:
    """Two ticks of which the second does not see yet what the first has done."""
    snapshot = world(node("n0"), jobs=(job("a"), job("b")), forecasts=forecasts(0.0))
    first, memory = plan(snapshot, Memory(), policy(), "full")
    later = msgspec.structs.replace(snapshot, now_seconds=10_015.0, reservations=first.reservations)
    second, _ = plan(later, memory, policy(), "full")
    assert len(first.actions) == len(first.reservations) == 2
    assert second.actions == ()
    assert sorted(one.id for one in second.reservations) == sorted(
        one.id for one in first.reservations
    )
