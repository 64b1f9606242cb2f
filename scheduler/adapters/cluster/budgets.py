"""Which PodDisruptionBudgets stand in the way of stopping a gang.

A stop evicts every pod of a job. It is not begun where a budget allows fewer evictions than the
job has pods under it, nor where two budgets cover one pod, which the Eviction API refuses.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from scheduler.adapters.cluster.podfacts import PodFacts
from scheduler.apiserver import objects

Budgets = Mapping[str, Sequence[objects.DisruptionBudget]]
"""Namespace -> budgets."""


def by_namespace(budgets: Iterable[objects.DisruptionBudget]) -> Budgets:
    """Return the budgets by namespace, in order of name."""
    found: dict[str, list[objects.DisruptionBudget]] = {}
    for one in sorted(budgets, key=lambda one: one.metadata.name):
        found.setdefault(one.metadata.namespace, []).append(one)
    return found


def forbidden(pods: Iterable[PodFacts], budgets: Budgets) -> str:
    """Return why the gang cannot be evicted whole now; empty where it can."""
    needed: dict[str, int] = {}
    allowed: dict[str, int] = {}
    for pod in pods:
        own = [one for one in budgets.get(pod.namespace, ()) if matches(one.spec.selector, pod)]
        if pod.terminating or not own:
            continue
        first = own[0].metadata.name
        if len(own) > 1:
            return f"PodDisruptionBudgets {first} and {own[1].metadata.name} both cover {pod.name}"
        needed[first] = needed.get(first, 0) + 1
        allowed[first] = own[0].status.disruptions_allowed
    for name, count in sorted(needed.items()):
        if count > allowed[name]:
            return f"PodDisruptionBudget {name} allows {allowed[name]} evictions of {count}"
    return ""


class Labelled(Protocol):
    """A pod, as an object or as facts."""

    @property
    def labels(self) -> Mapping[str, str]: ...


def matches(selector: objects.Selector | None, pod: Labelled) -> bool:
    """Return whether the selector selects the pod; absent selects none, empty selects all."""
    if selector is None:
        return False
    labels = pod.labels
    exact = (selector.match_labels or {}).items()
    return all(labels.get(key) == value for key, value in exact) and all(
        _meets(one, labels) for one in selector.match_expressions or ()
    )


def _meets(requirement: objects.Requirement, labels: Mapping[str, str]) -> bool:
    key, values = requirement.key, requirement.values or ()
    match requirement.operator:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:  # an operator that is not known yet: rather protect the pod than evict it
            return True
