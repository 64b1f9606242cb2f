"""The control plane as pytest fixtures, for tests in any folder.

A test that asks for `plane` carries the mark `controlplane`; one that needs another binary of the
cache (Prometheus) sets the mark itself and asks `program` for it. Without the binaries such tests
are skipped, unless TIDAL_REQUIRE_CONTROLPLANE=1: then a skipped one fails, but where it is the
recorded data that is missing (mark `data`).
"""

import itertools
import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.controlplane.build import find
from tests.controlplane.plane import ControlPlane, RequestError, missing_programs

REQUIRED = "TIDAL_REQUIRE_CONTROLPLANE"
# Lists of what has no namespace and which tests make, besides what Kubernetes itself put there.
CLUSTER_WIDE = (
    "/api/v1/nodes",
    "/apis/scheduling.k8s.io/v1/priorityclasses",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
)
SERVICE_ACCOUNT_SECONDS = 120.0
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A running control plane with a kube-scheduler `default-scheduler` that has no extender."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"no {', '.join(missing)}: run `make controlplane`")
    with ControlPlane() as running:
        running.start_scheduler("default-scheduler")
        yield running


@pytest.fixture(scope="session")
def program() -> Callable[[str], Path]:
    """Finds a binary by name, such as `prometheus`; the test is skipped where it is not built."""

    def look(name: str) -> Path:
        binary = find(name)
        if binary is None:
            pytest.skip(f"no {name}: run `make controlplane`")
        return binary

    return look


@pytest.fixture
def cluster_clean(plane: ControlPlane) -> Iterator[None]:
    """Ends afterwards the schedulers that the test started, and deletes what it added outside
    namespaces: nodes, priority classes, roles, custom resource definitions.
    """
    before = {path: _names(plane, path) for path in CLUSTER_WIDE}
    schedulers = len(plane.schedulers)
    yield
    while len(plane.schedulers) > schedulers:
        plane.schedulers.pop().stop()
    for path in CLUSTER_WIDE:
        for name in sorted(_names(plane, path) - before[path]):
            _delete(plane, f"{path}/{name}")


@pytest.fixture
def namespace(plane: ControlPlane, cluster_clean: None) -> Iterator[str]:
    """A new namespace, ready for pods. It is deleted afterwards, without waiting for the end; what
    the test added outside namespaces goes too.
    """
    name = f"test-{next(_numbers)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    plane.call("POST", "/api/v1/namespaces", body)
    deadline = time.monotonic() + SERVICE_ACCOUNT_SECONDS
    while not plane.has_service_account(name):
        assert time.monotonic() < deadline, f"no default ServiceAccount in namespace {name}"
        time.sleep(0.02)
    yield name
    _delete(plane, f"/api/v1/namespaces/{name}")
    # No kubelet ends a bound pod in its grace period: it would hold its node for ever.
    _delete(plane, f"/api/v1/namespaces/{name}/pods?gracePeriodSeconds=0")


def _names(plane: ControlPlane, path: str) -> set[str]:
    items = msgspec.json.decode(plane.call("GET", path))["items"]
    return {item["metadata"]["name"] for item in items}


def _delete(plane: ControlPlane, path: str) -> None:
    try:
        plane.call("DELETE", path)
    except RequestError as error:
        if error.status != 404:
            raise


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that ask for the control plane."""
    for item in items:
        if "plane" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.controlplane)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failed test what the control plane has logged since the one before. Where the
    control plane is required, a skipped test of it has failed.
    """
    report = yield
    ours = item.get_closest_marker("controlplane") and not item.get_closest_marker("data")
    if (
        os.environ.get(REQUIRED) == "1"
        and ours
        and report.skipped
        and not hasattr(report, "wasxfail")
    ):
        report.outcome = "failed"
        report.longrepr = f"{REQUIRED}=1, and this was skipped: {report.longrepr}"
    plane = getattr(item, "funcargs", {}).get("plane")
    if isinstance(plane, ControlPlane):
        if report.failed:
            report.sections.extend((f"log of {one.name}", one.news()) for one in plane.programs)
        if report.when == "teardown":
            for one in plane.programs:
                one.read()
    return report
