"""What stopping a job throws away, in priority-weighted GPU-seconds."""

import math

from preemption.values import Claimant


def cost(claimant: Claimant, now_seconds: float, *, notice_seconds: float) -> int:
    """Priority x GPUs x (work at stake + restart), rounded up; at least 1.

    A stop is never free, so that a packer with two equal ways takes the one that stops nobody.
    """
    lost_seconds = at_stake_seconds(claimant, now_seconds, notice_seconds=notice_seconds)
    weight = claimant.priority * claimant.gpus
    return max(1, math.ceil(weight * (lost_seconds + claimant.restart_seconds)))


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
