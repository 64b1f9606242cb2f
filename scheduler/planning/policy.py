"""The policy: one document, carried by a ConfigMap, validated as a whole.

`parse` turns a mapping into a `Policy` or returns every error at once, each with the field's
path. Unknown keys are refused, so that a misspelt key never silently means its default. Units
stand in the names. The document that explains each field is `deploy/policy.example.yaml`.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from binpacking.problem import Level
from scheduler.planning.mistakes import error_lines
from scheduler.planning.targets import Kind, Target

QUANTILES = (0.5, 0.9, 0.95, 0.99)


def _published(quantile: float) -> float:
    """Refuse a quantile that the forecaster does not publish."""
    if quantile not in QUANTILES:
        raise ValueError(f"must be one of {', '.join(map(str, QUANTILES))}")
    return quantile


Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Member = Literal[
    "last",
    "half-hour",
    "day",
    "hourly",
    "yesterday",
    "last-week",
    "typical",
    "profile",
    "sharp",
    "harmonic",
    "waves",
]
_MEMBERS = get_args(Member)
Quantile = Annotated[float, AfterValidator(_published)]


class Section(BaseModel):
    """Base of every part: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Cadence(Section):
    """How often what runs."""

    observe_seconds: Annotated[float, Field(gt=0)] = 15.0
    plan_seconds: Annotated[float, Field(gt=0)] = 60.0
    forecast_seconds: Annotated[float, Field(gt=0)] = 300.0

    @model_validator(mode="after")
    def ordered(self) -> Self:
        """Observation is the fastest of the three."""
        if not self.observe_seconds <= self.plan_seconds <= self.forecast_seconds:
            raise ValueError("must hold: observe_seconds <= plan_seconds <= forecast_seconds")
        return self


class Slo(Section):
    """When a request counts as served in time."""

    ttft_seconds: Rate = 2.0
    ttft_seconds_per_1k_prompt_tokens: Seconds = 0.25
    tpot_seconds: Rate = 0.1


class ScaleDown(Section):
    """Brakes on shrinking, with the meaning of the HPA's `behavior.scaleDown`."""

    stabilization_window_seconds: Seconds = 120.0
    tolerance: Share = 0.0


class TargetPolicy(Section):
    """The workload whose replica count is the role's."""

    kind: Kind
    namespace: Annotated[str, Field(min_length=1)] = "default"
    name: Annotated[str, Field(min_length=1)]
    role: str = ""
    """Of a RoleBasedGroup: the name of its role."""

    @model_validator(mode="after")
    def whole(self) -> Self:
        """A group has roles, and nothing else has."""
        if (self.kind == "RoleBasedGroup") != bool(self.role):
            raise ValueError("role must be set for a RoleBasedGroup, and for nothing else")
        return self


class SpreadPolicy(Section):
    """An anti-affinity floor: what the loss of one failure domain may take of a role."""

    level: Level
    """What fails together: a node, what hangs on one leaf switch, or on one spine pod."""
    domains: Annotated[int, Field(ge=2)]
    """No domain takes more than its part in so many of the replicas, rounded up."""


class RolePolicy(Section):
    """One role of one model."""

    target: TargetPolicy | None = None
    """Needed on Kubernetes; the virtual cluster makes its own workloads."""
    engine_labels: dict[str, str] = {}
    """Labels that the role's engine metrics carry; empty: `model_name` is the model's key."""

    gpus_per_pod: Annotated[int, Field(ge=1)] = 1
    pods_per_replica: Annotated[int, Field(ge=1)] = 1
    tokens: Literal["prompt", "generated"]
    """Which token stream drives the role."""
    capacity_tokens_per_second: Annotated[dict[str, Rate], Field(min_length=1)]
    """GPU model -> tokens/s of one replica inside the SLO; order is order of preference."""
    min_replicas: Count = 1
    max_replicas: Annotated[int, Field(ge=1)] = 1000
    quantile: Quantile = 0.9
    """Which quantile of the forecast peak over the lead time is held at first."""
    minute_sigmas: Annotated[float, Field(ge=0)] = 2.3
    """How many deviations of one-minute demand are held at first."""
    late_budget: Share = 0.003
    """Share of tokens outside the SLO that is aimed at in the long run."""
    lead_seconds: Annotated[float, Field(gt=0)] = 300.0
    """How far ahead capacity must be right: recall of a loan plus start of a replica."""
    spread: SpreadPolicy | None = None
    """null: replicas may all stand together."""
    scale_down: ScaleDown = ScaleDown()

    @model_validator(mode="after")
    def bounds(self) -> Self:
        """Minimum and maximum do not cross."""
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas must not exceed max_replicas")
        return self


class Ratio(Section):
    """Bounds on prefill replicas per decode replica, in reference replicas."""

    min_prefill_per_decode: Annotated[float, Field(ge=0)] = 0.0
    max_prefill_per_decode: Annotated[float, Field(gt=0)] | None = None


class ModelPolicy(Section):
    """One served model."""

    slo: Slo = Slo()
    roles: Annotated[dict[str, RolePolicy], Field(min_length=1)]
    ratio: Ratio = Ratio()
    proximity: Literal["any", "preferred", "required"] = "any"
    """preferred: each domain shall hold as much of one role as of the others, by share, where that
    costs nothing else; required: no replica goes where another role has none."""
    proximity_level: Literal["leaf", "spine"] = "leaf"


