"""Pods by owner and by the replica or job that they make up together.

Drivers choose whole groups by it, and `gates` lifts whole gangs.
"""

from collections.abc import Iterable, Mapping

from scheduler.adapters.cluster.podfacts import marks_of
from scheduler.apiserver.objects import Pod
from scheduler.planning.targets import Targets

OVER = ("Succeeded", "Failed")

Groups = Mapping[str, tuple[Pod, ...]]
"""Replica or job id -> its pods."""


class Gangs:
    """The pods that are not over; terminating ones are among them."""

    def __init__(self, pods: Iterable[Pod], targets: Targets) -> None:
        self._owners: dict[str, dict[str, tuple[Pod, ...]]] = {}
        for pod in pods:
            if pod.status.phase in OVER:
                continue
            whose = targets.identify(marks_of(pod.metadata))
            if whose.owner:
                group = whose.group or name_of(pod)
                groups = self._owners.setdefault(whose.owner, {})
                groups[group] = (*groups.get(group, ()), pod)

    def of(self, owner: str) -> Groups:
        """Return the groups of a role or job, by name."""
        return dict(sorted(self._owners.get(owner, {}).items()))

    def staying(self, owner: str) -> Groups:
        """Return the groups of which no pod is on its way out."""
        return {name: pods for name, pods in self.of(owner).items() if not any(map(leaving, pods))}

    def pods(self, owner: str) -> tuple[Pod, ...]:
        """Return all pods of a role or job, by name."""
        every = (pod for pods in self.of(owner).values() for pod in pods)
        return tuple(sorted(every, key=name_of))


def leaving(pod: Pod) -> bool:
    """Return whether the pod is on its way out."""
    return pod.metadata.deletion_timestamp is not None


def ready(pod: Pod) -> bool:
    """Return whether the pod says that it is ready."""
    return any(one.type == "Ready" and one.status == "True" for one in pod.status.conditions)


def name_of(pod: Pod) -> str:
    """Return namespace and name."""
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def pod_path(pod: Pod) -> str:
    """Return the pod's path."""
    return f"/api/v1/namespaces/{pod.metadata.namespace}/pods/{pod.metadata.name}"
