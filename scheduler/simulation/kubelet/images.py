"""The images of one node: pulled one after the other, listed by size. Pure."""

import msgspec

MOST_LISTED = 50
"""nodeStatusMaxImages of the real kubelet."""


class Pulled(msgspec.Struct, frozen=True):
    """One image, there or on its way."""

    mib: int
    ready_seconds: float


class Images(msgspec.Struct, frozen=True):
    """All images, by name; none ever goes."""

    known: dict[str, Pulled] = {}
    line_free_seconds: float = 0.0
    told: int = 0
    """How many were ready when the list was last told."""

    def ready_seconds(self, name: str, now_seconds: float) -> float | None:
        """Return when the image is there, at the earliest now; None where nobody asked for it."""
        image = self.known.get(name)
        return None if image is None else max(now_seconds, image.ready_seconds)

    def pull(self, name: str, mib: int, mib_per_second: float, now_seconds: float) -> "Images":
        """Put the image at the end of the node's line."""
        ready = max(now_seconds, self.line_free_seconds) + mib / mib_per_second
        known = {**self.known, name: Pulled(mib, ready)}
        return Images(known, ready, self.told)

    def due_seconds(self) -> float:
        """Return when the list next has something new to tell; infinite without."""
        times = sorted(image.ready_seconds for image in self.known.values())
        return times[self.told] if self.told < len(times) else float("inf")

    def tell(self, now_seconds: float) -> "Images":
        """Count what is there now as told."""
        told = sum(image.ready_seconds <= now_seconds for image in self.known.values())
        return Images(self.known, self.line_free_seconds, told)

    def listed(self, now_seconds: float) -> tuple[tuple[str, int], ...]:
        """Return names and MiB of what is there, largest first, as many as a status shows."""
        there = [(n, one.mib) for n, one in self.known.items() if one.ready_seconds <= now_seconds]
        return tuple(sorted(there, key=lambda pair: (-pair[1], pair[0]))[:MOST_LISTED])
