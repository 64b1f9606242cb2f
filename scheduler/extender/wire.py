"""The extender protocol's JSON as values, decoded no further than an answer needs.

Envelope keys are CapCase and absent parts are explicit nulls (Go types without JSON tags);
inside pods and nodes the usual camelCase holds. Bytes in, bytes out; a body that cannot be
understood raises `BodyError`, which names the field.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from scheduler.apiserver.objects import OwnerReference
from scheduler.planning.targets import Marks
from scheduler.planning.verdicts import FilterVerdict

_T = TypeVar("_T")


class BodyError(ValueError):
    """A request body that was refused; the message names the field."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        """`status` is the HTTP status of the answer."""
        super().__init__(sentence)
        self.status = status


class Resources(msgspec.Struct, frozen=True):
    """Quantities of one container; extended resources are whole numbers."""

    limits: dict[str, str | int] | None = None
    requests: dict[str, str | int] | None = None


class Container(msgspec.Struct, frozen=True, rename="camel"):
    """One container, as far as its GPUs go."""

    resources: Resources = Resources()
    restart_policy: str | None = None
    """`Always` makes an init container a sidecar."""


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """The metadata of a pod or a node."""

    name: str = ""
    generate_name: str = ""
    """Of a pod that the API server has not named yet."""
    namespace: str = "default"
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[OwnerReference, ...] | None = None

    @property
    def called(self) -> str:
        """The name, or what it begins with. Raises `BodyError` without either."""
        called = self.name or self.generate_name
        if not called:
            raise BodyError("request body: metadata has neither `name` nor `generateName`")
        return called

    @property
    def key(self) -> str:
        """The uid; by name where it has none."""
        return self.uid or f"{self.namespace}/{self.called}"

    @property
    def marks(self) -> Marks:
        """What says whose pod it is."""
        owners = self.owner_references or ()
        controller = next((one for one in owners if one.controller), OwnerReference())
        return Marks(
            namespace=self.namespace,
            name=self.called,
            labels=self.labels or {},
            annotations=self.annotations or {},
            controller_kind=controller.kind,
            controller_name=controller.name,
        )


class Preferences(msgspec.Struct, frozen=True, rename="camel"):
    """What a pod would rather have; kube-scheduler's scores see to it."""

    preferred_during_scheduling_ignored_during_execution: tuple[msgspec.Raw, ...] | None = None


class Affinity(msgspec.Struct, frozen=True, rename="camel"):
    """The preferences of a pod's affinities; what it requires kube-scheduler has filtered."""

    node_affinity: Preferences | None = None
    pod_affinity: Preferences | None = None
    pod_anti_affinity: Preferences | None = None

    @property
    def prefers(self) -> bool:
        """Whether there is any."""
        each = (self.node_affinity, self.pod_affinity, self.pod_anti_affinity)
        return any(
            one is not None and one.preferred_during_scheduling_ignored_during_execution
            for one in each
        )


class Spread(msgspec.Struct, frozen=True, rename="camel"):
    """One topology spread constraint; `ScheduleAnyway` makes it a preference."""

    when_unsatisfiable: str = ""


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    """What of a pod's spec matters here."""

    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...] | None = None
    resources: Resources | None = None
    """Of the pod as a whole."""
    overhead: dict[str, str] | None = None
    priority: int | None = None
    affinity: Affinity | None = None
    topology_spread_constraints: tuple[Spread, ...] | None = None

    @property
    def prefers(self) -> bool:
        """Whether the pod states preferences among nodes."""
        spreads = self.topology_spread_constraints or ()
        spread = any(one.when_unsatisfiable == "ScheduleAnyway" for one in spreads)
        return spread or (self.affinity is not None and self.affinity.prefers)


class Condition(msgspec.Struct, frozen=True):
    """One condition of a pod."""

    type: str = ""
    status: str = ""
    reason: str | None = None


class PodStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Where preemption has made room for the pod, and what became of it before."""

    nominated_node_name: str | None = None
    conditions: tuple[Condition, ...] | None = None

    @property
    def failed(self) -> bool:
        """Whether kube-scheduler has tried the pod in vain; a gated one it has not tried."""
        return any(
            one.type == "PodScheduled" and one.status == "False" and one.reason != "SchedulingGated"
            for one in self.conditions or ()
        )


class Pod(msgspec.Struct, frozen=True):
    """A v1.Pod, reduced."""

    metadata: Meta
    spec: PodSpec
    status: PodStatus | None = None


class NodeList(msgspec.Struct, frozen=True):
    """Whole v1.Node objects, kept as they came so that they can be handed back."""

    items: tuple[msgspec.Raw, ...] | None


class ExtenderArgs(msgspec.Struct, frozen=True):
    """Body of filter and prioritize; one of `nodes` and `node_names` is set."""

    pod: Pod = msgspec.field(name="Pod")
    nodes: NodeList | None = msgspec.field(name="Nodes", default=None)
    node_names: tuple[str, ...] | None = msgspec.field(name="NodeNames", default=None)


class NamedPod(msgspec.Struct, frozen=True):
    """A victim that came as a whole pod."""

    metadata: Meta


class Victims(msgspec.Struct, frozen=True):
    """Whole victims on one node."""

    pods: tuple[NamedPod, ...] | None = msgspec.field(name="Pods", default=None)
    violations: int = msgspec.field(name="NumPDBViolations", default=0)


class MetaPod(msgspec.Struct, frozen=True):
    """A victim by uid."""

    uid: str = msgspec.field(name="UID")


class MetaVictims(msgspec.Struct, frozen=True):
    """Victims on one node by uid, in order of falling priority."""

    pods: tuple[MetaPod, ...] | None = msgspec.field(name="Pods", default=None)
    violations: int = msgspec.field(name="NumPDBViolations", default=0)


class PreemptArgs(msgspec.Struct, frozen=True):
    """Body of preempt; one of the two maps is set."""

    pod: Pod = msgspec.field(name="Pod")
    victims: dict[str, Victims] | None = msgspec.field(name="NodeNameToVictims", default=None)
    meta_victims: dict[str, MetaVictims] | None = msgspec.field(
        name="NodeNameToMetaVictims", default=None
    )


class BindArgs(msgspec.Struct, frozen=True):
    """Body of bind."""

    name: str = msgspec.field(name="PodName")
    namespace: str = msgspec.field(name="PodNamespace")
    uid: str = msgspec.field(name="PodUID")
    node: str = msgspec.field(name="Node")


class Offer(msgspec.Struct, frozen=True):
    """The victims that kube-scheduler offers on one node."""

    uids: tuple[str, ...]
    violations: int


_ARGS = msgspec.json.Decoder(ExtenderArgs)
_PREEMPT = msgspec.json.Decoder(PreemptArgs)
_BIND = msgspec.json.Decoder(BindArgs)
_NAMED = msgspec.json.Decoder(NamedPod)


def decode_args(body: bytes) -> ExtenderArgs:
    """Decode the body of filter or prioritize, or raise `BodyError`."""
    return _decoded(_ARGS, body)


def decode_preempt(body: bytes) -> PreemptArgs:
    """Decode the body of preempt, or raise `BodyError`."""
    return _decoded(_PREEMPT, body)


def decode_bind(body: bytes) -> BindArgs:
    """Decode the body of bind, or raise `BodyError`."""
    return _decoded(_BIND, body)


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes | msgspec.Raw) -> _T:
    try:
        return decoder.decode(body)
    except RecursionError:
        raise BodyError("request body: nested too deep") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise BodyError(f"request body: {error}") from None


def offered_nodes(args: ExtenderArgs) -> dict[str, msgspec.Raw] | tuple[str, ...]:
    """Return the node names, or name -> whole node where kube-scheduler sent whole nodes."""
    if args.node_names is not None:
        return args.node_names
    if args.nodes is None:
        raise BodyError("request body: NodeNames and Nodes are both null; one of them is needed")
    items = args.nodes.items or ()
    return {_decoded(_NAMED, item).metadata.called: item for item in items}


def offers(args: PreemptArgs) -> dict[str, Offer]:
    """Return node -> offered victims, whichever shape they came in."""
    if args.meta_victims is not None:
        return {
            node: Offer(tuple(pod.uid for pod in each.pods or ()), each.violations)
            for node, each in args.meta_victims.items()
        }
    if args.victims is None:
        raise BodyError("request body: NodeNameToMetaVictims and NodeNameToVictims are both null")
    return {
        node: Offer(tuple(pod.metadata.key for pod in each.pods or ()), each.violations)
        for node, each in args.victims.items()
    }


def filter_answer(
    verdict: FilterVerdict, offered: Mapping[str, msgspec.Raw] | Iterable[str]
) -> bytes:
    """Encode a verdict, in whole nodes where these were offered.

    Refusals stand under FailedAndUnresolvableNodes: under FailedNodes kube-scheduler would try
    preemption there, find nothing to evict, and ask again without pause.
    """
    answer: dict[str, object] = {
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": verdict.refused,
        "Error": "",
    }
    if isinstance(offered, Mapping):
        answer["Nodes"] = {"items": [offered[name] for name in verdict.passed]}
    else:
        answer["NodeNames"] = verdict.passed
    return msgspec.json.encode(answer)


def scores_answer(scores: Iterable[tuple[str, int]]) -> bytes:
    """Encode scores; they must be integers, a single float would void them all."""
    return msgspec.json.encode([{"Host": name, "Score": score} for name, score in scores])


def preempt_answer(kept: Mapping[str, Iterable[str]], given: Mapping[str, Offer]) -> bytes:
    """Encode node -> victims; the answer is by uid in both modes.

    Violations of disruption budgets are kube-scheduler's own count; of a smaller victim set it
    is an upper bound.
    """
    nodes = {}
    for node, uids in kept.items():
        pods = [MetaPod(uid) for uid in uids]
        nodes[node] = MetaVictims(tuple(pods), min(given[node].violations, len(pods)))
    return msgspec.json.encode({"NodeNameToMetaVictims": nodes})


def error_answer(sentence: str) -> bytes:
    """Encode a refusal of the whole call."""
    return msgspec.json.encode({"Error": sentence})
