"""Where a single pod goes between plans: FGD's gradient, CPU balance, and prices of room.

The worth of a host to a pod, in milli-GPU, is the fall of fragmentation (`fragmentation`) plus
the fall of what CPU will starve (`balance`), less the cards and slots taken at the price that pods
still to come set on them (`prices`). A host is refused only where the pod does not fit. Worth is
compared in whole steps; ties go to the host with the least idle GPU, then to the smallest name, on
a host to a card in use before a whole one, and to the lowest card. Ties matter: they fill hosts
one after the other, which keeps empty ones for pods that need all their cards.

A pod without GPU is weighed in coarser steps, without balance and at a tenth of the price of slots:
it takes the first hosts whose GPUs can spare its CPU, not a little of all, which would keep blocks
of CPU free everywhere for more such pods. What it does not take, another of its kind may: a slot
that is kept from them while other hosts have room goes to them when none has.
"""

from typing import Self

import msgspec
import numpy as np

from binpacking.cards import Bools, Fleet, Ints, PodShape
from binpacking.chances import Floats
from binpacking.fragmentation import Fragments, Mixture
from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.prices import Prices, Slots

STEP_MILLI = 10
"""Differences of worth below this are a tie."""
COARSE_STEP_MILLI = 40
"""The same for pods without GPU: about a point of FGD's score, whose slope at 0 is 25 a GPU."""
SLOTS_PAID_WITHOUT_GPU = 0.1
"""Part of the price of slots that a pod without GPU pays: enough to tell hosts apart whose GPUs can
spare its CPU alike."""
INFEASIBLE = -(10**9)
"""Steps of a host that the pod does not fit on; any other has more."""
_NEVER = -1e12
_MOST_SHAPES = 512
"""So many are remembered; the oldest goes first."""
_WAYS = 2
_SHUT, _OPEN = range(_WAYS)
"""On a card that others use, or on whole cards."""


class Seat(msgspec.Struct, frozen=True):
    """A host by its row in the fleet, and the cards taken there."""

    row: int
    cards: tuple[int, ...]


class _Known(msgspec.Struct):
    """What is known of one shape, by way and host: worth without prices, card, slots it takes."""

    seen: int
    worth: Floats
    card: Ints
    lost: Floats