class Lending(Section):
    """Which GPUs batch may borrow, and on what terms."""

    quantile: Quantile = 0.9
    """Which quantile of coming demand a loan must not stand in the way of."""
    reserve_gpus: Count = 0
    """Whole GPUs never lent, kept empty for online."""
    horizon_seconds: Annotated[float, Field(gt=0)] = 28800.0
    candidates: Annotated[int, Field(ge=1)] = 96
    """Waiting jobs looked at per plan, by priority and age."""


class Preemption(Section):
    """The disruption contract's terms."""

    notice_seconds: Seconds = 60.0
    minimum_runtime_seconds: Seconds = 300.0
    protected_seconds: Seconds = 900.0
    """Time after a resumed start in which a former victim is not asked again."""
    stops_per_hour: Count = 240
    tenant_stops_per_hour: Count = 120
    job_stops_per_hour: Count = 2
    online_priority: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Jobs of this priority and above are not stopped; null: online goes before every job."""
    guaranteed_gpus: dict[str, Count] = {}
    """GPUs per tenant that no stop takes; its jobs above that may go."""


class Packing(Section):
    """Effort of the placement program, in units that do not depend on the machine."""

    program: bool = True
    node_limit: Annotated[int, Field(ge=1)] = 2000
    reservation_seconds: Annotated[float, Field(gt=0)] = 300.0


class Forecasting(Section):
    """Which members may earn weight."""

    members: Annotated[tuple[Member, ...], Field(min_length=1)] = _MEMBERS


class Kubernetes(Section):
    """How the cluster is read and written."""

    gpu_resources: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "nvidia.com/gpu",
        "amd.com/gpu",
        "huawei.com/Ascend910",
    )
    """Extended resources that count as GPUs; a node offers one of them."""
    gpu_model_labels: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "nvidia.com/gpu.product",
        "amd.com/gpu.product-name",
        "accelerator",
    )
    """Node labels that name the GPU model; the first that is there counts."""
    gpu_models: dict[str, str] = {}
    """Label's value -> name in this policy; values not named here stand for themselves."""
    topology_labels: tuple[tuple[str, ...], ...] = (
        ("topology.kubernetes.io/zone",),
        (
            "fabric.topograph.run/tier-1",
            "network.topology.nvidia.com/spine",
            "topology.k8s.aws/network-node-layer-2",
            "cloud.google.com/gce-topology-block",
            "oci.oraclecloud.com/host.network_block_id",
        ),
        (
            "fabric.topograph.run/tier-0",
            "network.topology.nvidia.com/block",
            "topology.k8s.aws/network-node-layer-3",
            "cloud.google.com/gce-topology-subblock",
            "oci.oraclecloud.com/host.rack_id",
        ),
    )
    """Per tier, outermost first: labels that name the switch; the first that is there counts."""
    override_hold_seconds: Seconds = 3600.0
    """How long a replica count that somebody else wrote is left alone."""


class Serving(Section):
    """When the extender trusts the plan."""

    plan_stale_seconds: Annotated[float, Field(gt=0)] = 300.0
    heuristic_stale_seconds: Annotated[float, Field(gt=0)] = 900.0

    @model_validator(mode="after")
    def ordered(self) -> Self:
        """The heuristic outlives the plan."""
        if self.plan_stale_seconds > self.heuristic_stale_seconds:
            raise ValueError("plan_stale_seconds must not exceed heuristic_stale_seconds")
        return self


class Policy(Section):
    """The whole document."""

    version: Literal[1]
    mode: Literal["off", "recommend", "act"] = "act"
    cadence: Cadence = Cadence()
    forecast: Forecasting = Forecasting()
    models: Annotated[dict[str, ModelPolicy], Field(min_length=1)]
    tenants: dict[str, Annotated[int, Field(ge=1)]] = {}
    """Tenant -> weight; tenants not named weigh 1."""
    lending: Lending = Lending()
    preemption: Preemption = Preemption()
    packing: Packing = Packing()
    extender: Serving = Serving()
    kubernetes: Kubernetes = Kubernetes()

    def role(self, key: str) -> RolePolicy | None:
        """Return the policy of role `model/role`, or None where the policy names none."""
        model, _, name = key.partition("/")
        found = self.models.get(model)
        return found.roles.get(name) if found else None

    def targets(self) -> Iterator[tuple[str, Target]]:
        """Yield role keys and their workloads, in order; roles without one are left out."""
        for model, each in self.models.items():
            for name, role in each.roles.items():
                if role.target is not None:
                    one = role.target
                    yield f"{model}/{name}", Target(one.kind, one.namespace, one.name, one.role)

    def aimless(self) -> Iterator[str]:
        """Yield the keys of roles without a workload; Kubernetes needs one for each."""
        named = {key for key, _ in self.targets()}
        for model, each in self.models.items():
            yield from (key for name in each.roles if (key := f"{model}/{name}") not in named)


class PolicyError(ValueError):
    """A policy that was refused; `errors` holds one line per field."""

    def __init__(self, errors: tuple[str, ...]) -> None:
        """Keep the lines and join them as the message."""
        super().__init__("; ".join(errors))
        self.errors = errors


def parse(document: Mapping[str, Any]) -> Policy:
    """Return the policy, or raise `PolicyError` with every error at once."""
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        raise PolicyError(error_lines(error, Policy)) from None
