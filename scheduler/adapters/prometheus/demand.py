"""Demand bins of a policy's models, read by ranges; remembers how far it has told them."""

from collections.abc import Callable, Collection
from itertools import pairwise
from math import floor

import numpy as np

from forecasting import Observed
from scheduler.adapters.prometheus import queries
from scheduler.adapters.prometheus.bins import (
    BIN_SECONDS,
    FIELDS,
    Bins,
    Floats,
    bins,
    either,
    no_bins,
    sources,
    total,
)
from scheduler.adapters.prometheus.connection import Connection, PrometheusError
from scheduler.adapters.prometheus.engines import Engines, Found, engines, find
from scheduler.adapters.prometheus.ranges import Progress, missed, told
from scheduler.planning.policy import Policy

HISTORY_BINS = 14 * 86400 // BIN_SECONDS
CHUNK_BINS = 7 * 86400 // BIN_SECONDS
"""A query for a week stays well below the 11,000 points that Prometheus answers at once."""

Doubted = Callable[[str], Collection[int]]
"""Which bins of a role are known to miss engines."""


class Demand:
    """What arrived; `problem` says why the newest call found nothing, empty where it did."""

    def __init__(self, connection: Connection) -> None:
        """Nothing is told yet."""
        self._connection = connection
        self._progress: dict[str, Progress] = {}
        self.problem = ""

    def begin(self) -> None:
        """Forget what was told; the next call tells all the history."""
        self._progress = {}

    def observed(self, policy: Policy, now_seconds: float, doubted: Doubted) -> list[Observed]:
        """Return bins that closed since the last call and those known only now, model by model.

        A model that the policy did not name before comes with its history.
        """
        last = floor(now_seconds / BIN_SECONDS)
        self.problem = ""
        out: list[Observed] = []
        for model in sorted(policy.models):
            progress = self._progress.get(model, Progress(last - HISTORY_BINS, last - HISTORY_BINS))
            found = self._found(policy, model, range(progress.ask, last), doubted)
            new, self._progress[model] = (
                missed(model, progress, last)
                if found is None
                else told(model, progress, found, last)
            )
            out += new
        return out

    def _found(self, policy: Policy, model: str, numbers: range, doubted: Doubted) -> Floats | None:
        """Return rates [field, bin]; None where nobody answers, or did not a moment ago."""
        if self.problem:
            return None
        try:
            return self._rates(policy, model, numbers, doubted)
        except PrometheusError as error:
            self.problem = str(error)
            return None

    def _rates(self, policy: Policy, model: str, numbers: range, doubted: Doubted) -> Floats:
        """Read each kind of engine once: roles whose engines look the same are not told apart."""
        kinds = {name: engines(policy, f"{model}/{name}") for name in policy.models[model].roles}
        read = {kind: self._read(kind, numbers) for kind in dict.fromkeys(kinds.values())}
        for name, kind in kinds.items():
            missing = [one - numbers.start for one in doubted(f"{model}/{name}") if one in numbers]
            read[kind].there[missing] = True
            read[kind].rates[:, missing] = np.nan
        counted = {
            field: tuple(dict.fromkeys(kinds[name] for name in names))
            for field, names in sources(policy.models[model]).items()
        }
        return np.stack([total([read[kind] for kind in counted[field]], field) for field in FIELDS])

    def _read(self, kind: Engines, numbers: range) -> Bins:
        """Return the bins of these numbers."""
        read = no_bins(len(numbers))
        if not numbers:
            return read
        # The end of the bin before the first is the first one's start.
        first, last = numbers.start * BIN_SECONDS, numbers.stop * BIN_SECONDS
        ends = np.arange(first, last + 1, BIN_SECONDS, dtype=np.float64)
        for found in find(self._connection, kind, first, last):
            read = either(read, bins(self._sums(found, first, last), ends))
        return read

    def _sums(self, found: Found, first: int, last: int) -> dict[str, Floats]:
        """Return the sums by meaning, at each end of a bin from `first` to `last`."""
        sums: dict[str, Floats] = {}
        query = queries.bins(found, BIN_SECONDS)
        count = (last - first) // BIN_SECONDS + 1
        edges = [*range(first, last, CHUNK_BINS * BIN_SECONDS), last]
        for begin, end in pairwise(edges):
            for line in self._connection.span(query, begin, end, BIN_SECONDS):
                meaning = line.labels.get("meaning", "")
                own = sums.setdefault(meaning, np.full(count, np.nan))
                at = (line.at_seconds - first) // BIN_SECONDS
                inside = (at >= 0) & (at < count)
                own[at[inside]] = line.values[inside]
        return sums
