"""The world file: all that is true in the virtual world, and that the planner never reads.

`load_world(None)` is the packaged `worlds/default.yaml`, complete, each value with its source. A
file of one's own is laid over it key by key, so it holds only what differs; lists are replaced
whole. Seeds are arguments of a run and stand elsewhere.
"""

import math
from importlib.resources import files
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from scheduler.planning.policy import Section, Slo
from scheduler.simulation.documents import DocumentError, checked, parse_yaml, read_text

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=1)]
Prompt = Annotated[int, Field(ge=1)]
Tier = Literal["cold", "image", "weights", "asleep"]

_P99 = NormalDist().inv_cdf(0.99)
_MINUTE = 60.0


def _sums_to_one(values: tuple[float, ...]) -> tuple[float, ...]:
    if not math.isclose(sum(values), 1.0, abs_tol=1e-9):
        raise ValueError(f"probabilities must sum to 1, not {sum(values):.6g}")
    return values


Probabilities = Annotated[
    tuple[Probability, ...], Field(min_length=1), AfterValidator(_sums_to_one)
]


class Spread(Section):
    """A log-normal distribution, given by its median and its 99th percentile."""

    p50_seconds: Positive
    p99_seconds: Positive

    @model_validator(mode="after")
    def ordered(self) -> Self:
        """The tail lies above the median."""
        if self.p99_seconds < self.p50_seconds:
            raise ValueError("p99_seconds must not be less than p50_seconds")
        return self

    @property
    def log_mean(self) -> float:
        """Mean of the logarithm."""
        return math.log(self.p50_seconds)

    @property
    def log_sd(self) -> float:
        """Standard deviation of the logarithm."""
        return math.log(self.p99_seconds / self.p50_seconds) / _P99


class PlanSeconds(Section):
    """Time that the planner takes on the simulated clock, by effort."""

    quick: NotNegative
    full: NotNegative


class Noise(Section):
    """How demand strays inside a bin, and how request lengths stray around their mean."""

    minute_sd: NotNegative
    """Of the logarithm of one-minute means."""
    minute_correlation_seconds: Positive
    prompt_length_sigma: NotNegative
    """Of the logarithm of prompt tokens per request."""
    generated_length_sigma: NotNegative
    iat_cv_max: Positive
    """Larger coefficients of variation of arrival gaps count as this."""


class Speed(Section):
    """One replica of an engine on one GPU model; see `capacity` for the formulas."""

    prefill: Annotated[tuple[tuple[Prompt, Positive], ...], Field(min_length=1)]
    """(prompt tokens, prompt tokens/s) in order of length; straight lines between, flat outside."""
    prefill_served_share: Annotated[float, Field(gt=0, le=1)]
    """What a served engine reaches of the `prefill` speeds."""
    alpha_ms: Positive
    beta_ms: NotNegative
    gamma_ms: NotNegative
    kv_tokens: Positive
    max_sequences: Positive

    @model_validator(mode="after")
    def ordered(self) -> Self:
        """Prompt lengths rise."""
        lengths = [length for length, _ in self.prefill]
        if lengths != sorted(set(lengths)):
            raise ValueError("prefill: prompt lengths must rise from point to point")
        return self


class Engine(Section):
    """How one replica is laid out, the same for both roles, and how fast it is where."""

    gpus_per_pod: Whole
    pods_per_replica: Whole
    speeds: Annotated[dict[str, Speed], Field(min_length=1)]
    """GPU model -> speed; an engine runs on no other GPU model."""

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.gpus_per_pod * self.pods_per_replica


class Served(Section):
    """What serves a model, and when its requests count as served in time."""

    engine: str
    slo: Slo


class Starts(Section):
    """Time from the decision to the first token, by what lies on the node already."""

    tier: Tier
    """What a new replica finds on its node."""
    cold: Spread
    image: Spread
    weights: Spread
    asleep: Spread
    failure_share: Annotated[float, Field(ge=0, lt=1)]
    drain_seconds_max: NotNegative
    exit_seconds: NotNegative
    """From SIGTERM to gone, of a replica that serves nobody."""

    def spread(self, tier: Tier) -> Spread:
        """Return the distribution of one tier."""
        spreads = {
            "cold": self.cold,
            "image": self.image,
            "weights": self.weights,
            "asleep": self.asleep,
        }
        return spreads[tier]


class Observation(Section):
    """How wrong the planner's view is."""

    capacity_noise_sd: NotNegative
    """Relative, of each measured capacity of a replica."""
    policy_error: Annotated[float, Field(ge=0, lt=1)]
    """The policy's capacity profile is off by a factor within 1 +- this, per role, by seed."""


