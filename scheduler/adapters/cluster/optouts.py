"""What other tools' users write on pods that must not be disturbed, obeyed here as well.

Read from a Job, its labels and annotations, and from its pods. Each mark with the value that
forbids; what any other value means is its own tool's affair.
"""

from collections.abc import Iterable, Mapping

NEVER_COST = 2**31 - 1
"""Koordinator: an eviction cost of the greatest 32-bit integer means never."""

ANNOTATIONS: dict[str, tuple[str, ...]] = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": ("false",),
    "karpenter.sh/do-not-disrupt": ("true",),
    "karpenter.sh/do-not-evict": ("true",),
    "descheduler.alpha.kubernetes.io/prefer-no-eviction": ("true",),
    "volcano.sh/preemptable": ("false",),
    "godel.bytedance.com/can-be-preempted": ("false",),
    "scheduling.koordinator.sh/eviction-cost": (str(NEVER_COST),),
}
LABELS: dict[str, tuple[str, ...]] = {
    "kai.scheduler/preemptibility": ("non-preemptible",),
    "quota.scheduling.koordinator.sh/preemptible": ("false",),
    "volcano.sh/preemptable": ("false",),
}


def opt_out(marks: Iterable[tuple[Mapping[str, str], Mapping[str, str]]]) -> str:
    """Return the first mark that forbids to stop it, of (labels, annotations); empty: none does."""
    for labels, annotations in marks:
        for kind, known, given in (
            ("annotation", ANNOTATIONS, annotations),
            ("label", LABELS, labels),
        ):
            for key in sorted(given.keys() & known.keys()):
                value = given[key].strip()
                if value.lower() in known[key]:
                    return f"{kind} {key} is {value}"
    return ""
