"""The Observer of a real cluster: what the API server says, joined with what the engines report.

Objects come from `watching`, already in memory, so an observation asks the API server nothing.
Where the watches have been silent for too long, nothing is decided: an old picture would show
GPUs as free that are not.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from forecasting import Observed
from preemption.values import Stop
from scheduler.adapters.cluster.assembly import Assembler
from scheduler.adapters.cluster.watching import Watching
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Reservation, Snapshot
from scheduler.ports import Signals, WorldStaleError

MOST_STALE_SECONDS = 60.0
"""Silence of a watch, bookmarks included, after which its objects are not believed."""


class OwnState(msgspec.Struct, frozen=True, kw_only=True):
    """What an observation takes from Tidal's own state."""

    reservations: tuple[Reservation, ...]
    stops: tuple[Stop, ...]
    """Of the last hour."""
    blocked: Mapping[str, str]
    """Job id -> why it must not be stopped now."""
    epoch: int


class ClusterObserver:
    """`ports.Observer` over watches and signals."""

    def __init__(
        self,
        watching: Watching,
        signals: Signals,
        policy: Callable[[], Policy],
        own: Callable[[], OwnState],
        now_seconds: Callable[[], float],
    ) -> None:
        """`own` tells reservations, blocked jobs and the epoch in force."""
        self._watching = watching
        self._signals = signals
        self._policy = policy
        self._own = own
        self._now_seconds = now_seconds
        self._assembler = Assembler()

    def observe(self) -> Snapshot:
        """Return the newest state, without forecasts; raise `WorldStaleError` where it is old."""
        age = self._watching.staleness_seconds()
        if not self._watching.synced or age > MOST_STALE_SECONDS:
            raise WorldStaleError(
                f"the API server has been silent for {age:.0f} s; nothing is decided"
            )
        now = self._now_seconds()
        own = self._own()
        seen = self._assembler.snapshot(
            self._watching.observed(), self._policy(), now, own.reservations, own.blocked, own.epoch
        )
        ready = Counter((one.role, one.gpu_model) for one in seen.replicas if one.state == "ready")
        return msgspec.structs.replace(
            seen,
            stops=own.stops,
            signals=self._signals.roles(now, ready),
            capacities=self._signals.capacities(now, ready),
        )

    def history(self) -> Sequence[Observed]:
        """Return the demand known before the first tick."""
        return self._signals.history(self._now_seconds())

    def samples(self) -> Sequence[Observed]:
        """Return demand bins that closed since the last call."""
        return self._signals.samples(self._now_seconds())
