"""The guarded API over real TLS: who gets in, what others are told, certificates that change."""

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from scheduler.adapters.ledger import open_ledger
from scheduler.daemon.api import Api, ApiServer
from scheduler.daemon.guard import Guard
from scheduler.daemon.tick import Progress
from scheduler.https import Tls, TlsError
from tests.fixtures.ticks import busy_tick

LOOPBACK = "127.0.0.1"
ATTEMPTS = 10_000
RIGHTS = {("ann", "get", "/v1/status"), ("prometheus", "get", "/metrics")}


def user_of(token: str) -> str | None:
    if token == "broken":  # noqa: S105
        raise RuntimeError("no route to host")
    return token.removeprefix("token-of-") if token.startswith("token-of-") else None


def may(user: str, verb: str, path: str) -> bool:
    return (user, verb, path) in RIGHTS


class Files:
    """A certificate on disk, as a Secret volume shows it."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "tls.crt", folder / "tls.key"
        self.tls = Tls(certificate=self.cert, key=self.key, look_seconds=0.05)
        self.write(trustme.CA())

    def write(self, authority: trustme.CA) -> None:
        pair = authority.issue_cert("tidal-api.tidal-system.svc", LOOPBACK)
        self.cert.write_bytes(b"".join(part.bytes() for part in pair.cert_chain_pems))
        self.key.write_bytes(pair.private_key_pem.bytes())
        self.authority = authority

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


def trusted(server: ApiServer, files: Files) -> bool:
    """Whether the server shows the certificate that is on disk."""
    try:
        return asked(server, files, "/healthz")[0] == 200
    except (ssl.SSLError, ConnectionError):
        return False


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def server(files: Files, tmp_path: Path) -> Iterator[ApiServer]:
    with open_ledger(tmp_path / "ledger") as ledger:
        api = Api(ledger)
        api.publish(Progress(number=8, last=busy_tick()))
        guard = Guard(user_of, may, str).middleware()
        server = ApiServer(api, LOOPBACK, 0, guard, files.tls)
        yield server
        server.stop()


def asked(
    server: ApiServer, files: Files, path: str, authorization: str | None = None
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPSConnection(LOOPBACK, server.port, context=files.client())
    headers = {} if authorization is None else {"Authorization": authorization}
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, dict(answer.headers)


@pytest.mark.parametrize(
    ("path", "authorization", "code", "words"),
    [
        ("/v1/status", "Bearer token-of-ann", 200, "tidal.status/1"),
        ("/metrics", "Bearer token-of-prometheus", 200, "# TYPE tidal_"),
        ("/healthz", None, 200, "ok"),
        ("/readyz", None, 200, "ok"),
        ("/v1/status", None, 401, "token: is missing; send 'Authorization: Bearer TOKEN'"),
        ("/v1/status", "Bearer ", 401, "token: is missing"),
        ("/v1/status", "Basic YTpi", 401, "token: is missing"),
        ("/v1/status", "Bearer " + "x" * 5000, 401, "token: is not known to this cluster"),
        ("/v1/status", "Bearer stolen", 401, "token: is not known to this cluster; log in again"),
        ("/nowhere", None, 401, "token: is missing"),
        ("/healthz/", None, 401, "token: is missing"),
        (
            "/v1/plan",
            "Bearer token-of-ann",
            403,
            "nonResourceURLs ['/v1/plan'] and verbs ['get'], such as tidal-reader",
        ),
        ("/metrics", "Bearer token-of-ann", 403, "ann may not get /metrics"),
        ("/v1/status", "Bearer broken", 503, "cannot be asked about it (no route to host)"),
    ],
)
def test_who_gets_in(
    server: ApiServer,
    files: Files,
    path: str,
    authorization: str | None,
    code: int,
    words: str,
) -> None:
    found, body, headers = asked(server, files, path, authorization)
    assert found == code
    if code >= 400:
        (body,) = json.loads(body).values()
    assert words in body
    assert headers.get("WWW-Authenticate") == ("Bearer" if code == 401 else None)


def test_plain_http_is_not_answered(server: ApiServer) -> None:
    connection = http.client.HTTPConnection(LOOPBACK, server.port, timeout=60)
    connection.request("GET", "/healthz")
    with pytest.raises((http.client.HTTPException, OSError)):
        connection.getresponse()
    connection.close()


def test_old_tls_is_refused(server: ApiServer, files: Files) -> None:
    context = files.client()
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.minimum_version, context.maximum_version = (
            ssl.TLSVersion.TLSv1,
            ssl.TLSVersion.TLSv1_1,
        )
    with (
        socket.create_connection((LOOPBACK, server.port), 5) as plain,
        pytest.raises((ssl.SSLError, OSError)),
    ):
        context.wrap_socket(plain, server_hostname=LOOPBACK)


def test_a_new_certificate_is_taken_in_without_a_restart(server: ApiServer, files: Files) -> None:
    assert asked(server, files, "/healthz")[0] == 200
    files.write(trustme.CA())
    assert any(trusted(server, files) for _ in range(ATTEMPTS))


@pytest.mark.parametrize("broken", ["not PEM", None])
def test_a_pair_that_does_not_fit_leaves_the_old_one(
    server: ApiServer, files: Files, broken: str | None
) -> None:
    old_key = files.key.read_bytes()
    if broken is None:
        old = files.authority
        files.write(trustme.CA())
        files.key.write_bytes(old_key)
        files.authority = old
    else:
        files.cert.write_text(broken)
    assert any(trusted(server, files) and server.tls_error for _ in range(ATTEMPTS))
    assert "tls.crt" in server.tls_error
    assert asked(server, files, "/healthz")[0] == 200


def test_files_that_cannot_be_used_are_one_sentence(tmp_path: Path) -> None:
    tls = Tls(certificate=tmp_path / "no.crt", key=tmp_path / "no.key")
    with (
        open_ledger(tmp_path / "ledger") as ledger,
        pytest.raises(TlsError, match=r"no\.crt .*name a PEM certificate and its key"),
    ):
        ApiServer(Api(ledger), LOOPBACK, 0, tls=tls)


def test_without_a_guard_others_cannot_reach_it(tmp_path: Path) -> None:
    with (
        open_ledger(tmp_path / "ledger") as ledger,
        pytest.raises(ValueError, match=r"host: 0\.0\.0\.0 is not loopback"),
    ):
        ApiServer(Api(ledger), "0.0.0.0", 0)  # noqa: S104 - that is the test
