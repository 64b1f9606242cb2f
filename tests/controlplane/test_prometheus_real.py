"""Signals read from a real Prometheus: backfilled tides, live scrapes, resets, an outage."""

import contextlib
import csv
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from forecasting import Observed, Sample
from scheduler.adapters.prometheus.connection import Connection
from scheduler.adapters.prometheus.signals import PrometheusSignals
from scheduler.planning.policy import Policy, parse
from scheduler.planning.snapshot import CapacitySignal, RoleSignal
from scheduler.ports import Signals
from tests.controlplane.kinds.world import WAIT_SECONDS
from tests.controlplane.prometheus_server import PrometheusServer

pytestmark = pytest.mark.controlplane

BIN = 300
SCRAPE = 30
DAY = 86400
END = 1_760_000_100 // BIN * BIN  # any multiple of a bin in the past
Find = Callable[[str], Path]
Floats = NDArray[np.float64]


def policy_of(kind: str = "RoleBasedGroup") -> Policy:
    """Prefill and decode of one model, as pods of one RoleBasedGroup or of two Deployments."""

    def target(role: str) -> dict[str, str]:
        if kind == "RoleBasedGroup":
            return {"kind": kind, "namespace": "serving", "name": "pd", "role": role}
        return {"kind": kind, "namespace": "serving", "name": role}

    roles = {
        role: {
            "target": target(role),
            "tokens": stream,
            "capacity_tokens_per_second": {"H100": 1000.0},
        }
        for role, stream in (("prefill", "prompt"), ("decode", "generated"))
    }
    return parse({"version": 1, "models": {"m": {"roles": roles}}})


def engine(pod: str, engine_labels: str = 'model_name="m",engine="0"') -> str:
    return f'{engine_labels},namespace="serving",pod="{pod}",instance="{pod}:8000"'


class Past:
    """Counters of pods over time, as OpenMetrics text. Values at each scrape, None: no scrape."""

    def __init__(self, times: Floats) -> None:
        self.times = times
        self._lines: dict[str, list[str]] = {}

    def add(self, name: str, kind: str, labels: str, values: Sequence[float | None]) -> None:
        family = name.removesuffix("_total")
        lines = self._lines.setdefault(family, [f"# TYPE {family} {kind}"])
        lines += [
            f"{name}{{{labels}}} {value:.3f} {at:.0f}"
            for at, value in zip(self.times, values, strict=True)
            if value is not None
        ]

    @property
    def text(self) -> str:
        return "\n".join([line for lines in self._lines.values() for line in lines] + ["# EOF\n"])


def counted(rate: Floats, restart: int | None, hole: slice) -> list[float | None]:
    """Integrate a rate per scrape. A restart puts the counter to zero just after a scrape: what
    is counted between the last scrape and a restart is lost to everybody. A hole has no scrapes.
    """
    total = np.cumsum(rate * SCRAPE)
    if restart is not None and restart < len(total):
        total[restart:] -= total[restart - 1]
    values: list[float | None] = total.tolist()
    values[hole] = [None] * len(values[hole])
    return values


def tide(times: Floats, low: float, high: float) -> Floats:
    """A day's wave with a faster one on it, in tokens per second."""
    wave = 0.5 - 0.45 * np.cos(2 * np.pi * times / DAY) + 0.02 * np.sin(2 * np.pi * times / 4000)
    return np.asarray(low + (high - low) * wave)


