"""Room for errors and bursts takes GPUs only from jobs that lose little; demand takes any."""

import pytest

from scheduler.planning.actions import NotifyJob, Plan, StopJob
from scheduler.planning.memory import Memory
from scheduler.planning.planner import DEAR_SECONDS, plan
from tests.fixtures.worlds import forecasts, job, node, policy, replica, role, signal, world

SEEN = Memory(since_seconds=0.0)
NOW = 10_000.0


def planned(
    *, at_stake_seconds: float, expected: float = 900.0, arrived: float = 900.0, least: int = 1
) -> Plan:
    """One replica of 1,000 tokens/s runs, and a job that writes no checkpoints on the other GPUs.

    900 tokens/s fit without room and not with it.
    """
    snapshot = world(
        node("n0", dict.fromkeys(range(2), "r0") | dict.fromkeys(range(2, 8), "j")),
        roles=(role(1),),
        replicas=(replica("r0", "n0"),),
        jobs=(job("j", {"n0": 6}, started_seconds=NOW - at_stake_seconds),),
        signals=(signal(arrived),),
        forecasts=forecasts(expected),
    )
    made, _ = plan(snapshot, SEEN, policy(minute_sigmas=2.0, min_replicas=least), "full")
    return made


def goes(made: Plan) -> bool:
    return any(isinstance(action, (NotifyJob, StopJob)) for action in made.actions)


@pytest.mark.parametrize(("more_seconds", "gone"), [(0.0, True), (1.0, False)])
def test_room_is_no_reason_to_lose_much_work(more_seconds: float, gone: bool) -> None:
    made = planned(at_stake_seconds=DEAR_SECONDS + more_seconds)
    assert made.sizings[0].wanted_milli > 1000
    assert goes(made) is gone
    assert bool(made.unplaced) is not gone


def test_who_is_spared_is_said() -> None:
    (lack,) = planned(at_stake_seconds=2 * DEAR_SECONDS).unplaced
    assert "too much unsaved work" in lack.sentence


@pytest.mark.parametrize(
    "changes",
    [{"expected": 1100.0}, {"arrived": 1100.0}, {"least": 2}],
    ids=["demand ahead", "demand now", "a minimum"],
)
def test_what_is_needed_takes_any_job(changes: dict[str, float]) -> None:
    assert goes(planned(at_stake_seconds=2 * DEAR_SECONDS, **changes))  # type: ignore[arg-type]
