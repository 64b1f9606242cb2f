"""Which nodes may take a pod by the words of its template: node selector, affinity, tolerations.

One rule, that of kube-scheduler's filters NodeAffinity, NodeName and TaintToleration. Preferences
are left to kube-scheduler. Of a pod's affinity to other pods nothing is read here.
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from scheduler.apiserver.objects import (
    NodeSelectorTerm,
    Requirement,
    Taint,
    TemplateSpec,
    Toleration,
)

NAME_FIELD = "metadata.name"


class NodeTerms(msgspec.Struct, frozen=True):
    """What pods of one template ask of their node; without any of it they go everywhere."""

    selector: tuple[tuple[str, str], ...] = ()
    affinity: tuple[NodeSelectorTerm, ...] | None = None
    """Of which one must hold; None: nothing is required."""
    tolerations: tuple[Toleration, ...] = ()


class NodeFace(msgspec.Struct, frozen=True):
    """What of a node such words look at."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]


def node_terms(spec: TemplateSpec, but: Collection[str] = ()) -> NodeTerms:
    """Return the words of a template; label keys in `but` are left out of its node selector."""
    affinity = spec.affinity.node_affinity if spec.affinity else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    selector = (pair for pair in (spec.node_selector or {}).items() if pair[0] not in but)
    return NodeTerms(
        tuple(sorted(selector)),
        None if required is None else required.node_selector_terms,
        tuple(spec.tolerations or ()),
    )


def keys_read(many: Iterable[NodeTerms]) -> frozenset[str]:
    """Return the label keys that decide; with `metadata.name` where the node's name does too."""
    found = set[str]()
    for terms in many:
        found.update(key for key, _ in terms.selector)
        for term in terms.affinity or ():
            found.update(one.key for one in (*_labels(term), *_fields(term)))
    return frozenset(found)


def refusal(node: NodeFace, terms: NodeTerms) -> str:
    """Return why the node does not take such pods; empty where it does."""
    for key, value in terms.selector:
        if node.labels.get(key) != value:
            return f"node selector {key}={value}"
    if terms.affinity is not None and not any(_holds(one, node) for one in terms.affinity):
        return "required node affinity"
    for taint in node.taints:
        if not any(_tolerates(one, taint) for one in terms.tolerations):
            value = f"={taint.value}" if taint.value else ""
            return f"taint {taint.key}{value}:{taint.effect} is not tolerated"
    return ""


def _labels(term: NodeSelectorTerm) -> tuple[Requirement, ...]:
    return term.match_expressions or ()


def _fields(term: NodeSelectorTerm) -> tuple[Requirement, ...]:
    return term.match_fields or ()


def _holds(term: NodeSelectorTerm, node: NodeFace) -> bool:
    """An empty term holds nowhere; of fields the server takes the name alone."""
    every = (
        *(_meets(one, node.labels.get(one.key)) for one in _labels(term)),
        *(one.key == NAME_FIELD and _meets(one, node.name) for one in _fields(term)),
    )
    return bool(every) and all(every)


def _meets(requirement: Requirement, value: str | None) -> bool:
    values = requirement.values or ()
    match requirement.operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _beyond(requirement.operator, value, values)
        case _:
            return False


def _beyond(operator: str, value: str | None, values: tuple[str, ...]) -> bool:
    try:
        there, bound = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return there > bound if operator == "Gt" else there < bound


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect not in ("", taint.effect) or toleration.key not in ("", taint.key):
        return False
    if toleration.operator == "Exists":
        return True
    return toleration.operator in ("", "Equal") and toleration.value == taint.value
