"""Demand bins of a policy's models, read by ranges; remembers how far it has told them."""

from collections.abc import Callable
from itertools import pairwise
from math import floor

from forecasting import Sample
from scheduler.adapters.prometheus import queries
from scheduler.adapters.prometheus.bins import BIN_SECONDS, Bin, bins, sources, total
from scheduler.adapters.prometheus.connection import Connection, PrometheusError
from scheduler.adapters.prometheus.engines import Engines, Found, engines, find
from scheduler.adapters.prometheus.ranges import Progress, missed, told
from scheduler.planning.policy import Policy

HISTORY_BINS = 14 * 86400 // BIN_SECONDS
CHUNK_BINS = 2 * 86400 // BIN_SECONDS
"""A query for two days stays well below the 11,000 points that Prometheus answers at once."""

Doubted = Callable[[str, int], bool]
"""Whether a bin of a role is known to miss engines."""


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

    def samples(self, policy: Policy, now_seconds: float, doubted: Doubted) -> list[Sample]:
        """Return bins that closed since the last call and those known only now, in order of time.

        A model that the policy did not name before comes with its history.
        """
        last = floor(now_seconds / BIN_SECONDS)
        self.problem = ""
        out: list[Sample] = []
        for model in policy.models:
            progress = self._progress.get(model, Progress(last - HISTORY_BINS, last - HISTORY_BINS))
            found = self._found(policy, model, progress.ask, last, doubted)
            new, self._progress[model] = (
                missed(model, progress, last)
                if found is None
                else told(model, progress, found, last)
            )
            out += new
        return sorted(out, key=lambda sample: (sample.start_seconds, sample.key))

    def _found(
        self, policy: Policy, model: str, first: int, last: int, doubted: Doubted
    ) -> dict[int, Bin] | None:
        """Return a model's bins by number; None where nobody answers, or did not just before."""
        if self.problem:
            return None
        try:
            return self._bins(policy, model, range(first, last), doubted)
        except PrometheusError as error:
            self.problem = str(error)
            return None

    def _bins(self, policy: Policy, model: str, numbers: range, doubted: Doubted) -> dict[int, Bin]:
        """Read each kind of engine once: roles whose engines look the same are not told apart."""
        kinds = {name: engines(policy, f"{model}/{name}") for name in policy.models[model].roles}
        read = {kind: self._read(kind, numbers) for kind in dict.fromkeys(kinds.values())}
        for name, kind in kinds.items():
            for number in numbers:
                if doubted(f"{model}/{name}", number):
                    read[kind][number] = Bin()
        counted = {
            field: tuple(dict.fromkeys(kinds[name] for name in names))
            for field, names in sources(policy.models[model]).items()
        }
        return {
            number: Bin(
                **{
                    field: total([read[kind].get(number) for kind in many], field)
                    for field, many in counted.items()
                }
            )
            for number in numbers
        }

    def _read(self, kind: Engines, numbers: range) -> dict[int, Bin]:
        """Return bins by number; those in which there was no engine are left out."""
        if not numbers:
            return {}
        # The end of the bin before the first is the first one's start.
        first, last = numbers.start * BIN_SECONDS, numbers.stop * BIN_SECONDS
        read: dict[int, Bin] = {}
        for found in find(self._connection, kind, first, last):
            for number, one in bins(self._sums(found, first, last), numbers).items():
                if read.get(number, Bin()) == Bin():
                    read[number] = one
        return read

    def _sums(self, found: Found, first: int, last: int) -> dict[str, dict[int, float]]:
        """Return the sums by meaning and end of bin, from `first` to `last`."""
        sums: dict[str, dict[int, float]] = {}
        query = queries.bins(found, BIN_SECONDS)
        edges = [*range(first, last, CHUNK_BINS * BIN_SECONDS), last]
        for begin, end in pairwise(edges):
            for line in self._connection.span(query, begin, end, BIN_SECONDS):
                sums.setdefault(line.labels.get("meaning", ""), {}).update(line.values)
        return sums
