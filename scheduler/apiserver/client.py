"""Calls of the API server: bytes out, bytes back.

The `kubernetes` package loads the configuration, keeps credentials fresh and makes the TLS
connections; its models and its own (de)serialisation are not used. Every call but a watch ends
within a bounded time. Nothing is retried here: a caller knows what may be done twice.
"""

import http.client
import ipaddress
import os
import socket
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

import msgspec
import urllib3
import yaml
from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from urllib3.util import Timeout

from scheduler.apiserver.watch import Watch

USER_AGENT = f"tidal/{metadata.version('tidal')}"
FIELD_MANAGER = "tidal"
"""Server-side apply needs the name of who applies."""
CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
"""The server itself gives up a request after 60 s; 34 s are its longest for admission webhooks."""
WATCH_SECONDS = 30
"""A watch ends after this time, so that a server that hangs is noticed."""
WATCH_READ_SECONDS = 40.0
CREDENTIAL_SECONDS = 10.0
"""How long a credential is used before the package is asked for a fresher one."""
CONNECTIONS = 40
"""Connections kept: 12 watches and 20 threads that call."""

_KEEP_ALIVE = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    ),
)
"""A peer that vanished without a word is given up after 25 s."""

Form = Literal["json", "merge", "strategic", "apply"]
_PATCHES: dict[Form, str] = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
_JSON = "application/json"
_LOADERS: Any = config
"""Its functions have no types, although the package says that it is typed."""
_FAILURES = (
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    config.ConfigException,
    OSError,
    ValueError,
)
"""ConfigException: a credential that cannot be renewed. ValueError: a connection closed
meanwhile."""
_UNUSABLE = (
    config.ConfigException,
    yaml.YAMLError,
    AttributeError,
    LookupError,
    OSError,
    TypeError,
    ValueError,
)
"""What the package raises on files that are missing, no YAML, or no kubeconfig."""


class ApiError(Exception):
    """The server refused: HTTP status, reason and message of its answer, and the whole body.

    `retry_after_seconds` is what the server asks for, 0 where it asks for nothing.
    """

    def __init__(self, status: int, body: bytes, retry_after_seconds: float = 0.0) -> None:
        """Read reason and message from a Status body; any other body is quoted, cut short."""
        self.status = status
        self.body = body
        self.retry_after_seconds = retry_after_seconds
        try:
            said = _STATUS.decode(body)
        except msgspec.DecodeError:
            said = Refusal(message=body[:200].decode(errors="replace"))
        self.reason = said.reason
        self.message = said.message
        words = " ".join(f"{said.reason}: {said.message}".strip(": ").split())
        super().__init__(f"{status} {words}".strip())


class ApiUnreachableError(Exception):
    """No answer: refused, cut off or out of time."""


class ConfigurationError(Exception):
    """The kubeconfig cannot be used."""


class Refusal(msgspec.Struct, frozen=True):
    """A metav1.Status, as far as it says why."""

    reason: str = ""
    message: str = ""
    code: int = 0


_STATUS = msgspec.json.Decoder(Refusal)


