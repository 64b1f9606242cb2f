"""Stand-in for the controller of RoleBasedGroupScalingAdapters: `kinds.md` section 3.4.

The role's count is copied into the adapter once, when it is bound; from then on the adapter is the
master. It writes the group when the adapter's own count changes, and in 0.7 also when the role's
status changes: that is how an edit of the parent is reverted only after it has been executed.
"""

from tests.controlplane.kinds.rbg import PREFIX, group_selector, role_labels
from tests.controlplane.kinds.store import ADAPTER, RBG, Object, Store, owners, uid

Seen = tuple[object, object]


class Adapters:
    """Remembers, per adapter, what its last visit saw."""

    def __init__(self, *, reverts: bool) -> None:
        """`reverts`: a change of the role's status makes it look (0.7)."""
        self._reverts = reverts
        self._seen: dict[str, Seen] = {}

    def reconcile(self, store: Store) -> None:
        for adapter in store.all(ADAPTER):
            target = adapter["spec"]["scaleTargetRef"]
            group = store.named(RBG, adapter, target["name"])
            # one that somebody made by hand has no owner, and is ignored
            if group is None or uid(group) not in owners(adapter):
                continue
            for index, role in enumerate(group["spec"]["roles"]):
                if role["name"] == target["role"]:
                    self._visit(store, adapter, group, index)

    def _visit(self, store: Store, adapter: Object, group: Object, index: int) -> None:
        role = group["spec"]["roles"][index]
        wanted = adapter["spec"].get("replicas")
        if wanted is None:
            store.patch(ADAPTER, adapter, {"spec": {"replicas": role["replicas"]}})
            return
        counts = _role_status(group, role["name"])
        seen: Seen = (wanted, counts if self._reverts else None)
        if self._seen.get(uid(adapter)) != seen and role["replicas"] != wanted:
            roles = [dict(one) for one in group["spec"]["roles"]]
            roles[index]["replicas"] = wanted
            store.patch(RBG, group, {"spec": {"roles": roles}})
            if store.again:
                return
        self._seen[uid(adapter)] = seen
        store.status(ADAPTER, adapter, _status(group, role, wanted, counts))


def _role_status(group: Object, name: str) -> Object | None:
    statuses = group.get("status", {}).get("roleStatuses", [])
    return next((one for one in statuses if one["name"] == name), None)


def _status(group: Object, role: Object, wanted: int, counts: Object | None) -> Object:
    """`replicas` is the wish written back; only `readyReplicas` counts anything."""
    selector = group_selector(role_labels(group, role))
    if role.get("leaderWorkerPattern"):
        selector += f",{PREFIX}/component-index=0"
    return {
        "phase": "Bound",
        "replicas": wanted,
        "readyReplicas": (counts or {}).get("readyReplicas", 0),
        "selector": selector,
    }
