"""What the ready replicas make of the demand, step by step: the fluid queues of all models.

Cohorts of a step pass the prefill queue, then decode; see `prefilling` and `decoding`. A request
is met when its TTFT and its mean TPOT (from the completion of its prefill, so that waiting for
admission counts) are inside the SLO; lengths are those of its cohort and length class.

Books. Per role and step, summed over GPU models: arrived = served + served_draining + refused +
change of queued. `served` is the work of ready replicas and never exceeds capacity x step (up to
rounding), so served / (capacity x step) is their productive share. `queued` is all work that has
arrived and is not done, `waiting` the part of it that no replica has begun. What belongs to no
replica (arrived, refused, queued work that waits) is split over GPU models by ready capacity, and
stands at the first GPU model when nothing is ready.
"""

from collections.abc import Mapping, Sequence
from math import expm1

import msgspec
import numpy as np

from scheduler.simulation.capacity import decode, prefill_tokens_per_second
from scheduler.simulation.decoding import Decode
from scheduler.simulation.demand import Demand, ModelDemand
from scheduler.simulation.demandfile import Floats
from scheduler.simulation.prefilling import Cohort, Prefill, Prefilled, Score
from scheduler.simulation.worldfile import World

Key = tuple[str, str, str]
"""Model, role ("prefill" or "decode"), GPU model."""
Counts = Mapping[Key, int]
View = Sequence[float]


class Flow(msgspec.Struct, frozen=True, gc=False):
    """One role on one GPU model in one step; tokens are the role's own, as totals."""

    arrived: float
    served: float
    served_draining: float
    refused: float
    """Refused after the timeout, or lost with a replica."""
    queued: float
    waiting: float
    ready: int
    capacity: float
    """Tokens/s of the ready replicas at the step's mean lengths."""
    drained: int
    """Draining replicas, oldest first, that run nothing any more."""


class StepReport(msgspec.Struct, frozen=True):
    """All flows of a step, and the verdict on the requests that came to their end in it."""

    flows: dict[Key, Flow]
    tokens_due: dict[str, float]
    """Model -> prompt and generated tokens of requests finished, refused or lost."""
    tokens_met: dict[str, float]
    tokens_late_prefill: dict[str, float]
    """Of the tokens due, those whose TTFT was outside the SLO; decode missed the others."""


class _Course(msgspec.Struct, frozen=True):
    """What one model needs per step, as views that yield plain floats."""

    requests: View
    prompt: View
    generated: View
    mean_prompt: View
    limit: View
    """TTFT of the SLO."""
    variability: View
    """ca^2 + cs^2: squared coefficients of variation of arrival gaps and of prompt lengths."""
    prefill: tuple[View, ...]
    """By GPU model: prompt tokens/s of one replica."""
    decode: tuple[tuple[float, View, View], ...]
    """By GPU model: alpha, slope and largest batch."""


def _view(values: Floats) -> View:
    return np.ascontiguousarray(values, dtype=np.float64).data.cast("B").cast("d")


def _course(world: World, model: str, arrays: ModelDemand, gpu_models: tuple[str, ...]) -> _Course:
    slo = world.served(model).slo
    speeds = world.engine(model).speeds
    prompt, generated = arrays.mean_prompt_tokens, arrays.mean_generated_tokens
    length_variance = expm1(world.noise.prompt_length_sigma**2)
    decodes = [decode(speeds[name], prompt, generated, slo) for name in gpu_models]
    return _Course(
        requests=_view(arrays.requests),
        prompt=_view(arrays.prompt_tokens),
        generated=_view(arrays.generated_tokens),
        mean_prompt=_view(prompt),
        limit=_view(slo.ttft_seconds + slo.ttft_seconds_per_1k_prompt_tokens * prompt / 1000),
        variability=_view(arrays.iat_cv**2 + length_variance),
        prefill=tuple(
            _view(prefill_tokens_per_second(speeds[name], prompt)) for name in gpu_models
        ),
        decode=tuple((found.alpha, _view(found.slope), _view(found.batch)) for found in decodes),
    )


class _Line:
    """One model on its way through both roles; mutable."""

    __slots__ = ("course", "decode", "decode_keys", "model", "prefill", "prefill_keys")

    def __init__(self, world: World, model: str, demand: Demand) -> None:
        speeds = world.engine(model).speeds
        gpu_models = tuple(name for name in demand.gpu_models if name in speeds)
        self.model = model
        self.prefill_keys: tuple[Key, ...] = tuple((model, "prefill", name) for name in gpu_models)
        self.decode_keys: tuple[Key, ...] = tuple((model, "decode", name) for name in gpu_models)
        self.course = _course(world, model, demand.models[model], gpu_models)
        self.prefill = Prefill()
        sigma = world.noise.generated_length_sigma
        self.decode = Decode(len(gpu_models), sigma, world.served(model).slo.tpot_seconds)


