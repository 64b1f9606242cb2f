"""Whose pod is it: from a pod's metadata to the role or job that owns it, and to its group.

The extender asks this of pods that no snapshot has shown yet, the observer of pods it has listed;
both must give the same answer, so the rules stand here once. In order:

  1. the annotations `tidal.dev/owner` and `tidal.dev/group`, where somebody has set them;
  2. RoleBasedGroup labels: the group and its role, one replica per role instance. The label with
     the instance's index is wrong on pods created together, so the instance's name counts;
  3. LeaderWorkerSet labels: one replica per group index;
  4. the controlling ReplicaSet (of a Deployment), StatefulSet or Job.

A pod of a workload that no role of the policy names has no owner; a pod of any Job is owned by
that Job, unless the Job is called like a role.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

OWNER_ANNOTATION = "tidal.dev/owner"
"""Role key or job id of a pod; an annotation, because a label's value may hold no slash."""
GROUP_ANNOTATION = "tidal.dev/group"
"""Replica or job id that a pod shares with its siblings; absent where a replica is one pod."""

RBG_GROUP = "rbg.workloads.x-k8s.io/group-name"
RBG_ROLE = "rbg.workloads.x-k8s.io/role-name"
RBG_INSTANCE = "rbg.workloads.x-k8s.io/role-instance-name"
LWS_NAME = "leaderworkerset.sigs.k8s.io/name"
LWS_GROUP = "leaderworkerset.sigs.k8s.io/group-index"
JOB_NAME = "batch.kubernetes.io/job-name"
TEMPLATE_HASH = "pod-template-hash"

Kind = Literal["Deployment", "StatefulSet", "LeaderWorkerSet", "RoleBasedGroup"]


class Target(msgspec.Struct, frozen=True):
    """The workload that a role of the policy scales; `role` names the role of a group."""

    kind: Kind
    namespace: str
    name: str
    role: str = ""


class Marks(msgspec.Struct, frozen=True):
    """What of a pod's metadata says whose it is."""

    namespace: str
    name: str
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    controller_kind: str = ""
    """Kind and name of the owner reference with `controller: true`."""
    controller_name: str = ""

    def mark(self, key: str) -> str:
        """Return the annotation, else the label, else nothing."""
        return self.annotations.get(key) or self.labels.get(key) or ""


class Identity(msgspec.Struct, frozen=True):
    """Role key or job id, and the replica or job that the pod belongs to; empty: nobody's."""

    owner: str = ""
    group: str = ""


class Targets:
    """The targets of a policy, for look-ups."""

    def __init__(self, roles: Iterable[tuple[str, Target]] = ()) -> None:
        """`roles` pairs role keys with their targets."""
        self._keys = {target: key for key, target in roles}
        self._taken = frozenset(self._keys.values())

    def identify(self, pod: Marks) -> Identity:
        """Return whose pod it is."""
        owner = pod.mark(OWNER_ANNOTATION)
        if owner:
            return Identity(owner, pod.mark(GROUP_ANNOTATION))
        found = self._workload(pod)
        if found is None:
            job = _job(pod)
            return Identity() if job.owner in self._taken else job
        target, group = found
        key = self._keys.get(target, "")
        return Identity(key, group) if key else Identity()

    def _workload(self, pod: Marks) -> tuple[Target, str] | None:
        """Return the workload by its controller's conventions, and the replica's id."""
        labels, here = pod.labels, pod.namespace
        leader_worker = _leader_worker(pod)
        if RBG_GROUP in labels and RBG_ROLE in labels:
            target = Target("RoleBasedGroup", here, labels[RBG_GROUP], labels[RBG_ROLE])
            return target, leader_worker or f"{here}/{labels.get(RBG_INSTANCE, pod.name)}"
        if leader_worker:
            return Target("LeaderWorkerSet", here, labels[LWS_NAME]), leader_worker
        replica = f"{here}/{pod.name}"
        match pod.controller_kind:
            case "ReplicaSet":
                name = pod.controller_name.removesuffix(f"-{labels.get(TEMPLATE_HASH, '')}")
                return Target("Deployment", here, name), replica
            case "StatefulSet":
                return Target("StatefulSet", here, pod.controller_name), replica
            case _:
                return None


def _leader_worker(pod: Marks) -> str:
    name, index = pod.labels.get(LWS_NAME), pod.labels.get(LWS_GROUP)
    return f"{pod.namespace}/{name}-{index}" if name and index else ""


def _job(pod: Marks) -> Identity:
    name = pod.controller_name if pod.controller_kind == "Job" else pod.labels.get(JOB_NAME, "")
    job = f"{pod.namespace}/{name}"
    return Identity(job, job) if name else Identity()
