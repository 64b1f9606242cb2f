"""The devices of one node and who holds them. Pure.

As the real device manager, it forgets a holder only when the next pod asks: then it drops pods
that are no longer active and offers what is left over.
"""

import hashlib
from collections.abc import Set as AbstractSet

import msgspec


class Ledger(msgspec.Struct, frozen=True):
    """Holders by device index."""

    size: int
    holders: dict[int, str] = {}
    """Index -> uid; a pod that is no longer active may still stand here."""
    draws: int = 0

    def freed(self, active: AbstractSet[str]) -> "Ledger":
        """Return the ledger without the pods that are not active."""
        kept = {index: uid for index, uid in self.holders.items() if uid in active}
        return msgspec.structs.replace(self, holders=kept)

    def free(self) -> tuple[int, ...]:
        """Return the indices that nobody holds."""
        return tuple(index for index in range(self.size) if index not in self.holders)

    def give(self, uid: str, devices: tuple[int, ...]) -> "Ledger":
        """Enter a holder; raise ValueError where a device is held or does not exist."""
        free = self.free()
        if any(index not in free for index in devices):
            raise ValueError(f"devices {devices} are not all free (free: {free})")
        held = {**self.holders, **dict.fromkeys(devices, uid)}
        return Ledger(self.size, held, self.draws + 1)

    def pick(self, count: int, salt: str) -> tuple[int, ...]:
        """Return `count` of the free devices, every choice equally likely over many draws.

        The order is that of digests over salt, draw and index, so the same history draws alike.
        """
        drawn = sorted(self.free(), key=lambda index: digest(f"{salt}/{self.draws}/{index}"))
        return tuple(sorted(drawn[:count]))


def digest(text: str) -> int:
    """Return 64 well-mixed bits of the text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def share(text: str) -> float:
    """Return a number from 0 up to 1, evenly spread over texts."""
    return digest(text) / 2**64
