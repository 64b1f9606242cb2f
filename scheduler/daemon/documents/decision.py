"""The last plan: actions with outcomes, reservations, sizings with reasons, solver answers."""

import msgspec

from binpacking.problem import Packing, Problem
from scheduler.daemon.documents.actions import action_lines
from scheduler.daemon.documents.shapes import AnswerLine, Decision
from scheduler.planning.actions import SolverAnswer
from scheduler.planning.policy import Policy
from scheduler.ports import Tick


def decision(tick: Tick) -> Decision:
    """Return `tidal.plan/1`."""
    planned = tick.plan
    return Decision(
        tick=tick.number,
        now_seconds=tick.snapshot.now_seconds,
        mode=Policy.model_validate_json(tick.policy).mode,
        effort=tick.effort,
        source=planned.source,
        at_seconds=planned.at_seconds,
        summary=planned.summary,
        actions=action_lines(tick),
        reservations=planned.reservations,
        sizings=planned.sizings,
        unplaced=tuple(one.sentence for one in planned.unplaced),
        lendable_gpus=planned.lendable_gpus,
        answers=tuple(_answer(one) for one in planned.answers),
    )


def _answer(answer: SolverAnswer) -> AnswerLine:
    problem = msgspec.msgpack.decode(answer.problem, type=Problem)
    packing = msgspec.msgpack.decode(answer.packing, type=Packing)
    online = bool(problem.online)
    return AnswerLine(
        question="online" if online else "batch",
        rung=answer.rung,
        gap=answer.gap,
        asked=len(problem.online if online else problem.batch),
        placed=len(packing.online if online else packing.batch),
        stopped=packing.killed,
        rejected=packing.rejected,
    )
