"""Which series are a role's, and what is there of them.

A role's engines carry the policy's `engine_labels` (or `model_name`: the model) and run in pods of
the role's target. Prefill and decode engines of one model carry the same labels, so where series
have a pod label, only pods named as the target's controller names them count. Prometheus writes
the scraped pod into `namespace` and `pod`; where the engine's own labels clash with those of what
was scraped (a collector in between, honorLabels: false) they end up as `exported_namespace` and
`exported_pod`. Looked for in order; the first place that has samples counts:

  1. `namespace` and `pod`         2. `exported_namespace` and `exported_pod`
  3. `exported_namespace`, `pod`   4. neither `pod` nor `exported_pod`: the labels alone

A series with a pod of another name is another role's and never counts.
"""

import json
import re
from collections.abc import Mapping

import msgspec

from scheduler.adapters.prometheus.connection import Connection
from scheduler.adapters.prometheus.names import EVERY_NAME
from scheduler.planning.policy import Policy, RolePolicy, TargetPolicy

# Random suffixes and template hashes: Kubernetes leaves vowels and 0, 1, 3 out, and so a pod of
# `llm-decode` does not look like one of the Deployment `llm`.
_RANDOM = "[^-aeiou013]"
_PLACES = (
    ("namespace", "pod"),
    ("exported_namespace", "exported_pod"),
    ("exported_namespace", "pod"),
)


class Engines(msgspec.Struct, frozen=True):
    """How to tell a role's series: label -> value, and its pods; `pods` is empty without target."""

    labels: tuple[tuple[str, str], ...]
    namespace: str = ""
    pods: str = ""


class Found(msgspec.Struct, frozen=True):
    """What is there: matchers of the role's series, labels that tell its pods, metric names."""

    matchers: str
    each: tuple[str, ...]
    names: frozenset[str]


def engines(policy: Policy, key: str) -> Engines:
    """Return how to tell the series of role `model/role`; the policy names it."""
    role = policy.role(key)
    if role is None:
        raise KeyError(key)
    return _of(key.partition("/")[0], role)


def _of(model: str, role: RolePolicy) -> Engines:
    labels = tuple(sorted(role.engine_labels.items())) or (("model_name", model),)
    if role.target is None:
        return Engines(labels)
    return Engines(labels, role.target.namespace, pod_pattern(role.target))


def pod_pattern(target: TargetPolicy) -> str:
    """Return the regular expression of the names that the target's controller gives its pods."""
    name = re.escape(target.name).replace(r"\-", "-")
    match target.kind:
        case "Deployment":
            return f"{name}-{_RANDOM}{{1,10}}-{_RANDOM}{{5}}"
        case "StatefulSet":
            return f"{name}-[0-9]+"
        case "LeaderWorkerSet":
            return f"{name}-[0-9]+(-[0-9]+)?"
        case "RoleBasedGroup":
            role = re.escape(target.role).replace(r"\-", "-")
            # Instances count up or have a random name; a pod of several has its number at the end.
            return f"{name}-{role}-([0-9]+|{_RANDOM}{{5}})(-[0-9]+)*"


def find(connection: Connection, wanted: Engines, first: float, last: float) -> tuple[Found, ...]:
    """Return what a span of time has of these engines, place by place.

    There is more than one place where labels were changed within the span, or up to some hours
    before. Raises `PrometheusError`.
    """
    found = []
    for matchers, each in places(wanted):
        names = connection.names(f'{{__name__=~"{EVERY_NAME}",{matchers}}}', first, last)
        if names:
            found.append(Found(matchers, each, names))
    return tuple(found)


def places(wanted: Engines) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the matchers to try in order, each with the labels that tell pods apart."""
    labels = _matchers(dict(wanted.labels))
    if not wanted.pods:
        return ((labels, ("namespace", "pod", "exported_pod", "instance")),)
    told = [
        (
            f"{labels},{namespace}={json.dumps(wanted.namespace)},{pod}=~{json.dumps(wanted.pods)}",
            (pod, "instance"),
        )
        for namespace, pod in _PLACES
    ]
    return (*told, (f'{labels},pod="",exported_pod=""', ("instance",)))


def _matchers(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(labels.items()))
