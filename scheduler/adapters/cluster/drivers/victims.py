"""Who goes when a count falls, and that nobody else does.

Controllers that remove the highest ordinals let nobody choose: there the replicas to retire must
be exactly those. A ReplicaSet and a stateless role remove the lowest cost first, among those that
are equally far: what is not bound or not ready goes before. So costs are written first, then the
count, and taken back where the count was refused or an earlier retirement came to nothing.
"""

from collections.abc import Iterable, Iterator

import msgspec

from scheduler.adapters.cluster.drivers.gangs import Groups, pod_path, ready
from scheduler.adapters.cluster.drivers.kinds import GROUPS, Count
from scheduler.adapters.cluster.drivers.writing import Cluster, DroppedError, refused
from scheduler.apiserver.client import FIELD_MANAGER, ApiError, ApiUnreachableError
from scheduler.apiserver.objects import Meta
from scheduler.planning.actions import ScaleRole
from scheduler.planning.targets import RBG_GROUP, RBG_ROLE, TEMPLATE_HASH, Target

POD_COST = "controller.kubernetes.io/pod-deletion-cost"
INSTANCE_COST = "controller.kubernetes.io/instance-deletion-cost"
RETIRED = "-1000000"
"""Tidal's cost. One found on a pod that stays is left over from an earlier retirement."""


class Mark(msgspec.Struct, frozen=True):
    """A cost to write on a pod or role instance; None takes it away. `before` undoes it."""

    path: str
    uid: str
    key: str
    value: str | None
    before: str | None


class Instance(msgspec.Struct, frozen=True):
    """A RoleInstance."""

    metadata: Meta


class _Instances(msgspec.Struct, frozen=True):
    items: tuple[Instance, ...] = ()


def check(count: Count, action: ScaleRole, groups: Groups) -> None:
    """Raise DroppedError unless exactly the replicas named would go; `groups` are those there."""
    named = set(action.retire)
    shrink = action.expected_replicas - action.replicas
    if len(named) < len(action.retire) or len(named) > max(shrink, 0):
        raise DroppedError(f"names {len(action.retire)} replicas to retire, {shrink} would go")
    if shrink <= 0:
        return
    gone = sorted(named - groups.keys())
    if gone:
        raise DroppedError(f"cannot retire {', '.join(gone)}: not there")
    if count.order == "last":
        _check_last(count, action, groups)
    else:
        _check_chosen(action, groups)


def _check_last(count: Count, action: ScaleRole, groups: Groups) -> None:
    least, most = (count.first + n for n in (action.replicas, action.expected_replicas))
    doomed = {one for one in groups if least <= ordinal(one) < most}
    if doomed != set(action.retire):
        raise DroppedError(
            f"{count.workload.path} removes its highest ordinals, "
            f"{_listed(doomed)}, not {_listed(action.retire)}"
        )


def _check_chosen(action: ScaleRole, groups: Groups) -> None:
    if not action.retire:
        return
    left = len(groups) - len(action.retire)
    if left > action.replicas:
        raise DroppedError(
            f"{left} replicas would be left for {action.replicas}: others than those named would go"
        )
    every = [pod for pods in groups.values() for pod in pods]
    if len({pod.metadata.labels.get(TEMPLATE_HASH) for pod in every}) > 1:
        raise DroppedError("a rollout is under way: nobody can say whose pods go")


def ordinal(group: str) -> int:
    """Return the number at the end of a replica's name; -1 where there is none."""
    number = group.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def ahead(count: Count, action: ScaleRole, groups: Groups) -> tuple[str, ...]:
    """Return replicas not named that would go before a named one, because they are not ready."""
    if count.order == "last" or not action.retire:
        return ()
    up = {name for name, pods in groups.items() if all(map(ready, pods))}
    if not up & set(action.retire):
        return ()
    return tuple(sorted(groups.keys() - up - set(action.retire)))


# ---- costs -----------------------------------------------------------------------------------


def costs(
    cluster: Cluster, count: Count, target: Target, action: ScaleRole, groups: Groups
) -> tuple[Mark, ...]:
    """Return the costs to write before the count: on those to go, and off those that stay."""
    if count.order == "last":
        return ()
    if count.order == "instance":
        shrinks = action.replicas < action.expected_replicas
        return tuple(_instance_marks(cluster, target, action)) if shrinks else ()
    return tuple(_pod_marks(action, groups))


def _pod_marks(action: ScaleRole, groups: Groups) -> Iterator[Mark]:
    for group, pods in groups.items():
        for pod in pods:
            yield from _mark(pod.metadata, pod_path(pod), POD_COST, group in action.retire)


def _instance_marks(cluster: Cluster, target: Target, action: ScaleRole) -> Iterator[Mark]:
    version = cluster.versions().get(GROUPS, "")
    here = f"{version}/namespaces/{target.namespace}/roleinstances"
    chosen = f"{RBG_GROUP}={target.name},{RBG_ROLE}={target.role}"
    found = cluster.read(here, _Instances, labelSelector=chosen)
    known = {f"{target.namespace}/{one.metadata.name}": one.metadata for one in found.items}
    gone = [one for one in action.retire if one not in known]
    if gone:
        raise DroppedError(f"cannot retire {', '.join(gone)}: no such role instance")
    for name, meta in sorted(known.items()):
        yield from _mark(meta, f"{here}/{meta.name}", INSTANCE_COST, name in action.retire)


def _mark(meta: Meta, path: str, key: str, goes: bool) -> Iterator[Mark]:  # noqa: FBT001
    before = meta.annotations.get(key)
    if goes and before != RETIRED:
        yield Mark(path, meta.uid, key, RETIRED, before)
    elif not goes and before == RETIRED:
        yield Mark(path, meta.uid, key, None, RETIRED)


def write_costs(cluster: Cluster, marks: Iterable[Mark]) -> None:
    """Write them; raise DroppedError where one that is to go is gone already."""
    for one in marks:
        try:
            _annotate(cluster, one.path, one.uid, one.key, one.value)
        except ApiError as error:
            if one.value is not None:
                raise refused(error, one.path) from error


def undo_costs(cluster: Cluster, marks: Iterable[Mark]) -> None:
    """Put back what was there; what fails is put right when the role is scaled next."""
    for one in marks:
        if one.value is None:
            continue
        try:
            _annotate(cluster, one.path, one.uid, one.key, one.before)
        except (ApiError, ApiUnreachableError):
            continue


def _annotate(cluster: Cluster, path: str, uid: str, key: str, value: str | None) -> None:
    """A merge patch that names another uid than the object's is refused."""
    body = {"metadata": {"uid": uid, "annotations": {key: value}}}
    cluster.api.patch(path, body, "merge", fieldManager=FIELD_MANAGER)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none that is there"
