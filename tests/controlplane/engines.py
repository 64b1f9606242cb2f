"""Engines that Prometheus scrapes: what they tell now, and what they told in the past."""

import contextlib
import threading
import time

from scheduler.apiserver.client import ApiError, ApiUnreachableError
from tests.controlplane.kinds.world import World
from tests.controlplane.page import Page

REQUEST_TOKENS = 500
WINDOW_SECONDS = 60.0
"""Over which Tidal takes the mean of what arrives."""
STEP_SECONDS = 0.2


class Engines:
    """Metrics of the engines of one model, as vLLM names them: of the pods that run now.

    Demand is served by whoever runs. Where the API server is down the pods are the last known.
    """

    def __init__(self, world: World, app: str, model: str) -> None:
        self.rate = 0.0
        self._world, self._app, self._model = world, app, model
        self._tokens: dict[str, float] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.page = Page(self.text)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def burst(self, tokens_per_second: float) -> None:
        """Let so much more arrive, as the mean of the coming minute, within the next scrape."""
        self._see()
        with self._lock:
            for pod in self._tokens:
                self._tokens[pod] += tokens_per_second * WINDOW_SECONDS / len(self._tokens)

    def restart(self) -> None:
        """All counters begin again."""
        with self._lock:
            self._tokens = dict.fromkeys(self._tokens, 0.0)

    def text(self) -> str:
        with self._lock:
            tokens = dict(self._tokens)
        return "".join(self._pod(pod, count) for pod, count in sorted(tokens.items()))

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.page.close()

    def _pod(self, pod: str, tokens: float) -> str:
        labels = f'model_name="{self._model}",namespace="{self._world.namespace}",pod="{pod}"'
        values = {
            "generation_tokens_total": tokens,
            "prompt_tokens_total": tokens,
            "request_success_total": tokens / REQUEST_TOKENS,
            "num_requests_running": 1,
            "num_requests_waiting": 0,
        }
        return "".join(f"vllm:{name}{{{labels}}} {value}\n" for name, value in values.items())

    def _serve(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(STEP_SECONDS):
            with contextlib.suppress(ApiError, ApiUnreachableError):
                self._see()
            now = time.monotonic()
            with self._lock:
                for pod in self._tokens:
                    self._tokens[pod] += self.rate * (now - before) / len(self._tokens)
            before = now

    def _see(self) -> None:
        """Pods that run; the counters of those on their way out are gone."""
        pods = [
            one["metadata"]["name"]
            for one in self._world.all("pods", f"app={self._app}")
            if one["status"]["phase"] == "Running" and "deletionTimestamp" not in one["metadata"]
        ]
        with self._lock:
            self._tokens = {pod: self._tokens.get(pod, 0.0) for pod in pods}


def history_of(namespace: str, pod: str, rate: float, days: int = 2) -> str:
    """OpenMetrics of one engine's past until a minute ago, of a demand that never changed."""
    step, end = 60, int(time.time()) - 60
    labels = f'model_name="chat",namespace="{namespace}",pod="{pod}"'
    times = range(end - days * 86400, end, step)
    lines = []
    for family, kind, value in (
        ("generation_tokens", "counter", lambda n: n * step * rate),
        ("request_success", "counter", lambda n: n * step * rate / REQUEST_TOKENS),
        ("num_requests_running", "gauge", lambda _: 1.0),
        ("num_requests_waiting", "gauge", lambda _: 0.0),
    ):
        name = f"vllm:{family}"
        series = f"{name}_total" if kind == "counter" else name
        lines.append(f"# TYPE {name} {kind}")
        lines += [f"{series}{{{labels}}} {value(n):.1f} {at}" for n, at in enumerate(times)]
    return "\n".join([*lines, "# EOF\n"])
