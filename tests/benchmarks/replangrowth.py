"""How the CPU to a fixed gap grows with the cluster.

The exponent is the slope of log seconds over log nodes, by least squares, each size at the median
of its seeds. A seed that never reaches the gap counts with all the seconds it had, which makes the
exponent too small; so `reached` says how many did. A ladder may reach a fixed gap at every size by
trying harder where it is hard: `gap_at_end` says which gap its whole effort leaves.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf, log
from statistics import median, median_high

import msgspec


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """One policy over all sizes."""

    policy: str
    gap: float
    """Relative; to be reached or passed below."""
    seconds: dict[int, float]
    """CPU seconds by number of nodes."""
    reached: dict[int, float]
    """Share of the seeds that reached the gap, by number of nodes."""
    gap_at_end: dict[int, float | None]
    """Median of the seeds' gaps when the effort is spent, or the seconds are, by number of nodes;
    None where most seeds have none."""
    exponent: float | None
    """None with one size."""


class Spent(msgspec.Struct, frozen=True):
    """What one seed took."""

    nodes: int
    seconds: float | None
    """Until the gap was reached."""
    total_seconds: float
    gap: float | None = None
    """In the end."""


def growth(policy: str, gap: float, runs: Iterable[Spent]) -> Growth:
    """Return what the runs of one policy say."""
    sizes: dict[int, list[Spent]] = {}
    for one in runs:
        sizes.setdefault(one.nodes, []).append(one)
    seconds = {nodes: median(_counted(one) for one in some) for nodes, some in sizes.items()}
    return Growth(
        policy=policy,
        gap=gap,
        seconds=seconds,
        reached={
            nodes: sum(one.seconds is not None for one in some) / len(some)
            for nodes, some in sizes.items()
        },
        gap_at_end={nodes: _middle(one.gap for one in some) for nodes, some in sizes.items()},
        exponent=_slope(seconds) if len(seconds) > 1 else None,
    )


def _counted(one: Spent) -> float:
    return one.total_seconds if one.seconds is None else one.seconds


def _middle(gaps: Iterable[float | None]) -> float | None:
    found = median_high(inf if gap is None else gap for gap in gaps)
    return None if found == inf else found


def _slope(seconds: Mapping[int, float]) -> float:
    x = [log(nodes) for nodes in seconds]
    y = [log(value) for value in seconds.values()]
    return _covariance(x, y) / _covariance(x, x)


def _covariance(x: Sequence[float], y: Sequence[float]) -> float:
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
