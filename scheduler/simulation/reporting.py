"""What physics says of one step, as lines of the event stream."""

from collections.abc import Iterator, Mapping

from scheduler.simulation.events import Load, Slo
from scheduler.simulation.serving import StepReport


def step_lines(
    at_seconds: float, report: StepReport, unfinished: Mapping[str, float]
) -> Iterator[Load | Slo]:
    """Yield the lines of the step that began at `at_seconds`.

    `unfinished` holds, per model, tokens of requests that the run's end leaves open: they are
    missed, and count in the last step. Empty in all others.
    """
    for (model, role, gpu_model), flow in report.flows.items():
        yield Load(
            at_seconds,
            model,
            role,
            gpu_model,
            flow.arrived,
            flow.served,
            flow.queued,
            flow.ready,
            flow.capacity,
            flow.served_draining,
            flow.refused,
        )
    for model, due in report.tokens_due.items():
        missed = unfinished.get(model, 0.0)
        yield Slo(at_seconds, model, due + missed, report.tokens_met[model])
