"""Admission of single pods that looks ahead: FGD's gradient, CPU balance, and prices of room.

The worth of a host to a pod, in GPUs, is the fall of fragmentation (`fragmentation`) plus the
fall of what CPU will starve (`balance`), less the cards and slots taken at the price that pods
still to come set on them (`scarcity`). A pod is refused only where no host fits. Worth is compared
in whole steps; ties go to the host with the least idle GPU, then to the smallest name.
"""

import msgspec
import numpy as np

from binpacking.admission import Seat
from binpacking.balance import balance_of
from binpacking.cards import Bools, Fleet, Ints, PodShape
from binpacking.chances import Floats
from binpacking.fragmentation import Fragments, Mixture
from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.scarcity import Population, Scarcity

_NEVER = -1e9
_REPRICED_AFTER = 20
"""Pods between two pricings."""


class Weights(msgspec.Struct, frozen=True):
    """How the parts of a host's worth are weighed."""

    balance: float = 1.0
    slots: float = 1.0
    cards: float = 1.0
    horizon: float = 1.2
    """Pods to come, as a multiple of those that fill what is idle."""
    step: float = 0.01
    """GPUs; differences below it are a tie."""
    together: bool = True
    """Whether `windows` orders pods of one window and leaves some, or admits them as they came."""


class _Known(msgspec.Struct):
    """What is known of one shape, per host: worth without prices, its card, slots it takes."""

    seen: int
    worth: Floats
    card: Ints
    lost: Floats


class Foresight:
    """Admits pods one by one, with prices that follow the fleet."""

    def __init__(
        self,
        fleet: Fleet,
        whole: Fleet,
        mixture: Mixture,
        population: Population,
        weights: Weights,
    ) -> None:
        self.fleet = fleet
        self.fragments = Fragments(fleet, mixture)
        self.scarcity = Scarcity(fleet, whole, population, weights.horizon)
        self._balance = balance_of(population)
        self._weights = weights
        self._changed: list[int] = []
        self._known: dict[PodShape, _Known] = {}
        self._allowed: dict[tuple[str, ...], Bools] = {}

    def choose(self, shape: PodShape) -> Seat | None:
        """The host of most worth; None where no host fits."""
        known = self._up_to_date(shape)
        worth = known.worth - self.scarcity.card_price * (
            self._weights.cards * shape.gpu_milli / WHOLE_GPU_MILLI
        )
        if self.scarcity.rows:
            worth = worth - known.lost @ (self._weights.slots * self.scarcity.slot_price)
        steps = np.floor(worth / self._weights.step)
        steps[known.worth <= _NEVER] = -np.inf
        best = steps.max(initial=-np.inf)
        if best == -np.inf:
            return None
        rows = np.flatnonzero(steps == best)
        row = int(rows[self.fragments.idle[rows].argmin()])
        return Seat(row, self._cards(shape, row, int(known.card[row])))

    def take(self, shape: PodShape, seat: Seat) -> None:
        """Let the pod sit there."""
        self.fleet.seat(shape, seat.row, seat.cards)
        self.fragments.refresh(seat.row)
        self.scarcity.refresh(seat.row, shape.gpu_milli)
        self._changed.append(seat.row)
        if len(self._changed) % _REPRICED_AFTER == 0:
            self.scarcity.reprice()

    def _cards(self, shape: PodShape, row: int, card: int) -> tuple[int, ...]:
        if shape.cards == 1:
            return (card,)
        usable = self.fleet.cards[row] >= shape.card_milli
        return tuple(np.flatnonzero(usable)[: shape.cards].tolist())

    def _up_to_date(self, shape: PodShape) -> _Known:
        known = self._known.get(shape)
        allowed = self._rows(shape)
        if known is None:
            hosts = len(self.fleet.names)
            known = self._known[shape] = _Known(
                0,
                np.full(hosts, _NEVER),
                np.zeros(hosts, dtype=np.int64),
                np.zeros((hosts, self.scarcity.rows)),
            )
            rows = np.flatnonzero(allowed)
        else:
            changed = np.array(sorted(set(self._changed[known.seen :])), dtype=np.int64)
            rows = changed[allowed[changed]]
        if len(rows):
            self._renew(known, shape, rows)
        known.seen = len(self._changed)
        return known

    def _rows(self, shape: PodShape) -> Bools:
        if shape.models not in self._allowed:
            self._allowed[shape.models] = self.fleet.allows(shape)
        return self._allowed[shape.models]

    def _renew(self, known: _Known, shape: PodShape, rows: Ints) -> None:
        known.worth[rows] = _NEVER
        rows = rows[self.fleet.fits(shape, rows)]
        if not len(rows):
            return
        if shape.cards == 1:
            fall, known.card[rows], known.lost[rows] = self._on_one_card(shape, rows)
        else:
            fall = self._fall(shape, rows, self._first_cards(shape, rows))
            known.lost[rows] = self.scarcity.slots_lost(shape, rows, shape.cards)
        known.worth[rows] = fall + self._weights.balance * self._relief(shape, rows)

    def _on_one_card(self, shape: PodShape, rows: Ints) -> tuple[Floats, Ints, Floats]:
        """Fall, card and slots lost, on the card of most worth; lowest card on ties."""
        cards = self.fleet.cards[rows]
        usable = cards >= shape.card_milli
        usable[:, 1:] &= cards[:, 1:] != cards[:, :-1]  # the lower of two equal neighbours will do
        which, card = np.nonzero(usable)
        falls = np.full(cards.shape, _NEVER)
        falls[which, card] = self._fall(shape, rows[which], card[:, None])
        shut = self.scarcity.slots_lost(shape, rows, 0)
        opened = self.scarcity.slots_lost(shape, rows, 1)
        price = self._weights.slots * self.scarcity.slot_price
        extra = ((opened - shut) @ price)[:, None]
        whole = cards == WHOLE_GPU_MILLI
        best = np.round(falls - whole * extra, 6).argmax(axis=1)
        every = np.arange(len(rows))
        lost = np.where(whole[every, best][:, None], opened, shut)
        return falls[every, best], best, lost

    def _first_cards(self, shape: PodShape, rows: Ints) -> Ints:
        usable = self.fleet.cards[rows] >= shape.card_milli
        return np.argsort(~usable, axis=1, kind="stable")[:, : shape.cards]

    def _fall(self, shape: PodShape, rows: Ints, cards: Ints) -> Floats:
        fall = self.fragments.now[rows] - self.fragments.after(shape, rows, cards)
        return fall / float(WHOLE_GPU_MILLI * self.fragments.weight)

    def _relief(self, shape: PodShape, rows: Ints) -> Floats:
        """GPUs less that are expected to starve of CPU."""
        cpu, idle = self.fleet.cpu[rows], self.fragments.idle[rows]
        after = self._balance.starved(cpu - shape.cpu_milli, idle - shape.gpu_milli)
        return self._balance.starved(cpu, idle) - after
