"""The same pods through the product: snapshot, prices of a plan, view, and the extender's answer.

A tick observes the nodes, prices their room by the list's mix (which stands in for queue and
forecast, as these ask whole GPUs only) and publishes a standing. Between two ticks each pod is
offered the nodes on which kube-scheduler would find room: a pod with GPUs goes to the node that
`filter` leaves, one without to the node that `prioritize` ranks first; both are bound there by the
extender. On the node the pod gets the tightest card that has room.
"""

from collections.abc import Iterable

import msgspec
import numpy as np

from binpacking.cards import Bools, Fleet, Host, PodShape, Population
from binpacking.foresight import Seat
from binpacking.inventory import WHOLE_GPU_MILLI, Device, Holder, Node
from binpacking.shares import NO_SHARE, Share
from scheduler.planning.actions import Plan
from scheduler.planning.policy import parse
from scheduler.planning.pricing import priced
from scheduler.planning.snapshot import Snapshot
from scheduler.planning.standing import PodAsk, standing_of
from scheduler.view import View
from tests.benchmarks.packing_tidal import PODS_A_TICK, asking_gpus

TICK_SECONDS = 15.0
DECODE = {"tokens": "generated", "capacity_tokens_per_second": {"any": 1}}
POLICY = parse({"version": 1, "models": {"chat": {"roles": {"decode": DECODE}}}})


class Through:
    """A virtual cluster of single pods behind the product's view."""

    def __init__(self, hosts: Iterable[Host], population: Population) -> None:
        """Start with all hosts free."""
        rows = sorted(hosts, key=lambda host: host.name)
        self.fleet = Fleet(rows)
        self._row = {host.name: row for row, host in enumerate(rows)}
        self._nodes = [_node(host) for host in rows]
        self._allowed: dict[tuple[str, ...], Bools] = {}
        self._population = population
        self._to_come = asking_gpus(population)
        self._view = View()
        self._ticks = self._asked = self._seated = 0
        self._observe()

    def choose(self, shape: PodShape) -> Seat | None:
        """The node that the extender names; None where kube-scheduler has none to offer."""
        names = self._offered(shape)
        self._asked += 1
        whole = shape.card_milli in (0, WHOLE_GPU_MILLI)
        ask = PodAsk(
            uid=f"pod-{self._asked}",
            name=f"pod-{self._asked}",
            gpus=shape.cards if whole else 0,
            share=NO_SHARE if whole else Share(shape.card_milli),
            cpu_milli=shape.cpu_milli,
            memory_mib=shape.memory_mib,
        )
        if not names:
            return None
        if not shape.cards:
            scores = self._view.prioritise(ask, names, self._now)
            best = max(scores, key=lambda one: one[1])[0]
            self._view.bound(ask, best, self._now)
            return Seat(self._row[best], ())
        (name,) = self._view.steer(ask, names, self._now).passed
        self._view.bound(ask, name, self._now)
        return Seat(self._row[name], self.fleet.tightest(shape, self._row[name]))

    def take(self, shape: PodShape, seat: Seat) -> None:
        """Let the pod run there; after enough of them a tick passes."""
        self.fleet.seat(shape, seat.row, seat.cards)
        self._nodes[seat.row] = _with(
            self._nodes[seat.row], f"pod-{self._asked}", shape, seat.cards
        )
        self._seated += 1
        if self._seated % PODS_A_TICK == 0:
            self._ticks += 1
            self._observe()

    @property
    def _now(self) -> float:
        return self._ticks * TICK_SECONDS

    def _offered(self, shape: PodShape) -> tuple[str, ...]:
        if shape.models not in self._allowed:
            self._allowed[shape.models] = self.fleet.allows(shape)
        fits = self.fleet.fits(shape, np.arange(len(self._nodes)))
        rows = np.flatnonzero(fits & self._allowed[shape.models])
        return tuple([self.fleet.names[row] for row in rows.tolist()])

    def _observe(self) -> None:
        """Observe, plan and publish, as each tick of the daemon does."""
        snapshot = Snapshot(now_seconds=self._now, nodes=tuple(self._nodes))
        plan = Plan(
            at_seconds=self._now,
            source="full",
            to_come=self._to_come,
            prices=priced(snapshot.nodes, self._population),
        )
        self._view.publish(standing_of(snapshot, plan, POLICY))


def _node(host: Host) -> Node:
    return Node(
        name=host.name,
        gpu_model=host.gpu_model,
        switch_path=(),
        devices=tuple(Device(card, f"{host.name}/{card}", 0) for card in range(len(host.cards))),
        cpu_milli=host.cpu_milli,
        memory_mib=host.memory_mib,
        sharing="parts",
    )


def _with(node: Node, uid: str, shape: PodShape, cards: tuple[int, ...]) -> Node:
    """The node once the pod holds these cards."""
    holder = Holder(uid, milli_gpu=shape.card_milli)
    devices = list(node.devices)
    for card in cards:
        holders = (*devices[card].holders, holder)
        devices[card] = msgspec.structs.replace(devices[card], holders=holders)
    return msgspec.structs.replace(
        node,
        devices=tuple(devices),
        cpu_held_milli=node.cpu_held_milli + shape.cpu_milli,
        memory_held_mib=node.memory_held_mib + shape.memory_mib,
    )
