"""The control plane of the tests does what the tests of Tidal rely on."""

import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from tests.controlplane.plane import ControlPlane, KubectlError, RequestError
from tests.controlplane.settings import Extender

WAIT_SECONDS = 120.0


def make_node(plane: ControlPlane, name: str, gpus: int = 8, ready: str = "True") -> None:
    """A node with GPUs, as a kubelet leaves it that was once there."""
    plane.call(
        "POST",
        "/api/v1/nodes",
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "status": {
                "allocatable": {
                    "cpu": "64",
                    "memory": "512Gi",
                    "pods": "110",
                    "nvidia.com/gpu": gpus,
                },
                "conditions": [{"type": "Ready", "status": ready}],
            },
        },
    )


def make_pod(plane: ControlPlane, namespace: str, name: str, scheduler: str, gpus: int = 1) -> None:
    gpu = {"nvidia.com/gpu": gpus}
    plane.call(
        "POST",
        f"/api/v1/namespaces/{namespace}/pods",
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "schedulerName": scheduler,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "main", "image": "none", "resources": {"limits": gpu}}],
            },
        },
    )


def node_of(plane: ControlPlane, namespace: str, pod: str) -> str:
    answer = plane.call("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}")
    return str(msgspec.json.decode(answer)["spec"].get("nodeName", ""))


def wait_for(look: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not look():
        assert time.monotonic() < deadline, f"no {what} in {WAIT_SECONDS:.0f} s"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_api_server_is_of_the_version_that_the_notes_describe(plane: ControlPlane) -> None:
    version = msgspec.json.decode(plane.call("GET", "/version"))
    assert version["gitVersion"] == "v1.36.3"


def test_a_pod_is_bound_to_a_node_with_free_gpus(plane: ControlPlane, namespace: str) -> None:
    make_node(plane, "gpu-0", gpus=2)
    make_pod(plane, namespace, "fits", "default-scheduler", gpus=2)
    make_pod(plane, namespace, "waits", "default-scheduler", gpus=1)
    wait_for(lambda: node_of(plane, namespace, "fits") == "gpu-0", "bound pod")
    assert not node_of(plane, namespace, "waits")


@pytest.mark.parametrize("version", ["1.36", "1.34"])
def test_a_second_scheduler_takes_only_pods_that_name_it(
    plane: ControlPlane, namespace: str, version: str
) -> None:
    make_node(plane, "gpu-0")
    make_pod(plane, namespace, "second", "second-scheduler")
    make_pod(plane, namespace, "first", "default-scheduler")
    wait_for(lambda: node_of(plane, namespace, "first") == "gpu-0", "pod of the first scheduler")
    assert not node_of(plane, namespace, "second")
    second = plane.start_scheduler("second-scheduler", version=version)
    wait_for(lambda: node_of(plane, namespace, "second") == "gpu-0", "pod of the second scheduler")
    assert "scheduler_schedule_attempts_total" in second.metrics()
    second.stop()
    make_pod(plane, namespace, "late", "second-scheduler")
    make_pod(plane, namespace, "other", "default-scheduler")
    wait_for(lambda: node_of(plane, namespace, "other") == "gpu-0", "pod of the first scheduler")
    assert not node_of(plane, namespace, "late")


def test_a_scheduler_that_cannot_reach_its_extender_binds_nobody(
    plane: ControlPlane, namespace: str
) -> None:
    make_node(plane, "gpu-0")
    plane.start_scheduler("extended", extender_url="http://127.0.0.1:9")
    make_pod(plane, namespace, "refused", "extended")
    path = f"/api/v1/namespaces/{namespace}/pods/refused"
    wait_for(lambda: b"127.0.0.1:9" in plane.call("GET", path), "condition that names the extender")
    assert not node_of(plane, namespace, "refused")


class Refusing(BaseHTTPRequestHandler):
    """An extender that answers every call with an error which names the caller."""

    def do_POST(self) -> None:
        assert isinstance(self.connection, ssl.SSLSocket)
        certificate = self.connection.getpeercert()
        assert certificate is not None
        self.rfile.read(int(self.headers["Content-Length"]))
        body = msgspec.json.encode({"Error": f"you are {certificate['subject']}"})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Nothing: what counts is in the pod's condition."""


@pytest.fixture
def secured(plane: ControlPlane, tmp_path: Path) -> Iterator[str]:
    """The address of a refusing extender that asks callers for a certificate."""
    pair = plane.authority.server("127.0.0.1")
    (tmp_path / "server.pem").write_bytes(pair.certificate + pair.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(plane.ca))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "server.pem")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_scheduler_and_its_extender_know_each_other_by_certificate(
    plane: ControlPlane, namespace: str, secured: str
) -> None:
    make_node(plane, "gpu-0")
    extender = Extender(
        url=secured,
        certificate=plane.authority.client("scheduling", ["callers"]),
        authority=plane.authority.certificate,
    )
    plane.start_scheduler("secured", extender=extender)
    make_pod(plane, namespace, "refused", "secured")
    path = f"/api/v1/namespaces/{namespace}/pods/refused"
    wait_for(lambda: b"(('commonName', 'scheduling'),)" in plane.call("GET", path), "its error")


