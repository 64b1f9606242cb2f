"""A range's answer becomes demand bins; pure.

Bins are 300 s wide and start at multiples of 300 s of Unix time; bin `n` is [300 n, 300 (n + 1)).
Counters' growth over the bin comes from `increase`; what arrived is estimated from it as
`reading` says, with the mean lengths of the bin itself (else of the last bin that had one).
Requests count when they end, so they are corrected by all that is open.

`increase` takes a counter that fell for one that began again at zero: it misses what was counted
after the last scrape before that, and if the counter only stepped back, it counts all of it once
more. So a bin is unknown where engines whose counters fell bring more than a tenth of its growth;
below that, one engine of many that crashes over and over does not blind the forecaster.

A bin is valid where engines were scraped at both its ends: `increase` sees across a hole in the
middle, but at an edge it sees less than there was. An edge counts as scraped when the newest
sample is no older than two scrapes, 90 s at most, so that scrape intervals up to 60 s will do.
The first bin of a role's first engine has only one such end. What of a role's pods was scraped
in the past nobody knows; only live bins ask for that (`PrometheusSignals`).
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from scheduler.adapters.prometheus.queries import QUEUES
from scheduler.planning.policy import ModelPolicy

BIN_SECONDS = 300
FIELDS = ("requests", "prompt_tokens", "generated_tokens")
_LEAST_EDGE, _MOST_EDGE = 15.0, 90.0
_SCRAPES = 2.1
_MOST_RESET = 0.1

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Sums = Mapping[str, Floats]
"""Meaning -> sum at each end of a bin [end], one end more than bins; NaN: no value."""


class Bins(msgspec.Struct, frozen=True):
    """Arrivals per second of one role in bins that follow each other.

    `there` [bin]: some engine was; `rates` [field, bin] in order of `FIELDS`; NaN: unknown.
    """

    there: Bools
    rates: Floats


def no_bins(count: int) -> Bins:
    """Bins in which there was no engine."""
    return Bins(np.zeros(count, np.bool_), np.full((len(FIELDS), count), np.nan))


def sources(model: ModelPolicy) -> dict[str, tuple[str, ...]]:
    """Return which roles of a model count which field.

    Engines of both roles of a prefill-decode pair count prompt tokens and requests. Prompts are
    prefill's demand and generated tokens are decode's; where a stream drives no role, all count.
    """
    every = tuple(model.roles)
    by = {
        stream: tuple(name for name, role in model.roles.items() if role.tokens == stream)
        for stream in ("prompt", "generated")
    }
    prompt, generated = by["prompt"] or every, by["generated"] or every
    return {"requests": prompt, "prompt_tokens": prompt, "generated_tokens": generated}


def bins(read: Sums, ends: Floats) -> Bins:
    """Return the bins between the `ends` [end], in Unix seconds."""
    width = ends.size - 1
    scrapes = read.get("scrapes", np.full(ends.size, np.nan))[1:]
    there = scrapes > 0
    counted = there & _scraped(read, ends, scrapes) & ~_reset(read, width)
    at = {meaning: np.where(counted, values[1:], np.nan) for meaning, values in read.items()}
    waiting = _grown(read, QUEUES, width)
    running = _grown(read, ("running",), width)
    rates = np.stack(
        [
            _requests(at, waiting + running, width),
            _tokens(at, "prompt", (waiting, running)),
            _tokens(at, "generated", (waiting, running)),
        ]
    )
    return Bins(there, np.where(counted, rates, np.nan))


def either(one: Bins, other: Bins) -> Bins:
    """Return one, with bins of the other where it knows nothing."""
    lacks = other.there & ~(one.there & np.isfinite(one.rates).any(axis=0))
    return Bins(one.there | other.there, np.where(lacks, other.rates, one.rates))


def total(roles: Sequence[Bins], field: str) -> Floats:
    """Return the sum of a field over roles [bin], unknown where one's is.

    A role without engines adds nothing as long as another one has some; without any, what arrives
    is unknown: there is nobody to count it.
    """
    number = FIELDS.index(field)
    summed = sum(np.where(one.there, one.rates[number], 0.0) for one in roles)
    some = np.any([one.there for one in roles], axis=0)
    return np.where(some, summed, np.nan)


def _scraped(read: Sums, ends: Floats, scrapes: Floats) -> Bools:
    """Where engines were scraped at both ends of a bin."""
    newest = read.get("newest", np.full(ends.size, np.nan))
    with np.errstate(divide="ignore"):
        slack = np.clip(_SCRAPES * BIN_SECONDS / scrapes, _LEAST_EDGE, _MOST_EDGE)
    age = ends - newest
    scraped: Bools = (age[:-1] <= slack) & (age[1:] <= slack)
    return scraped


def _reset(read: Sums, width: int) -> Bools:
    """Where too much of the growth comes from counters that were reset."""
    share = read.get("reset", np.full(width + 1, np.nan))[1:]
    return np.nan_to_num(share) > _MOST_RESET


def _grown(read: Sums, meanings: Sequence[str], width: int) -> Floats:
    """Return how much a sum of gauges grew; a gauge that is missing at an end says nothing."""
    grown = np.zeros(width)
    for meaning in meanings:
        if meaning in read:
            grown += np.nan_to_num(np.diff(read[meaning]))
    return grown


def _lengths(at: Sums, stream: str, width: int) -> Floats:
    """Return the tokens per finished request of each bin, else of the last that had one, else 0.

    Of two counts of tokens the one taken at the end of requests.
    """
    unknown = np.full(width, np.nan)
    finished, live = (at.get(f"{stream}_{how}", unknown) for how in ("finished", "live"))
    tokens = np.where(np.isfinite(finished), finished, live)
    requests = at.get("requests", unknown)
    had = np.isfinite(tokens) & (requests >= 1)
    last = np.maximum.accumulate(np.where(had, np.arange(width), -1))
    length = np.divide(tokens, requests, out=np.zeros(width), where=had)
    return np.where(last >= 0, length[last], 0.0)


def _requests(at: Sums, opened: Floats, width: int) -> Floats:
    done = at.get("requests", np.full(width, np.nan))
    done = np.where(np.isfinite(done), done, _nothing(at, width))
    return np.maximum(done + opened, 0.0) / BIN_SECONDS


def _tokens(at: Sums, stream: str, grown: tuple[Floats, Floats]) -> Floats:
    waiting, running = grown
    unknown = np.full(waiting.size, np.nan)
    finished, live = (at.get(f"{stream}_{how}", unknown) for how in ("finished", "live"))
    now = np.isfinite(live)
    served = np.where(now, live, finished)
    served = np.where(np.isfinite(served), served, _nothing(at, waiting.size))
    backlog = waiting + np.where(now, 0.0, running)
    return np.maximum(served + backlog * _lengths(at, stream, waiting.size), 0.0) / BIN_SECONDS


def _nothing(at: Sums, width: int) -> Floats:
    """Return zero where no counter was born yet and nothing is open: it is born by a request."""
    open_now = np.zeros(width)
    for name in ("running", *QUEUES):
        open_now += np.nan_to_num(at.get(name, np.zeros(width)))
    running = at.get("running", np.full(width, np.nan))
    return np.where(np.isfinite(running) & (open_now == 0), 0.0, np.nan)
