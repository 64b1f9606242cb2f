"""Stand-in for the LeaderWorkerSet controller: the facts of `kinds.md` section 4, recorded on
LWS 0.10.0.

Leaders are owned by the set and workers by their leader; the two levels of StatefulSets between
them are left out. Workers go when the garbage collector sees that their leader has gone, which
makes two termination periods (4.2, L1). There is no rolling update.
"""

from tests.controlplane.kinds.store import (
    LWS,
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
    short,
    uid,
)

PREFIX = "leaderworkerset.sigs.k8s.io"


def reconcile(store: Store) -> None:
    for one in store.all(LWS):
        if not dying(one):
            leaders = {_index(pod): pod for pod in store.of(POD, one)}
            _scale(store, one, leaders)
            for leader in leaders.values():
                _workers(store, one, leader)
            _status(store, one, leaders)


def _scale(store: Store, one: Object, leaders: dict[int, Object]) -> None:
    """The highest groups go, whatever pod-deletion-cost says (4.2); a leader that is on its way
    out is never called back: it ends, then a new one of the same name begins.
    """
    wanted = one["spec"]["replicas"]
    for index in sorted(leaders, reverse=True):
        if index >= wanted and not dying(leaders[index]):
            store.delete(POD, leaders[index])
    for index in range(wanted):
        if index not in leaders:
            store.create(POD, one, _pod(one, index, 0, reference(LWS, one)))


def _workers(store: Store, one: Object, leader: Object) -> None:
    """Workers are made once their leader exists; losing one costs the whole group (4.3)."""
    if dying(leader):
        return
    mine = store.of(POD, leader)
    if any(dying(pod) or pod["status"].get("phase") == "Failed" for pod in [*mine, leader]):
        store.delete(POD, leader, "Foreground")
        return
    for index in range(1, _size(one)):
        name = f"{meta(leader)['name']}-{index}"
        if store.named(POD, one, name) is None:  # an old group's worker still has the name
            store.create(POD, one, _pod(one, _index(leader), index, reference(POD, leader)))


def _status(store: Store, one: Object, leaders: dict[int, Object]) -> None:
    """Counts leaders, so it is down after the first termination period (L1); a scale-down changes
    no condition (L2); at 0 the fields are absent (L5); dying groups count while ready (L6).
    """
    wanted = one["spec"]["replicas"]
    ready = {index for index, leader in leaders.items() if _group_ready(store, one, leader)}
    available = set(range(wanted)) <= ready
    store.status(
        LWS,
        one,
        {
            "observedGeneration": meta(one)["generation"],
            "replicas": len(leaders) or None,
            "readyReplicas": len(ready) or None,
            "updatedReplicas": len(leaders) or None,
            "hpaPodSelector": f"{PREFIX}/name={meta(one)['name']},{PREFIX}/worker-index=0",
            "conditions": [
                condition("Progressing", not available, "GroupsProgressing", "are progressing"),
                condition("Available", available, "AllGroupsReady", "All replicas are ready"),
            ],
        },
    )


def _group_ready(store: Store, one: Object, leader: Object) -> bool:
    pods = [leader, *(pod for pod in store.all(POD) if uid(leader) in owners(pod))]
    return len(pods) == _size(one) and all(is_true(pod, "Ready") for pod in pods)


def _size(one: Object) -> int:
    return int(one["spec"]["leaderWorkerTemplate"].get("size", 1))


def _index(leader: Object) -> int:
    return int(labels(leader)[f"{PREFIX}/group-index"])


def _pod(one: Object, group: int, worker: int, owner: Object) -> Object:
    """Labels of 4.1: correct on every pod."""
    name = meta(one)["name"]
    leader = f"{name}-{group}"
    own = {
        f"{PREFIX}/name": name,
        f"{PREFIX}/group-index": str(group),
        f"{PREFIX}/worker-index": str(worker),
        f"{PREFIX}/group-key": short(f"{namespace(one)}/{leader}"),
        f"{PREFIX}/template-revision-hash": short(str(one["spec"]["leaderWorkerTemplate"])),
    }
    extra = {f"{PREFIX}/size": str(_size(one))}
    templates = one["spec"]["leaderWorkerTemplate"]
    template = templates["workerTemplate"]
    if worker:
        extra[f"{PREFIX}/leader-name"] = leader
    else:
        template = templates.get("leaderTemplate") or template
    return pod_of(template, f"{leader}-{worker}" if worker else leader, own, extra, owner)
