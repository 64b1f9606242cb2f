"""A count that somebody else wrote, and how long it is left alone.

Four things stand on the object that holds a role's count:

  count               what the workload is to have now, whoever wrote it
  replicas            (annotation) what Tidal wrote last; Tidal writes it together with the count
                      and takes the other two annotations away in the same write
  override-replicas   (annotation) the count that is being left alone
  override-until      (annotation) until when

count = replicas: nobody has interfered, or somebody has put Tidal's count back, which hands the
role back at once. Otherwise it is an edit. If override-replicas equals the count, it is the edit
that was seen before and override-until holds; once that is past, Tidal takes over, although the
counts still differ. If not, the edit is new: it holds from now on, and both annotations are due.
So every edit starts a hold of its own, also one to a count that was held before: in between Tidal
has written and cleared both, or somebody wrote yet another count.

override-until alone, without override-replicas, is a person's word: it holds for any count.
"""

from collections.abc import Iterator

import msgspec

from scheduler.adapters.cluster.observed import Observed
from scheduler.adapters.cluster.workloads import Scalers, Workload, workloads
from scheduler.apiserver.times import seconds, text
from scheduler.planning.marks import OVERRIDE_REPLICAS, OVERRIDE_UNTIL, REPLICAS
from scheduler.planning.policy import Policy


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """A new edit: the annotations that are due on the object, while it has `replicas`."""

    role: str
    uid: str
    """Of the object to be annotated: the workload, or the scaling adapter of a role."""
    replicas: int
    until_seconds: float
    annotations: dict[str, str]


class Hold(msgspec.Struct, frozen=True):
    """Until when a count is left alone; None: nobody has interfered."""

    until_seconds: float | None = None
    new: bool = False


def hold(workload: Workload, now_seconds: float, hold_seconds: float) -> Hold:
    """Return what the annotations and the count say together."""
    marks, suffix = workload.annotations, workload.suffix
    until = moment(marks.get(OVERRIDE_UNTIL + suffix))
    held = marks.get(OVERRIDE_REPLICAS + suffix)
    written = marks.get(REPLICAS + suffix)
    if held is None and until is not None and until > now_seconds:
        return Hold(until)
    count = str(workload.replicas)
    if written is None or written == count:
        return Hold()
    if held == count and until is not None:
        return Hold(until)
    return Hold(now_seconds + hold_seconds, new=True)


def new_overrides(observed: Observed, policy: Policy, now_seconds: float) -> tuple[Override, ...]:
    """Return the edits that are seen for the first time, for the annotations to be written.

    A target with an autoscaler is left out: there each new count is that autoscaler's.
    """
    return tuple(_new_overrides(observed, policy, now_seconds))


def _new_overrides(observed: Observed, policy: Policy, now_seconds: float) -> Iterator[Override]:
    targets = dict(policy.targets())
    scalers = Scalers(observed)
    rules = policy.kubernetes
    for role, one in workloads(observed, targets.items(), rules.gpu_resources).items():
        found = hold(one, now_seconds, rules.override_hold_seconds)
        if not found.new or found.until_seconds is None or scalers.of(targets[role]):
            continue
        yield Override(
            role=role,
            uid=one.uid,
            replicas=one.replicas,
            until_seconds=found.until_seconds,
            annotations={
                OVERRIDE_UNTIL + one.suffix: text(found.until_seconds),
                OVERRIDE_REPLICAS + one.suffix: str(one.replicas),
            },
        )


def moment(given: str | None) -> float | None:
    """Return the time, or None where there is none that can be read."""
    try:
        return seconds(given) if given else None
    except (ValueError, OverflowError):
        return None
