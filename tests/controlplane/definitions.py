"""Stand-in definitions of other projects' kinds: they accept any spec."""

from collections.abc import Iterable
from typing import Any

import yaml

from tests.controlplane.kinds.world import eventually
from tests.controlplane.plane import ControlPlane, RequestError

NOT_YET = {404, 429}
"""Of a kind that was just defined; 429 says that its storage is being made."""

Foreign = tuple[str, str, str]
"""`plural.group`, kind and version."""
KEDA: Foreign = ("scaledobjects.keda.sh", "ScaledObject", "v1alpha1")
OPERATORS: tuple[Foreign, ...] = (
    ("certificates.cert-manager.io", "Certificate", "v1"),
    ("issuers.cert-manager.io", "Issuer", "v1"),
    ("servicemonitors.monitoring.coreos.com", "ServiceMonitor", "v1"),
    ("prometheusrules.monitoring.coreos.com", "PrometheusRule", "v1"),
)


def define(plane: ControlPlane, kinds: Iterable[Foreign]) -> None:
    """Define these kinds, and wait until they are served."""
    kinds = tuple(kinds)
    text = yaml.safe_dump_all(_definition(*one) for one in kinds)
    plane.kubectl("apply", "-f", "-", stdin=text)
    eventually(lambda: all(_served(plane, one) for one in kinds), "kinds served")


def undefine(plane: ControlPlane, kinds: Iterable[Foreign]) -> None:
    """Delete their definitions."""
    plane.kubectl("delete", "crd", "--wait=false", *(name for name, _, _ in kinds))


def _served(plane: ControlPlane, kind: Foreign) -> bool:
    name, _, version = kind
    plural, group = name.split(".", 1)
    try:
        plane.call("GET", f"/apis/{group}/{version}/{plural}")
    except RequestError as error:
        if error.status in NOT_YET:
            return False
        raise
    return True


def _definition(name: str, kind: str, version: str) -> dict[str, Any]:
    plural, group = name.split(".", 1)
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": anything}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }
