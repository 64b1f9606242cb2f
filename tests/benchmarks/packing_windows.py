"""Pods that wait together: in which order they are admitted, and which are left for now.

Within a window, pods of many cards come first, then shares by falling width, so that narrow ones
fill what wide ones leave; then whole cards and pods without GPU as they came; last the widths
that waste a card (`widths`). When the cluster is nearly full and the next window is certain to
ask for more whole cards than there are, a wasteful width that would open one is left.
"""

from collections.abc import Sequence

import numpy as np

from binpacking.cards import PodShape, Population
from binpacking.foresight import Seat
from binpacking.inventory import WHOLE_GPU_MILLI
from tests.benchmarks.packing_tidal import Tidal
from tests.benchmarks.packing_widths import wasteful

_SPARING_FROM_PERCENT = 90
"""Below this part of the GPUs asked for, no pod is left that fits."""
_CERTAIN_DEVIATIONS = 2.0


class Windows:
    """Admits pods window by window through an admission of single pods."""

    def __init__(self, single: Tidal, population: Population, *, ordered: bool) -> None:
        """`single` has all hosts free; pods that are not `ordered` are placed as they came."""
        self._single = single
        self._ordered = ordered
        self.capacity_milli = int(single.fleet.free_milli().sum())
        self._wasteful = wasteful(population)
        pods = sum(count for _, count in population)
        ones = sum(
            count
            for shape, count in population
            if shape.cards == 1 and shape.card_milli == WHOLE_GPU_MILLI
        )
        self._whole_share = ones / max(pods, 1)

    def admit(self, window: Sequence[PodShape]) -> tuple[Seat | None, ...]:
        """Seats in the order of the window; None: nowhere to go, or left for now."""
        if not self._ordered:
            return tuple(self._seated(shape) for shape in window)
        asked = self.capacity_milli - int(self._single.fleet.free_milli().sum())
        asked_by = (asked + np.cumsum([shape.gpu_milli for shape in window])).tolist()
        seats: list[Seat | None] = [None] * len(window)
        for place in sorted(range(len(window)), key=lambda place: self._rank(window[place])):
            sparing = 100 * asked_by[place] > _SPARING_FROM_PERCENT * self.capacity_milli
            seats[place] = self._seated(window[place], len(window) if sparing else 0)
        return tuple(seats)

    def _rank(self, shape: PodShape) -> tuple[int, int, int]:
        """Lower is earlier; sorting keeps the order of arrival among equals."""
        if shape.cards > 1:
            return (0, -shape.cards, 0)
        if shape.card_milli in self._wasteful:
            return (3, 0, -shape.card_milli)
        whole = shape.cards == 0 or shape.card_milli == WHOLE_GPU_MILLI
        return (2, 0, 0) if whole else (1, 0, -shape.card_milli)

    def _seated(self, shape: PodShape, next_pods: int = 0) -> Seat | None:
        seat = self._single.choose(shape)
        if seat is None or (next_pods and self._left(shape, seat, next_pods)):
            return None
        self._single.take(shape, seat)
        return seat

    def _left(self, shape: PodShape, seat: Seat, next_pods: int) -> bool:
        """Whether the pod would open a card that whole pods of the next window will need."""
        cards = self._single.fleet.cards
        if shape.card_milli not in self._wasteful or shape.cards != 1:
            return False
        if cards[seat.row, seat.cards[0]] < WHOLE_GPU_MILLI:
            return False
        expected = next_pods * self._whole_share
        certain = expected - _CERTAIN_DEVIATIONS * expected**0.5
        return bool((cards == WHOLE_GPU_MILLI).sum() < certain)
