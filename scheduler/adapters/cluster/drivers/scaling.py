"""Sets a role's count, guarded by all that the decision rests on.

What may stop it: a later planner's epoch, a count that is not the expected one, a count that
somebody else wrote, an autoscaler of the same target, a master that would undo it, replicas to
retire that are not those which would go. The count, what Tidal wrote and its epoch change in one
patch, which also ends a hold that is over.
"""

from collections.abc import Iterable

from scheduler.adapters.cluster.drivers import victims
from scheduler.adapters.cluster.drivers.gangs import Gangs
from scheduler.adapters.cluster.drivers.kinds import DRIVERS, Count
from scheduler.adapters.cluster.drivers.writing import (
    Cluster,
    DroppedError,
    Operation,
    annotated,
    changed,
    fence,
    same,
    test,
    write,
)
from scheduler.adapters.cluster.events import Reference
from scheduler.adapters.cluster.observed import Observed
from scheduler.adapters.cluster.overrides import Override, hold
from scheduler.adapters.cluster.workloads import Scalers
from scheduler.apiserver.client import ApiUnreachableError
from scheduler.apiserver.objects import Meta
from scheduler.apiserver.times import text
from scheduler.planning import marks
from scheduler.planning.actions import ScaleRole, Unplaced
from scheduler.planning.targets import Target

REFUSED = "RefusedByAutoscaler"
SHORT = {
    "no_gpus": "NoGPUsForReplicas",
    "spread": "SpreadBarsReplicas",
    "proximity": "ProximityBarsReplicas",
}