class Foresight:
    """Weighs the hosts of a fleet for pods that come one by one, and seats them."""

    def __init__(self, fleet: Fleet, kind_of_row: Ints, mixture: Mixture, prices: Prices) -> None:
        """`kind_of_row` is a place in `prices.kinds` per row of the fleet; -1 has no price."""
        self.fleet = fleet
        self._kind = kind_of_row
        self._fragments = Fragments(fleet, mixture)
        self._weight = max(mixture.weight, 1)
        self._slots = Slots(prices.slots, kind_of_row)
        self._forget()
        self.reprice(prices)

    def reprice(self, prices: Prices) -> None:
        """Weigh by these prices from now on; they are of the same `Scarcity` as the former."""
        self._prices = prices
        self._card_price = np.array((*prices.cards, 0), dtype=np.float64)[self._kind]
        self._slot_price = np.array([one.milli_gpus for one in prices.slots], dtype=np.float64)

    def pick(self, fleet: Fleet, rows: Ints) -> Self:
        """The same over `fleet`, the hosts of these rows with other things on them."""
        twin = object.__new__(type(self))
        twin.fleet = fleet
        twin._kind, twin._weight = self._kind[rows], self._weight
        twin._fragments = self._fragments.pick(fleet, rows)
        twin._slots = Slots(self._prices.slots, twin._kind)
        twin._forget()
        twin.reprice(self._prices)
        return twin

    def _forget(self) -> None:
        self._changed: list[int] = []
        """Rows in the order in which they changed."""
        self._known: dict[PodShape, _Known] = {}
        self._allowed: dict[tuple[str, ...], Bools] = {}

    @property
    def idle_milli(self) -> Ints:
        """Idle milli-GPU per host, by which ties are broken."""
        return self._fragments.idle

    def steps(self, shape: PodShape) -> Ints:
        """Worth per host in whole steps, larger is better; `INFEASIBLE` where it does not fit."""
        worth = self._worth(self._up_to_date(shape), shape).max(axis=0)
        fine = np.floor(worth / STEP_MILLI)
        steps = fine if shape.cards else np.rint(worth / COARSE_STEP_MILLI)
        found: Ints = np.where(worth > _NEVER / 2, steps, INFEASIBLE).astype(np.int64)
        return found

    def choose(self, shape: PodShape) -> Seat | None:
        """The host of most worth; None where no host fits."""
        steps = self.steps(shape)
        best = int(steps.max(initial=INFEASIBLE))
        if best == INFEASIBLE:
            return None
        rows = np.flatnonzero(steps == best)
        return self.seat(shape, int(rows[self.idle_milli[rows].argmin()]))

    def seat(self, shape: PodShape, row: int) -> Seat:
        """The host's cards for which its worth was computed; the pod must fit there."""
        if shape.cards == 1:
            known = self._up_to_date(shape)
            way = int(self._worth(known, shape)[:, row].argmax())
            return Seat(row, (int(known.card[way, row]),))
        usable = self.fleet.cards[row] >= shape.card_milli
        return Seat(row, tuple(np.flatnonzero(usable)[: shape.cards].tolist()))

    def take(self, shape: PodShape, seat: Seat) -> None:
        """Let the pod sit there."""
        self.fleet.seat(shape, seat.row, seat.cards)
        self._fragments.refresh(seat.row)
        self._changed.append(seat.row)

    def _worth(self, known: _Known, shape: PodShape) -> Floats:
        """By way and host, prices taken off."""
        worth = known.worth - self._card_price * (shape.gpu_milli / WHOLE_GPU_MILLI)
        if not self._slot_price.size:
            return worth
        paid = 1.0 if shape.cards else SLOTS_PAID_WITHOUT_GPU
        return worth - known.lost @ (self._slot_price * paid)

    def _up_to_date(self, shape: PodShape) -> _Known:
        known = self._known.get(shape)
        allowed = self._rows(shape)
        if known is None:
            if len(self._known) >= _MOST_SHAPES:
                del self._known[next(iter(self._known))]
            known, rows = self._unknown(), np.flatnonzero(allowed)
        else:
            changed = np.array(sorted(set(self._changed[known.seen :])), dtype=np.int64)
            rows = changed[allowed[changed]]
        if len(rows):
            self._renew(known, shape, rows)
        known.seen = len(self._changed)
        self._known[shape] = known  # only now: another thread may look
        return known

    def _unknown(self) -> _Known:
        hosts = len(self.fleet.names)
        return _Known(
            0,
            np.full((_WAYS, hosts), _NEVER),
            np.zeros((_WAYS, hosts), dtype=np.int64),
            np.zeros((_WAYS, hosts, self._slot_price.size)),
        )

    def _rows(self, shape: PodShape) -> Bools:
        if shape.models not in self._allowed:
            self._allowed[shape.models] = self.fleet.allows(shape)
        return self._allowed[shape.models]

    def _renew(self, known: _Known, shape: PodShape, rows: Ints) -> None:
        known.worth[:, rows] = _NEVER
        rows = rows[self.fleet.fits(shape, rows)]
        if not len(rows):
            return
        relief = self._relief(shape, rows) if shape.cards else 0.0
        for way in (_SHUT, _OPEN) if shape.cards == 1 else (_OPEN,):
            if shape.cards == 1:
                fall, known.card[way, rows] = self._on_one_card(shape, rows, way)
            else:
                fall = self._fall(shape, rows, self._first_cards(shape, rows))
            known.worth[way, rows] = fall + relief
            known.lost[way, rows] = self._lost(shape, rows, shape.cards * way)

    def _on_one_card(self, shape: PodShape, rows: Ints, way: int) -> tuple[Floats, Ints]:
        """Largest fall over the cards of this way, and the card, the lowest on ties."""
        cards = self.fleet.cards[rows]
        usable = (cards >= shape.card_milli) & ((cards == WHOLE_GPU_MILLI) == (way == _OPEN))
        usable[:, 1:] &= cards[:, 1:] != cards[:, :-1]  # the lower of two equal neighbours will do
        which, card = np.nonzero(usable)
        falls = np.full(cards.shape, _NEVER)
        falls[which, card] = self._fall(shape, rows[which], card[:, None])
        best = falls.argmax(axis=1)
        return falls[np.arange(len(rows)), best], best

    def _first_cards(self, shape: PodShape, rows: Ints) -> Ints:
        usable = self.fleet.cards[rows] >= shape.card_milli
        return np.argsort(~usable, axis=1, kind="stable")[:, : shape.cards]

    def _fall(self, shape: PodShape, rows: Ints, cards: Ints) -> Floats:
        fall = self._fragments.now[rows] - self._fragments.after(shape, rows, cards)
        return fall / float(self._weight)

    def _lost(self, shape: PodShape, rows: Ints, opened: int) -> Floats:
        held = self._slots.held(self.fleet, rows)
        return held - self._slots.left(self.fleet, rows, shape, opened)

    def _relief(self, shape: PodShape, rows: Ints) -> Floats:
        """Milli-GPU less that are expected to starve of CPU."""
        balance = self._prices.balance
        cpu, idle = self.fleet.cpu[rows], self.idle_milli[rows]
        after = balance.starved(cpu - shape.cpu_milli, idle - shape.gpu_milli)
        return WHOLE_GPU_MILLI * (balance.starved(cpu, idle) - after)
