"""The virtual kube-scheduler: order, filter, and when it tries again."""

import pytest

from scheduler.planning.standing import PodAsk
from scheduler.simulation.clusterfile import build
from scheduler.simulation.devices import Inventory, Pod
from scheduler.simulation.pods import RETRY_SECONDS, KubeScheduler, Waiting


class Told:
    """Answers with the node it was told, and remembers what it was asked."""

    def __init__(self, answer: str | None) -> None:
        self.answer = answer
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def place(self, pod: PodAsk, feasible: tuple[str, ...]) -> str | None:
        self.asked.append((pod.name, feasible))
        return self.answer


def waiting(
    name: str, gpus: int = 1, priority: int = 1, models: tuple[str, ...] = (), since: float = 0.0
) -> Waiting:
    return Waiting.of(Pod(name, "owner", gpus), "owner", priority, models, since)


def test_priority_then_age_then_name() -> None:
    placer = Told(None)
    scheduler = KubeScheduler(Inventory(build(1)), placer)
    scheduler.add([waiting("c"), waiting("b"), waiting("a", since=5.0), waiting("z", priority=9)])
    assert scheduler.cycle(10.0) == []
    assert [name for name, _ in placer.asked] == ["z", "b", "c", "a"]


def test_the_filter_knows_room_model_and_readiness() -> None:
    inventory = Inventory(build(4))
    names = list(inventory.nodes)
    nodes = list(inventory.nodes.values())
    nodes[0].bind(Pod("x", "y", 5), 0.0)
    nodes[1].set_ready(ready=False)
    nodes[3].set_cordoned(cordoned=True)
    placer = Told(None)
    scheduler = KubeScheduler(inventory, placer)
    scheduler.add([waiting("small"), waiting("wide", 4), waiting("z", models=("H200-SXM-141GB",))])
    scheduler.cycle(0.0)
    assert placer.asked == [
        ("small", (names[0], names[2])),
        ("wide", (names[2],)),
        ("z", (names[2],)),
    ]


def test_each_bind_is_seen_by_the_next_pod() -> None:
    inventory = Inventory(build(1))
    placer = Told("node-0001")
    scheduler = KubeScheduler(inventory, placer)
    scheduler.add([waiting("a", 3), waiting("b", 4), waiting("c", 2), waiting("d", 1)])
    assert [pod.name for pod in scheduler.cycle(0.0)] == ["a", "b", "d"]
    assert inventory.nodes["node-0001"].free_gpus == 0


def test_devices_are_given_lowest_first() -> None:
    node = Inventory(build(1)).nodes["node-0001"]
    pods = [Pod(name, name, 2) for name in "abc"]
    node.bind(pods[0], 0.0)
    node.bind(pods[1], 0.0)
    node.release(pods[0])
    node.set_healthy(1, healthy=False)
    node.bind(pods[2], 1.0)
    assert (pods[1].devices, pods[2].devices) == ((2, 3), (0, 4))
    with pytest.raises(ValueError, match="no 5 free GPUs"):
        node.bind(Pod("d", "d", 5), 1.0)


def test_pods_that_did_not_fit_wait_for_a_change() -> None:
    inventory = Inventory(build(1))
    placer = Told(None)
    scheduler = KubeScheduler(inventory, placer)
    scheduler.add([waiting("a")])
    for now in (0.0, 5.0, 10.0):
        scheduler.cycle(now)
    assert len(placer.asked) == 1
    inventory.nodes["node-0001"].set_healthy(0, healthy=False)
    scheduler.cycle(15.0)
    assert len(placer.asked) == 2
    scheduler.wake()
    scheduler.cycle(20.0)
    assert len(placer.asked) == 3
    scheduler.cycle(20.0 + RETRY_SECONDS)
    assert len(placer.asked) == 4


def test_a_placer_that_names_another_node_is_a_defect() -> None:
    scheduler = KubeScheduler(Inventory(build(2)), Told("node-0099"))
    scheduler.add([waiting("a")])
    with pytest.raises(ValueError, match="node-0099, which cannot take it"):
        scheduler.cycle(0.0)
