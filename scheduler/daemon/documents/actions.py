"""Actions and what became of them, as lines for people."""

from scheduler.daemon.documents.shapes import ActionLine
from scheduler.planning.actions import Action, ScaleRole
from scheduler.ports import Tick


def target_of(action: Action) -> str:
    """Return the role or job that the action concerns."""
    return action.role if isinstance(action, ScaleRole) else action.job


def action_lines(tick: Tick) -> tuple[ActionLine, ...]:
    """Return the tick's actions in order of the plan, each with its outcome."""
    return tuple(
        ActionLine(
            kind=type(outcome.action).__name__,
            target=target_of(outcome.action),
            code=outcome.action.code,
            sentence=outcome.action.sentence,
            applied=outcome.applied,
            detail=outcome.detail,
        )
        for outcome in tick.outcomes
    )


def desired_replicas(tick: Tick) -> dict[str, int]:
    """Return the replica count of every role that the plan scales."""
    scaled = (action for action in tick.plan.actions if isinstance(action, ScaleRole))
    return {action.role: action.replicas for action in scaled}
