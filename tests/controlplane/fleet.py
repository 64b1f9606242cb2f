"""What runs beside the control plane when parts of it fail: replicas of Tidal as processes, engines
that Prometheus scrapes, the way from kube-scheduler to whichever replica lives.

The world of a test is the rig's; what the rig does in threads is here the command that users run.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import msgspec

from scheduler.adapters.cluster.shared import HEAD, SharedPlan, assembled
from scheduler.apiserver.objects import ConfigMap
from tests.controlplane.engines import Engines
from tests.controlplane.kinds.world import WAIT_SECONDS, Object, eventually
from tests.controlplane.ports import LOOPBACK, free_ports
from tests.controlplane.programs import Guard, Program
from tests.controlplane.prometheus_server import PrometheusServer
from tests.controlplane.rig import Rig
from tests.controlplane.versions import History

SCRAPE_SECONDS = 1.0
START_SECONDS = 120.0
END_SECONDS = 120.0
REQUEST_SECONDS = 120.0
NOISES = (
    "Traceback",
    *(f'"event": "{event}"' for event in ("violation", "extender_gone", "planner_failed")),
)
"""What no replica may say."""


class Forwarder:
    """What a Service is to its pods: connections to its port go to a backend that listens."""

    def __init__(self, port: int, backends: Callable[[], tuple[int, ...]]) -> None:
        self._backends = backends
        self._listener = socket.create_server((LOOPBACK, port))
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,)).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            server = self._connected()
            if server is None:
                return
            with server:
                back = threading.Thread(target=_copy, args=(server, client))
                back.start()
                _copy(client, server)
                back.join()

    def _connected(self) -> socket.socket | None:
        for port in self._backends():
            with contextlib.suppress(OSError):
                return socket.create_connection((LOOPBACK, port), timeout=1.0)
        return None


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Hand bytes on; where one side ends both connections do, as with a pod that is gone."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


class ReplicaProcess:
    """One `scalerctl run --kubernetes`."""

    def __init__(self, name: str, arguments: list[str], folder: Path, guard: Guard) -> None:
        self.name = name
        self.port, self.extender_port = free_ports(2)
        self.ledger = folder / f"{name}.sqlite"
        command = [
            *(sys.executable, "-m", "scheduler.cli.main", "run", "--kubernetes"),
            *("--identity", name, "--ledger", str(self.ledger)),
            *("--port", str(self.port), "--extender-port", str(self.extender_port)),
            *arguments,
        ]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder)}
        self.program = Program(name, command, folder / f"{name}.log", environment, guard)

    def wait_until_it_plans(self) -> None:
        """Wait for its first tick."""
        self.program.wait_until(lambda: self.get("/readyz")[0] == 200, START_SECONDS, "first tick")

    def kill(self) -> None:
        """As a node's crash does it: nothing is given back."""
        self.program.stop()

    def terminate(self) -> int | None:
        """As the kubelet does it; the status it ends with."""
        os.kill(self.program.pid, signal.SIGTERM)
        eventually(lambda: not self.program.running, f"the end of {self.name}", END_SECONDS)
        self.program.stop()
        return self.program.status

    @property
    def url(self) -> str:
        """Of its API."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def status(self) -> Object:
        return dict(json.loads(self.get("/v1/status")[1]))

    @property
    def leads(self) -> bool:
        code, body = self.get("/v1/status")
        return code == 200 and bool(json.loads(body)["leads"])

    def metric(self, line: str) -> float | None:
        """The value of one line of /metrics, named with its labels."""
        found = [
            one.rpartition(" ")[2]
            for one in self.get("/metrics")[1].splitlines()
            if one.startswith(f"{line} ")
        ]
        return float(found[0]) if found else None

    def get(self, path: str) -> tuple[int, str]:
        """Status and text; 0 where nobody answers."""
        return _asked(self.port, "GET", path, None)

    def filter(self, pod: Object, nodes: list[str]) -> Object | None:
        """What its extender answers, None where it does not."""
        code, body = _asked(self.extender_port, "POST", "/filter", {"Pod": pod, "NodeNames": nodes})
        return dict(json.loads(body)) if code == 200 else None

    def noises(self) -> list[str]:
        """Lines of its log that no replica may write."""
        lines = self.program.log.read_text(errors="replace").splitlines()
        return [one for one in lines if any(noise in one for noise in NOISES)]


def _asked(port: int, method: str, path: str, body: object) -> tuple[int, str]:
    with closing(http.client.HTTPConnection(LOOPBACK, port, timeout=REQUEST_SECONDS)) as connection:
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""


class Fleet:
    """Replicas of Tidal in a rig's namespace, with engines of role chat/decode to listen to."""

    def __init__(self, rig: Rig, program: Callable[[str], Path], stack: ExitStack) -> None:
        self.rig, self.world = rig, rig.world
        self.replicas: list[ReplicaProcess] = []
        self._stack = stack
        guarded = rig.folder / "guarded"
        guarded.mkdir()
        self._guard = Guard(guarded)
        stack.callback(self._guard.close)
        stack.callback(self._end)
        self.engines = Engines(self.world, "chat", "chat")
        stack.callback(self.engines.close)
        self.prometheus = stack.enter_context(
            PrometheusServer(
                _made(rig.folder / "prometheus"),
                program,
                {self.engines.page.address: {}},
                SCRAPE_SECONDS,
            )
        )
        forwarder = Forwarder(
            rig.extender_port, lambda: tuple(one.extender_port for one in self.living())
        )
        stack.callback(forwarder.close)

    def start(self, *more: str, wait: bool = True) -> ReplicaProcess:
        """A further replica; by default with the rig's policy file."""
        arguments = [
            *("--kubeconfig", str(self.rig.plane.kubeconfig)),
            *("--namespace", self.world.namespace),
            *("--prometheus", self.prometheus.url),
            *(more or ("--policy", str(self.rig.policy_file))),
        ]
        name = f"tidal-{len(self.replicas)}"
        one = ReplicaProcess(name, arguments, self.rig.folder, self._guard)
        self.replicas.append(one)
        if wait:
            one.wait_until_it_plans()
        return one

    def living(self) -> list[ReplicaProcess]:
        return [one for one in self.replicas if one.program.running]

    def history(self, resource: str, name: str) -> History:
        """Follow an object until the end of the test."""
        one = History(self.world, resource, name)
        self._stack.callback(one.close)
        return one

    def plan(self) -> SharedPlan | None:
        """The plan that is shared in the cluster."""
        maps = [
            msgspec.convert(one, ConfigMap)
            for one in self.world.all("configmaps", "tidal.dev/state=plan")
        ]
        return assembled(maps) if any(one.metadata.name == HEAD for one in maps) else None

    def replicas_wanted(self) -> int:
        """`spec.replicas` of the serving Deployment."""
        return int(self.world.read("apps/v1/deployments", "chat")["spec"]["replicas"])

    def metrics_are(
        self, replica: ReplicaProcess, status: str, seconds: float = WAIT_SECONDS
    ) -> None:
        """Wait until a replica says so of its role's metrics."""
        eventually(
            lambda: self.metrics_of(replica) == status,
            f"{status} metrics",
            seconds,
        )

    def metrics_of(self, replica: ReplicaProcess) -> str:
        """What a replica thinks of its role's metrics."""
        (role,) = [one for one in replica.status["roles"] if one["role"] == "chat/decode"]
        return str(role["metrics"])

    def assert_quiet(self) -> None:
        """No replica has said that something went wrong in itself."""
        noises = {one.name: one.noises() for one in self.replicas}
        assert not any(noises.values()), noises

    def _end(self) -> None:
        for one in self.replicas:
            one.kill()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@contextmanager
def fleet_of(rig: Rig, program: Callable[[str], Path]) -> Iterator[Fleet]:
    """A fleet without replicas yet, and its end; no replica may have broken."""
    with ExitStack() as stack:
        fleet = Fleet(rig, program, stack)
        yield fleet
        fleet.assert_quiet()


def said(*arguments: str) -> str:
    """What a `scalerctl` command prints; fails where it does."""
    done = subprocess.run(
        [sys.executable, "-m", "scheduler.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
