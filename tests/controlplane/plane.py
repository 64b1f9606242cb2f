"""A real control plane on loopback for tests: etcd, API server, controller manager, schedulers.

    with ControlPlane() as plane:
        plane.kubectl("get", "namespaces")

There is no kubelet: nodes are objects that a test makes, and a bound pod runs only where the fake
kubelet says so. Without one, use `terminationGracePeriodSeconds: 0`, else a deleted pod stays.
Every program is a process of its own, in a temporary folder, ended by its pid in reverse order.
"""

import contextlib
import http.client
import itertools
import os
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec
import yaml

from tests.controlplane import settings
from tests.controlplane.build import find
from tests.controlplane.certificates import Authority, Pair, service_account_keys
from tests.controlplane.ports import LOOPBACK, free_ports, listens
from tests.controlplane.programs import Guard, Program, StartError
from tests.controlplane.settings import Extender, SchedulerSettings

START_SECONDS = 120.0
PORT_ATTEMPTS = 3
ADDRESS_IN_USE = "address already in use"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
REQUEST_SECONDS = 120.0
SCHEDULER_BINARIES = {"1.36": "kube-scheduler", "1.34": "kube-scheduler-1.34"}

T = TypeVar("T")


class RequestError(Exception):
    """A request that the API server refused: its status and its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class KubectlError(AssertionError):
    """A kubectl command that failed, with what it said."""


class Scheduler:
    """A running kube-scheduler. `port` serves /readyz and /metrics."""

    def __init__(
        self, program: Program, port: int, context: ssl.SSLContext, end: Callable[[Program], None]
    ) -> None:
        self.program = program
        self.port = port
        self._context = context
        self._end = end

    def ready(self) -> bool:
        """Whether its informers have synced."""
        return _answers(self.port, "/readyz", self._context)

    def metrics(self) -> str:
        """Its metrics, as Prometheus text."""
        return _request(self.port, self._context, "GET", "/metrics").decode()

    def stop(self) -> None:
        """Ends it; pods that name it wait. Ended already: nothing."""
        self._end(self.program)


class ControlPlane:
    """One control plane. `node_health` runs the controllers that taint silent nodes as well."""

    def __init__(self, *, node_health: bool = False) -> None:
        self.authority = Authority()
        self._node_health = node_health
        self.folder = Path(tempfile.mkdtemp(prefix="tidal-controlplane-"))
        self._guard = Guard(self.folder)
        self.programs: list[Program] = []  # in the order of their start
        self.schedulers: list[Scheduler] = []  # all that were started, ended ones too
        self._apiserver: Program | None = None
        self._files = itertools.count()
        self.url = ""

    # -- life ------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts all but schedulers. Raises StartError with the end of a log."""
        try:
            self._write_certificates()
            _with_free_ports(self._start_etcd, self._end_last)
            _with_free_ports(self._first_apiserver, self._end_last)
            _with_free_ports(self._start_controller_manager, self._end_last)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends every program, the youngest first, and removes the folder."""
        while self.programs:
            self._end_last()
        self._guard.close()

    def _end_last(self) -> None:
        self._end(self.programs[-1])

    def _end(self, program: Program) -> None:
        program.stop()
        if program in self.programs:
            self.programs.remove(program)

    # -- programs --------------------------------------------------------------------------------

    def _start_etcd(self) -> None:
        self._etcd_port, peer_port = free_ports(2)
        etcd = self._run("etcd", settings.etcd_flags(self.folder, self._etcd_port, peer_port))
        etcd.wait_until(lambda: listens(self._etcd_port), START_SECONDS, "open port")

    def _first_apiserver(self) -> None:
        (self._port,) = free_ports(1)
        self.url = f"https://{LOOPBACK}:{self._port}"
        self.kubeconfig = self.kubeconfig_for("admin", ["system:masters"])
        self.start_apiserver()

    def start_apiserver(self) -> None:
        """Starts the API server on its port and waits until /readyz says yes."""
        flags = settings.apiserver_flags(self.folder, self._port, self._etcd_port)
        self._apiserver = self._run("kube-apiserver", flags)
        self._apiserver.wait_until(
            lambda: _answers(self._port, "/readyz", self._context), START_SECONDS, "/readyz"
        )

    def stop_apiserver(self) -> None:
        """Kills the API server, as a crash does it; etcd keeps everything."""
        assert self._apiserver is not None
        self._end(self._apiserver)

    def restart_apiserver(self) -> None:
        """Kills the API server and starts it again: same port, same objects, no open watch."""
        self.stop_apiserver()
        self.start_apiserver()

    def _start_controller_manager(self) -> None:
        (port,) = free_ports(1)
        identity = self.kubeconfig_for("system:kube-controller-manager")
        flags = settings.controller_manager_flags(
            self.folder, identity, port, node_health=self._node_health
        )
        manager = self._run("kube-controller-manager", flags)
        manager.wait_until(
            lambda: self.has_service_account("default"), START_SECONDS, "ServiceAccount `default`"
        )

    def start_scheduler(
        self,
        name: str,
        extender_url: str | None = None,
        *,
        extender: Extender | None = None,
        version: str = "1.36",
        percentage_of_nodes_to_score: int = 100,
        qps: int = 5000,
        overrides: Mapping[str, object] | None = None,
    ) -> Scheduler:
        """Starts a kube-scheduler for pods with this `schedulerName`, and waits until it is ready.

        `extender_url` is short for an Extender with everything else at its default.
        """
        if extender_url is not None:
            extender = Extender(url=extender_url)
        chosen = SchedulerSettings(
            name=name,
            extender=extender,
            percentage_of_nodes_to_score=percentage_of_nodes_to_score,
            qps=qps,
            overrides=overrides or {},
        )
        return _with_free_ports(lambda: self._start_scheduler(chosen, version), self._end_last)

    def _start_scheduler(self, chosen: SchedulerSettings, version: str) -> Scheduler:
        (port,) = free_ports(1)
        identity = self.kubeconfig_for("system:kube-scheduler")
        configuration = settings.scheduler_configuration(chosen, identity)
        file = self._write(f"scheduler-{next(self._files)}.yaml", yaml.safe_dump(configuration))
        program = self._run(
            SCHEDULER_BINARIES[version], settings.scheduler_flags(self.folder, file, port)
        )
        scheduler = Scheduler(program, port, self._context, self._end)
        program.wait_until(scheduler.ready, START_SECONDS, "/readyz")
        self.schedulers.append(scheduler)
        return scheduler

    def _run(self, name: str, flags: Sequence[str]) -> Program:
        binary = find(name)
        if binary is None:
            raise StartError(f"no binary {name}: run `make controlplane`")
        log = self.folder / f"{name}-{next(self._files)}.log"
        program = Program(name, [str(binary), *flags], log, self._environment(), self._guard)
        self.programs.append(program)
        return program

    def _environment(self) -> dict[str, str]:
        # Nothing of the user's: no proxy, no kubeconfig, no credentials, no discovery cache.
        return {"HOME": str(self.folder), "PATH": os.environ.get("PATH", "")}

    # -- identities ------------------------------------------------------------------------------

    @property
    def ca(self) -> Path:
        """The authority's certificate, as a file."""
        return self.folder / "ca.crt"

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for a user in these groups, by client certificate. RBAC gives the rights."""
        pair = self.authority.client(user, groups)
        return self._write_kubeconfig(settings.certificate_user(pair))

    def kubeconfig_for_service_account(self, namespace: str, name: str) -> Path:
        """A kubeconfig with a token of an existing ServiceAccount, good for a day."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 86400},
        }
        answer = msgspec.json.decode(self.call("POST", path, body))
        return self._write_kubeconfig({"token": answer["status"]["token"]})

    def _write_kubeconfig(self, user: Mapping[str, str]) -> Path:
        text = settings.kubeconfig(self.url, self.authority.certificate, user)
        return self._write(f"kubeconfig-{next(self._files)}", text)

    def _write_certificates(self) -> None:
        self.ca.write_bytes(self.authority.certificate)
        server = self.authority.server(LOOPBACK, "localhost", "kubernetes.default.svc")
        keys = service_account_keys()
        (self.folder / "server.crt").write_bytes(server.certificate)
        (self.folder / "server.key").write_bytes(server.key)
        (self.folder / "service-account.pub").write_bytes(keys.certificate)
        (self.folder / "service-account.key").write_bytes(keys.key)
        admin = self.authority.client("admin", ["system:masters"])
        self._context = self._context_for(admin)

    def _context_for(self, pair: Pair) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        file = self._write("admin.pem", (pair.certificate + pair.key).decode())
        context.load_cert_chain(file)
        return context

    def _write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.write_text(text)
        return file

    # -- use -------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: object = None) -> bytes:
        """One request as administrator. Raises RequestError for a status from 400 on."""
        return _request(self._port, self._context, method, path, body)

    def has_service_account(self, namespace: str) -> bool:
        """Whether the namespace has its `default` ServiceAccount; pods are refused before."""
        try:
            self.call("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
        except RequestError:
            return False
        return True

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs kubectl as administrator. Raises KubectlError when it fails, unless told not to."""
        binary = find("kubectl")
        assert binary is not None, "no kubectl: run `make controlplane`"
        done = subprocess.run(
            [str(binary), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=self._environment(),
        )
        if check and done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done


def missing_programs() -> tuple[str, ...]:
    """Which binaries a control plane lacks here."""
    return tuple(name for name in PROGRAMS if find(name) is None)


def _request(
    port: int, context: ssl.SSLContext, method: str, path: str, body: object = None
) -> bytes:
    data = None if body is None else msgspec.json.encode(body)
    connection = http.client.HTTPSConnection(
        LOOPBACK, port, context=context, timeout=REQUEST_SECONDS
    )
    with contextlib.closing(connection):
        connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
    if answer.status >= http.HTTPStatus.BAD_REQUEST:
        raise RequestError(answer.status, content.decode(errors="replace"))
    return content


def _answers(port: int, path: str, context: ssl.SSLContext) -> bool:
    try:
        _request(port, context, "GET", path)
    except (OSError, http.client.HTTPException, RequestError):
        return False
    return True


def _with_free_ports(start: Callable[[], T], undo: Callable[[], None]) -> T:
    for _ in range(PORT_ATTEMPTS - 1):
        try:
            return start()
        except StartError as error:
            if ADDRESS_IN_USE not in str(error):
                raise
            undo()
    return start()
