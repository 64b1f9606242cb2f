"""The rights that deploy/ gives, as values and as accounts on the test control plane."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml

from scheduler.apiserver.client import Api
from tests.controlplane.plane import ControlPlane, RequestError

DEPLOY = Path(__file__).parents[2] / "deploy"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
IN_FORCE_SECONDS = 120.0
Object = dict[str, Any]


class Right(NamedTuple):
    """One verb on one resource of one API group; `names` narrow it to these objects."""

    group: str
    resource: str
    verb: str
    names: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.resource.replace('/', '-')}-{self.verb}"

    def rule(self) -> Object:
        rule: Object = {
            "apiGroups": [self.group],
            "resources": [self.resource],
            "verbs": [self.verb],
        }
        return rule | ({"resourceNames": list(self.names)} if self.names else {})

    def asked(self, namespace: str) -> Object:
        """The spec of a review that asks for it."""
        resource, _, sub = self.resource.partition("/")
        attributes = {"group": self.group, "resource": resource, "subresource": sub}
        name = self.names[0] if self.names else ""
        return {
            "resourceAttributes": attributes
            | {"verb": self.verb, "namespace": namespace, "name": name}
        }


def documents(file: str) -> list[Object]:
    """The objects in a file of deploy/."""
    return [one for one in yaml.safe_load_all((DEPLOY / file).read_text()) if one]


def roles(file: str, *names: str) -> list[Object]:
    """The Roles and ClusterRoles of these names in a file of deploy/."""
    kinds = ("Role", "ClusterRole")
    every = (one for one in documents(file) if one["kind"] in kinds)
    return [one for one in every if one["metadata"]["name"] in names]


def rights(role: Object) -> Iterator[Right]:
    """Every single right of a role; those on paths that are no resources are left out."""
    for rule in role["rules"]:
        for group in rule.get("apiGroups", ()):
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield Right(group, resource, verb, tuple(rule.get("resourceNames", ())))


def reduced(role: Object, right: Right) -> Object:
    """The role without one right."""
    left = [one.rule() for one in rights(role) if one != right]
    return {**role, "rules": left}


def service_account_kubeconfig(plane: ControlPlane, namespace: str) -> Path:
    """A kubeconfig of a ServiceAccount `tidal` in this namespace with the rights of the deployed
    one, the Role in this namespace instead of tidal-system.
    """
    return account(plane, namespace, "tidal", roles("base/rbac.yaml", "tidal"))


def account(plane: ControlPlane, namespace: str, name: str, given: Iterable[Object]) -> Path:
    """A kubeconfig of a new ServiceAccount with these roles, once they are in force."""
    given = list(given)
    _create(plane, f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
    for role in given:
        _bind(plane, namespace, name, role)
    kubeconfig = plane.kubeconfig_for_service_account(namespace, name)
    await_rights(kubeconfig, namespace, given)
    return kubeconfig


def _bind(plane: ControlPlane, namespace: str, account: str, role: Object) -> None:
    kind, whole = role["kind"], role["kind"] == "ClusterRole"
    name = f"{namespace}.{account}.{role['metadata']['name']}"
    root = RBAC if whole else f"{RBAC}/namespaces/{namespace}"
    meta = {"metadata": {"name": name}}
    _create(plane, f"{root}/{kind.lower()}s", {"rules": role["rules"], **meta})
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
    body = {"roleRef": reference, "subjects": [subject], **meta}
    _create(plane, f"{root}/{kind.lower()}bindings", body)


def _create(plane: ControlPlane, path: str, body: Object) -> None:
    try:
        plane.call("POST", path, body)
    except RequestError as error:
        if error.status != 409:
            raise


def await_rights(kubeconfig: Path, namespace: str, given: Iterable[Object]) -> None:
    """Wait until the roles are in force: the API server learns of them a moment later, by watch."""
    api = Api.load(kubeconfig)
    try:
        for right in (next(rights(one), None) for one in given):
            deadline = time.monotonic() + IN_FORCE_SECONDS
            while right is not None and not _allowed(api, right.asked(namespace)):
                assert time.monotonic() < deadline, f"{right.id} is not in force"
                time.sleep(0.01)
    finally:
        api.close()


def _allowed(api: Api, spec: Object) -> bool:
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": spec,
    }
    return bool(msgspec.json.decode(api.post(REVIEWS, body))["status"]["allowed"])
