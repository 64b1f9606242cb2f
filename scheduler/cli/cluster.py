"""Reaches the daemon as a plugin of kubectl does: a kubeconfig's login, a tunnel, verified TLS.

The user's token goes to the daemon, which asks the API server about it. A user who logs in with a
certificate has none, and gets one of ten minutes for a service account that may read. Without an
address, the way to the daemon is a port-forward to a ready pod behind its Service.
"""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import msgspec
from kubernetes import config
from kubernetes.client import ApiClient, Configuration, CoreV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward

from scheduler.adapters.cluster.authority import CA_KEY, CA_MAP
from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError
from scheduler.apiserver.objects import ConfigMap
from scheduler.cli.terminal import CommandError

NAMESPACE = "tidal-system"
SERVICE = "tidal-api"
READER = "tidal-reader"
TOKEN_SECONDS = 600
"""The shortest that the API grants."""
BEARER = "Bearer "
FORWARDING = "Kubernetes port forward proxy"
"""Name of the package's thread."""
FORWARDING_SECONDS = 1.0
"""How long its last words are waited for."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which cluster, as whom, and where in it the daemon lives."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str = NAMESPACE
    insecure: bool = False


class _Target(msgspec.Struct, frozen=True):
    name: str = ""
    kind: str = ""


class _Conditions(msgspec.Struct, frozen=True):
    ready: bool | None = None


class _Endpoint(msgspec.Struct, frozen=True, rename="camel"):
    target_ref: _Target | None = None
    conditions: _Conditions = _Conditions()


class _Port(msgspec.Struct, frozen=True):
    port: int | None = None


class _Slice(msgspec.Struct, frozen=True):
    endpoints: tuple[_Endpoint, ...] | None = None
    ports: tuple[_Port, ...] | None = None


class _Slices(msgspec.Struct, frozen=True):
    items: tuple[_Slice, ...] | None = None


class _Token(msgspec.Struct, frozen=True):
    token: str


class _TokenRequest(msgspec.Struct, frozen=True):
    status: _Token


class Cluster:
    """One kubeconfig's cluster, as its user."""

    def __init__(self, choice: Choice) -> None:
        """Load the kubeconfig; raise `CommandError` where it cannot be used."""
        self._choice = choice
        self._configuration = Configuration()
        try:
            config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=None if choice.kubeconfig is None else str(choice.kubeconfig),
                context=choice.context,
                client_configuration=self._configuration,
                persist_config=False,
            )
        except (config.ConfigException, OSError, TypeError, ValueError) as error:
            raise CommandError(
                f"--kubeconfig: cannot be used ({_line(error)}); name a file, or a --context in it"
            ) from None
        self._api = Api(self._configuration)

    @property
    def server_name(self) -> str:
        """The name in the daemon's certificate."""
        return f"{SERVICE}.{self._choice.namespace}.svc"

    def authorization(self) -> str:
        """Return the user's bearer token as a header, else one of the reader."""
        setting = self._configuration.auth_settings().get("BearerToken")
        header = str(setting["value"] or "").strip() if setting else ""
        return header if header.startswith(BEARER) else BEARER + self._reader_token()

    def tls(self) -> ssl.SSLContext:
        """Return what verifies the daemon: the CA that it published, and the system's."""
        context = ssl.create_default_context()
        if self._choice.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        pem = self._ca()
        if pem:
            context.load_verify_locations(cadata=pem)
        return context

    @contextmanager
    def tunnel(self) -> Iterator[socket.socket]:
        """Yield a connection to a ready pod of the daemon."""
        pod, port = self._ready_pod()
        core = CoreV1Api(ApiClient(self._configuration))
        way = core.connect_get_namespaced_pod_portforward
        with _silent_forwarding():
            try:
                forward = portforward(way, pod, self._choice.namespace, ports=str(port))
            except ApiException as error:
                raise CommandError(
                    f"--context: pod {pod} cannot be reached by port-forward "
                    f"({_line(error.reason)}); ask for the right to create pods/portforward, or "
                    f"name an address with --server"
                ) from None
            try:
                yield forward.socket(port)
            finally:
                forward.close()
                _join_forwarding()
                forward.websocket.shutdown()  # a thread that died leaves both ends open
                forward.local_ports[port].python.close()

    def _ready_pod(self) -> tuple[str, int]:
        namespace = self._choice.namespace
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        body = self._asked("GET", path, labelSelector=f"kubernetes.io/service-name={SERVICE}")
        found = sorted(
            (one.target_ref.name, port.port)
            for piece in msgspec.json.decode(body, type=_Slices).items or ()
            for one in piece.endpoints or ()
            for port in piece.ports or ()
            if one.target_ref and one.target_ref.kind == "Pod" and one.conditions.ready is not False
            if port.port
        )
        if not found:
            raise CommandError(
                f"--namespace: no pod is ready behind Service {namespace}/{SERVICE}; name the "
                f"namespace that Tidal runs in, or see why with 'kubectl -n {namespace} get pods'"
            )
        return found[0]

    def _reader_token(self) -> str:
        namespace = self._choice.namespace
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{READER}/token"
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        }
        body = self._asked("POST", path, request)
        return msgspec.json.decode(body, type=_TokenRequest).status.token

    def _ca(self) -> str:
        """Return the published CA; none is an error only where the certificate then fails."""
        path = f"/api/v1/namespaces/{self._choice.namespace}/configmaps/{CA_MAP}"
        try:
            found = msgspec.json.decode(self._api.get(path), type=ConfigMap)
        except ApiError as error:
            if error.status in {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN}:
                return ""
            raise CommandError(_refused(error)) from None
        except ApiUnreachableError as error:
            raise CommandError(_unreachable(error)) from None
        return found.data.get(CA_KEY, "")

    def _asked(self, method: str, path: str, body: object = None, **query: str) -> bytes:
        try:
            if method == "GET":
                return self._api.get(path, **query)
            return self._api.post(path, body, **query)
        except ApiError as error:
            raise CommandError(_refused(error)) from None
        except ApiUnreachableError as error:
            raise CommandError(_unreachable(error)) from None


@contextmanager
def _silent_forwarding() -> Iterator[None]:
    """Keep off the terminal what the forwarding thread dies of; its socket's end tells us."""
    before = threading.excepthook

    def told(what: threading.ExceptHookArgs) -> None:
        if what.thread is None or not what.thread.name.startswith(FORWARDING):
            before(what)

    threading.excepthook = told
    try:
        yield
    finally:
        threading.excepthook = before


def _join_forwarding() -> None:
    for one in threading.enumerate():
        if one.name.startswith(FORWARDING):
            one.join(FORWARDING_SECONDS)


def _refused(error: ApiError) -> str:
    if error.status == HTTPStatus.UNAUTHORIZED:
        return "--context: the API server does not know this user; log in again"
    return f"--context: {_line(error)}; name another context or --namespace, or ask for the right"


def _unreachable(error: ApiUnreachableError) -> str:
    return f"--kubeconfig: {_line(error)}; start the cluster, or name another with --context"


def _line(what: object) -> str:
    return " ".join(str(what).split())
