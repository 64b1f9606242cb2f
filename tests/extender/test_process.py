"""The extender in a process of its own: fed, asked, and ended."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from scheduler.extender import process
from scheduler.planning.standing import Place, Standing
from tests.fixtures import payloads

ROOT = Path(__file__).parents[2]
STANDING = Standing(
    now_seconds=0.0,
    planned_at_seconds=0.0,
    plan_stale_seconds=300.0,
    heuristic_stale_seconds=900.0,
    nodes=(Place("a", ("s0", "H"), "nvidia.com/gpu", 4, 0, 8, schedulable=True),),
)
PARENT = """
import sys
from scheduler.extender import process
if __name__ == "__main__":
    running = process.start("127.0.0.1", 0)
    print(running.port, flush=True)
    sys.stdin.read()
"""


def call(port: int, verb: str) -> payloads.Json:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps(payloads.by_names(payloads.pod(gpus=16), "a"))
    connection.request("POST", f"/{verb}", body, {"Content-Type": "application/json"})
    answer: payloads.Json = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def closed(port: int) -> bool:
    """Whether nobody listens; a kernel that still holds the port lets connections wait."""
    with socket.socket() as caller:
        caller.settimeout(60)
        return caller.connect_ex(("127.0.0.1", port)) != 0


def test_a_process_answers_from_what_is_published_and_stops() -> None:
    running = process.start("127.0.0.1", 0)
    try:
        assert "has not read the cluster" in call(running.port, "filter")["Error"]
        full = msgspec.structs.replace(STANDING, planned_at_seconds=-1000.0)
        running.publish(STANDING)
        while call(running.port, "filter").get("FailedAndUnresolvableNodes") is None:
            pass
        assert call(running.port, "filter")["NodeNames"] == []
        running.publish(full)
        while not call(running.port, "filter")["NodeNames"]:
            pass
    finally:
        running.stop()
    running.stop()
    assert not running.alive
    assert closed(running.port)
    with pytest.raises(process.ExtenderGoneError, match=f"port {running.port}"):
        running.publish(STANDING)


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(process.PortInUseError, match=f"127.0.0.1:{port}.*another port"):
            process.start("127.0.0.1", port)


def test_the_process_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    with parent.stdin, parent.stdout:
        port = int(parent.stdout.readline())
        assert not closed(port)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        assert parent.stdout.read() == ""  # the child held the other end until it ended
    assert closed(port)