class Checkpoints(Section):
    """Whether, when and how fast jobs save their progress."""

    none_share: Probability
    interval_seconds: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Each as likely as the others."""
    write: Spread
    on_notice_share: Probability
    """Of the jobs that write checkpoints."""


class BatchTenant(Section):
    """Who owns batch work, and how much of it is theirs."""

    name: Annotated[str, Field(min_length=1)]
    weight: Whole
    share: Probability


class Batch(Section):
    """What the generator of batch jobs draws from."""

    sizes_gpus: Annotated[tuple[Whole, ...], Field(min_length=1)]
    size_probabilities: Probabilities
    priorities: Annotated[tuple[Whole, ...], Field(min_length=1)]
    priority_probabilities: Probabilities
    duration: Spread
    declared_log_sd: NotNegative
    """Of the logarithm of declared durations over true ones."""
    checkpoint: Checkpoints
    first_start_seconds: NotNegative
    """Of a job's containers; every later start takes the job's restart time."""
    restart: Spread
    exit_seconds: NotNegative
    """From SIGTERM to gone, of a container that has nothing to save."""
    grace_seconds: NotNegative
    elastic_share: Probability
    """Of jobs of two pods or more; they may shrink to `elastic_min_share` of their pods."""
    elastic_min_share: Annotated[float, Field(gt=0, le=1)]
    tenants: Annotated[tuple[BatchTenant, ...], Field(min_length=1)]
    backlog: Whole
    """Jobs kept waiting when the supply is unlimited."""

    @model_validator(mode="after")
    def paired(self) -> Self:
        """Each value has its probability, and tenants own all the work once."""
        if len(self.sizes_gpus) != len(self.size_probabilities):
            raise ValueError("sizes_gpus and size_probabilities must be equally long")
        if len(self.priorities) != len(self.priority_probabilities):
            raise ValueError("priorities and priority_probabilities must be equally long")
        names = [tenant.name for tenant in self.tenants]
        if len(set(names)) != len(names):
            raise ValueError("tenants: names must differ")
        _sums_to_one(tuple(tenant.share for tenant in self.tenants))
        return self


def _divides_the_minute(seconds: float) -> float:
    if not math.isclose(_MINUTE / seconds, round(_MINUTE / seconds)):
        raise ValueError("a minute must be a whole number of steps")
    return seconds


class World(Section):
    """The whole file."""

    version: Literal[1]
    step_seconds: Annotated[float, Field(gt=0, le=5), AfterValidator(_divides_the_minute)]
    plan_seconds: PlanSeconds
    request_timeout_seconds: Positive
    """A request that waits this long since its arrival for prefill or decode is refused."""
    noise: Noise
    engines: Annotated[dict[str, Engine], Field(min_length=1)]
    models: dict[str, Served]
    """Model name -> what serves it; `default` is for every other name."""
    starts: Starts
    observation: Observation
    batch: Batch

    def served(self, model: str) -> Served:
        """Return what serves a model."""
        return self.models.get(model, self.models["default"])

    def engine(self, model: str) -> Engine:
        """Return the engine that serves a model."""
        return self.engines[self.served(model).engine]


class WorldError(DocumentError):
    """A world that was refused; `errors` holds one line per field."""


def load_world(path: Path | None = None) -> World:
    """Return the default world, or a file laid over it.

    Raises:
        WorldError: with every error at once, each "field.path: message".
    """
    default = files("scheduler.simulation").joinpath("worlds", "default.yaml")
    document = _mapping(default.read_text(encoding="utf-8"), "default.yaml")
    if path is not None:
        own = _mapping(read_text(path, WorldError), str(path))
        if "version" not in own:  # so that a file for another version is never misread
            raise WorldError(("version: is missing; write `version: 1`",))
        document = _overlay(document, own)
    errors = _naming_errors(document)
    try:
        world = checked(World, document, WorldError)
    except WorldError as error:
        raise WorldError((*error.errors, *errors)) from None
    if errors:
        raise WorldError(errors)
    return world


def _mapping(text: str, name: str) -> dict[str, Any]:
    document = parse_yaml(text, name, WorldError)
    if not isinstance(document, dict):
        raise WorldError((f"(document): {name} must be a mapping of fields to values",))
    return document


def _overlay(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `own`; mappings on both sides are joined key by key."""
    joined = {
        key: _overlay(base[key], value)
        for key, value in own.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return {**base, **own, **joined}


def _naming_errors(document: dict[str, Any]) -> tuple[str, ...]:
    """Return a line for each model that names an engine which is not there."""
    engines, models = document["engines"], document["models"]
    if not isinstance(engines, dict) or not isinstance(models, dict):
        return ()
    return tuple(
        f"models.{name}.engine: no engine {served['engine']!r}; known: {', '.join(engines)}"
        for name, served in models.items()
        if isinstance(served, dict) and isinstance(served.get("engine"), str)
        if served["engine"] not in engines
    )
