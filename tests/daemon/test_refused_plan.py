"""Plans that fail their check, end to end: evidence in the ledger, and nothing of them is applied.

A packing is checked before a plan is made of it, the plan before it is acted on.
"""

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from binpacking import ladder
from binpacking.draft import Draft, Seat, nothing
from binpacking.layout import Layout
from binpacking.problem import Problem
from binpacking.program import Bounds, Step
from scheduler.adapters.ledger import open_ledger
from scheduler.daemon.documents.decision import decision
from scheduler.daemon.tick import Progress, Shell, tick
from scheduler.planning.actions import Plan, ScaleRole, StopJob
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Snapshot
from scheduler.ports import Outcome, Tick
from tests.fixtures.ticks import busy_world
from tests.fixtures.worlds import policy


class Around:
    """Every port of a tick but the ledger; keeps what was published, reserved and applied."""

    def __init__(self) -> None:
        self.done: list[object] = []

    def observe(self) -> Snapshot:
        return busy_world()

    def samples(self) -> tuple[()]:
        return ()

    def update(self, samples: object, now_seconds: float) -> object:
        return busy_world().forecasts

    def publish(self, snapshot: Snapshot, planned: Plan) -> None:
        self.done.append(planned)

    def reserve(self, reservations: object, epoch: int) -> None:
        self.done.append(reservations)

    def apply(self, actions: tuple[Any, ...], epoch: int) -> tuple[Outcome, ...]:
        self.done += actions
        return tuple(Outcome(one, applied=True, detail="") for one in actions)

    def charge_planning(self, effort: str) -> None: ...


Planned = tuple[Plan, Memory]


def run(folder: Path, around: Around, planner: object = plan) -> Tick:
    """One tick with a ledger on disk; the tick as the ledger gives it back."""
    port = cast("Any", around)
    with open_ledger(folder / "ledger.sqlite") as ledger:
        shell = Shell(
            observer=port,
            actuator=port,
            clock=port,
            ledger=ledger,
            forecaster=port,
            planner=cast("Any", planner),
            policy=policy,
            publish=port.publish,
        )
        tick(shell, Progress(number=1, memory=Memory(since_seconds=0.0)))
        return ledger.tick(1)


def wrong_attempt(snapshot: Snapshot, memory: Memory, rules: Policy, effort: str) -> Planned:
    """A planner with a fault: its stops mean another run of the job."""
    made, after = plan(snapshot, memory, rules, effort)
    stops = [
        msgspec.structs.replace(one, expected_attempt=7) if isinstance(one, StopJob) else one
        for one in made.actions
    ]
    return msgspec.structs.replace(made, actions=tuple(stops)), after


def test_a_plan_that_breaks_a_rule_is_kept_and_not_applied(tmp_path: Path) -> None:
    around = Around()
    kept = run(tmp_path, around, wrong_attempt)
    assert around.done == []
    assert kept.violations == ("plan expects attempt 7 of a-0", "plan expects attempt 7 of b-1")
    assert [one.applied for one in kept.outcomes] == [False] * 3
    assert {one.detail for one in kept.outcomes} == {
        "the plan breaks a rule and is not applied: plan expects attempt 7 of a-0"
    }


def test_a_plan_that_breaks_none_is_applied(tmp_path: Path) -> None:
    around = Around()
    kept = run(tmp_path, around)
    assert kept.violations == ()
    assert around.done[-len(kept.outcomes) :] == list(kept.plan.actions)


def test_a_packing_that_fails_the_checker_is_no_part_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rung gives one replica on GPUs that are taken: nobody goes, nothing is reserved."""

    def overdrawn(problem: Problem, layout: Layout) -> Draft:
        draft = nothing(problem, layout)
        if not problem.online:
            return draft
        node = next(n for n, free in enumerate(layout.free) if free < 2)
        draft.board.take(node, 2)
        return draft._replace(online=(Seat(0, (node,)),))

    monkeypatch.setattr(ladder, "greedy", overdrawn)
    nothing_found = Step(None, "program", Bounds(None, None))
    monkeypatch.setattr(ladder, "program", lambda *_: (nothing_found,))
    around = Around()
    kept = run(tmp_path, around)
    answers = [one for one in decision(kept).answers if one.question == "online"]
    assert [one.rung for one in answers] == ["empty"]
    assert answers[0].rejected == ("greedy: n1: 2 GPUs too many",)
    assert answers[0].stopped == ()
    assert kept.plan.reservations == ()
    assert not any(isinstance(one, (StopJob, ScaleRole)) for one in around.done)
