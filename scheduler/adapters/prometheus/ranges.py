"""Which bins to ask for: those not yet told, and recent ones that data came late for; pure.

A bin is told once when it closes, known or not. One that was unknown is asked for again for an
hour, as long as Prometheus answers; while it does not, all later bins stay open, however old, and
are told when it is back. The forecaster takes late bins in.
"""

from collections.abc import Mapping

import msgspec

from forecasting import Sample
from scheduler.adapters.prometheus.bins import BIN_SECONDS, FIELDS, Bin

LATE_BINS = 3600 // BIN_SECONDS


class Progress(msgspec.Struct, frozen=True):
    """How far one model's bins are: the first to ask for, the first not told, and which of those
    between were known when told, as (field, bin).
    """

    ask: int
    tell: int
    known: frozenset[tuple[str, int]] = frozenset()


def missed(model: str, progress: Progress, last: int) -> tuple[list[Sample], Progress]:
    """Tell closed bins as unknown, since nobody answers; they stay open."""
    samples = [
        _sample(model, field, number, None)
        for number in range(progress.tell, last)
        for field in FIELDS
    ]
    return samples, msgspec.structs.replace(progress, tell=max(last, progress.tell))


def told(
    model: str, progress: Progress, bins: Mapping[int, Bin], last: int
) -> tuple[list[Sample], Progress]:
    """Tell bins that closed, and older ones that are known only now; `bins` begins at `ask`."""
    known = {
        (field, number)
        for number, one in bins.items()
        for field in FIELDS
        if getattr(one, field) is not None
    }
    samples = [
        _sample(model, field, number, getattr(bins[number], field))
        for number in range(progress.ask, last)
        for field in FIELDS
        if number >= progress.tell or (field, number) in known - progress.known
    ]
    known |= progress.known
    still_open = (
        number
        for number in range(max(progress.ask, last - LATE_BINS), last)
        if any((field, number) not in known for field in FIELDS)
    )
    ask = next(still_open, max(last, progress.ask))
    kept = frozenset(pair for pair in known if pair[1] >= ask)
    return samples, Progress(ask, max(last, progress.tell), kept)


def _sample(model: str, field: str, number: int, rate: float | None) -> Sample:
    return Sample(
        key=f"{model}/{field}",
        start_seconds=float(number * BIN_SECONDS),
        width_seconds=float(BIN_SECONDS),
        rate=rate if rate is not None else 0.0,
        valid=rate is not None,
    )
