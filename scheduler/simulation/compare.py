"""Tidal beside its rivals: the grid of settings, and which setting of a rival counts.

Equal SLO: a rival's figures are those of its cheapest setting that attains the SLO at least as
well as Tidal, less `SLO_MARGIN`, over all tokens and for the worst model; where none does, its
best-attaining one, marked. Cheapest is the fewest wasted GPU-hours, the figure claimed.
"""

from collections.abc import Sequence
from typing import Any

SLO_MARGIN = 0.0005
TIDAL = "tidal"
BOUND = "bound"
Record = dict[str, Any]


def mark(records: Sequence[Record]) -> list[Record]:
    """Return the records with `equal_slo` and `slo_below` set, seed by seed."""
    marked = [{**record, "equal_slo": False, "slo_below": False} for record in records]
    for seed in sorted({record["seed"] for record in marked}):
        mine = [record for record in marked if record["seed"] == seed]
        tidal = next((record for record in mine if record["policy"] == TIDAL), None)
        for name in sorted({record["policy"] for record in mine}):
            settings = [record for record in mine if record["policy"] == name]
            chosen, below = choose(settings, tidal)
            chosen["equal_slo"], chosen["slo_below"] = True, below
    return marked


def choose(settings: Sequence[Record], tidal: Record | None) -> tuple[Record, bool]:
    """Return the setting that counts, and whether it stays below Tidal's attainment."""
    if tidal is None or settings[0]["policy"] in (TIDAL, BOUND):
        return settings[0], False
    enough = [record for record in settings if attains(record, tidal)]
    if enough:
        return min(enough, key=lambda record: record["wasted_gpu_hours"]), False
    return max(settings, key=lambda record: record["slo_attainment"]), True


def attains(record: Record, tidal: Record) -> bool:
    """Return whether a record's SLO attainment is Tidal's or better, within the margin."""
    return all(
        record[field] >= tidal[field] - SLO_MARGIN
        for field in ("slo_attainment", "slo_attainment_worst_model")
    )
