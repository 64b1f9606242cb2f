"""Which bins to ask for: those not yet told, and recent ones that data came late for; pure.

A bin is told once when it closes, known or not. One that was unknown is asked for again for an
hour, as long as Prometheus answers; while it does not, all later bins stay open, however old, and
are told when it is back. The forecaster takes late bins in.
"""

import msgspec
import numpy as np

from forecasting import Observed, Sample, Stretch
from scheduler.adapters.prometheus.bins import BIN_SECONDS, FIELDS, Floats

LATE_BINS = 3600 // BIN_SECONDS


class Progress(msgspec.Struct, frozen=True):
    """How far one model's bins are: the first to ask for, the first not told, and which of those
    between were known when told, as (field, bin).
    """

    ask: int
    tell: int
    known: frozenset[tuple[str, int]] = frozenset()


def missed(model: str, progress: Progress, last: int) -> tuple[list[Observed], Progress]:
    """Tell closed bins as unknown, since nobody answers; they stay open."""
    unknown = np.full((len(FIELDS), max(0, last - progress.tell)), np.nan)
    observed = _observed(model, progress.tell, unknown)
    return observed, msgspec.structs.replace(progress, tell=max(last, progress.tell))


def told(
    model: str, progress: Progress, rates: Floats, last: int
) -> tuple[list[Observed], Progress]:
    """Tell bins that closed, and older ones that are known only now.

    `rates` [field, bin] are those of the bins from `progress.ask` to before `last`, NaN unknown.
    """
    known = np.isfinite(rates)
    old = max(0, min(progress.tell, last) - progress.ask)
    observed = _late(model, progress, rates[:, :old])
    observed += _observed(model, max(progress.tell, progress.ask), rates[:, old:])
    first = max(progress.ask, last - LATE_BINS)
    recent = known[:, first - progress.ask :]
    still_open = np.flatnonzero(~recent.all(axis=0)).tolist()
    ask = first + still_open[0] if still_open else max(last, progress.ask)
    late = {
        (field, first + number)
        for row, field in enumerate(FIELDS)
        for number in np.flatnonzero(recent[row]).tolist()
    }
    kept = frozenset(pair for pair in late | progress.known if pair[1] >= ask)
    return observed, Progress(ask, max(last, progress.tell), kept)


def _late(model: str, progress: Progress, rates: Floats) -> list[Observed]:
    """Tell which of the old bins are known only now."""
    new = np.array(rates)
    for field, number in progress.known:
        if 0 <= number - progress.ask < rates.shape[1]:
            new[FIELDS.index(field), number - progress.ask] = np.nan
    some = np.flatnonzero(np.isfinite(new).any(axis=0))
    if not some.size:
        return []
    first, end = int(some[0]), int(some[-1]) + 1
    told = _observed(model, progress.ask + first, new[:, first:end])
    return [one for one in told if isinstance(one, Stretch) or one.valid]


def _observed(model: str, first: int, rates: Floats) -> list[Observed]:
    """Few bins as samples, in order of time; many as one stretch for each field."""
    if rates.shape[1] > LATE_BINS:
        return [
            Stretch(f"{model}/{field}", float(first * BIN_SECONDS), float(BIN_SECONDS), row)
            for field, row in zip(FIELDS, rates, strict=True)
        ]
    pairs = zip(FIELDS, rates, strict=True)
    by_field = [_samples(model, field, first, row) for field, row in pairs]
    return [one for bins in zip(*by_field, strict=True) for one in bins]


def _samples(model: str, field: str, first: int, rates: Floats) -> list[Sample]:
    return [
        Sample(
            key=f"{model}/{field}",
            start_seconds=float((first + number) * BIN_SECONDS),
            width_seconds=float(BIN_SECONDS),
            rate=rate if known else 0.0,
            valid=known,
        )
        for number, (rate, known) in enumerate(
            zip(rates.tolist(), np.isfinite(rates).tolist(), strict=True)
        )
    ]
