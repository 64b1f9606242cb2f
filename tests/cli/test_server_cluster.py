"""`scalerctl` through a kubeconfig: a stand-in API server on loopback, the daemon's real API.

There is no kubelet on the test control plane, so the stand-in forwards the port itself, by the
protocol that kubelets speak (v4.channel.k8s.io: a byte of channel before each piece).
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from aiohttp import WSMsgType, web

from scheduler.adapters.ledger import open_ledger
from scheduler.cli.main import main
from scheduler.daemon.api import Api, ApiServer
from scheduler.daemon.guard import Guard
from scheduler.daemon.tick import Progress
from scheduler.https import Tls
from tests.fixtures.ticks import busy_tick

LOOPBACK = "127.0.0.1"
Capture = pytest.CaptureFixture[str]
NAMESPACE = "/api/v1/namespaces/tidal-system"


class StandIn:
    """The few paths of an API server that `scalerctl` asks for."""

    def __init__(self, daemon_port: int, ca: str) -> None:
        self.daemon_port, self.ca = daemon_port, ca
        self.ready = True
        self.seen: list[tuple[str, str | None]] = []
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(60)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(60)

    def _run(self) -> None:
        app = web.Application()
        app.router.add_get(f"{NAMESPACE}/configmaps/tidal-api-ca", self._ca_map)
        app.router.add_get(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", self._slices
        )
        app.router.add_post(f"{NAMESPACE}/serviceaccounts/tidal-reader/token", self._token)
        app.router.add_get(f"{NAMESPACE}/pods/tidal-0/portforward", self._forward)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, LOOPBACK, 0)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    def _note(self, request: web.Request) -> None:
        self.seen.append((request.path, request.headers.get("Authorization")))

    async def _ca_map(self, request: web.Request) -> web.Response:
        self._note(request)
        if not self.ca:
            return web.json_response({"reason": "NotFound", "message": "no such"}, status=404)
        return web.json_response(
            {"metadata": {"name": "tidal-api-ca"}, "data": {"ca.crt": self.ca}}
        )

    async def _slices(self, request: web.Request) -> web.Response:
        self._note(request)
        assert request.query["labelSelector"] == "kubernetes.io/service-name=tidal-api"
        endpoints = [
            {"targetRef": {"kind": "Pod", "name": "tidal-1"}, "conditions": {"ready": False}},
            {"targetRef": {"kind": "Pod", "name": "tidal-0"}, "conditions": {"ready": self.ready}},
        ]
        item = {"endpoints": endpoints, "ports": [{"name": "api", "port": 9330}]}
        return web.json_response({"items": [item]})

    async def _token(self, request: web.Request) -> web.Response:
        self._note(request)
        assert (await request.json())["spec"] == {"expirationSeconds": 600}
        return web.json_response({"status": {"token": "token-of-reader"}}, status=201)

    async def _forward(self, request: web.Request) -> web.WebSocketResponse:
        self._note(request)
        assert request.query["ports"] == "9330"
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        port = (9330).to_bytes(2, "little")
        await socket.send_bytes(b"\x00" + port)
        await socket.send_bytes(b"\x01" + port)
        reader, writer = await asyncio.open_connection(LOOPBACK, self.daemon_port)
        back = asyncio.create_task(self._back(reader, socket))
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY and message.data[:1] == b"\x00":
                    writer.write(message.data[1:])
        finally:
            back.cancel()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return socket

    async def _back(self, reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
        with contextlib.suppress(OSError):  # whoever hears the end first
            while piece := await reader.read(65536):
                await socket.send_bytes(b"\x00" + piece)


class World:
    def __init__(self, folder: Path, stand_in: StandIn, server: ApiServer) -> None:
        self.folder, self.stand_in, self.server = folder, stand_in, server

    def kubeconfig(self, user: dict[str, Any]) -> str:
        url = f"http://{LOOPBACK}:{self.stand_in.port}"
        document = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": user}],
        }
        file = self.folder / "kubeconfig"
        file.write_text(yaml.safe_dump(document))
        return str(file)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.delenv("TIDAL_SERVER", raising=False)
    authority = trustme.CA()
    pair = authority.issue_cert("tidal-api.tidal-system.svc", LOOPBACK)
    (tmp_path / "crt").write_bytes(b"".join(part.bytes() for part in pair.cert_chain_pems))
    (tmp_path / "key").write_bytes(pair.private_key_pem.bytes())
    with open_ledger(tmp_path / "ledger") as ledger:
        api = Api(ledger)
        api.publish(Progress(number=8, last=busy_tick()))
        guard = Guard(_user_of, lambda user, _verb, _path: user != "bob", str).middleware()
        tls = Tls(certificate=tmp_path / "crt", key=tmp_path / "key")
        server = ApiServer(api, LOOPBACK, 0, guard, tls)
        stand_in = StandIn(server.port, authority.cert_pem.bytes().decode())
        yield World(tmp_path, stand_in, server)
        stand_in.stop()
        server.stop()


def _user_of(token: str) -> str | None:
    return token.removeprefix("token-of-") if token.startswith("token-of-") else None


def shown(capsys: Capture, *argv: str, plugin: bool = False) -> Any:  # noqa: ANN401
    code = main((*argv, "-o", "json"), plugin=plugin)
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return json.loads(out)


def refused(capsys: Capture, *argv: str) -> str:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


CREDENTIAL = json.dumps(
    {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "token-of-cy"},
    }
)
EXEC = {
    "exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "/bin/sh",
        "args": [
            "-c",
            f"echo '{CREDENTIAL}'",
        ],
        "interactiveMode": "Never",
    }
}


@pytest.mark.parametrize(
    ("user", "token"),
    [({"token": "token-of-ann"}, "token-of-ann"), (EXEC, "token-of-cy"), ({}, None)],
    ids=["token", "exec plugin", "certificate"],
)
def test_a_kubeconfig_leads_to_the_daemon(
    capsys: Capture, world: World, user: dict[str, Any], token: str | None
) -> None:
    shown_there = shown(capsys, "status", "--kubeconfig", world.kubeconfig(user))
    assert shown_there["schema"] == "tidal.status/1"
    assert f"{NAMESPACE}/pods/tidal-0/portforward" in [path for path, _ in world.stand_in.seen]
    sent = {header for _, header in world.stand_in.seen}
    assert sent == {f"Bearer {token}" if token else None}


def test_as_a_plugin_of_kubectl_it_needs_no_option(
    capsys: Capture, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION",
        world.kubeconfig({"token": "token-of-ann"}),
    )
    assert shown(capsys, "plan", plugin=True)["schema"] == "tidal.plan/1"


def test_an_address_is_asked_with_the_token_of_the_kubeconfig(
    capsys: Capture, world: World
) -> None:
    server = f"https://{LOOPBACK}:{world.server.port}"
    file = world.kubeconfig({"token": "token-of-ann"})
    shown(capsys, "status", "--server", server, "--kubeconfig", file)
    assert [path for path, _ in world.stand_in.seen] == [f"{NAMESPACE}/configmaps/tidal-api-ca"]


def test_without_the_ca_the_certificate_is_refused_unless_told_so(
    capsys: Capture, world: World
) -> None:
    world.stand_in.ca = ""
    file = world.kubeconfig({"token": "token-of-ann"})
    err = refused(capsys, "status", "--kubeconfig", file)
    assert "the certificate of https://tidal-api.tidal-system.svc cannot be verified" in err
    assert (
        "Role tidal-reader allows: ask for it, put the CA there, or add --insecure-skip-tls-verify"
        in err
    )
    shown(capsys, "status", "--kubeconfig", file, "--insecure-skip-tls-verify")


def test_a_daemon_in_another_namespace_is_not_the_one_of_the_certificate(
    capsys: Capture, world: World
) -> None:
    file = world.kubeconfig({"token": "token-of-ann"})
    err = refused(capsys, "status", "--kubeconfig", file, "-n", "elsewhere")
    assert "--context: " in err


@pytest.mark.parametrize(
    ("user", "options", "words"),
    [
        ({"token": "token-of-bob"}, (), "path: bob may not get /v1/status; bind a ClusterRole"),
        ({"token": "stale"}, (), "token: is not known to this cluster; log in again"),
        ({"token": "t"}, ("--context", "there"), "--kubeconfig: cannot be used ("),
        (
            {"token": "t"},
            ("--server", "http://127.0.0.1:1"),
            "--server: http://127.0.0.1:1 is not encrypted, and a kubeconfig's token is a secret",
        ),
        (
            {"token": "t"},
            ("--server", "https://127.0.0.1:1"),
            "--server: https://127.0.0.1:1 cannot be reached (Connection refused)",
        ),
    ],
)
def test_errors_are_one_line_that_names_the_fix(
    capsys: Capture, world: World, user: dict[str, Any], options: tuple[str, ...], words: str
) -> None:
    file = world.kubeconfig(user)
    assert words in refused(capsys, "status", "--kubeconfig", file, *options)


def test_no_ready_pod_is_said(capsys: Capture, world: World) -> None:
    world.stand_in.ready = False
    err = refused(capsys, "status", "--kubeconfig", world.kubeconfig({"token": "t"}))
    assert "--namespace: no pod is ready behind Service tidal-system/tidal-api" in err


def test_an_api_server_that_is_away_is_said(capsys: Capture, world: World) -> None:
    file = world.kubeconfig({})
    world.stand_in.stop()
    err = refused(capsys, "status", "--kubeconfig", file)
    assert "--kubeconfig: " in err
    assert "start the cluster, or name another with --context" in err


def test_a_file_that_is_no_kubeconfig_is_said(capsys: Capture) -> None:
    err = refused(capsys, "status", "--kubeconfig", "/nowhere")
    assert "--kubeconfig: cannot be used (" in err