def bin_rates(rate: Floats) -> Floats:
    """Mean rate of each bin; the scrape at a bin's start belongs to the bin before it."""
    return np.asarray(rate[1:].reshape(-1, BIN // SCRAPE).mean(axis=1))


HOLE = slice(2000, 2040)  # 20 minutes without scrapes
RESTART = 3500


def pd_past(times: Floats, prompt: Floats, generated: Floats) -> Past:
    """Two pods per role; both roles count both streams, as engines of a pair do."""
    past = Past(times)
    zero: list[float | None] = [0.0] * len(times)
    zero[HOLE] = [None] * len(zero[HOLE])
    for role in ("prefill", "decode"):
        for index in (0, 1):
            labels = engine(f"pd-{role}-{index}")
            restart = RESTART if index == 0 else None
            share = 0.3 if index == 0 else 0.7
            past.add(
                "vllm:prompt_tokens_total",
                "counter",
                labels,
                counted(prompt * share, restart, HOLE),
            )
            # A prefill engine makes one token per request.
            made = generated * share if role == "decode" else prompt * share / 1000
            past.add(
                "vllm:generation_tokens_total", "counter", labels, counted(made, restart, HOLE)
            )
            past.add(
                "vllm:request_success_total",
                "counter",
                labels,
                counted(prompt * share / 1000, restart, HOLE),
            )
            past.add("vllm:num_requests_running", "gauge", labels, zero)
            past.add("vllm:num_requests_waiting", "gauge", labels, zero)
    return past


@pytest.fixture(scope="module")
def days(
    tmp_path_factory: pytest.TempPathFactory, program: Find
) -> Iterator[tuple[PrometheusServer, Floats, Floats]]:
    times = END - 2 * DAY + SCRAPE * np.arange(2 * DAY // SCRAPE + 1, dtype=np.float64)
    prompt, generated = tide(times, 500, 20_000), tide(times + 7000, 100, 3000)
    with PrometheusServer(tmp_path_factory.mktemp("days"), program) as server:
        server.backfill(pd_past(times, prompt, generated).text)
        server.start()
        yield server, bin_rates(prompt), bin_rates(generated)


def series(observed: Sequence[Observed], key: str) -> list[Sample]:
    """The bins of one series; those of a stretch as samples."""
    out: list[Sample] = []
    for one in observed:
        if one.key != key:
            continue
        if isinstance(one, Sample):
            out.append(one)
            continue
        for number, rate in enumerate(one.rates.tolist()):
            start = one.start_seconds + number * one.width_seconds
            out.append(Sample(key, start, one.width_seconds, rate, valid=math.isfinite(rate)))
    return out


def errors(samples: Sequence[Sample], truth: Floats) -> list[float]:
    """Relative errors of the valid bins against the truth, which ends with the last sample."""
    pairs = zip(samples[-len(truth) :], truth.tolist(), strict=True)
    return [abs(one.rate / true - 1) for one, true in pairs if one.valid]


def test_history_of_two_days_is_within_two_per_cent_of_the_truth(
    days: tuple[PrometheusServer, Floats, Floats],
) -> None:
    server, prompt, generated = days
    signals = PrometheusSignals(Connection(server.url), policy_of)
    history = signals.history(END + 10.0)
    assert signals.problem == ""
    for key, truth in (("m/prompt_tokens", prompt), ("m/generated_tokens", generated)):
        seen = series(history, key)
        assert len(seen) == 14 * DAY // BIN
        assert [one.start_seconds % BIN for one in seen[:3]] == [0, 0, 0]
        assert seen[-1].start_seconds == END - BIN
        recorded = seen[-len(truth) :]
        assert not any(one.valid for one in seen[: -len(truth)])
        missing = [number for number, one in enumerate(recorded) if not one.valid]
        first, last = HOLE.start * SCRAPE // BIN, HOLE.stop * SCRAPE // BIN
        reset = RESTART * SCRAPE // BIN - 1  # a third of what it counts is of a counter that fell
        assert missing == [*range(first, last), reset], "no scrapes at an edge, or a reset"
        assert max(errors(seen, truth)) < 0.02
    requests = series(history, "m/requests")
    assert max(errors(requests, prompt / 1000)) < 0.02


def test_no_bin_is_told_twice(days: tuple[PrometheusServer, Floats, Floats]) -> None:
    server, prompt, _ = days
    signals = PrometheusSignals(Connection(server.url), policy_of)
    signals.history(END - 1000.0)
    after = series(signals.samples(END + 10.0), "m/prompt_tokens")
    assert [one.start_seconds for one in after] == [
        END - 4 * BIN,
        END - 3 * BIN,
        END - 2 * BIN,
        END - BIN,
    ]
    assert max(errors(after, prompt[-4:])) < 0.02
    assert signals.samples(END + 20.0) == []


def test_bins_in_which_ready_replicas_did_not_report_are_unknown(
    days: tuple[PrometheusServer, Floats, Floats],
) -> None:
    server, _, _ = days
    signals: Signals = PrometheusSignals(Connection(server.url), policy_of)
    three = {("m/prefill", "H100"): 3, ("m/decode", "H100"): 2}
    signals.history(END - 4.0 * BIN)
    for at in range(END - 4 * BIN, END - 2 * BIN + 1, 60):
        statuses = [one.status for one in signals.roles(float(at), three)]
        assert statuses == ["live", "partial"]
    told = signals.samples(END + 10.0)
    assert [one.valid for one in series(told, "m/prompt_tokens")] == [False, False, False, True]
    assert [one.valid for one in series(told, "m/generated_tokens")] == [True] * 4


def test_a_history_that_nobody_answered_for_comes_when_prometheus_is_back(
    tmp_path: Path, program: Find
) -> None:
    times = END - DAY / 4 + SCRAPE * np.arange(DAY // 4 // SCRAPE + 1, dtype=np.float64)
    rate = tide(times, 500, 20_000)
    with PrometheusServer(tmp_path, program) as server:
        server.backfill(pd_past(times, rate, rate).text)
        signals = PrometheusSignals(Connection(server.url, timeout_seconds=1), policy_of)
        missed = signals.history(END + 1.0)
        assert missed
        assert not any(one.valid for one in series(missed, "m/prompt_tokens"))
        assert "does not answer" in signals.problem
        assert [one.status for one in signals.roles(END + 1.0, {})] == ["absent", "absent"]
        server.start()
        late = series(signals.samples(END + 2.0), "m/prompt_tokens")
        assert [one.status for one in signals.roles(END + 2.0, {})] == ["live", "live"]
        assert signals.problem == ""
        assert len(late) == DAY // 4 // BIN, "the known bins only: the others were told"
        assert (
            max(
                abs(one.rate / true - 1)
                for one, true in zip(late, bin_rates(rate).tolist(), strict=True)
            )
            < 0.02
        )


def test_renamed_metrics_under_labels_that_were_moved_aside(tmp_path: Path, program: Find) -> None:
    """A collector in between keeps `namespace` and `pod` for itself; KServe renames metrics."""
    times = END - 7200 + SCRAPE * np.arange(7200 // SCRAPE + 1, dtype=np.float64)
    past = Past(times)
    steady = np.full(len(times), 3000.0)
    ours = {"pd-prefill-0": "kserve_vllm_", "pd-decode-bcdfg-0": "vllm_"}
    for pod, prefix in {**ours, "pd-decode-large-0": "vllm_"}.items():
        labels = (
            f'model_name="m",exported_namespace="serving",exported_pod="{pod}",'
            f'namespace="monitoring",pod="collector-0",instance="{pod}"'
        )
        for stream in ("prompt", "generation"):
            name = f"{prefix}{stream}_tokens_total"
            past.add(name, "counter", labels, counted(steady, None, slice(0, 0)))
        past.add(f"{prefix}num_requests_running", "gauge", labels, [1.0] * len(times))
    with PrometheusServer(tmp_path, program) as server:
        server.backfill(past.text)
        server.start()
        signals = PrometheusSignals(Connection(server.url), policy_of)
        history = signals.history(END + 1.0)
        for key in ("m/prompt_tokens", "m/generated_tokens"):
            last = series(history, key)[-20:]
            assert all(one.valid for one in last)
            assert [one.rate for one in last] == pytest.approx([3000.0] * 20, rel=0.001)
        # Nobody counts requests here: not known is not zero.
        assert not any(one.valid for one in series(history, "m/requests"))
        assert [one.status for one in signals.roles(END + 1.0, {})] == ["live", "live"]
        ready = {("m/decode", "H100"): 2, ("m/prefill", "H100"): 1}
        assert [one.status for one in signals.roles(END + 2.0, ready)] == ["partial", "live"]


def test_tokens_counted_at_the_end_of_requests_and_counters_not_born(
    tmp_path: Path, program: Find
) -> None:
    """SGLang: no counter before the first request; then a queue that only grows."""
    times = END - 7200 + SCRAPE * np.arange(7200 // SCRAPE + 1, dtype=np.float64)
    past = Past(times)
    born = len(times) // 2
    done = np.maximum(np.arange(len(times)) - born, 0.0)
    waits = np.where(done > 0, 2 * done, 0.0)
    for role in ("prefill", "decode"):
        labels = engine(f"pd-{role}-0", 'model_name="m"')
        past.add("sglang:num_running_reqs", "gauge", labels, np.minimum(done, 5).tolist())
        past.add("sglang:num_queue_reqs", "gauge", labels, waits.tolist())
        for name, each in (
            ("sglang:prompt_tokens_total", 600),
            ("sglang:generation_tokens_total", 90),
            ("sglang:num_requests_total", 1),
        ):
            values = [each * float(one) if one > 0 else None for one in done]
            past.add(name, "counter", labels, values)
    with PrometheusServer(tmp_path, program) as server:
        server.backfill(past.text)
        server.start()
        signals = PrometheusSignals(Connection(server.url), policy_of)
        idle_at = END - 7200 + 1500.0
        assert [one.status for one in signals.roles(idle_at, {})] == ["idle", "idle"]
        history = signals.history(END + 1.0)
        recorded = series(history, "m/prompt_tokens")[-24:]
        assert [(one.rate, one.valid) for one in recorded[2:10]] == [(0.0, True)] * 8
        # One request ends per scrape and two more wait: three arrive, of 600 tokens each.
        arrived = [one.rate for one in recorded[-8:]]
        assert arrived == pytest.approx([3 * 600 / SCRAPE] * 8, rel=0.02)
        decode, prefill = signals.roles(END + 1.0, {})
        assert prefill.arrived_tokens_per_second == pytest.approx(60.0, rel=0.05)
        assert prefill.served_tokens_per_second == pytest.approx(20.0, rel=0.05)
        assert decode.queued_tokens == pytest.approx(waits[-1] * 90, rel=0.02)


def test_a_recorded_trace_comes_back(tmp_path: Path, program: Find, shared_data: Path) -> None:
    with (shared_data / "demand" / "servegen_m-small_600s.csv").open() as file:
        rows = list(csv.DictReader(file))[: 2 * DAY // 600]
    prompt = np.repeat([float(row["prompt_tokens"]) / 600 for row in rows], 600 // SCRAPE)
    generated = np.repeat([float(row["generated_tokens"]) / 600 for row in rows], 600 // SCRAPE)
    known = np.repeat([row["valid"] == "1" for row in rows], 2)
    prompt, generated = np.insert(prompt, 0, 0.0), np.insert(generated, 0, 0.0)
    times = END - 2 * DAY + SCRAPE * np.arange(2 * DAY // SCRAPE + 1, dtype=np.float64)
    with PrometheusServer(tmp_path, program) as server:
        server.backfill(pd_past(times, prompt, generated).text)
        server.start()
        signals = PrometheusSignals(Connection(server.url), policy_of)
        history = signals.history(END + 10.0)
    for key, rate in (("m/prompt_tokens", prompt), ("m/generated_tokens", generated)):
        truth = bin_rates(rate)
        seen = series(history, key)[-len(truth) :]
        off = [
            abs(one.rate - true) / true
            for one, true, good in zip(seen, truth.tolist(), known.tolist(), strict=True)
            if one.valid and good
        ]
        assert len(off) > 0.95 * len(truth)
        assert float(np.mean(off)) < 0.02
        total = sum(one.rate for one in seen if one.valid)
        whole = sum(true for one, true in zip(seen, truth.tolist(), strict=True) if one.valid)
        assert math.isclose(total, whole, rel_tol=0.002)


class Exporter:
    """Metrics of two engines over HTTP; a counter grows by the clock, or is put back to zero."""

    def __init__(self) -> None:
        self.rate = 1000.0
        self.waiting = 0.0
        self.broken = False
        self._began = time.monotonic()
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

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

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

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


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
        one.close()


def scraped(exporters: Mapping[str, Exporter]) -> dict[str, dict[str, str]]:
    return {one.address: {"namespace": "serving", "pod": name} for name, one in exporters.items()}


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

        other.broken = True
        until(lambda: statuses() == ["live", "partial"])
        other.broken = False
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


def test_gpus_report_by_two_generations_of_the_exporter(tmp_path: Path, program: Find) -> None:
    times = END - 600 + SCRAPE * np.arange(21, dtype=np.float64)
    past = Past(times)
    for host, gpu, label, value in (
        ("a", "0", "Hostname", 80),
        ("a", "1", "Hostname", 40),
        ("b", "0", "hostname", 60),
    ):
        labels = f'{label}="{host}",gpu="{gpu}",UUID="{host}{gpu}"'
        values = [float(value)] * len(times)
        past.add("DCGM_FI_DEV_GPU_UTIL", "gauge", labels, values)
        past.add("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "gauge", labels, [each / 200 for each in values])
    # The same GPU by a second scrape job counts once.
    past.add(
        "DCGM_FI_DEV_GPU_UTIL",
        "gauge",
        'hostname="b",gpu="0",UUID="b0",job="x"',
        [60.0] * len(times),
    )
    with PrometheusServer(tmp_path, program) as server:
        server.backfill(past.text)
        server.start()
        signals = PrometheusSignals(Connection(server.url), policy_of)
        use = signals.utilisation(END + 5.0)
        assert use.gpus == 3
        assert use.gpu_util == pytest.approx(0.6)
        assert use.active == pytest.approx(0.3)
        assert use.active_metric == "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
        assert "SM_ACTIVE is not exported" in use.note
        assert signals.utilisation(END + 200.0).gpus == 0
