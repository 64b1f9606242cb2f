"""What goes wrong in a run, and when: read from a file, checked against the cluster.

`load_faults` reads a YAML list; each entry has a `kind` and its times in seconds since the start
of scoring. `Faults` unrolls them into changes of nodes and devices in order of time, and says
whose metrics can be read. A level shift is part of the demand: see `shifted`.
"""

from collections.abc import Iterator
from math import ceil, inf
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from scheduler.simulation.clusterfile import ClusterSpec
from scheduler.simulation.demand import Demand
from scheduler.simulation.documents import DocumentError, checked, parse_yaml, read_text

Time = Annotated[float, Field(allow_inf_nan=False)]
Duration = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class FaultsError(DocumentError):
    """A file of faults that was refused."""


class _Fault(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeLoss(_Fault):
    """A node is not Ready; all that ran on it is gone at once."""

    kind: Literal["node_loss"]
    node: str
    at_seconds: Time
    for_seconds: Duration


class SickGpu(_Fault):
    """A device is unhealthy: nothing new is placed on it, and what holds it goes on."""

    kind: Literal["sick_gpu"]
    node: str
    index: Annotated[int, Field(ge=0)]
    at_seconds: Time
    for_seconds: Duration | None = None


class SpotWave(_Fault):
    """A share of the spot nodes, drawn by seed, is cordoned and then lost."""

    kind: Literal["spot_wave"]
    share: Annotated[float, Field(gt=0, le=1)]
    at_seconds: Time
    for_seconds: Duration
    notice_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 120.0


class ScrapesMissing(_Fault):
    """The engines of some roles are not scraped: their signals grow stale."""

    kind: Literal["scrapes_missing"]
    at_seconds: Time
    for_seconds: Duration
    roles: tuple[str, ...] = ()
    """`model/role`; none named: all."""


class MetricsAway(_Fault):
    """The metrics store does not answer: there are no signals at all."""

    kind: Literal["metrics_away"]
    at_seconds: Time
    for_seconds: Duration


class LevelShift(_Fault):
    """One model's demand is multiplied from a time on."""

    kind: Literal["level_shift"]
    model: str
    at_seconds: Time
    factor: Annotated[float, Field(ge=0, allow_inf_nan=False)]


Fault = NodeLoss | SickGpu | SpotWave | ScrapesMissing | MetricsAway | LevelShift


class Change(msgspec.Struct, frozen=True):
    """One change of one node, or of one of its devices."""

    at_seconds: float
    node: str
    what: Literal["lost", "back", "cordoned", "sick", "well"]
    index: int = 0


def load_faults(path: Path, cluster: ClusterSpec, models: tuple[str, ...]) -> tuple[Fault, ...]:
    """Return the faults of a file; raise `FaultsError` with every error."""
    document = parse_yaml(read_text(path, FaultsError), str(path), FaultsError)
    if not isinstance(document, list):
        raise FaultsError((f"{path}: holds no faults; write a list of them, or give 'none'",))
    kind = tuple[Annotated[Fault, Field(discriminator="kind")], ...]
    faults: tuple[Fault, ...] = checked(kind, document, FaultsError)
    errors = tuple(
        f"{index}.{error}"
        for index, fault in enumerate(faults)
        for error in _impossible(fault, cluster, models)
    )
    if errors:
        raise FaultsError(errors)
    return faults


def shifted(demand: Demand, faults: tuple[Fault, ...]) -> Demand:
    """Return the demand with every level shift in it."""
    for fault in faults:
        if isinstance(fault, LevelShift):
            demand = demand.with_level_shift(fault.model, fault.at_seconds, fault.factor)
    return demand


class Faults:
    """The faults of one run, on its time line."""

    def __init__(
        self, faults: tuple[Fault, ...], cluster: ClusterSpec, rng: np.random.Generator
    ) -> None:
        changes = [change for fault in faults for change in _changes(fault, cluster, rng)]
        self._changes = sorted(changes, key=lambda one: (one.at_seconds, one.node, one.index))
        self._next = 0
        self._blind = [
            (fault.at_seconds, fault.at_seconds + fault.for_seconds, fault)
            for fault in faults
            if isinstance(fault, ScrapesMissing | MetricsAway)
        ]

    def due(self, now_seconds: float) -> Iterator[Change]:
        """Yield the changes whose time has come, once each."""
        while self._next_at() <= now_seconds:
            self._next += 1
            yield self._changes[self._next - 1]

    def health(self, role: str, now_seconds: float) -> Literal["live", "stale", "absent"]:
        """Return what can be read of a role now."""
        found: Literal["live", "stale", "absent"] = "live"
        for since, until, fault in self._blind:
            if since <= now_seconds < until:
                if isinstance(fault, MetricsAway):
                    return "absent"
                if not fault.roles or role in fault.roles:
                    found = "stale"
        return found

    def blind(self, model: str, since_seconds: float, until_seconds: float) -> bool:
        """True when a bin of a model's demand was not seen as a whole.

        A scrape that misses any role of the model spoils its bins.
        """
        return any(
            since < until_seconds
            and until > since_seconds
            and (
                isinstance(fault, MetricsAway)
                or not fault.roles
                or any(role.startswith(f"{model}/") for role in fault.roles)
            )
            for since, until, fault in self._blind
        )

    def _next_at(self) -> float:
        return self._changes[self._next].at_seconds if self._next < len(self._changes) else inf


def _impossible(fault: Fault, cluster: ClusterSpec, models: tuple[str, ...]) -> Iterator[str]:
    nodes = {node.name: node for node in cluster.nodes}
    match fault:
        case NodeLoss() | SickGpu() if fault.node not in nodes:
            yield f"node: the cluster has no node {fault.node}"
        case SickGpu() if fault.index >= nodes[fault.node].gpus:
            yield f"index: {fault.node} has devices 0 to {nodes[fault.node].gpus - 1}"
        case SpotWave() if not any(node.spot for node in cluster.nodes):
            yield "kind: a spot_wave needs nodes marked `spot: true` in the cluster"
        case LevelShift() if fault.model not in models:
            yield f"model: no demand for {fault.model}; there is {', '.join(models)}"
        case ScrapesMissing():
            for role in fault.roles:
                if role.partition("/")[0] not in models:
                    yield f"roles: {role} is not MODEL/ROLE of {', '.join(models)}"
        case _:
            pass


def _changes(fault: Fault, cluster: ClusterSpec, rng: np.random.Generator) -> Iterator[Change]:
    match fault:
        case NodeLoss():
            yield from _loss(fault.node, fault.at_seconds, fault.for_seconds)
        case SickGpu():
            yield Change(fault.at_seconds, fault.node, "sick", fault.index)
            if fault.for_seconds is not None:
                until = fault.at_seconds + fault.for_seconds
                yield Change(until, fault.node, "well", fault.index)
        case SpotWave():
            spot = [node.name for node in cluster.nodes if node.spot]
            for name in sorted(rng.permutation(spot)[: ceil(len(spot) * fault.share)]):
                yield Change(fault.at_seconds - fault.notice_seconds, str(name), "cordoned")
                yield from _loss(str(name), fault.at_seconds, fault.for_seconds)
        case _:
            pass


def _loss(node: str, at_seconds: float, for_seconds: float) -> Iterator[Change]:
    yield Change(at_seconds, node, "lost")
    yield Change(at_seconds + for_seconds, node, "back")
