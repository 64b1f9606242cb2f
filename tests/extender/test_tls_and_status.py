"""Certificates and who may call; what probes and people read."""

import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from scheduler.extender import process
from scheduler.extender.process import ExtenderProcess
from scheduler.https import Tls, TlsError
from scheduler.planning.standing import Place, Standing
from tests.fixtures import payloads

JSON = {"Content-Type": "application/json"}
STANDING = Standing(
    now_seconds=100.0,
    planned_at_seconds=40.0,
    epoch=7,
    plan_stale_seconds=300.0,
    heuristic_stale_seconds=900.0,
    nodes=(Place("a", ("s0", "H"), "nvidia.com/gpu", 4, 0, 8, schedulable=True),),
)
ATTEMPTS = 20_000
PATIENCE_SECONDS = 60.0


def write(folder: Path, server: trustme.CA, clients: trustme.CA) -> Tls:
    """Put a certificate of `server` and the authority `clients` into the folder."""
    leaf = server.issue_cert("127.0.0.1")
    (folder / "tls.crt").write_bytes(leaf.cert_chain_pems[0].bytes())
    (folder / "tls.key").write_bytes(leaf.private_key_pem.bytes())
    (folder / "ca.crt").write_bytes(clients.cert_pem.bytes())
    return Tls(
        certificate=folder / "tls.crt",
        key=folder / "tls.key",
        client_authority=folder / "ca.crt",
        look_seconds=0.05,
    )


def caller(trusts: trustme.CA, shows: trustme.CA | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    trusts.configure_trust(context)
    if shows is not None:
        shows.issue_cert("kube-scheduler@tidal.dev").configure_cert(context)
    return context


def admitted(port: int, context: ssl.SSLContext) -> bool:
    """Whether a call through TLS is answered."""
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
    try:
        body = json.dumps(payloads.by_names(payloads.pod(), "a"))
        connection.request("POST", "/filter", body, JSON)
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        return False
    finally:
        connection.close()


def read(port: int | None, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def told(port: int | None) -> Any:  # noqa: ANN401
    return json.loads(read(port, "/v1/extender")[1])


def until(true: Any, what: str) -> None:  # noqa: ANN401
    assert any(true() for _ in range(ATTEMPTS)), what


@pytest.fixture(scope="module")
def authorities() -> tuple[trustme.CA, trustme.CA]:
    return trustme.CA(), trustme.CA()


@pytest.fixture
def secured(
    tmp_path: Path, authorities: tuple[trustme.CA, trustme.CA]
) -> Iterator[ExtenderProcess]:
    ca, _ = authorities
    running = process.start("127.0.0.1", 0, tls=write(tmp_path, ca, ca), health_port=0)
    yield running
    running.stop()


def test_only_holders_of_a_certificate_of_the_authority_get_in(
    secured: ExtenderProcess, authorities: tuple[trustme.CA, trustme.CA]
) -> None:
    ca, stranger = authorities
    assert admitted(secured.port, caller(ca, ca))
    assert not admitted(secured.port, caller(ca, None))
    assert not admitted(secured.port, caller(ca, stranger))
    calls = told(secured.health_port)["verbs"]["filter"]["calls"]
    assert calls == 1


def test_renewed_files_take_effect_without_a_restart(
    secured: ExtenderProcess, authorities: tuple[trustme.CA, trustme.CA], tmp_path: Path
) -> None:
    ca, other = authorities
    (tmp_path / "tls.crt").write_text("half a file")
    until(lambda: "tls.crt" in told(secured.health_port)["tls_error"], "no report of the bad file")
    assert admitted(secured.port, caller(ca, ca))
    write(tmp_path, other, other)
    until(lambda: admitted(secured.port, caller(other, other)), "the new authority is not let in")
    assert not admitted(secured.port, caller(other, ca))
    until(lambda: not told(secured.health_port)["tls_error"], "the report stays")


def test_a_connection_under_the_former_authority_does_not_outlive_it(
    secured: ExtenderProcess, authorities: tuple[trustme.CA, trustme.CA], tmp_path: Path
) -> None:
    ca, other = authorities
    kept = http.client.HTTPSConnection(
        "127.0.0.1", secured.port, context=caller(ca, ca), timeout=60
    )
    kept.connect()
    kept.request("GET", "/healthz")
    assert kept.getresponse().read() == b"ok\n"
    assert kept.sock is not None
    write(tmp_path, other, other)
    with kept.sock as socket:
        assert socket.recv(1) == b""


def test_files_that_cannot_be_used_are_one_error_that_names_them(tmp_path: Path) -> None:
    tls = Tls(certificate=tmp_path / "none.crt", key=tmp_path / "none.key")
    with pytest.raises(TlsError, match=r"none\.crt.*none\.key"):
        process.start("127.0.0.1", 0, tls=tls)


def test_probes_and_people_read_on_the_plain_port(secured: ExtenderProcess) -> None:
    port = secured.health_port
    assert read(port, "/healthz") == (200, "ok\n")
    assert read(port, "/readyz")[0] == 503
    assert told(port)["mode"] == "none"
    assert read(port, "/filter")[0] == 404
    secured.publish(STANDING)
    until(lambda: read(port, "/readyz")[0] == 200, "not ready with a plan")
    found = told(port)
    assert (found["mode"], found["epoch"], found["nodes"]) == ("plan", 7, 1)
    assert 60 <= found["plan_age_seconds"] < 60 + PATIENCE_SECONDS


def test_counts_and_mode_are_metrics() -> None:
    running = process.start("127.0.0.1", 0)
    try:
        running.publish(STANDING)
        until(lambda: read(running.port, "/readyz")[0] == 200, "not ready with a plan")
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
        for body in (
            json.dumps(payloads.by_names(payloads.pod(), "a")),
            json.dumps(payloads.by_names(payloads.pod(gpus=16), "a")),
            "{",
        ):
            connection.request("POST", "/filter", body, JSON)
            connection.getresponse().read()
        connection.close()
        counts = told(running.port)["verbs"]["filter"]
        assert [counts[name] for name in ("calls", "refused", "errors")] == [3, 1, 1]
        lines = read(running.port, "/metrics")[1].splitlines()
        assert lines[-1] == "# EOF"
        assert 'tidal_extender_mode{tidal_extender_mode="plan"} 1' in lines
        assert 'tidal_extender_refused_total{verb="filter"} 1' in lines
        assert 'tidal_extender_answer_seconds_bucket{verb="filter",le="+Inf"} 3' in lines
    finally:
        running.stop()