def test_the_objects_outlive_a_crash_of_the_api_server(plane: ControlPlane, namespace: str) -> None:
    make_node(plane, "gpu-0")
    make_pod(plane, namespace, "kept", "nobody")
    path = f"/api/v1/namespaces/{namespace}/pods/kept"
    uid = msgspec.json.decode(plane.call("GET", path))["metadata"]["uid"]
    plane.restart_apiserver()
    assert msgspec.json.decode(plane.call("GET", path))["metadata"]["uid"] == uid


def test_an_api_server_that_is_down_answers_nobody(plane: ControlPlane) -> None:
    plane.stop_apiserver()
    try:
        with pytest.raises(OSError, match="refused"):
            plane.call("GET", "/version")
    finally:
        plane.start_apiserver()
    assert plane.call("GET", "/version")


def test_rbac_decides_what_a_user_may(plane: ControlPlane, namespace: str) -> None:
    reader = plane.kubeconfig_for("reader", ["readers", "guests"])
    there = f"--namespace={namespace}"
    question = ["auth", "can-i", "list", "pods", f"--kubeconfig={reader}", there]
    assert plane.kubectl(*question, check=False).stdout.strip() == "no"
    binding = ["create", "rolebinding", "reading", "--clusterrole=view", "--group=guests"]
    plane.kubectl(*binding, there)
    wait_for(lambda: plane.kubectl(*question, check=False).stdout.strip() == "yes", "right")


def test_a_service_account_has_a_kubeconfig(plane: ControlPlane, namespace: str) -> None:
    config = plane.kubeconfig_for_service_account(namespace, "default")
    said = plane.kubectl("auth", "whoami", f"--kubeconfig={config}", "--output=json").stdout
    user = msgspec.json.decode(said)["status"]["userInfo"]["username"]
    assert user == f"system:serviceaccount:{namespace}:default"


def test_kubectl_applies_what_it_reads_and_says_why_it_fails(
    plane: ControlPlane, namespace: str
) -> None:
    manifest = (
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: told, namespace: {namespace}}}\n"
    )
    assert "told created" in plane.kubectl("apply", "--filename=-", stdin=manifest).stdout
    with pytest.raises(KubectlError, match='configmaps "untold" not found'):
        plane.kubectl("get", "configmap", "untold", f"--namespace={namespace}")


def test_a_refused_request_says_its_status(plane: ControlPlane) -> None:
    with pytest.raises(RequestError, match="404") as refused:
        plane.call("GET", "/api/v1/nodes/absent")
    assert refused.value.status == 404


def test_node_health_taints_a_node_that_is_not_ready(plane: ControlPlane) -> None:
    with ControlPlane(node_health=True) as second:
        make_node(second, "gpu-0", ready="False")
        wait_for(lambda: b"not-ready" in second.call("GET", "/api/v1/nodes/gpu-0"), "taint")


def test_all_processes_and_files_are_gone_after_the_end(plane: ControlPlane) -> None:
    with ControlPlane() as second:
        scheduler = second.start_scheduler("default-scheduler")
        pids = [program.pid for program in second.programs]
        assert len(pids) == 4
        assert scheduler.program.pid in pids
        assert all(is_alive(pid) for pid in pids)
        assert second.url != plane.url
    assert not any(is_alive(pid) for pid in pids)
    assert not second.folder.exists()
