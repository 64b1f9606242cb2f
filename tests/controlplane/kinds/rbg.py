"""Stand-in for the RoleBasedGroup controllers: the facts of `kinds.md` section 3, recorded on RBG
0.7.0 and 0.8.0-alpha.5, default workload (RoleInstanceSet).

Within a pass the levels work from the bottom up, each on what it saw at the start, as independent
controllers do: a write at the wrong level is carried out below before it is reverted above (3.5).
Left out: rolling and in-place updates, other workloads, coordination, gang, discovery objects.
"""

import secrets

from tests.controlplane.kinds.store import (
    ADAPTER,
    INSTANCE,
    RBG,
    SET,
    Object,
    Store,
    condition,
    dying,
    is_true,
    labels,
    meta,
    notes,
    owners,
    reference,
    short,
    uid,
)

PREFIX = "rbg.workloads.x-k8s.io"
PATTERN = f"{PREFIX}/role-instance-pattern"
COST = "controller.kubernetes.io/instance-deletion-cost"
INDEX = f"{PREFIX}/role-instance-index"
SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""Of the names that Kubernetes makes up."""
STATEFUL_NAME = "statefulset.kubernetes.io/pod-name"


# ---- RoleInstanceSet -> RoleInstances --------------------------------------------------------


def reconcile_sets(store: Store) -> None:
    for one in store.all(SET):
        if not dying(one):
            instances = [each for each in store.of(INSTANCE, one) if not dying(each)]
            if notes(one).get(PATTERN) == "Stateless":
                _scale_stateless(store, one, instances)
            else:
                _scale_stateful(store, one, instances)
            _set_status(store, one, instances)


def _scale_stateful(store: Store, one: Object, instances: list[Object]) -> None:
    """The highest index goes; costs are ignored (3.3). The instances of one pass share a label
    map, so their pods carry the LAST index that was made (trap R1).
    """
    name = meta(one)["name"]
    wanted = one["spec"]["replicas"]
    there = {int(labels(each)[INDEX]): each for each in instances}
    for index in sorted(there, reverse=True):
        if index >= wanted:
            store.delete(INSTANCE, there[index])
    missing = [index for index in range(wanted) if index not in there]
    for index in missing:
        own = {INDEX: str(index), STATEFUL_NAME: f"{name}-{index}"}
        wrong = {INDEX: str(missing[-1]), STATEFUL_NAME: f"{name}-{missing[-1]}"}
        _create_instance(store, one, f"{name}-{index}", own, wrong)


def _scale_stateless(store: Store, one: Object, instances: list[Object]) -> None:
    """Not ready, then lower deletion cost of the instance, then newer (3.3)."""
    surplus = len(instances) - one["spec"]["replicas"]
    newest_first = sorted(instances, key=lambda each: meta(each)["creationTimestamp"], reverse=True)
    order = sorted(newest_first, key=lambda each: (_ready(each), _cost(each)))
    for each in order[: max(0, surplus)]:
        store.delete(INSTANCE, each)
    for _ in range(-surplus):
        random = "".join(secrets.choice(SUFFIX_LETTERS) for _ in range(5))
        own = {f"{PREFIX}/role-instance-id": random, f"{PREFIX}/role-instance-owner": uid(one)}
        _create_instance(store, one, f"{meta(one)['name']}-{random}", own, {})


def _create_instance(
    store: Store, one: Object, name: str, own: dict[str, str], on_pods: dict[str, str]
) -> None:
    components = []
    for component in one["spec"]["roleInstanceTemplate"]["components"]:
        template = component["template"]
        inner = template.get("metadata", {})
        marked = {**inner, "labels": {**inner.get("labels", {}), **on_pods}}
        components.append({**component, "template": {**template, "metadata": marked}})
    body = {
        "metadata": {
            "name": name,
            "labels": {**labels(one), **own},
            "ownerReferences": [reference(SET, one)],
        },
        "spec": {"components": components},
    }
    store.create(INSTANCE, one, body)


def _set_status(store: Store, one: Object, instances: list[Object]) -> None:
    selector = group_selector(labels(one))
    if notes(one).get(PATTERN) == "Stateless":
        selector = f"{PREFIX}/role-instance-owner={uid(one)}"
    status = {
        "observedGeneration": meta(one)["generation"],
        "replicas": len(instances),
        "readyReplicas": sum(map(_ready, instances)),
        "updatedReplicas": len(instances),
        "labelSelector": selector,
    }
    store.status(SET, one, status)


def group_selector(own: dict[str, str]) -> str:
    keys = ("group-name", "group-uid", "role-name")
    return ",".join(f"{PREFIX}/{key}={own[f'{PREFIX}/{key}']}" for key in keys)


def _ready(instance: Object) -> bool:
    return is_true(instance, "RoleInstanceReady")


def _cost(instance: Object) -> int:
    return int(notes(instance).get(COST, "0"))


# ---- RoleBasedGroup -> RoleInstanceSets ------------------------------------------------------


def reconcile_groups(store: Store, *, adapter_overrules: bool) -> None:
    """With `adapter_overrules` (0.8), the workload follows a bound adapter and not the role."""
    for group in store.all(RBG):
        if dying(group):
            continue
        for role in group["spec"]["roles"]:
            _adapter(store, group, role)
            waits_for = _unmet(store, group, role)
            if waits_for:  # not reconciled at all, up or down (3.5)
                message = f'role "{role["name"]}" waits for {waits_for}'
                store.event(group, "DependencyNotMet", message, meta(group)["generation"])
                continue
            wanted = role["replicas"]
            if adapter_overrules:
                wanted = _overruled(store, group, role)
            _set_of(store, group, role, wanted)
        _group_status(store, group)


def _set_of(store: Store, group: Object, role: Object, wanted: int) -> None:
    found = store.named(SET, group, set_name(group, role))
    size = {f"{PREFIX}/role-size": str(wanted)}
    if found is None:
        store.create(SET, group, _set_body(group, role, wanted, size))
    elif found["spec"]["replicas"] != wanted:
        body = {"metadata": {"annotations": size}, "spec": {"replicas": wanted}}
        store.patch(SET, found, body)


def _set_body(group: Object, role: Object, wanted: int, size: dict[str, str]) -> Object:
    pattern = role.get("annotations", {}).get(PATTERN, "Stateful")
    return {
        "metadata": {
            "name": set_name(group, role),
            "labels": role_labels(group, role),
            "annotations": {PATTERN: pattern, **size},
            "ownerReferences": [reference(RBG, group)],
        },
        "spec": {
            "replicas": wanted,
            "roleInstanceTemplate": {"components": _components(group, role)},
        },
    }


def _components(group: Object, role: Object) -> list[Object]:
    pattern = role.get("leaderWorkerPattern")
    if not pattern:
        return [_component(group, role, role["name"], 1, role["standalonePattern"]["template"], 1)]
    size = pattern.get("size", 1)
    parts = [("leader", 1), ("worker", size - 1)] if size > 1 else [("leader", 1)]
    return [_component(group, role, name, n, pattern["template"], size) for name, n in parts]


def _component(
    group: Object, role: Object, name: str, count: int, template: Object, total: int
) -> Object:
    inner = template.get("metadata", {})
    own = {
        **role_labels(group, role),
        f"{PREFIX}/component-name": name,
        f"{PREFIX}/component-size": str(total),
    }
    marked = {**inner, "labels": {**inner.get("labels", {}), **own}}
    return {"name": name, "size": count, "template": {**template, "metadata": marked}}


def role_labels(group: Object, role: Object) -> dict[str, str]:
    return {
        f"{PREFIX}/group-name": meta(group)["name"],
        f"{PREFIX}/group-uid": short(uid(group)),
        f"{PREFIX}/role-name": role["name"],
    }


def set_name(group: Object, role: Object) -> str:
    return f"{meta(group)['name']}-{role['name']}"


def _unmet(store: Store, group: Object, role: Object) -> str:
    for name in role.get("dependencies", []):
        found = store.named(SET, group, f"{meta(group)['name']}-{name}")
        status = found.get("status", {}) if found else {}
        wanted = found["spec"]["replicas"] if found else None
        if status.get("readyReplicas") != wanted or status.get("replicas") != wanted:
            return str(name)
    return ""


def _group_status(store: Store, group: Object) -> None:
    """Counts instances; pods that are on their way out count nowhere (trap R3)."""
    roles, ready = [], True
    for role in group["spec"]["roles"]:
        found = store.named(SET, group, set_name(group, role))
        status = found.get("status", {}) if found else {}
        counts = {key: status.get(key, 0) for key in COUNTS}
        roles.append({"name": role["name"], **counts})
        wanted = found["spec"]["replicas"] if found else -1
        ready &= counts["replicas"] == counts["readyReplicas"] == wanted
    reason = ("AllRolesReady", "All roles are ready") if ready else READY_FALSE
    status = {
        "observedGeneration": meta(group)["generation"],
        "conditions": [condition("Ready", ready, *reason)],
        "roleStatuses": roles,
    }
    store.status(RBG, group, status)


COUNTS = ("replicas", "readyReplicas", "updatedReplicas")
READY_FALSE = ("RoleNotReady", "Not all role ready")


# ---- RoleBasedGroup -> scaling adapters ------------------------------------------------------


def _adapter(store: Store, group: Object, role: Object) -> None:
    """Made where it is enabled, with an owner that is no controller; deleted where it is not."""
    name = set_name(group, role)
    found = store.named(ADAPTER, group, name)
    enabled = role.get("scalingAdapter", {}).get("enable", False)
    if enabled and found is None:
        owner = reference(RBG, group, controller=False)
        own = {key: value for key, value in role_labels(group, role).items() if "uid" not in key}
        body = {
            "metadata": {"name": name, "labels": own, "ownerReferences": [owner]},
            "spec": {"scaleTargetRef": {"name": meta(group)["name"], "role": role["name"]}},
        }
        store.create(ADAPTER, group, body)
    if found and not enabled and uid(group) in owners(found) and not dying(found):
        store.delete(ADAPTER, found)


def _overruled(store: Store, group: Object, role: Object) -> int:
    """0.8: the adapter's count; the role keeps its wrong one, and an event says so (3.4)."""
    written: int = role["replicas"]
    found = store.named(ADAPTER, group, set_name(group, role))
    if found is None or uid(group) not in owners(found):
        return written
    wanted: int = found["spec"].get("replicas", written)
    if wanted != written and found.get("status", {}).get("replicas") == wanted:
        message = (
            f'Role "{role["name"]}" replicas reset to RBGSA "{set_name(group, role)}" '
            f"(desired={wanted}, observed={written})"
        )
        store.event(group, "ReplicasOverriddenByAdapter", message, meta(group)["generation"])
    return wanted
