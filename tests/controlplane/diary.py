"""All that happened to a scenario's pods, and what must have happened in none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scheduler.simulation.kubelet.node import ADMISSION_ERROR
from tests.controlplane.kinds.world import Log, Object
from tests.controlplane.rig import Rig


class Diary:
    """All that happened to the pods of a namespace, and what must never have."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._log = Log(rig.world, "pods")

    def of(self, app: str) -> list[tuple[str, Object]]:
        """Return events and objects of a workload's pods so far, in order."""
        return [one for one in self.events if one[1]["metadata"]["labels"].get("app") == app]

    @property
    def events(self) -> list[tuple[str, Object]]:
        return self._log.catch_up()

    def disrupted(self, app: str) -> set[str]:
        """Return why pods of a workload were disrupted, as their conditions say."""
        return {reason for _, pod in self.of(app) for reason in _disruptions(pod)}

    def when(self, look: Callable[[str, Object], bool]) -> int:
        """Return the place in `events` of the first that is so."""
        return next(n for n, (kind, pod) in enumerate(self.events) if look(kind, pod))

    def close(self) -> None:
        """End the watch."""
        self._log.close()

    def check(self) -> None:
        """What holds at the end of every scenario."""
        self._rig.stop()
        assert [one["sentence"] for one in self._rig.logged("violation")] == []
        pods = [pod for _, pod in self.events]
        rejected = {_name(pod) for pod in pods if _rejected(pod)}
        assert rejected == set(), "bound before its GPUs were free"
        preempted = {_name(pod) for pod in pods if "PreemptionByScheduler" in _disruptions(pod)}
        assert preempted == set(), "kube-scheduler chose victims of its own"


def _disruptions(pod: Object) -> set[str]:
    conditions = pod["status"].get("conditions", [])
    return {str(one.get("reason")) for one in conditions if one["type"] == "DisruptionTarget"}


def _rejected(pod: Object) -> bool:
    return bool(pod["status"].get("reason") == ADMISSION_ERROR)


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


@contextmanager
def diary_of(rig: Rig) -> Iterator[Diary]:
    """A diary of the scenario, and the checks at its end."""
    one = Diary(rig)
    try:
        yield one
        one.check()
    finally:
        one.close()
