"""Stand-in for the controller of RoleInstances: `kinds.md` sections 3.2, 3.5 and traps R1, R4, R5.

An instance finds its pods by label, also those that an earlier instance of the same name left
behind and that are on their way out: they count as ready while they say so (R4). A new pod waits
until the old one of its name is gone (R5).
"""

from tests.controlplane.kinds.rbg import PREFIX
from tests.controlplane.kinds.store import (
    INSTANCE,
    POD,
    Object,
    Store,
    condition,
    dying,
    is_true,
    labels,
    meta,
    namespace,
    owners,
    pod_of,
    reference,
    uid,
)

NAME = f"{PREFIX}/role-instance-name"
GATES = ("InPlaceUpdateReady", "InstancePodReady")


def reconcile(store: Store) -> None:
    living = {uid(one) for one in store.all(INSTANCE) if not dying(one)}
    for pod in store.all(POD):
        # the garbage collector learns of a new kind only after half a minute
        if NAME in labels(pod) and not living & set(owners(pod)) and not dying(pod):
            store.delete(POD, pod)
    for one in store.all(INSTANCE):
        if uid(one) in living:
            _pods(store, one)


def _pods(store: Store, one: Object) -> None:
    name = meta(one)["name"]
    mine = [
        pod
        for pod in store.all(POD)
        if labels(pod).get(NAME) == name and namespace(pod) == namespace(one)
    ]
    if any(_failed(pod) for pod in mine):
        # RecreateRoleInstanceOnPodRestart: the whole instance starts again (3.5)
        for pod in mine:
            if not dying(pod):
                store.delete(POD, pod)
        return
    bodies = _bodies(one)
    there = {meta(pod)["name"] for pod in mine}
    for body in bodies:
        if body["metadata"]["name"] not in there:
            store.create(POD, one, body)
    whole = len(mine) == len(bodies)
    _open_gates(store, mine, whole and all(is_true(pod, "ContainersReady") for pod in mine))
    ready = whole and all(is_true(pod, "Ready") for pod in mine)
    conditions = [
        condition("RoleInstanceReady", ready, "", ""),
        condition("RoleInstanceAllPodsReady", ready, "", ""),
        condition("RoleInstanceInPlaceUpdateReady", true=True, reason="", message=""),
    ]
    store.status(INSTANCE, one, {"conditions": conditions})


def _failed(pod: Object) -> bool:
    return pod["status"].get("phase") == "Failed" and not dying(pod)


def _open_gates(store: Store, pods: list[Object], all_ready: bool) -> None:
    """A pod of several is Ready only when all are: a lost one makes its siblings unready."""
    for pod in pods:
        wanted = dict(zip(GATES, (True, all_ready), strict=True))
        told = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
        if any(told.get(gate) != ("True" if true else "False") for gate, true in wanted.items()):
            conditions = [condition(gate, true, "", "") for gate, true in wanted.items()]
            store.patch(POD, pod, {"status": {"conditions": conditions}}, "/status")


def _bodies(one: Object) -> list[Object]:
    """`<instance>` for one pod, `<instance>-<n>` with the leader as 0 for several."""
    name = meta(one)["name"]
    made, index = [], 0
    for component in one["spec"]["components"]:
        several = component["name"] in {"leader", "worker"}
        for number in range(component["size"]):
            own = {NAME: name, f"{PREFIX}/component-id": str(number)}
            if several:
                own[f"{PREFIX}/component-index"] = str(index)
            pod_name = f"{name}-{index}" if several else name
            owner = reference(INSTANCE, one)
            body = pod_of(component["template"], pod_name, own, {}, owner)
            gates = [{"conditionType": gate} for gate in GATES]
            made.append({**body, "spec": {**body["spec"], "readinessGates": gates}})
            index += 1
    return made
