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
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from scheduler.adapters.cluster.shared import HEAD, SharedPlan, assembled
from scheduler.apiserver.client import ApiError, ApiUnreachableError
from scheduler.apiserver.objects import ConfigMap
from tests.controlplane.kinds.world import WAIT_SECONDS, Object, World, eventually, version
from tests.controlplane.ports import LOOPBACK, free_ports
from tests.controlplane.programs import Guard, Program
from tests.controlplane.prometheus_server import PrometheusServer
from tests.controlplane.rig import Rig

REQUEST_TOKENS = 500
WINDOW_SECONDS = 60.0
"""Over which Tidal takes the mean of what arrives."""
STEP_SECONDS = 0.2
SCRAPE_SECONDS = 1.0
START_SECONDS = 120.0
END_SECONDS = 120.0
REQUEST_SECONDS = 120.0
NOISES = (
    "Traceback",
    *(f'"event": "{event}"' for event in ("violation", "extender_gone", "planner_failed")),
)
"""What no replica may say."""


class Engines:
    """Metrics of the engines of one model, as vLLM names them: of the pods that run now.

    Demand is served by whoever runs. Where the API server is down the pods are the last known.
    """

    def __init__(self, world: World, app: str, model: str) -> None:
        self.rate = 0.0
        self.broken = False
        self._world, self._app, self._model = world, app, model
        self._tokens: dict[str, float] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = outer.text().encode()
                self.send_response(500 if outer.broken else 200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Answer)
        self.address = f"{LOOPBACK}:{self._server.server_port}"
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.05,)),
            threading.Thread(target=self._serve),
        ]
        for one in self._threads:
            one.start()

    def burst(self, tokens_per_second: float) -> None:
        """Let so much more arrive, as the mean of the coming minute, within the next scrape."""
        self._see()
        with self._lock:
            for pod in self._tokens:
                self._tokens[pod] += tokens_per_second * WINDOW_SECONDS / len(self._tokens)

    def restart(self) -> None:
        """All counters begin again."""
        with self._lock:
            self._tokens = dict.fromkeys(self._tokens, 0.0)

    def text(self) -> str:
        with self._lock:
            tokens = dict(self._tokens)
        return "".join(self._pod(pod, count) for pod, count in sorted(tokens.items()))

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        for one in self._threads:
            one.join()
        self._server.server_close()

    def _pod(self, pod: str, tokens: float) -> str:
        labels = f'model_name="{self._model}",namespace="{self._world.namespace}",pod="{pod}"'
        values = {
            "generation_tokens_total": tokens,
            "prompt_tokens_total": tokens,
            "request_success_total": tokens / REQUEST_TOKENS,
            "num_requests_running": 1,
            "num_requests_waiting": 0,
        }
        return "".join(f"vllm:{name}{{{labels}}} {value}\n" for name, value in values.items())

    def _serve(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(STEP_SECONDS):
            with contextlib.suppress(ApiError, ApiUnreachableError):
                self._see()
            now = time.monotonic()
            with self._lock:
                for pod in self._tokens:
                    self._tokens[pod] += self.rate * (now - before) / len(self._tokens)
            before = now

    def _see(self) -> None:
        """Pods that run; the counters of those on their way out are gone."""
        pods = [
            one["metadata"]["name"]
            for one in self._world.all("pods", f"app={self._app}")
            if one["status"]["phase"] == "Running" and "deletionTimestamp" not in one["metadata"]
        ]
        with self._lock:
            self._tokens = {pod: self._tokens.get(pod, 0.0) for pod in pods}


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


class History:
    """Every version of one object's spec that the API server showed; its generation counts them."""

    def __init__(self, world: World, resource: str, name: str) -> None:
        self._world, self._resource, self._name = world, resource, name
        self.versions: list[Object] = [world.read(resource, name)]
        self._ended = threading.Event()
        self._watch: Any = None
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        if self._watch is not None:
            self._watch.close()
        self._thread.join()

    @property
    def changes(self) -> list[Object]:
        """The first version, and the first of each new generation; fails where one is missing."""
        self._catch_up()
        found = {one["metadata"]["generation"]: one for one in reversed(self.versions)}
        generations = sorted(found)
        assert generations == list(range(generations[0], generations[-1] + 1)), "versions missed"
        return [found[generation] for generation in generations]

    def annotations(self, name: str) -> list[str]:
        """The values that an annotation had, each run of one value once."""
        self._catch_up()
        values = [one["metadata"].get("annotations", {}).get(name, "") for one in self.versions]
        return [
            value
            for value, before in zip(values, ["", *values], strict=False)
            if value and value != before
        ]

    def _catch_up(self) -> None:
        """Wait until the watch has told what the server has by now."""
        now = version(self._world.read(self._resource, self._name))
        eventually(lambda: version(self.versions[-1]) >= now, f"the history of {self._name}")

    def _follow(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(ApiError, ApiUnreachableError):
                self._take()
            self._ended.wait(0.1)

    def _take(self) -> None:
        path = self._world.path(self._resource)
        since = self.versions[-1]["metadata"]["resourceVersion"]
        query = {"fieldSelector": f"metadata.name={self._name}", "resourceVersion": since}
        try:
            self._watch = self._world.api.watch(path, **query)
            for line in self._watch:
                event = msgspec.json.decode(line)
                if event["type"] == "ERROR":
                    break
                self.versions.append(event["object"])
        except ApiError as error:
            if error.status != 410:
                raise
        now = self._world.read(self._resource, self._name)
        if now["metadata"]["resourceVersion"] != self.versions[-1]["metadata"]["resourceVersion"]:
            self.versions.append(now)


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
                {self.engines.address: {}},
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


def history_of(namespace: str, pod: str, rate: float, days: int = 2) -> str:
    """OpenMetrics of one engine's past until a minute ago, of a demand that never changed."""
    step, end = 60, int(time.time()) - 60
    labels = f'model_name="chat",namespace="{namespace}",pod="{pod}"'
    times = range(end - days * 86400, end, step)
    lines = []
    for family, kind, value in (
        ("generation_tokens", "counter", lambda n: n * step * rate),
        ("request_success", "counter", lambda n: n * step * rate / REQUEST_TOKENS),
        ("num_requests_running", "gauge", lambda _: 1.0),
        ("num_requests_waiting", "gauge", lambda _: 0.0),
    ):
        name = f"vllm:{family}"
        series = f"{name}_total" if kind == "counter" else name
        lines.append(f"# TYPE {name} {kind}")
        lines += [f"{series}{{{labels}}} {value(n):.1f} {at}" for n, at in enumerate(times)]
    return "\n".join([*lines, "# EOF\n"])


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
