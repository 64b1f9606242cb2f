"""Objects in which Tidal keeps its own state."""

from scheduler.apiserver.objects.wire import Meta, Wire


class ConfigMap(Wire, frozen=True):
    """v1 ConfigMap."""

    metadata: Meta
    data: dict[str, str] = {}


class LeaseSpec(Wire, frozen=True):
    """spec of a Lease."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    lease_transitions: int = 0


class Lease(Wire, frozen=True):
    """coordination.k8s.io/v1 Lease."""

    metadata: Meta
    spec: LeaseSpec = LeaseSpec()
