"""The rights in deploy/ are enough, and each is needed: product code fails without any one.

Each case runs one probe (rbac_probes) twice: as an account that has all rights but one, where the
probe must say what it was refused, and as the account that is deployed, where nothing goes wrong.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scheduler.adapters.cluster.authority import Authority
from scheduler.apiserver.client import Api
from scheduler.cli.cluster import BEARER, Choice, Cluster
from scheduler.cli.terminal import CommandError
from tests.controlplane.definitions import KEDA, define, undefine
from tests.controlplane.kinds.world import World
from tests.controlplane.plane import ControlPlane
from tests.controlplane.rbac_probes import OF_BINDING, OF_READERS, OF_TIDAL, Probe
from tests.controlplane.rbac_stage import NODE, Stage
from tests.controlplane.rights import (
    DEPLOY,
    RBAC,
    Object,
    Right,
    account,
    await_rights,
    documents,
    reduced,
    rights,
    roles,
    service_account_kubeconfig,
)

HOME = "tidal-system"
USERS = "rbac-users"
TIDAL = roles("base/rbac.yaml", "tidal")
BINDING = roles("overlays/bind/rbac.yaml", "tidal-bind")
pytestmark = pytest.mark.xdist_group("rbac")  # one deployment for all

READER = roles("base/readers.yaml", "tidal-reader")
TOKENS = roles("base/readers.yaml", "tidal-reader-token")


def every(given: list[Object]) -> list[Right]:
    return [right for role in given for right in rights(role)]


def named(given: list[Object]) -> list[object]:
    return [pytest.param(one, id=one.id) for one in every(given)]


@pytest.fixture(scope="module")
def deployed(plane: ControlPlane) -> Iterator[Path]:
    """What deploy/base gives, applied; a kubeconfig of its ServiceAccount."""
    text = plane.kubectl("kustomize", str(DEPLOY / "base")).stdout
    kinds = ("Namespace", "ServiceAccount")
    chosen = [
        one
        for one in yaml.safe_load_all(text)
        if one["kind"] in kinds or one["apiVersion"].startswith("rbac.")
    ]
    plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(chosen))
    kubeconfig = plane.kubeconfig_for_service_account(HOME, "tidal")
    await_rights(kubeconfig, HOME, TIDAL)
    yield kubeconfig
    rights_only = [one for one in chosen if one["kind"] != "Namespace"]
    plane.kubectl("delete", "-f", "-", stdin=yaml.safe_dump_all(rights_only))


@pytest.fixture(scope="module")
def stage(plane: ControlPlane, kinds_served: None, deployed: Path) -> Iterator[Stage]:
    """The objects that the probes work on."""
    define(plane, [KEDA])
    plane.kubectl("create", "namespace", USERS)
    plane.kubectl("-n", USERS, "create", "serviceaccount", "default", check=False)
    api = Api.load(plane.kubeconfig)
    yield Stage(World(api, USERS), World(api, HOME))
    api.close()
    plane.kubectl("delete", "--wait=false", "node", NODE)
    plane.kubectl("delete", "--wait=false", "priorityclass", "rbac-class")
    plane.kubectl("delete", "--wait=false", "namespace", USERS)
    undefine(plane, [KEDA])


@pytest.fixture(scope="module")
def published(
    plane: ControlPlane, deployed: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What people find: the daemon's CA, and the endpoints of its Service."""
    api = Api.load(deployed)
    file = tmp_path_factory.mktemp("authority") / "ca.crt"
    file.write_bytes(plane.authority.certificate)
    authority = Authority(api, HOME, file)
    authority.refresh()
    assert authority.problem == ""
    api.close()
    plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(_endpoints()))


def _endpoints() -> Object:
    pod = {"kind": "Pod", "name": "tidal-0", "namespace": HOME}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "tidal-api-1",
            "namespace": HOME,
            "labels": {"kubernetes.io/service-name": "tidal-api"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "targetRef": pod}],
        "ports": [{"name": "api", "port": 9330}],
    }


def refused(plane: ControlPlane, given: list[Object], right: Right, probe: Probe, on: Stage) -> str:
    """What the probe says as an account that has these roles without the right."""
    left = [reduced(role, right) for role in given]
    return probe(account(plane, HOME, f"without-{right.id}", left), on)


@pytest.mark.parametrize(
    ("given", "probes"),
    [(TIDAL, OF_TIDAL), (BINDING, OF_BINDING), (READER, OF_READERS)],
    ids=["tidal", "bind", "reader"],
)
def test_every_right_has_a_probe_and_every_probe_a_right(
    given: list[Object], probes: dict[str, Probe]
) -> None:
    assert sorted(one.id for one in every(given)) == sorted(probes)


@pytest.mark.parametrize("right", named(TIDAL))
def test_is_needed(plane: ControlPlane, deployed: Path, stage: Stage, right: Right) -> None:
    probe = OF_TIDAL[right.id]
    said = refused(plane, TIDAL, right, probe, stage)
    assert f'cannot {right.verb} resource "{right.resource}"' in said
    assert probe(deployed, stage) == ""


@pytest.mark.parametrize("right", named(BINDING))
def test_is_needed_to_bind(plane: ControlPlane, stage: Stage, right: Right) -> None:
    probe = OF_BINDING[right.id]
    said = refused(plane, [*TIDAL, *BINDING], right, probe, stage)
    assert f'cannot {right.verb} resource "{right.resource}"' in said
    assert probe(account(plane, HOME, "binding", [*TIDAL, *BINDING]), stage) == ""


@pytest.mark.parametrize("right", named(READER))
@pytest.mark.usefixtures("published")
def test_is_needed_to_reach_the_daemon(plane: ControlPlane, stage: Stage, right: Right) -> None:
    probe = OF_READERS[right.id]
    assert refused(plane, READER, right, probe, stage) != ""
    assert probe(account(plane, HOME, "reader", READER), stage) == ""


def test_a_certificate_user_needs_the_right_to_a_token(plane: ControlPlane, deployed: Path) -> None:
    way = Cluster(Choice(kubeconfig=plane.kubeconfig_for("ann"), namespace=HOME))
    with pytest.raises(CommandError, match='cannot create resource "serviceaccounts/token"'):
        way.authorization()
    (role,) = TOKENS
    binding = {
        "metadata": {"name": "ann"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role"}
        | {"name": role["metadata"]["name"]},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "ann"}],
    }
    plane.call("POST", f"{RBAC}/namespaces/{HOME}/rolebindings", binding)
    await_rights(plane.kubeconfig_for("ann"), HOME, TOKENS)
    assert way.authorization().startswith(BEARER)


def test_the_account_of_a_namespace_has_the_deployed_rights(
    plane: ControlPlane, namespace: str
) -> None:
    kubeconfig = service_account_kubeconfig(plane, namespace)
    await_rights(kubeconfig, namespace, TIDAL)
    api = Api.load(kubeconfig)
    api.get(f"/api/v1/namespaces/{namespace}/configmaps")
    api.get("/api/v1/pods")
    api.close()
    assert service_account_kubeconfig(plane, namespace) != kubeconfig


def test_the_agent_of_a_job_may_read_and_annotate_pods_and_no_more() -> None:
    (role,) = [one for one in documents("examples/job.yaml") if one["kind"] == "Role"]
    assert [one.id for one in rights(role)] == ["pods-get", "pods-patch"]
