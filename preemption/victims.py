"""From candidates to the packer's gangs, and from a set of victims to a minimal one."""

from collections.abc import Callable, Sequence

from binpacking.problem import Gang
from preemption.cost import cost
from preemption.values import Claimant


def gangs(
    claimants: Sequence[Claimant], now_seconds: float, *, notice_seconds: float
) -> tuple[Gang, ...]:
    """The candidates as gangs the packer may stop, in order of key, each at its cost."""
    return tuple(
        Gang(
            key=claimant.key,
            parts=claimant.parts,
            cost=cost(claimant, now_seconds, notice_seconds=notice_seconds),
        )
        for claimant in sorted(claimants, key=lambda claimant: claimant.key)
    )


def minimal(victims: Sequence[Gang], fits: Callable[[frozenset[str]], bool]) -> tuple[Gang, ...]:
    """Drop every victim without which the request still fits, dearest first, then by key.

    `fits` tells whether the request fits once exactly these keys are stopped; it must not turn
    false when more are stopped. The result is minimal: no member can be spared. Raises
    ValueError where the victims do not suffice to begin with.
    """
    kept = {victim.key for victim in victims}
    if not fits(frozenset(kept)):
        raise ValueError("victims: the request does not fit with all of them stopped; give more")
    for victim in sorted(victims, key=lambda victim: (-victim.cost, victim.key)):
        if fits(frozenset(kept - {victim.key})):
            kept.discard(victim.key)
    return tuple(victim for victim in victims if victim.key in kept)
