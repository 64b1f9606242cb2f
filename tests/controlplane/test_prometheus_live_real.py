"""Signals read from a real Prometheus that scrapes: a reset, a lost pod, an outage."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from scheduler.adapters.prometheus.connection import Connection
from scheduler.adapters.prometheus.signals import PrometheusSignals
from scheduler.planning.snapshot import CapacitySignal, RoleSignal
from tests.controlplane.kinds.world import WAIT_SECONDS
from tests.controlplane.page import Page
from tests.controlplane.pasts import Find, policy_of
from tests.controlplane.prometheus_server import PrometheusServer

pytestmark = pytest.mark.controlplane


class Exporter:
    """Metrics of two engines over HTTP; a counter grows by the clock, or is put back to zero."""

    def __init__(self) -> None:
        self.rate = 1000.0
        self.waiting = 0.0
        self._began = time.monotonic()
        self.page = Page(self.text)

    def restart(self) -> None:
        self._began = time.monotonic()

    def text(self) -> str:
        tokens = self.rate * (time.monotonic() - self._began)
        labels = 'model_name="m",engine="0"'
        lines = [
            f"vllm:prompt_tokens_total{{{labels}}} {tokens}",
            f"vllm:generation_tokens_total{{{labels}}} {tokens / 10}",
            f'vllm:request_success_total{{{labels},finished_reason="stop"}} {tokens / 500}',
            f"vllm:num_requests_running{{{labels}}} 4",
            f"vllm:num_requests_waiting{{{labels}}} {self.waiting}",
            f"vllm:kv_cache_usage_perc{{{labels}}} 0.95",
        ]
        for bound, share in (("1.0", 0.5), ("3.0", 0.9), ("+Inf", 1.0)):
            value = share * tokens / 500
            name = "vllm:time_to_first_token_seconds_bucket"
            lines.append(f'{name}{{{labels},le="{bound}"}} {value}')
        return "\n".join(lines) + "\n"


def passes(check: Callable[[], None]) -> None:
    """Check until it passes: a machine that is late with its scrapes is given another look."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(AssertionError):
            return check()
        time.sleep(0.1)
    return check()


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not ready():
        assert time.monotonic() < deadline, "nothing of the kind in time"
        time.sleep(0.1)


@pytest.fixture
def exporters() -> Iterator[dict[str, Exporter]]:
    made = {
        name: Exporter()
        for name in ("prefill-bcdf-bcdfg", "prefill-bcdf-xwz24", "decode-bcdf-bcdfg")
    }
    yield made
    for one in made.values():
        one.page.close()


def scraped(exporters: Mapping[str, Exporter]) -> dict[str, dict[str, str]]:
    return {
        one.page.address: {"namespace": "serving", "pod": name} for name, one in exporters.items()
    }


def test_live_scrapes_a_reset_a_lost_pod_and_an_outage(
    tmp_path: Path, program: Find, exporters: dict[str, Exporter]
) -> None:
    one, other, _ = exporters.values()
    ready = {("m/prefill", "H100"): 2, ("m/decode", "H100"): 1}
    with PrometheusServer(tmp_path, program, scraped(exporters), 0.25) as server:
        server.start()
        signals = PrometheusSignals(
            Connection(server.url, timeout_seconds=1),
            lambda: policy_of("Deployment"),
            window_seconds=3,
            stale_seconds=2,
        )

        def statuses() -> list[str]:
            return [role.status for role in signals.roles(time.time(), ready)]

        def seen() -> tuple[RoleSignal, RoleSignal, dict[str, CapacitySignal]]:
            now = time.time()
            decoding, prefilling = signals.roles(now, ready)
            assert (decoding.role, prefilling.role) == ("m/decode", "m/prefill")
            return decoding, prefilling, {one.role: one for one in signals.capacities(now, ready)}

        def steady() -> None:
            decoding, prefilling, measured = seen()
            assert prefilling.arrived_tokens_per_second == pytest.approx(2000, rel=0.05)
            assert decoding.arrived_tokens_per_second == pytest.approx(100, rel=0.05)
            # Prompts of 500 tokens: late after 2 + 0.125 s, inside the bucket from 1 to 3 s.
            assert prefilling.late_share == pytest.approx(1 - (0.5 + 0.4 * 1.125 / 2), abs=0.02)
            assert measured["m/prefill"].samples == 0, "nothing waits: not at its limit"
            assert measured["m/decode"].tokens_per_second == pytest.approx(100, rel=0.05)

        def over_a_reset() -> None:
            one.restart()  # both counters of a pod begin again
            time.sleep(1.5)
            after = seen()[1]
            assert after.status == "live"
            assert after.arrived_tokens_per_second == pytest.approx(2000, rel=0.15)

        def queueing() -> None:
            _, waiting, measured = seen()
            assert waiting.queued_tokens == pytest.approx(6 * 500, rel=0.02)
            assert measured["m/prefill"].samples == 2
            assert measured["m/prefill"].tokens_per_second == pytest.approx(1000, rel=0.1)

        passes(steady)
        passes(over_a_reset)
        one.waiting = other.waiting = 3.0
        passes(queueing)

        other.page.broken = True
        until(lambda: statuses() == ["live", "partial"])
        other.page.broken = False
        until(lambda: statuses() == ["live", "live"])

        server.stop()
        good = signals.roles(time.time(), ready)
        assert "does not answer" in signals.problem
        told_at = time.time()
        assert signals.samples(told_at)
        until(lambda: statuses() == ["stale", "stale"])
        assert signals.roles(time.time(), {})[1].arrived_tokens_per_second == pytest.approx(
            good[1].arrived_tokens_per_second, rel=0.2
        )
        server.start()
        until(lambda: statuses() == ["live", "live"])
        # at the same time: a bin that has ended since would be told
        assert signals.samples(told_at) == [], "told already, and nothing of them was recorded"
        assert signals.problem == ""