class Api:
    """One API server and one identity; all methods may be called from any thread."""

    def __init__(self, configuration: Configuration) -> None:
        """Connect with this configuration of the `kubernetes` package."""
        configuration.retries = False
        configuration.connection_pool_maxsize = CONNECTIONS
        configuration.socket_options = list(_KEEP_ALIVE)
        if _loopback(configuration.host):
            configuration.proxy = None
        self._configuration = configuration
        self._manager = ApiClient(configuration).rest_client.pool_manager
        self._pool = self._manager.connection_from_url(configuration.host)
        self._prefix = urlsplit(configuration.host).path.rstrip("/")
        self._encode = msgspec.json.Encoder().encode
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()
        self._closed = False
        self._credential: str | None = None
        self._asked_at = float("-inf")

    @classmethod
    def load(cls, kubeconfig: Path | None = None, context: str | None = None) -> "Api":
        """Use the given file, else the service account of this pod, else the user's kubeconfig.

        Raises ConfigurationError where none of them can be used.
        """
        configuration = Configuration()
        in_cluster = kubeconfig is None and context is None and _in_cluster()
        try:
            if in_cluster:
                _LOADERS.load_incluster_config(client_configuration=configuration)
            else:
                _LOADERS.load_kube_config(
                    config_file=None if kubeconfig is None else str(kubeconfig),
                    context=context,
                    client_configuration=configuration,
                    persist_config=False,
                )
            return cls(configuration)
        except _UNUSABLE as error:
            raise ConfigurationError(_unusable(kubeconfig, in_cluster, error)) from error

    @classmethod
    def plain(cls, url: str) -> "Api":
        """Use a server that asks for no credentials, such as the virtual world's."""
        return cls(Configuration(host=url))

    @property
    def server(self) -> str:
        """The server's URL."""
        return str(self._configuration.host)

    def get(self, path: str, /, **query: str) -> bytes:
        """Read."""
        return self._call("GET", path, query)

    def post(self, path: str, body: object, /, **query: str) -> bytes:
        """Create, or call a subresource such as eviction."""
        return self._call("POST", path, query, self._encode(body), _JSON)

    def patch(self, path: str, body: object, form: Form, /, **query: str) -> bytes:
        """Change in part; "apply" is server-side apply, as field manager `tidal` unless named."""
        if form == "apply":
            query = {"fieldManager": FIELD_MANAGER, **query}
        return self._call("PATCH", path, query, self._encode(body), _PATCHES[form])

    def delete(self, path: str, body: object | None = None, /, **query: str) -> bytes:
        """Delete; `body` holds DeleteOptions."""
        encoded = None if body is None else self._encode(body)
        return self._call("DELETE", path, query, encoded, _JSON)

    def watch(self, path: str, /, **query: str) -> Watch:
        """Open a watch; iterate over its lines, `close()` it from any thread.

        Opening and reading raise ApiUnreachableError; opening raises ApiError.
        """
        asked = {"timeoutSeconds": str(WATCH_SECONDS), **query, "watch": "true"}
        response = self._send("GET", path, asked, None, "", stream=True)
        if response.status != http.HTTPStatus.OK:
            raise _refused(response)
        opened = Watch(response, self._forget, ApiUnreachableError)
        with self._lock:
            self._watches.add(opened)
            closed = self._closed
        if closed:
            opened.close()
        return opened

    def close(self) -> None:
        """End all watches and connections; later calls raise ApiUnreachableError."""
        with self._lock:
            self._closed = True
            open_now = tuple(self._watches)
        for one in open_now:
            one.close()
        self._manager.clear()

    def _forget(self, watch: Watch) -> None:
        with self._lock:
            self._watches.discard(watch)

    def _call(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: bytes | None = None,
        form: str = "",
    ) -> bytes:
        response = self._send(method, path, query, body, form, stream=False)
        if response.status >= http.HTTPStatus.MULTIPLE_CHOICES:
            raise _refused(response)
        return bytes(response.data)

    def _send(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: bytes | None,
        form: str,
        *,
        stream: bool,
    ) -> urllib3.BaseHTTPResponse:
        """Send; with `stream` the body is still to be read."""
        if self._closed:
            raise ApiUnreachableError(f"{method} {path}: this client is closed")
        url = f"{self._prefix}{path}?{urlencode(query)}" if query else self._prefix + path
        read_seconds = WATCH_READ_SECONDS if stream else READ_SECONDS
        try:
            response: urllib3.BaseHTTPResponse = self._pool.urlopen(
                method,
                url,
                body=body,
                headers=self._headers(form if body is not None else ""),
                retries=False,
                redirect=False,
                timeout=Timeout(connect=CONNECT_SECONDS, read=read_seconds),
                preload_content=not stream,
                decode_content=not stream,
            )
        except _FAILURES as error:
            raise ApiUnreachableError(f"{method} {self.server}{path}: {error}") from error
        return response

    def _headers(self, form: str) -> dict[str, str]:
        headers = {"Accept": _JSON, "User-Agent": USER_AGENT}
        credential = self._authorization()
        if credential:
            headers["Authorization"] = credential
        if form:
            headers["Content-Type"] = form
        return headers

    def _authorization(self) -> str | None:
        """Return the credential; the package looks for a fresher one only now and then."""
        with self._lock:
            now = time.monotonic()
            if now - self._asked_at >= CREDENTIAL_SECONDS:
                setting: Any = self._configuration.auth_settings().get("BearerToken") or {}
                value = setting.get("value")
                self._credential = value.strip() if value else None
                self._asked_at = now
            return self._credential


def _refused(response: urllib3.BaseHTTPResponse) -> ApiError:
    try:
        body = bytes(response.data)
    except _FAILURES:
        body = b""
    after = response.headers.get("Retry-After", "")
    return ApiError(response.status, body, float(after) if after.isdecimal() else 0.0)


def _loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_cluster() -> bool:
    """Return whether a service account is mounted here."""
    mounted = Path("/var/run/secrets/kubernetes.io/serviceaccount/token").is_file()
    return mounted and bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def _unusable(kubeconfig: Path | None, in_cluster: bool, error: Exception) -> str:  # noqa: FBT001
    if in_cluster:
        return f"the service account of this pod cannot be used: {error}"
    file = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    why = error if isinstance(error, (config.ConfigException, OSError)) else "it is no kubeconfig"
    return f"kubeconfig {file} cannot be used: {why}; name another with --kubeconfig"
