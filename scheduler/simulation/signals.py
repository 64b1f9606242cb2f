"""What the engines report: signals over the last minute, measured capacity, measured starts.

Truth comes in as step reports; what goes out is what a metrics store would show. Measured
capacity strays from the truth by noise that depends on the seed, the pool and the minute alone,
so observing twice shows the same. While scrapes are missing a role shows its last good signal,
marked stale; while metrics are away there are none.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from zlib import crc32

import numpy as np

from scheduler.planning.snapshot import CapacitySignal, RoleSignal, StartSignal
from scheduler.simulation.replica import PoolKey, Workload
from scheduler.simulation.replicas import Started
from scheduler.simulation.serving import StepReport

WINDOW_SECONDS = 60.0
Health = Callable[[str], str]
"""Role key -> `live`, `stale` or `absent`."""


class Signals:
    """The last minute of reports."""

    def __init__(
        self, workloads: tuple[Workload, ...], step_seconds: float, noise_sd: float, seed: int
    ) -> None:
        self._workloads = sorted(workloads, key=lambda one: one.key)
        self._step = step_seconds
        self._noise_sd = noise_sd
        self._seed = seed
        self._reports: deque[StepReport] = deque(maxlen=round(WINDOW_SECONDS / step_seconds))
        self._noise: dict[tuple[PoolKey, int], float] = {}
        self._good: dict[str, RoleSignal] = {}
        self._starts: tuple[StartSignal, ...] = ()
        self._starts_of = 0

    def take(self, report: StepReport) -> None:
        """Take the report of one step."""
        self._reports.append(report)

    def roles(self, health: Health) -> tuple[RoleSignal, ...]:
        """Return one signal per role, in order of key."""
        return tuple([self._role(one, health(one.key)) for one in self._workloads])

    def capacities(self, health: Health, now_seconds: float) -> tuple[CapacitySignal, ...]:
        """Return the measured capacity of the pools that have ready replicas, in order."""
        if not self._reports:
            return ()
        last = self._reports[-1]
        return tuple(
            [
                self._capacity(one, gpu_model, last, now_seconds)
                for one in self._workloads
                if health(one.key) == "live"
                for gpu_model in one.gpu_models
                if (one.model, one.role, gpu_model) in last.flows
            ]
        )

    def starts(self, started: Iterable[Started], count: int) -> tuple[StartSignal, ...]:
        """Return measured times to ready per role and tier.

        `count` is how many starts there ever were; until it rises, the answer is the same object.
        """
        if count != self._starts_of:
            self._starts_of, self._starts = count, _start_signals(started)
        return self._starts

    def _role(self, workload: Workload, health: str) -> RoleSignal:
        key = workload.key
        if health == "live":
            self._good[key] = self._live(workload)
            return self._good[key]
        good = self._good.get(key)
        if health == "absent" or good is None:
            return _silent(key)
        return RoleSignal(
            role=key,
            status="stale",
            window_seconds=good.window_seconds,
            arrived_tokens_per_second=good.arrived_tokens_per_second,
            served_tokens_per_second=good.served_tokens_per_second,
            queued_tokens=good.queued_tokens,
            utilisation=good.utilisation,
            late_share=good.late_share,
        )

    def _live(self, workload: Workload) -> RoleSignal:
        pools = [(workload.model, workload.role, name) for name in workload.gpu_models]
        arrived = served = working = capacity = 0.0
        for report in self._reports:
            for pool in pools:
                flow = report.flows.get(pool)
                if flow is not None:
                    arrived += flow.arrived
                    served += flow.served + flow.served_draining
                    working += flow.served
                    capacity += flow.capacity
        seconds = max(len(self._reports), 1) * self._step
        return RoleSignal(
            role=workload.key,
            status="live" if arrived or served else "idle",
            window_seconds=WINDOW_SECONDS,
            arrived_tokens_per_second=arrived / seconds,
            served_tokens_per_second=served / seconds,
            queued_tokens=self._waiting(pools),
            utilisation=min(1.0, working / (capacity * self._step)) if capacity else 0.0,
            late_share=self._late_share(workload),
        )

    def _waiting(self, pools: list[PoolKey]) -> float:
        if not self._reports:
            return 0.0
        flows = self._reports[-1].flows
        return sum(flows[pool].waiting for pool in pools if pool in flows)

    def _late_share(self, workload: Workload) -> float:
        """Return the share of tokens due that this role made late: TTFT is prefill's."""
        due = missed = prefill = 0.0
        for report in self._reports:
            due += report.tokens_due.get(workload.model, 0.0)
            prefill += report.tokens_late_prefill.get(workload.model, 0.0)
            missed += report.tokens_due.get(workload.model, 0.0)
            missed -= report.tokens_met.get(workload.model, 0.0)
        late = prefill if workload.role == "prefill" else missed - prefill
        return min(1.0, max(0.0, late / due)) if due > 0 else 0.0

    def _capacity(
        self, workload: Workload, gpu_model: str, last: StepReport, now_seconds: float
    ) -> CapacitySignal:
        pool = (workload.model, workload.role, gpu_model)
        flow = last.flows[pool]
        true = flow.capacity / flow.ready if flow.ready else 0.0
        busy = flow.ready > 0 and flow.served > 0
        return CapacitySignal(
            role=workload.key,
            gpu_model=gpu_model,
            tokens_per_second=true * self._stray(pool, now_seconds) if busy else 0.0,
            samples=flow.ready if busy else 0,
        )

    def _stray(self, pool: PoolKey, now_seconds: float) -> float:
        """Return the factor of this pool's measurement in this minute."""
        minute = int(now_seconds // WINDOW_SECONDS)
        if (pool, minute) not in self._noise:
            self._noise = {key: value for key, value in self._noise.items() if key[1] == minute}
            # Minutes before 0 are negative, and seeds must not be.
            stream = [self._seed, crc32("/".join(pool).encode()), minute % 2**32]
            drawn = float(np.random.default_rng(stream).normal(0.0, self._noise_sd))
            self._noise[pool, minute] = max(0.1, 1.0 + drawn)
        return self._noise[pool, minute]


def _silent(key: str) -> RoleSignal:
    return RoleSignal(
        role=key,
        status="absent",
        window_seconds=WINDOW_SECONDS,
        arrived_tokens_per_second=0.0,
        served_tokens_per_second=0.0,
        queued_tokens=0.0,
        utilisation=0.0,
        late_share=0.0,
    )


def _start_signals(started: Iterable[Started]) -> tuple[StartSignal, ...]:
    seconds = defaultdict(list)
    for one in started:
        seconds[one.role, one.tier].append(one.seconds)
    signals = []
    for (role, tier), values in sorted(seconds.items()):
        p50, p99 = np.quantile(values, (0.5, 0.99))
        signals.append(
            StartSignal(
                role=role,
                tier=tier,
                p50_seconds=float(p50),
                p99_seconds=float(p99),
                samples=len(values),
            )
        )
    return tuple(signals)
