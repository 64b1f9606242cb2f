"""What the fake kubelet tells the API server, as values; `bodies` gives them their wire form."""

import msgspec


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The status of one pod, as its kubelet sees it."""

    uid: str
    namespace: str
    name: str
    containers: tuple[tuple[str, str], ...]
    """Name and image of each."""
    phase: str
    """Pending, Running, Succeeded or Failed."""
    ready: bool = False
    containers_ready: bool = False
    devices: tuple[int, ...] | None = None
    """Given once, at admission."""
    exit_code: int | None = None
    reason: str = ""
    message: str = ""

    @property
    def terminal(self) -> bool:
        """The pod's containers will never run again."""
        return self.phase in {"Succeeded", "Failed"}


class Remove(msgspec.Struct, frozen=True, kw_only=True):
    """Deletion of a terminated pod's object, with grace 0."""

    uid: str
    namespace: str
    name: str


class ReportImages(msgspec.Struct, frozen=True):
    """The image list of a node: names and MiB, largest first."""

    node: str
    images: tuple[tuple[str, int], ...]


Write = Report | Remove | ReportImages
