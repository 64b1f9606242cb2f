"""How well pods that share cards fill them: which widths always leave a rest that nobody needs.

The shares of a population are packed on cards by first-fit decreasing, in their proportions. What
stays free on a card is charged to its widest pod; the efficiency of a width is milli used over
milli used and charged. On the openb trace 0.81 of a card leaves 0.19 that few pods can use.
"""

from binpacking.cards import Population
from binpacking.inventory import WHOLE_GPU_MILLI

_MOST_PODS = 2000
"""More would not change proportions; first fit takes time with their square."""
_WASTEFUL_BELOW = 0.85


def wasteful(population: Population) -> frozenset[int]:
    """Widths, in milli, whose efficiency is below 0.85."""
    counts: dict[int, int] = {}
    for shape, count in population:
        if shape.cards == 1 and shape.card_milli < WHOLE_GPU_MILLI:
            counts[shape.card_milli] = counts.get(shape.card_milli, 0) + count
    scale = max(1.0, sum(counts.values()) / _MOST_PODS)
    pods = {width: max(1, round(count / scale)) for width, count in counts.items()}
    charged = _charged(pods)
    return frozenset(
        width
        for width, count in pods.items()
        if width < _WASTEFUL_BELOW * (width + charged.get(width, 0) / count)
    )


def _charged(pods: dict[int, int]) -> dict[int, int]:
    """Milli left free on all cards, by the width of the card's widest pod."""
    free: list[int] = []
    widest: list[int] = []
    for width in sorted(pods, reverse=True):
        for _ in range(pods[width]):
            card = next((card for card, left in enumerate(free) if left >= width), len(free))
            if card == len(free):
                free.append(WHOLE_GPU_MILLI)
                widest.append(width)
            free[card] -= width
    charged: dict[int, int] = {}
    for left, width in zip(free, widest, strict=True):
        charged[width] = charged.get(width, 0) + left
    return charged
