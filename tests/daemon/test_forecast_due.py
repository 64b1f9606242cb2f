"""When a tick asks for new forecasts."""

from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest

from forecasting import Forecasts, Sample
from scheduler.daemon.tick import Progress, Shell, tick
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Snapshot
from scheduler.ports import Outcome
from tests.fixtures.ticks import busy_world
from tests.fixtures.worlds import forecasts, policy

FRESH = forecasts(1.0, issued_at=10_000.0)


class Around:
    """Every port of a tick; forecasts are always `FRESH`."""

    def __init__(self) -> None:
        self.asked = 0

    def observe(self) -> Snapshot:
        return busy_world()

    def samples(self) -> Sequence[Sample]:
        return ()

    def update(self, samples: Sequence[Sample], now_seconds: float) -> Forecasts:
        self.asked += 1
        return FRESH

    def apply(self, actions: tuple[Any, ...], epoch: int) -> tuple[Outcome, ...]:
        return tuple(Outcome(one, applied=True, detail="") for one in actions)

    def reserve(self, reservations: object, epoch: int) -> None: ...

    def record(self, done: object) -> None: ...

    def charge_planning(self, effort: str) -> None: ...


def shell(around: Around, rules: Policy) -> Shell:
    port = cast("Any", around)
    return Shell(
        observer=port,
        actuator=port,
        clock=port,
        ledger=port,
        forecaster=port,
        planner=lambda snapshot, memory, rules, effort: plan(
            snapshot, memory or Memory(), rules, effort
        ),
        policy=lambda: rules,
        publish=lambda _snapshot, _plan: None,
    )


@pytest.mark.parametrize(
    ("issued", "asked"),
    [
        (None, 1),
        (forecasts(1.0, issued_at=9_900.0), 0),
        (forecasts(1.0, issued_at=9_600.0), 1),
        (forecasts(0.0, status="absent", issued_at=9_900.0), 1),
        (msgspec.structs.replace(FRESH, series={}), 1),
        (forecasts(1.0, status="stale", issued_at=9_900.0), 0),
    ],
)
def test_forecasts_are_asked_for_when_due_or_when_they_know_nothing(
    issued: Forecasts | None, asked: int
) -> None:
    around = Around()
    tick(shell(around, policy()), Progress(number=1, forecasts=issued))
    assert around.asked == asked
