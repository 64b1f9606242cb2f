"""Why nobody else could give way: the running jobs that were not asked, counted by reason.

For the sentence of a role that stays short, after packing.
"""

from collections import Counter

from preemption.values import Why
from preemption.victims import SURPLUS
from scheduler.planning.situation import Victims

WORDS: dict[Why, str] = {
    "opted_out": "opted out",
    "priority": "of online priority",
    "held": "held by a disruption budget",
    "starting": "still without all pods",
    "told": "told to go already",
    "writing": "writing a checkpoint",
    "minimum_runtime": "short of the minimum runtime",
    "protected": "protected after a resume",
    "dear": "with too much unsaved work to give way for mere room",
    "tenant_share": "in a guaranteed share",
    "budget": "past the stops of this hour",
    "tenant_budget": "past its tenant's stops of this hour",
    "job_budget": "past its own stops of this hour",
}
"""Reason -> what is said after the number of jobs that it applies to."""


def summary(victims: Victims, killed: tuple[str, ...]) -> str:
    """Return who of the running jobs gives way, and why the others do not."""
    gone = {key.removesuffix(SURPLUS) for key in killed}
    counts = Counter(refusal.reason for refusal in victims.refusals)
    total = len(victims.claimants) + len(victims.refusals)
    if not total:
        return "no job runs"
    parts = [f"{len(gone)} give way"] if gone else []
    idle = len(victims.claimants) - len(gone)
    parts += [f"{idle} would free no room that fits within the budgets"] if idle else []
    parts += [f"{counts[why]} {words}" for why, words in WORDS.items() if counts[why]]
    return f"of {total} running jobs {', '.join(parts)}"
