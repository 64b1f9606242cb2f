"""Recalled loans: which replica answers which, and what is said of those that none answers."""

from scheduler.planning.snapshot import Loan
from scheduler.simulation.clusterfile import build
from scheduler.simulation.devices import Inventory, Pod
from scheduler.simulation.events import Event, RecallLine
from scheduler.simulation.recalls import UNANSWERED_SECONDS, Recalls
from scheduler.simulation.replica import Replica, RoleState, Workload


def role(name: str = "decode", gpus: int = 4) -> RoleState:
    return RoleState(
        Workload(model="m", role=name, gpus_per_pod=gpus, pods_per_replica=1, gpu_models=("x",))
    )


def loan(name: str) -> Loan:
    return Loan(
        id=name,
        job=name,
        gpus=2,
        granted_seconds=0.0,
        return_by_seconds=9.0,
        promised_p99_seconds=50.0,
    )


class Scene:
    """A node of 8 GPUs with three loans of two GPUs each, all recalled for m/decode at 0."""

    def __init__(self) -> None:
        self.node = Inventory(build(1)).nodes["node-0001"]
        self.events: list[Event] = []
        self.recalls = Recalls(self.events.append)
        self.pods = {name: Pod(name, name, 2) for name in "abc"}
        for name, pod in self.pods.items():
            self.node.bind(pod, 0.0)
            self.recalls.open(loan(name), "m/decode", [pod])

    def release(self, names: str, now: float) -> None:
        for name in names:
            self.node.release(self.pods[name])
        self.recalls.pass_time(now)

    def ready(self, owner: RoleState, bound: float, now: float) -> None:
        replica = Replica(owner, f"r{now}", "weights", 0.0, bound)
        self.node.bind(replica.pods[0], bound)
        replica.bound_seconds = bound
        self.recalls.ready(replica, now)

    def said(self) -> list[tuple[str, float, float, float]]:
        lines = [event for event in self.events if isinstance(event, RecallLine)]
        return [(line.loan, line.t, line.need_t, line.ready_t) for line in lines]


def test_one_replica_answers_all_loans_whose_gpus_it_took() -> None:
    scene = Scene()
    scene.recalls.need(["m/decode"], (10.0, 15.0))
    scene.release("ab", 20.0)
    scene.ready(role(), 20.0, 80.0)
    assert scene.said() == [("a", 80.0, 10.0, 80.0), ("b", 80.0, 10.0, 80.0)]


def test_a_replica_bound_before_the_release_answers_nothing() -> None:
    scene = Scene()
    scene.release("a", 20.0)
    scene.ready(role(gpus=2), 15.0, 80.0)
    assert scene.said() == []


def test_another_role_answers_nothing() -> None:
    scene = Scene()
    scene.release("a", 20.0)
    scene.ready(role("prefill", 2), 20.0, 80.0)
    assert scene.said() == []


def test_other_gpus_of_the_node_answer_the_oldest() -> None:
    scene = Scene()
    scene.release("bc", 20.0)
    scene.node.bind(Pod("x", "x", 4), 20.0)  # another role's pod took the returned ones
    scene.ready(role(gpus=2), 20.0, 80.0)
    assert scene.said() == [("b", 80.0, 80.0, 80.0)]


def test_the_unanswered_is_given_up_as_ready_when_the_shortage_ended() -> None:
    scene = Scene()
    scene.release("abc", 20.0)
    scene.recalls.need(["m/decode"], (30.0, 35.0))
    scene.recalls.need(["m/decode", "m/prefill"], (60.0, 65.0))
    scene.recalls.pass_time(20.0 + UNANSWERED_SECONDS - 5.0)
    assert scene.said() == []
    end = 20.0 + UNANSWERED_SECONDS
    scene.recalls.pass_time(end)
    assert scene.said() == [(name, end, 30.0, 65.0) for name in "abc"]
    assert scene.recalls.roles == frozenset()


def test_the_end_of_the_run_closes_what_is_open() -> None:
    scene = Scene()
    scene.recalls.finish(40.0)
    assert scene.said() == [(name, 40.0, 40.0, 40.0) for name in "abc"]


def test_a_loan_is_watched_once_and_only_for_a_role() -> None:
    scene = Scene()
    scene.recalls.open(loan("a"), "m/prefill", [scene.pods["a"]])
    scene.recalls.open(loan("d"), "", [scene.pods["a"]])
    assert scene.recalls.roles == {"m/decode"}
