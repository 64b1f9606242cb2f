"""The extender protocol's JSON as values, decoded no further than an answer needs.

Envelope keys are CapCase and absent parts are explicit nulls (Go types without JSON tags);
inside pods and nodes the usual camelCase holds. Bytes in, bytes out; a body that cannot be
understood raises `BodyError`, which names the field.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

import msgspec

from scheduler.planning.standing import PodAsk
from scheduler.planning.targets import GROUP_ANNOTATION, OWNER_ANNOTATION
from scheduler.planning.verdicts import FilterVerdict

_T = TypeVar("_T")


class BodyError(ValueError):
    """A request body that was refused; the message names the field."""


class Resources(msgspec.Struct, frozen=True):
    """Quantities of one container; extended resources are whole numbers."""

    limits: dict[str, str | int] | None = None
    requests: dict[str, str | int] | None = None


class Container(msgspec.Struct, frozen=True, rename="camel"):
    """One container, as far as its GPUs go."""

    resources: Resources = Resources()
    restart_policy: str | None = None
    """`Always` makes an init container a sidecar."""


class Meta(msgspec.Struct, frozen=True):
    """The metadata of a pod or a node."""

    name: str
    namespace: str = "default"
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None

    def mark(self, key: str) -> str:
        """Return the annotation, else the label, else nothing."""
        return (self.annotations or {}).get(key) or (self.labels or {}).get(key) or ""


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    """What of a pod's spec matters here."""

    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...] | None = None
    priority: int | None = None


class PodStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Where preemption has made room for the pod."""

    nominated_node_name: str | None = None


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
    except msgspec.DecodeError as error:
        raise BodyError(f"request body: {error}") from None


def offered_nodes(args: ExtenderArgs) -> dict[str, msgspec.Raw] | tuple[str, ...]:
    """Return the node names, or name -> whole node where kube-scheduler sent whole nodes."""
    if args.node_names is not None:
        return args.node_names
    if args.nodes is None:
        raise BodyError("request body: NodeNames and Nodes are both null; one of them is needed")
    items = args.nodes.items or ()
    return {_decoded(_NAMED, item).metadata.name: item for item in items}


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
        node: Offer(tuple(pod.metadata.uid for pod in each.pods or ()), each.violations)
        for node, each in args.victims.items()
    }


def ask_of(pod: Pod, resources: Collection[str]) -> PodAsk:
    """Return the pod as an ask; `resources` are the names under which nodes offer GPUs."""
    resource, gpus = _gpus(pod.spec, resources)
    status = pod.status or PodStatus()
    return PodAsk(
        uid=pod.metadata.uid,
        name=pod.metadata.name,
        namespace=pod.metadata.namespace,
        owner=pod.metadata.mark(OWNER_ANNOTATION),
        group=pod.metadata.mark(GROUP_ANNOTATION),
        gpus=gpus,
        resource=resource,
        priority=pod.spec.priority or 0,
        nominated=status.nominated_node_name or "",
    )


def _gpus(spec: PodSpec, resources: Collection[str]) -> tuple[str, int]:
    """Return the GPU resource that the pod asks for and how many; ("", 0) where it asks none."""
    for resource in sorted(resources):
        gpus = _effective(spec, resource)
        if gpus:
            return resource, gpus
    return "", 0


def _effective(spec: PodSpec, resource: str) -> int:
    """Return what the pod occupies, as Kubernetes counts it.

    Containers and sidecars run together; an init container runs beside the sidecars started
    before it; the pod needs the larger of the two.
    """
    sidecars = peak = 0
    for index, one in enumerate(spec.init_containers or ()):
        wants = _wants(one, resource, f"initContainers[{index}]")
        peak = max(peak, sidecars + wants)
        if one.restart_policy == "Always":
            sidecars += wants
    together = (
        _wants(one, resource, f"containers[{index}]") for index, one in enumerate(spec.containers)
    )
    return max(peak, sidecars + sum(together))


def _wants(container: Container, resource: str, path: str) -> int:
    given = (container.resources.requests or {}).get(resource)
    if given is None:
        given = (container.resources.limits or {}).get(resource, 0)
    text = str(given)
    if not text.isdecimal():
        raise BodyError(
            f"request body: Pod.spec.{path}.resources: {resource} is {text!r}, not a whole number"
        )
    return int(text)


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
