"""True demand of every model in every step of a run, and what the planner gets to see of it.

Time 0 is the start of scoring. The traces' common span reads: history (known past), warm-up (run,
not scored), scored days. Bin totals are those of the scaled trace, exactly; inside a bin the rate
is linear between bin centres, times gamma arrival noise with the bin's CV of arrival gaps, times
a log-normal factor by the minute. A bin with valid=0 is unknown to the planner and carries
demand interpolated from its neighbours.
"""

import math
from collections.abc import Mapping
from zlib import crc32

import msgspec
import numpy as np

from forecasting import Sample
from scheduler.simulation.demandfile import COUNTS, DemandError, Flags, Floats, Trace
from scheduler.simulation.generated import autoregressive
from scheduler.simulation.scale import factors
from scheduler.simulation.worldfile import Noise, World

DAY_SECONDS = 86400.0
WARM_UP_SECONDS = 21600.0
LIVE_BIN_SECONDS = 300.0
_MINUTE = 60.0
_NOTHING = 1e-9


class ModelDemand(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One model; every array has one value per step."""

    requests: Floats
    """Arrivals in the step; a fluid, so not whole."""
    prompt_tokens: Floats
    generated_tokens: Floats
    """Of the requests that arrive in the step, booked at their arrival."""
    mean_prompt_tokens: Floats
    mean_generated_tokens: Floats
    """Per request, without noise."""
    iat_cv: Floats
    known: Flags
    """False in steps of a bin that the recording does not know."""


class Demand(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """All models over one run; step i covers [time(i), time(i + 1))."""

    start_seconds: float
    """Start of the run, before 0 by the warm-up."""
    step_seconds: float
    steps: int
    gpu_models: tuple[str, ...]
    """Of the cluster, in order of name."""
    models: dict[str, ModelDemand]
    """In order of name."""
    factors: dict[str, float]
    """Model -> what its trace was multiplied by."""
    past: dict[str, tuple[Sample, ...]]

    def time(self, index: int) -> float:
        """Return when a step starts."""
        return self.start_seconds + index * self.step_seconds

    @property
    def end_seconds(self) -> float:
        """End of the run and of scoring."""
        return self.time(self.steps)

    def history(self, model: str) -> tuple[Sample, ...]:
        """Return the known past of a model, in the trace's bins that ended before the run."""
        return self.past[model]

    def bins_between(self, after_seconds: float, until_seconds: float) -> tuple[Sample, ...]:
        """Return the live bins of all models that ended in (after, until], by end and model."""
        first = math.floor((after_seconds - self.start_seconds) / LIVE_BIN_SECONDS + 1e-9)
        last = math.floor(
            (min(until_seconds, self.end_seconds) - self.start_seconds) / LIVE_BIN_SECONDS + 1e-9
        )
        return tuple(
            sample
            for number in range(max(first, 0), last)
            for model in self.models
            for sample in self._live_bin(model, number)
        )

    def _live_bin(self, model: str, number: int) -> tuple[Sample, ...]:
        width = round(LIVE_BIN_SECONDS / self.step_seconds)
        steps = slice(number * width, (number + 1) * width)
        arrays = self.models[model]
        return tuple(
            Sample(
                key=f"{model}/{field}",
                start_seconds=self.start_seconds + number * LIVE_BIN_SECONDS,
                width_seconds=LIVE_BIN_SECONDS,
                rate=float(getattr(arrays, field)[steps].sum()) / LIVE_BIN_SECONDS,
                valid=bool(arrays.known[steps].all()),
            )
            for field in COUNTS
        )

    def with_level_shift(self, model: str, at_seconds: float, factor: float) -> "Demand":
        """Return the same demand with one model's arrivals multiplied from a time on."""
        first = max(0, math.ceil((at_seconds - self.start_seconds) / self.step_seconds))
        level = np.where(np.arange(self.steps) < first, 1.0, factor)
        arrays = self.models[model]
        shifted = msgspec.structs.replace(
            arrays, **{field: getattr(arrays, field) * level for field in COUNTS}
        )
        return msgspec.structs.replace(self, models={**self.models, model: shifted})


class _Span(msgspec.Struct, frozen=True):
    """Where a run lies on the traces' time line."""

    history: float
    run: float
    end: float
    zero: float


def build(  # noqa: PLR0913, each is an option of the command
    world: World,
    traces: Mapping[str, Trace],
    *,
    history_seconds: float,
    days: float | None,
    total_gpus_by_model: Mapping[str, int],
    peak_share: float,
    demand_shares: Mapping[str, float],
    seed: int,
    warm_up_seconds: float = WARM_UP_SECONDS,
) -> Demand:
    """Return the demand of a run over the intersection of the traces' spans.

    `days` of scored time follow the history and the warm-up; None takes all there is. One factor
    for all traces makes the fleet's highest 10-minute total, history included, need `peak_share`
    of all GPUs; `demand_shares` gives models their share of the GPUs needed at that peak. See
    `scale` for how tokens become GPUs.

    Raises:
        DemandError: the traces do not meet, are too short, or cannot be scaled as asked.
    """
    named = {model: traces[model] for model in sorted(traces)}
    span = _span(world.step_seconds, named, history_seconds, days, warm_up_seconds)
    filled = {model: _filled(trace) for model, trace in named.items()}
    scale = factors(
        world,
        filled,
        between=(span.history, span.end),
        gpus=total_gpus_by_model,
        peak_share=peak_share,
        shares=demand_shares,
    )
    return Demand(
        start_seconds=span.run - span.zero,
        step_seconds=world.step_seconds,
        steps=round((span.end - span.run) / world.step_seconds),
        gpu_models=tuple(sorted(name for name, count in total_gpus_by_model.items() if count)),
        models={
            model: _steps(world, trace, span, scale[model], _rng(seed, model))
            for model, trace in filled.items()
        },
        factors=scale,
        past={model: _past(model, named[model], span, scale[model]) for model in named},
    )


def _rng(seed: int, model: str) -> np.random.Generator:
    """Return a stream of a model's own, so that another model in the run changes nothing."""
    return np.random.default_rng([seed, crc32(model.encode())])


def _span(
    step: float, traces: Mapping[str, Trace], history: float, days: float | None, warm_up: float
) -> _Span:
    if not traces:
        raise DemandError("--demand: no trace; give at least one MODEL=FILE")
    latest = max(traces, key=lambda model: traces[model].start_seconds)
    earliest = min(traces, key=lambda model: traces[model].end_seconds)
    start, end = traces[latest].start_seconds, traces[earliest].end_seconds
    if start >= end:
        raise DemandError(
            f"--demand: {latest} starts at {start:g} s, after {earliest} ends at {end:g} s; "
            "give traces that overlap in time"
        )
    _check_grid(step, traces, start)
    run = start + step * math.floor(history / step + 1e-9)
    zero = run + step * math.ceil(warm_up / step - 1e-9)
    if run < start or zero + step > end:
        raise DemandError(
            f"--history: {history:g} s of history and {warm_up:g} s of warm-up leave nothing of "
            f"the traces' common {end - start:g} s to score; give a shorter history or longer "
            "traces"
        )
    last = end if days is None else zero + days * DAY_SECONDS
    if not last <= end + 1e-6:
        raise DemandError(
            f"--days: {days:g} days are not inside the {(end - zero) / DAY_SECONDS:.4g} that the "
            "traces have left after history and warm-up; give fewer, or a shorter --history"
        )
    if last < zero + step:
        raise DemandError(f"--days: {days:g} days are less than a step of {step:g} s; give more")
    return _Span(start, run, run + step * math.floor((last - run) / step + 1e-9), zero)


def _check_grid(step: float, traces: Mapping[str, Trace], start: float) -> None:
    for model, trace in traces.items():
        for seconds in (trace.bin_seconds, start - trace.start_seconds):
            if not math.isclose(seconds / step, round(seconds / step), abs_tol=1e-6):
                raise DemandError(
                    f"--demand {model}: bins of {trace.bin_seconds:g} s from "
                    f"{trace.start_seconds:g} s do not fall on steps of {step:g} s; "
                    "set step_seconds in the world file so that they do"
                )


def _filled(trace: Trace) -> Trace:
    """Return the trace with bins that are not valid interpolated from those that are."""
    at = np.arange(len(trace.valid))
    known = at[trace.valid]
    fields = {
        name: np.interp(at, known, getattr(trace, name)[trace.valid])
        for name in (*COUNTS, "iat_cv")
    }
    return msgspec.structs.replace(trace, **fields)


def _past(model: str, trace: Trace, span: _Span, factor: float) -> tuple[Sample, ...]:
    width = trace.bin_seconds
    first = math.ceil((span.history - trace.start_seconds) / width - 1e-9)
    last = math.floor((span.run - trace.start_seconds) / width + 1e-9)
    return tuple(
        Sample(
            key=f"{model}/{field}",
            start_seconds=trace.start_seconds + number * width - span.zero,
            width_seconds=width,
            rate=float(getattr(trace, field)[number]) * factor / width,
            valid=bool(trace.valid[number]),
        )
        for number in range(first, last)
        for field in COUNTS
    )


def _steps(
    world: World, trace: Trace, span: _Span, factor: float, rng: np.random.Generator
) -> ModelDemand:
    """Draw whole bins, so that their totals hold, then cut them to the run."""
    step, width = world.step_seconds, trace.bin_seconds
    per_bin = round(width / step)
    first = math.floor((span.run - trace.start_seconds) / width + 1e-9)
    last = math.ceil((span.end - trace.start_seconds) / width - 1e-9)
    centres = trace.start_seconds + (np.arange(len(trace.valid)) + 0.5) * width
    at = trace.start_seconds + first * width + (np.arange((last - first) * per_bin) + 0.5) * step
    requests, prompt, generated = (
        np.interp(at, centres, getattr(trace, field) * factor / per_bin) for field in COUNTS
    )
    cv = np.minimum(np.repeat(trace.iat_cv[first:last], per_bin), world.noise.iat_cv_max)
    mean_prompt = _ratio(prompt, requests, trace.prompt_tokens.sum() / trace.requests.sum())
    mean_generated = _ratio(
        generated, requests, trace.generated_tokens.sum() / trace.requests.sum()
    )
    totals = {field: getattr(trace, field)[first:last] * factor for field in COUNTS}
    drawn = _arrivals(rng, requests, cv, world)
    arrivals = _normalised(drawn, requests, totals["requests"])
    tokens = [
        _normalised(arrivals * mean * _length_noise(rng, arrivals, sigma), arrivals, totals[field])
        for mean, sigma, field in (
            (mean_prompt, world.noise.prompt_length_sigma, "prompt_tokens"),
            (mean_generated, world.noise.generated_length_sigma, "generated_tokens"),
        )
    ]
    offset = round((span.run - trace.start_seconds - first * width) / step)
    cut = slice(offset, offset + round((span.end - span.run) / step))
    return ModelDemand(
        requests=arrivals[cut],
        prompt_tokens=tokens[0][cut],
        generated_tokens=tokens[1][cut],
        mean_prompt_tokens=mean_prompt[cut],
        mean_generated_tokens=mean_generated[cut],
        iat_cv=cv[cut],
        known=np.repeat(trace.valid[first:last], per_bin)[cut],
    )


def _ratio(tokens: Floats, requests: Floats, otherwise: float) -> Floats:
    """Return tokens per request; where there are no requests, the trace's mean."""
    return np.divide(tokens, requests, out=np.full_like(tokens, otherwise), where=requests > 0)


def _arrivals(rng: np.random.Generator, mean: Floats, cv: Floats, world: World) -> Floats:
    """Return noisy arrivals: a gamma count of variance cv^2 x mean, times the minute factor."""
    scale = np.maximum(cv * cv, _NOTHING)
    drawn = rng.gamma(mean / scale, scale)
    drawn *= _minutes(rng, len(mean), world.step_seconds, world.noise)
    return np.where(drawn < _NOTHING, 0.0, drawn)


def _minutes(rng: np.random.Generator, steps: int, step: float, noise: Noise) -> Floats:
    """Return the log-normal minute factor.

    A process that decorrelates by exp(-x) over a minute has one-minute means of variance
    2 (e^-x - 1 + x) / x^2 times its own; its own is set such that the means have the stated sd.
    """
    x = _MINUTE / noise.minute_correlation_seconds
    sd = noise.minute_sd / math.sqrt(2 * (math.exp(-x) - 1 + x) / (x * x))
    decay = step / noise.minute_correlation_seconds
    return np.asarray(np.exp(autoregressive(rng, steps, sd, decay)))


def _length_noise(rng: np.random.Generator, requests: Floats, sigma: float) -> Floats:
    """Return the mean of that many log-normal lengths over their mean, as a gamma of equal sd."""
    variance = max(math.expm1(sigma * sigma), _NOTHING)
    count = np.maximum(requests, 1.0)  # a share of a request still has one whole length
    return np.asarray(rng.gamma(count / variance, variance / count))


def _normalised(drawn: Floats, otherwise: Floats, totals: Floats) -> Floats:
    """Scale each bin to its total; a bin in which nothing was drawn takes the other shape."""
    rows = drawn.reshape(len(totals), -1)
    empty = (rows.sum(axis=1) <= 0) & (totals > 0)
    rows = np.where(empty[:, None], otherwise.reshape(rows.shape), rows)
    sums = rows.sum(axis=1)
    ratio = np.divide(totals, sums, out=np.zeros_like(totals), where=sums > 0)
    return np.asarray((rows * ratio[:, None]).reshape(-1))
