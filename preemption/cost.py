"""What stopping or shrinking a job throws away, in priority-weighted GPU-seconds."""

import math

from binpacking.inventory import WHOLE_GPU_MILLI
from preemption.values import Claimant

MOST_RUNS = 5
"""A run is a tenth dearer for each that came before it, up to so many: more would spare cheap
victims for dear ones, and how often a job may be stopped at all is for its hourly budget."""


def cost(claimant: Claimant, now_seconds: float, *, notice_seconds: float) -> int:
    """Priority x GPUs x (work at stake + restart) x 1.1 to 1.5 after stops, rounded up; at least 1.

    A stop is never free, so that a packer with two equal ways takes the one that stops nobody;
    and always dearer than shrinking the same job, so that it is shrunk where that will do. What
    was stopped before is dearer than its like, so that the same job is not stopped again and
    again.
    """
    lost_seconds = at_stake_seconds(claimant, now_seconds, notice_seconds=notice_seconds)
    tenths = 10 + min(max(0, claimant.attempt - 1), MOST_RUNS)
    weight = claimant.priority * claimant.milli_gpus / WHOLE_GPU_MILLI * tenths
    own = max(1, math.ceil(weight * (lost_seconds + claimant.restart_seconds) / 10))
    return max(own, shrink_cost(claimant) + 1) if claimant.spare_parts else own


def shrink_cost(claimant: Claimant) -> int:
    """Priority x (restart of the pods that stay + a second of each GPU that goes), at least 1.

    An elastic job keeps its work when pods leave it; its gang has to form anew.
    """
    released = sum(gpus for _, gpus in claimant.spare_parts)
    stays = max(0, claimant.gpus - released)
    return max(1, math.ceil(claimant.priority * (stays * claimant.restart_seconds + released)))


def at_stake_seconds(claimant: Claimant, now_seconds: float, *, notice_seconds: float) -> float:
    """Running time lost by a stop.

    Only the time of writing where a checkpoint can be written within the notice; otherwise
    everything since the last checkpoint, or since the start where there is none.
    """
    write_seconds = claimant.checkpoint_write_seconds
    if write_seconds is not None and write_seconds <= notice_seconds:
        return write_seconds
    since_seconds = claimant.started_seconds
    if claimant.last_checkpoint_seconds is not None:
        # A checkpoint of an earlier run saves nothing of this one, nor does waiting lose anything.
        since_seconds = max(since_seconds, claimant.last_checkpoint_seconds)
    return max(0.0, now_seconds - since_seconds)
