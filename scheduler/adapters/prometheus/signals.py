"""`PrometheusSignals`: demand, signals and measured capacity of a policy's roles.

What was seen last is kept, so that a reader always gets an answer:

    live, idle   fresh samples from every ready replica; idle: nothing arrived, nothing is open
    partial      fewer pods report than replicas are ready, or a part of the reading is missing
    stale        the newest sample is older than `stale_seconds`; its values are the last good ones
    absent       never seen

Until the last good reading is that old it stands as it was: one failed scrape is no news. No
failure of Prometheus is raised; `problem` says in a sentence why something is missing, and the
next call asks again. After a query that nobody answered, no further one is sent in that call.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from forecasting import Observed
from scheduler.adapters.prometheus import queries
from scheduler.adapters.prometheus.connection import (
    Connection,
    PrometheusDownError,
    PrometheusError,
)
from scheduler.adapters.prometheus.demand import Demand
from scheduler.adapters.prometheus.doubts import Doubts
from scheduler.adapters.prometheus.engines import Engines, Found, engines, find
from scheduler.adapters.prometheus.gpus import utilisation
from scheduler.adapters.prometheus.reading import Duties, Reading, capacity, reading, signal
from scheduler.planning.policy import Policy, RolePolicy
from scheduler.planning.snapshot import CapacitySignal, RoleSignal
from scheduler.ports import GpuUse, Ready

WINDOW_SECONDS = 60.0
STALE_SECONDS = 90.0
FOUND_SECONDS = 300.0
"""How long names and labels are remembered: an engine may begin to export another name."""


class _Known(msgspec.Struct, frozen=True):
    """What index queries found, and when."""

    found: tuple[Found, ...]
    at_seconds: float


class _Look(msgspec.Struct, frozen=True):
    """Fresh readings of one instant by role key."""

    at_seconds: float
    readings: Mapping[str, Reading]


class PrometheusSignals:
    """Reads one Prometheus; not safe from several threads at once."""

    def __init__(
        self,
        connection: Connection,
        policy: Callable[[], Policy],
        *,
        window_seconds: float = WINDOW_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        """Signals are means over a window, which must hold two scrapes at least."""
        self._connection = connection
        self._policy = policy
        self._window = window_seconds
        self._stale = stale_seconds
        self._known: dict[Engines, _Known] = {}
        self._look: _Look | None = None
        self._good: dict[str, tuple[float, RoleSignal]] = {}
        self._measured: dict[tuple[str, str], float] = {}
        self._demand = Demand(connection)
        self._doubts = Doubts(stale_seconds)
        self._down = ""
        self._silent = ""

    @property
    def problem(self) -> str:
        """Why something is missing, in a sentence; empty where nothing is."""
        return self._down or self._demand.problem or self._silent

    def history(self, now_seconds: float) -> Sequence[Observed]:
        """Return the bins of the last 14 days, gaps as unknown, and begin anew from there."""
        self._demand.begin()
        return self.samples(now_seconds)

    def samples(self, now_seconds: float) -> Sequence[Observed]:
        """Return bins that closed since the last call, then those that are known only now."""
        return self._demand.observed(self._policy(), now_seconds, self._doubts.bins)

    def roles(self, now_seconds: float, ready: Ready) -> tuple[RoleSignal, ...]:
        """Return one signal per role of the policy, in order of key.

        Of roles that `ready` does not name, too few pods are not noticed, and utilisation is by
        the pods that report.
        """
        policy, look = self._policy(), self._looked(now_seconds)
        self._judge(look, ready)
        return tuple([self._signal(policy, key, role, look, ready) for key, role in _roles(policy)])

    def capacities(self, now_seconds: float, ready: Ready) -> tuple[CapacitySignal, ...]:
        """Return what replicas at their limit served, per role and GPU model that is ready."""
        policy, look = self._policy(), self._looked(now_seconds)
        signals = []
        for (key, gpu_model), count in sorted(ready.items()):
            role = policy.role(key)
            if role is None or count <= 0:
                continue
            alone = len(_gpu_models(key, ready)) == 1
            seen = look.readings.get(key) if alone else None
            slo = policy.models[key.partition("/")[0]].slo
            found = capacity(key, gpu_model, seen, _duties(policy, key, role), slo)
            if found.samples:
                self._measured[key, gpu_model] = found.tokens_per_second
            signals.append(found)
        return tuple(signals)

    def utilisation(self, now_seconds: float) -> GpuUse:
        """Return how busy the fleet's GPUs are, by DCGM."""
        return utilisation(self._connection, now_seconds, self._stale)

    def _looked(self, now_seconds: float) -> _Look:
        """Return the readings of this instant; those that are not fresh are left out."""
        if self._look is not None and self._look.at_seconds == now_seconds:
            return self._look
        policy = self._policy()
        readings: dict[str, Reading] = {}
        self._down = ""
        for key, role in _roles(policy):
            try:
                seen = self._read(engines(policy, key), role.tokens, now_seconds)
            except PrometheusError as error:
                self._down = str(error)
                if isinstance(error, PrometheusDownError):
                    break
                continue
            if seen is not None and now_seconds - seen.newest_seconds <= self._stale:
                readings[key] = seen
        self._look = _Look(now_seconds, readings)
        return self._look

    def _read(self, wanted: Engines, stream: str, now_seconds: float) -> Reading | None:
        """Return the reading of the first place that has samples."""
        for found in self._find(wanted, now_seconds):
            query = queries.look(found, stream, round(self._window), self._stale)
            seen = reading(self._connection.instant(query, now_seconds))
            if "newest" in seen.sums:
                if not {f"{stream}_live", f"{stream}_finished"} & set(seen.sums):
                    self._known.pop(wanted, None)  # a counter is not born: look again next time
                return seen
        self._known.pop(wanted, None)  # the series ended, under these names at least
        return None

    def _find(self, wanted: Engines, now_seconds: float) -> tuple[Found, ...]:
        known = self._known.get(wanted)
        if known is None or now_seconds - known.at_seconds > FOUND_SECONDS:
            found = find(self._connection, wanted, now_seconds - FOUND_SECONDS, now_seconds)
            self._known[wanted] = known = _Known(found, now_seconds)
        return known.found

    def _signal(
        self, policy: Policy, key: str, role: RolePolicy, look: _Look, ready: Ready
    ) -> RoleSignal:
        seen = look.readings.get(key)
        if seen is None:
            return self._remembered(key, look.at_seconds)
        made = signal(
            key,
            seen,
            _duties(policy, key, role),
            policy.models[key.partition("/")[0]].slo,
            self._window,
            sum(ready.get((key, gpu_model), 0) for gpu_model in _gpu_models(key, ready)),
            self._capacity(key, role, seen, ready),
        )
        self._doubts.note(key, look.at_seconds, partial=made.status == "partial")
        self._good[key] = (seen.newest_seconds, made)
        return made

    def _remembered(self, key: str, now_seconds: float) -> RoleSignal:
        if key not in self._good:
            return _silent(key, self._window)
        at, good = self._good[key]
        if now_seconds - at <= self._stale:
            return good
        return msgspec.structs.replace(good, status="stale")

    def _capacity(self, key: str, role: RolePolicy, seen: Reading, ready: Ready) -> float:
        """Return tokens/s of all ready replicas: as measured, else by the policy's profile."""
        profile = role.capacity_tokens_per_second
        first = next(iter(profile.values()))
        counts = {name: ready[key, name] for name in _gpu_models(key, ready)}
        if not counts:
            return seen.sums.get("fresh", 0.0) * first
        return sum(
            count * self._measured.get((key, name), profile.get(name, first))
            for name, count in counts.items()
        )

    def _judge(self, look: _Look, ready: Ready) -> None:
        """Doubt roles that have ready replicas but no samples, while Prometheus answers."""
        silent = sorted({key for (key, _), count in ready.items() if count > 0} - {*look.readings})
        self._silent = ""
        if silent and not self._down:
            for key in silent:
                self._doubts.note(key, look.at_seconds, partial=True)
            self._silent = (
                f"{self._connection.url} has no fresh engine metrics of {', '.join(silent)}: check "
                "that their pods are scraped, and engine_labels in the policy"
            )


def _roles(policy: Policy) -> list[tuple[str, RolePolicy]]:
    return [
        (f"{model}/{name}", role)
        for model, each in sorted(policy.models.items())
        for name, role in sorted(each.roles.items())
    ]


def _duties(policy: Policy, key: str, role: RolePolicy) -> Duties:
    """A model's only role answers for both delays, else the prompt's role for the first token."""
    alone = len(policy.models[key.partition("/")[0]].roles) == 1
    prompt = role.tokens == "prompt"
    return Duties(role.tokens, ttft=alone or prompt, tpot=alone or not prompt)


def _gpu_models(key: str, ready: Ready) -> list[str]:
    return sorted(name for (role, name), count in ready.items() if role == key and count > 0)


def _silent(key: str, window_seconds: float) -> RoleSignal:
    return RoleSignal(
        role=key,
        status="absent",
        window_seconds=window_seconds,
        arrived_tokens_per_second=0.0,
        served_tokens_per_second=0.0,
        queued_tokens=0.0,
        utilisation=0.0,
        late_share=0.0,
    )
