"""What the engines report, in a test's own words, behind the port that Prometheus has."""

from collections.abc import Sequence

from forecasting import Sample
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import CapacitySignal, RoleSignal
from scheduler.ports import Ready

BIN_SECONDS = 300.0
DAY_SECONDS = 86400.0


class Script:
    """`ports.Signals` as the test says: tokens/s by role, served by whoever is ready."""

    problem = ""

    def __init__(self, policy: Policy, **demand: float) -> None:
        """`demand` is by role, with `__` for the slash; every role has some history of it."""
        self.demand = {key.replace("__", "/"): rate for key, rate in demand.items()}
        self.silent = False
        self._policy = policy
        self._told = 0.0

    def say(self, role: str, tokens_per_second: float) -> None:
        """Change what arrives."""
        self.demand[role] = tokens_per_second

    def history(self, now_seconds: float) -> Sequence[Sample]:
        """Two days of the present demand."""
        self._told = (now_seconds // BIN_SECONDS) * BIN_SECONDS
        starts = [self._told - BIN_SECONDS * n for n in range(int(2 * DAY_SECONDS / 300), 0, -1)]
        return [one for start in starts for one in self._bins(start)]

    def samples(self, now_seconds: float) -> Sequence[Sample]:
        found = []
        while self._told + BIN_SECONDS <= now_seconds:
            found += self._bins(self._told)
            self._told += BIN_SECONDS
        return found

    def roles(self, now_seconds: float, ready: Ready) -> tuple[RoleSignal, ...]:
        return tuple(self._signal(role, rate) for role, rate in sorted(self.demand.items()))

    def capacities(self, now_seconds: float, ready: Ready) -> tuple[CapacitySignal, ...]:
        return ()

    def _signal(self, role: str, rate: float) -> RoleSignal:
        return RoleSignal(
            role=role,
            status="absent" if self.silent else "live" if rate else "idle",
            window_seconds=60.0,
            arrived_tokens_per_second=rate,
            served_tokens_per_second=rate,
            queued_tokens=0.0,
            utilisation=0.5,
            late_share=0.0,
        )

    def _bins(self, start: float) -> list[Sample]:
        found = []
        for role, rate in sorted(self.demand.items()):
            model = role.partition("/")[0]
            rules = self._policy.role(role)
            assert rules is not None
            found.append(Sample(f"{model}/{rules.tokens}_tokens", start, BIN_SECONDS, rate))
        return found