class Scaling:
    """Scales roles through the drivers of their kinds."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._refused: dict[str, str] = {}
        self._short: frozenset[str] = frozenset()

    def scale(self, action: ScaleRole, observed: Observed, gangs: Gangs, epoch: int) -> str:
        """Apply one action; return what is to be said about it beyond the action's sentence.

        Raises DroppedError and ApiUnreachableError.
        """
        cluster, target = self._cluster, self._target(action.role)
        driver = DRIVERS[target.kind]
        seen = driver.seen(target, observed)
        count = driver.count(target, seen, cluster)
        try:
            return self._scale(action, count, target, (seen, observed, gangs), epoch)
        except DroppedError as dropped:
            if dropped.reason:
                cluster.tell(_about(count), "Warning", dropped.reason, f"{action.role}: {dropped}")
            raise

    def _scale(
        self,
        action: ScaleRole,
        count: Count,
        target: Target,
        world: tuple[Observed, Observed, Gangs],
        epoch: int,
    ) -> str:
        cluster, driver = self._cluster, DRIVERS[target.kind]
        seen, observed, gangs = world
        scaler = Scalers(observed).of(target)
        if scaler:
            raise DroppedError(_refusal(scaler), REFUSED)
        self._operations(count, action, epoch)  # all that speaks against it, before costs are put
        groups = gangs.staying(action.role)
        victims.check(count, action, groups)
        costs = victims.costs(cluster, count, target, action, groups)
        try:
            victims.write_costs(cluster, costs)
            write(
                cluster,
                count.path,
                seen,
                lambda now: self._operations(driver.count(target, now, cluster), action, epoch),
                lambda: driver.fresh(target, seen, cluster),
            )
        except (DroppedError, ApiUnreachableError):
            victims.undo_costs(cluster, costs)
            raise
        up = action.replicas > action.expected_replicas
        cluster.tell(_about(count), "Normal", "ScaledUp" if up else "ScaledDown", action.sentence)
        first = victims.ahead(count, action, groups)
        return f"{', '.join(first)} may go first: not ready" if first else ""

    def _operations(self, count: Count, action: ScaleRole, epoch: int) -> list[Operation]:
        workload, rules = count.workload, self._cluster.policy().kubernetes
        fence(workload.annotations, epoch)
        if workload.replicas != action.expected_replicas:
            raise DroppedError(f"expected {action.expected_replicas}, spec has {workload.replicas}")
        if action.replicas < 0:
            raise DroppedError(f"replicas must not be negative, not {action.replicas}")
        if action.replicas == workload.replicas:
            raise DroppedError("nothing to do: spec has that count")
        now = self._cluster.now_seconds()
        until = hold(workload, now, rules.override_hold_seconds).until_seconds
        if until is not None and until > now:
            raise DroppedError(
                f"{workload.path} was set to {workload.replicas} by somebody else: "
                f"left alone until {text(until)}",
                "OverriddenByUser",
            )
        values: dict[str, str | None] = {
            marks.EPOCH: str(epoch),
            marks.REPLICAS + workload.suffix: str(action.replicas),
            marks.OVERRIDE_UNTIL + workload.suffix: None,
            marks.OVERRIDE_REPLICAS + workload.suffix: None,
        }
        return [
            same(workload.uid),
            *count.guards,
            *changed(count.member, workload.replicas, action.replicas),
            *annotated(workload.annotations, values),
        ]

    def note(self, override: Override, observed: Observed, epoch: int) -> None:
        """Write the annotations that are due on an edit, while the count is still that edit's."""
        cluster, target = self._cluster, self._target(override.role)
        driver = DRIVERS[target.kind]
        seen = driver.seen(target, observed)

        def operations(now: Observed) -> list[Operation]:
            count = driver.count(target, now, cluster)
            workload = count.workload
            fence(workload.annotations, epoch)
            if (workload.uid, workload.replicas) != (override.uid, override.replicas):
                raise DroppedError(f"{workload.path} was changed again")
            values = {**override.annotations, marks.EPOCH: str(epoch)}
            return [
                same(workload.uid),
                *count.guards,
                test(count.member, workload.replicas),
                *annotated(workload.annotations, values),
            ]

        count = driver.count(target, seen, cluster)
        write(cluster, count.path, seen, operations, lambda: driver.fresh(target, seen, cluster))
        cluster.tell(
            _about(count),
            "Normal",
            "OverriddenByUser",
            f"{override.role}: set to {override.replicas} by somebody else, left alone until "
            f"{text(override.until_seconds)}",
        )

    def tell_refusals(self, observed: Observed) -> None:
        """Say on each target that an autoscaler scales too that Tidal does not; once for each."""
        scalers = Scalers(observed)
        found = {role: scalers.of(target) for role, target in self._cluster.policy().targets()}
        before, self._refused = self._refused, {role: one for role, one in found.items() if one}
        for role, scaler in self._refused.items():
            if before.get(role) != scaler:
                self._warn(role, observed, REFUSED, f"{role}: {_refusal(scaler)}")

    def tell_shortages(self, unplaced: Iterable[Unplaced], observed: Observed) -> None:
        """Say on each target that Tidal finds no GPUs for replicas it lacks; once per shortage.

        kube-scheduler says of a waiting pod only that GPUs are insufficient.
        """
        found = {one.owner: one for one in unplaced}
        before, self._short = self._short, frozenset(found)
        for role in sorted(self._short - before):
            self._warn(role, observed, SHORT[found[role].code], found[role].sentence)

    def _warn(self, role: str, observed: Observed, reason: str, message: str) -> None:
        """Tell on the role's target; one that is gone, or that no policy names, hears nothing."""
        try:
            target = self._target(role)
            driver = DRIVERS[target.kind]
            count = driver.count(target, driver.seen(target, observed), self._cluster)
        except DroppedError:
            return
        self._cluster.tell(_about(count), "Warning", reason, message)

    def _target(self, role: str) -> Target:
        target = dict(self._cluster.policy().targets()).get(role)
        if target is None:
            raise DroppedError(f"the policy names no target for {role}")
        return target


def _refusal(scaler: str) -> str:
    return f"{scaler} scales it too: delete one"


def _about(count: Count) -> Reference:
    one = count.workload
    meta = Meta(name=one.name, namespace=one.namespace, uid=one.uid)
    return Reference.of(count.api_version, one.kind, meta)
