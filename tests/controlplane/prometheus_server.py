"""A real Prometheus on a free loopback port, with its data in a folder of the test.

    with PrometheusServer(folder, programs) as server:
        server.backfill(openmetrics)     # before `start`: blocks of the past
        server.start()

A stop is a crash (SIGKILL, no mark in the data that series ended), and `start` begins again on the
same port with the same data.
"""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import URLError
from urllib.request import urlopen

from tests.controlplane.ports import LOOPBACK, free_ports
from tests.controlplane.programs import Guard, Program

START_SECONDS = 120.0
BACKFILL_SECONDS = 120.0

Labels = Mapping[str, str]


class PrometheusServer:
    """One server. `program` finds the binaries; `targets` are addresses to scrape, with labels."""

    def __init__(
        self,
        folder: Path,
        program: Callable[[str], Path],
        targets: Mapping[str, Labels] | None = None,
        scrape_seconds: float = 1.0,
    ) -> None:
        self._folder = folder
        self._binary, self._tool = program("prometheus"), program("promtool")
        self._port = free_ports(1)[0]
        self.url = f"http://{LOOPBACK}:{self._port}"
        self._data = folder / "data"
        self._config = folder / "prometheus.json"  # JSON is YAML
        scrape_ms = round(scrape_seconds * 1000)
        jobs = [
            {"targets": [address], "labels": dict(labels)}
            for address, labels in (targets or {}).items()
        ]
        document = {
            "global": {"scrape_interval": f"{scrape_ms}ms", "scrape_timeout": f"{scrape_ms}ms"},
            "scrape_configs": [{"job_name": "engines", "static_configs": jobs}] if jobs else [],
        }
        self._config.write_text(json.dumps(document))
        scratch = folder / "guarded"
        scratch.mkdir()
        self._guard = Guard(scratch)
        self._running: Program | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._guard.close()

    @property
    def pid(self) -> int | None:
        return None if self._running is None else self._running.pid

    def backfill(self, openmetrics: str) -> None:
        """Writes blocks from OpenMetrics text: time stamps in seconds, `# EOF` at its end."""
        file = self._folder / "past.om"
        file.write_text(openmetrics)
        done = subprocess.run(
            [self._tool, "tsdb", "create-blocks-from", "openmetrics", file, self._data],
            capture_output=True,
            text=True,
            timeout=BACKFILL_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        self._running = Program(
            "prometheus",
            [
                str(self._binary),
                f"--config.file={self._config}",
                f"--storage.tsdb.path={self._data}",
                f"--web.listen-address={LOOPBACK}:{self._port}",
                "--storage.tsdb.no-lockfile",
                "--storage.tsdb.retention.time=10y",
            ],
            self._folder / "prometheus.log",
            {},
            self._guard,
        )
        self._running.wait_until(self._ready, START_SECONDS, f"answer at {self.url}")

    def stop(self) -> None:
        """Ends the server by its pid; stopped already: nothing."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def _ready(self) -> bool:
        try:
            with urlopen(f"{self.url}/-/ready", timeout=1) as answer:  # noqa: S310, our own address
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False
