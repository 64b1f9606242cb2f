"""Bins that are known to miss engines: a role that has been partial for longer than a late scrape.

Past bins cannot tell a pod that was scaled away from one whose scrapes fail. The live look can,
because it knows how many replicas are ready.
"""

from math import floor

from scheduler.adapters.prometheus.bins import BIN_SECONDS

_KEPT_BINS = 86400 // BIN_SECONDS


class Doubts:
    """Which bins of which role."""

    def __init__(self, patience_seconds: float) -> None:
        """A new pod is ready before it is scraped, so a role may be partial for a short while."""
        self._patience = patience_seconds
        self._since: dict[str, float] = {}
        self._bins: dict[str, frozenset[int]] = {}

    def note(self, key: str, now_seconds: float, *, partial: bool) -> None:
        """Take in what a look at a role says."""
        if not partial:
            self._since.pop(key, None)
        elif now_seconds - self._since.setdefault(key, now_seconds) > self._patience:
            number = floor(now_seconds / BIN_SECONDS)
            recent = {one for one in self._bins.get(key, ()) if one > number - _KEPT_BINS}
            self._bins[key] = frozenset(recent | {number})

    def bins(self, key: str) -> frozenset[int]:
        """Return the bins of a role that are doubted."""
        return self._bins.get(key, frozenset())
