"""How the pretended nodes behave, as a value; all seconds are seconds of the pods' life."""

import msgspec


class Manners(msgspec.Struct, frozen=True, kw_only=True):
    """Delays and sizes; a pod's annotations (`facts`) go before these defaults."""

    start_seconds: float = 2.0
    """From the image being there to Running and ready."""
    exit_seconds: float = 1.0
    """From SIGTERM to the end of the process."""
    image_mib: int = 8192
    pull_mib_per_second: float = 1024.0
    """Of one node; images are pulled one after the other."""
    relist_seconds: float = 1.0
    """A dead container is seen after 0 to this."""
    unready_seconds: float = 0.5
    """From the start of a termination to Ready=False, unless the containers stop earlier."""
    seed: int = 1
