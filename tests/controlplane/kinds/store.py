"""The objects that the stand-in controllers read and write, as plain JSON.

Each pass reads everything anew, so there is no stale cache to guard against. A write that the
server refuses because the world moved on is dropped, and `again` asks for another pass.
"""

import hashlib
from typing import Any

import msgspec

from scheduler.apiserver.client import Api, ApiError

Object = dict[str, Any]

RBG = "workloads.x-k8s.io/v1alpha2/rolebasedgroups"
ADAPTER = "workloads.x-k8s.io/v1alpha2/rolebasedgroupscalingadapters"
SET = "workloads.x-k8s.io/v1alpha2/roleinstancesets"
INSTANCE = "workloads.x-k8s.io/v1alpha2/roleinstances"
LWS = "leaderworkerset.x-k8s.io/v1/leaderworkersets"
POD = "pods"
KINDS = {
    RBG: "RoleBasedGroup",
    ADAPTER: "RoleBasedGroupScalingAdapter",
    SET: "RoleInstanceSet",
    INSTANCE: "RoleInstance",
    LWS: "LeaderWorkerSet",
    POD: "Pod",
}
MOVED_ON = {404, 409, 422}
NAMESPACE_ENDS = 403


class Store:
    """Objects of one namespace as they are at the start of a pass."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._lists: dict[str, list[Object]] = {}
        self.again = False

    def read(self) -> None:
        """Begin a pass."""
        self.again = False
        self._lists = {
            kind: msgspec.json.decode(self._api.get(path(kind, self._namespace)))["items"]
            for kind in KINDS
        }

    def all(self, kind: str) -> list[Object]:
        return self._lists[kind]

    def of(self, kind: str, owner: Object) -> list[Object]:
        """Objects with a reference to the owner."""
        return [item for item in self._lists[kind] if uid(owner) in owners(item)]

    def named(self, kind: str, like: Object, name: str) -> Object | None:
        """The object with this name in the namespace of `like`."""
        for item in self._lists[kind]:
            if meta(item)["name"] == name and namespace(item) == namespace(like):
                return item
        return None

    def create(self, kind: str, like: Object, body: Object) -> None:
        version = "v1" if kind == POD else kind.rpartition("/")[0]
        body = {"apiVersion": version, "kind": KINDS[kind], **body}
        self._try(lambda: self._api.post(path(kind, namespace(like)), body))

    def patch(self, kind: str, item: Object, body: Object, sub: str = "") -> None:
        """Merge patch, refused where somebody else wrote meanwhile; pods: strategic, unguarded."""
        where = path(kind, namespace(item), meta(item)["name"]) + sub
        if kind == POD:
            self._try(lambda: self._api.patch(where, body, "strategic"))
            return
        guard = {"resourceVersion": meta(item)["resourceVersion"]}
        guarded = {**body, "metadata": {**body.get("metadata", {}), **guard}}
        self._try(lambda: self._api.patch(where, guarded, "merge"))

    def status(self, kind: str, item: Object, wanted: Object) -> None:
        """Set the status where it differs; keys that are None are removed."""
        now = item.get("status", {})
        kept = {key: value for key, value in wanted.items() if value is not None}
        if any(now.get(key) != wanted[key] for key in wanted) or set(now) - set(kept):
            gone = dict.fromkeys(set(now) - set(kept))
            self.patch(kind, item, {"status": {**gone, **kept}}, "/status")

    def delete(self, kind: str, item: Object, propagation: str = "Background") -> None:
        options = {"propagationPolicy": propagation, "preconditions": {"uid": uid(item)}}
        where = path(kind, namespace(item), meta(item)["name"])
        self._try(lambda: self._api.delete(where, options))

    def event(self, about: Object, reason: str, message: str, generation: int) -> None:
        """A Warning, once per object, reason and generation."""
        name = f"{meta(about)['name']}.{short(f'{uid(about)}{reason}{generation}{message}')}"
        reference = {"kind": about["kind"], "name": meta(about)["name"], "uid": uid(about)}
        body = {
            "metadata": {"name": name},
            "involvedObject": {**reference, "namespace": namespace(about)},
            "reason": reason,
            "message": message,
            "type": "Warning",
            "source": {"component": about["kind"]},
        }
        self._try(lambda: self._api.post(path("events", namespace(about)), body), again=False)

    def _try(self, write: Any, *, again: bool = True) -> None:  # noqa: ANN401
        try:
            write()
        except ApiError as error:
            if error.status not in {*MOVED_ON, NAMESPACE_ENDS}:
                raise
            self.again |= again and error.status in MOVED_ON


def root(kind: str) -> str:
    return f"/apis/{kind}" if "/" in kind else f"/api/v1/{kind}"


def path(kind: str, space: str, name: str = "") -> str:
    group, _, plural = root(kind).rpartition("/")
    return f"{group}/namespaces/{space}/{plural}" + (f"/{name}" if name else "")


def meta(item: Object) -> Object:
    found: Object = item["metadata"]
    return found


def uid(item: Object) -> str:
    return str(meta(item)["uid"])


def namespace(item: Object) -> str:
    return str(meta(item)["namespace"])


def labels(item: Object) -> dict[str, str]:
    return dict(meta(item).get("labels") or {})


def notes(item: Object) -> dict[str, str]:
    return dict(meta(item).get("annotations") or {})


def owners(item: Object) -> list[str]:
    return [one["uid"] for one in meta(item).get("ownerReferences", [])]


def dying(item: Object) -> bool:
    return "deletionTimestamp" in meta(item)


def is_true(item: Object, kind: str) -> bool:
    conditions = item.get("status", {}).get("conditions", [])
    return any(one["type"] == kind and one["status"] == "True" for one in conditions)


def condition(kind: str, true: bool, reason: str, message: str) -> Object:
    status = "True" if true else "False"
    return {"type": kind, "status": status, "reason": reason, "message": message}


def reference(kind: str, owner: Object, *, controller: bool = True) -> Object:
    """An owner reference; `controller` absent is what a scaling adapter has."""
    version = "v1" if kind == POD else kind.rpartition("/")[0]
    made = {"apiVersion": version, "kind": KINDS[kind], "name": meta(owner)["name"]}
    made |= {"uid": uid(owner), "blockOwnerDeletion": True}
    return {**made, "controller": True} if controller else made


def short(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:10]


def pod_of(
    template: Object, name: str, own: dict[str, str], notes: dict[str, str], owner: Object
) -> Object:
    """A pod from a template, with the controller's labels and annotations on top."""
    given = template.get("metadata", {})
    metadata = {
        "name": name,
        "labels": {**given.get("labels", {}), **own},
        "annotations": {**given.get("annotations", {}), **notes},
        "ownerReferences": [owner],
    }
    return {"metadata": metadata, "spec": template["spec"]}