class Fleet:
    """All models over one run; mutable, and deterministic: it draws nothing."""

    def __init__(self, world: World, demand: Demand) -> None:
        """Start empty at the first step of the demand."""
        self._step = world.step_seconds
        self._timeout = world.request_timeout_seconds
        self._demand = demand
        self._lines = [_Line(world, model, demand) for model in demand.models]
        self._keys = {key for line in self._lines for key in line.prefill_keys + line.decode_keys}
        self._next = 0

    @property
    def keys(self) -> tuple[Key, ...]:
        """All (model, role, GPU model) that can have replicas, in order."""
        return tuple(sorted(self._keys))

    def step(self, index: int, ready: Counts, draining: Counts, lost: Counts) -> StepReport:
        """Run one step with the replicas that hold during it.

        `ready` and `draining` are counts now; `lost` are replicas that were ready in the step
        before and are gone without draining. A replica that is no longer draining is gone, the
        oldest first, and what it still ran is missed; `Flow.drained` says how many ran nothing.
        Prefill replicas drain at once.

        Raises:
            ValueError: steps do not come in order, or a key is none of `keys`.
        """
        if index != self._next or index >= self._demand.steps:
            raise ValueError(f"step {index}; expected {self._next} of {self._demand.steps}")
        if not self._keys.issuperset(ready):
            raise ValueError(f"ready: no such role: {sorted(set(ready) - self._keys)}")
        self._next += 1
        flows: dict[Key, Flow] = {}
        due, met, late = {}, {}, {}
        for line in self._lines:
            score = Score()
            done = self._prefill(line, index, (ready, draining), score, flows)
            self._decode(line, index, (ready, draining, lost), done, score, flows)
            due[line.model], met[line.model] = score.due, score.met
            late[line.model] = score.late_prefill
        return StepReport(flows, due, met, late)

    def flush(self) -> dict[str, float]:
        """Return, per model, prompt and generated tokens of all requests that are unfinished."""
        return {
            line.model: line.prefill.tokens_due() + line.decode.tokens_due() for line in self._lines
        }

    def _prefill(
        self,
        line: _Line,
        index: int,
        counts: tuple[Counts, Counts],
        score: Score,
        flows: dict[Key, Flow],
    ) -> list[Prefilled]:
        """Step the prefill of one model, add its flows, and return what it completed."""
        course, queue, step = line.course, line.prefill, self._step
        ready, draining = counts
        now = self._demand.start_seconds + index * step
        refused = queue.refuse(now - self._timeout, score)
        replicas = [ready.get(key, 0) for key in line.prefill_keys]
        rates = [count * rate[index] for count, rate in zip(replicas, course.prefill, strict=True)]
        rate, count = sum(rates), sum(replicas)
        arrived = course.prompt[index]
        cohort = Cohort(
            now,
            now + step,
            course.requests[index],
            arrived,
            course.generated[index],
            course.limit[index],
        )
        service = count * course.mean_prompt[index] / rate if rate else 0.0
        served, done = queue.step(
            now, step, cohort, rate, count, service, course.variability[index]
        )
        queued = queue.queued
        for key, own, number, share in zip(
            line.prefill_keys, rates, replicas, _shares(rates, rate), strict=True
        ):
            flows[key] = Flow(
                arrived=arrived * share,
                served=served * share,
                served_draining=0.0,
                refused=refused * share,
                queued=queued * share,
                waiting=queued * share,
                ready=number,
                capacity=own,
                drained=draining.get(key, 0),
            )
        return done

    def _decode(
        self,
        line: _Line,
        index: int,
        counts: tuple[Counts, Counts, Counts],
        done: list[Prefilled],
        score: Score,
        flows: dict[Key, Flow],
    ) -> None:
        """Step the decode of one model and add its flows."""
        course, roles = line.course, line.decode
        ready, draining, lost = counts
        now = self._demand.start_seconds + index * self._step
        refused = roles.refuse(now - self._timeout, score)
        fallen = [
            site.resize(ready.get(key, 0), draining.get(key, 0), lost.get(key, 0), score)
            for key, site in zip(line.decode_keys, roles.sites, strict=True)
        ]
        speeds = [(alpha, slope[index], batch[index]) for alpha, slope, batch in course.decode]
        arrived = roles.step(now, self._step, done, speeds, score)
        capacities = [site.ready.capacity for site in roles.sites]
        waiting = roles.waiting
        for key, site, share, gone in zip(
            line.decode_keys, roles.sites, _shares(capacities, sum(capacities)), fallen, strict=True
        ):
            flows[key] = Flow(
                arrived=arrived * share,
                served=site.ready.served,
                served_draining=site.served_draining,
                refused=refused * share + gone,
                queued=waiting * share + site.remaining,
                waiting=waiting * share,
                ready=site.ready.replicas,
                capacity=site.ready.capacity,
                drained=site.drained,
            )


def _shares(parts: list[float], total: float) -> list[float]:
    if total > 0:
        return [part / total for part in parts]
    return [1.0, *(0.0 for _ in parts[1:])]
