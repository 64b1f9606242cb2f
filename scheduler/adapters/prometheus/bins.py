"""A range's answer becomes demand bins; pure.

Bins are 300 s wide and start at multiples of 300 s of Unix time; bin `n` is [300 n, 300 (n + 1)).
Counters' growth over the bin comes from `increase`, which handles resets; what arrived is
estimated from it as `reading` says, with the mean lengths of the bin itself (else of the last bin
that had one). Requests count when they end, so they are corrected by all that is open.

A bin is valid where engines were scraped at both its ends: `increase` sees across a hole in the
middle, but at an edge it sees less than there was. An edge counts as scraped when the newest
sample is no older than two scrapes, 90 s at most, so that scrape intervals up to 60 s will do.
The first bin of a role's first engine has only one such end. What of a role's pods was scraped
in the past nobody knows; only live bins ask for that (`PrometheusSignals`).
"""

from collections.abc import Mapping, Sequence

import msgspec

from scheduler.adapters.prometheus.queries import QUEUES
from scheduler.planning.policy import ModelPolicy

BIN_SECONDS = 300
FIELDS = ("requests", "prompt_tokens", "generated_tokens")
_LEAST_EDGE, _MOST_EDGE = 15.0, 90.0
_SCRAPES = 2.1

Sums = Mapping[str, Mapping[int, float]]
"""Meaning -> Unix seconds of a bin's end -> sum."""


class Bin(msgspec.Struct, frozen=True):
    """Arrivals per second of one role in one bin; None: unknown."""

    requests: float | None = None
    prompt_tokens: float | None = None
    generated_tokens: float | None = None


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


def bins(read: Sums, numbers: range) -> dict[int, Bin]:
    """Return bins by number; one without any sample is left out. `read` begins one end earlier."""
    lengths: dict[str, float] = {}
    scraped = read.get("scrapes", {})
    return {
        number: _bin(read, number, lengths)
        for number in numbers
        if scraped.get((number + 1) * BIN_SECONDS, 0.0) > 0
    }


def total(roles: Sequence[Bin | None], field: str) -> float | None:
    """Return the sum of a field over roles, unknown where one's is; None had no engine then.

    A role without engines adds nothing as long as another one has some; without any, what arrives
    is unknown: there is nobody to count it.
    """
    values = [getattr(each, field) for each in roles if each is not None]
    if not values or None in values:
        return None
    return float(sum(values))


def _bin(read: Sums, number: int, lengths: dict[str, float]) -> Bin:
    start, end = number * BIN_SECONDS, (number + 1) * BIN_SECONDS
    if not _scraped(read, start, end):
        return Bin()
    at = {meaning: values[end] for meaning, values in read.items() if end in values}
    waiting = _grown(read, QUEUES, start, end)
    running = _grown(read, ("running",), start, end)
    for stream in ("prompt", "generated"):
        _learn_length(at, stream, lengths)
    return Bin(
        requests=_requests(at, waiting + running),
        prompt_tokens=_tokens(at, "prompt", (waiting, running), lengths),
        generated_tokens=_tokens(at, "generated", (waiting, running), lengths),
    )


def _scraped(read: Sums, start: int, end: int) -> bool:
    slack = _SCRAPES * BIN_SECONDS / read["scrapes"][end]
    slack = min(max(slack, _LEAST_EDGE), _MOST_EDGE)
    newest = read.get("newest", {})
    return all(edge in newest and edge - newest[edge] <= slack for edge in (start, end))


def _grown(read: Sums, meanings: Sequence[str], start: int, end: int) -> float:
    """Return how much a sum of gauges grew; a gauge that is missing at an end says nothing."""
    pairs = [read[meaning] for meaning in meanings if meaning in read]
    return sum(values[end] - values[start] for values in pairs if start in values and end in values)


def _learn_length(at: Mapping[str, float], stream: str, lengths: dict[str, float]) -> None:
    """Keep the bin's tokens per finished request; of two counts the one taken at the end."""
    tokens = at.get(f"{stream}_finished", at.get(f"{stream}_live"))
    requests = at.get("requests", 0.0)
    if tokens is not None and requests >= 1:
        lengths[stream] = tokens / requests


def _requests(at: Mapping[str, float], opened: float) -> float | None:
    done = at.get("requests", _nothing(at))
    return None if done is None else max(done + opened, 0.0) / BIN_SECONDS


def _tokens(
    at: Mapping[str, float], stream: str, grown: tuple[float, float], lengths: Mapping[str, float]
) -> float | None:
    waiting, running = grown
    live, finished = at.get(f"{stream}_live"), at.get(f"{stream}_finished")
    served = live if live is not None else finished
    if served is None:
        served = _nothing(at)
    if served is None:
        return None
    backlog = waiting if live is not None else waiting + running
    return max(served + backlog * lengths.get(stream, 0.0), 0.0) / BIN_SECONDS


def _nothing(at: Mapping[str, float]) -> float | None:
    """Return zero where no counter was born yet and nothing is open: it is born by a request."""
    open_now = sum(at.get(name, 0.0) for name in ("running", *QUEUES))
    return 0.0 if "running" in at and open_now == 0 else None
