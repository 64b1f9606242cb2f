"""Nodes of a snapshot: what a Node object says, and the pods on its devices."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binpacking.inventory import Node
from scheduler.adapters.cluster.assembly import Assembler
from scheduler.adapters.cluster.cardless import Amount
from scheduler.adapters.cluster.observed import Observed
from scheduler.apiserver import objects
from scheduler.planning.invariants import broken
from tests.fixtures.kubeobjects import (
    NOW,
    Part,
    deployment,
    deployment_pod,
    node,
    pod,
    policy,
    snapshot,
)

POLICY = policy(decode={"kind": "Deployment", "name": "a"})


def one(*pods: objects.Pod, **change: Part) -> Node:
    found = snapshot(Observed(nodes=(node("n0", **change),), pods=pods), POLICY, NOW)
    return found.nodes[0]


def held(value: Node) -> dict[int, str]:
    return {d.index: d.holders[0].owner for d in value.devices if d.holders}


def test_a_node_is_read_whole() -> None:
    value = one(
        gpus=2,
        labels={
            "topology.k8s.aws/network-node-layer-2": "spine7",
            "topology.k8s.aws/network-node-layer-3": "leaf3",
        },
    )
    assert (value.name, value.gpu_model) == ("n0", "H100")
    assert value.switch_path == ("z0", "spine7", "leaf3")
    assert [(d.index, d.uuid, d.memory_mib) for d in value.devices] == [
        (0, "n0/0", 81_559),
        (1, "n0/1", 81_559),
    ]
    assert (value.cpu_milli, value.memory_mib) == (63_500, 1_031_514)
    assert (value.ready, value.cordoned, value.spot, value.free_gpus) == (True, False, False, 2)


def test_cpu_and_memory_of_pods_with_gpus_are_held() -> None:
    value = one(pod("a", "n0"), pod("b", "n0"), pod("done", "n0", phase="Succeeded"))
    assert (value.cpu_held_milli, value.memory_held_mib) == (5000, 2 * 8192)
    assert one().cpu_held_milli == 0


def test_what_pods_without_gpu_hold_counts_too() -> None:
    seen = Observed(
        nodes=(node("n0"), node("n1")),
        pods=(pod("a", "n0"),),
        cardless={"n0": Amount(300, 64), "elsewhere": Amount(9000, 9)},
    )
    first, second = snapshot(seen, POLICY, NOW).nodes
    assert (first.cpu_held_milli, first.memory_held_mib) == (2800, 8192 + 64)
    assert (second.cpu_held_milli, second.memory_held_mib) == (0, 0)


def test_nodes_stay_the_same_values_while_nothing_on_them_changes() -> None:
    assembler = Assembler()

    def nodes(seen: Observed) -> tuple[Node, ...]:
        return assembler.snapshot(seen, POLICY, NOW).nodes

    seen = Observed(nodes=(node("n0"), node("n1")), cardless={"n0": Amount(300, 64)})
    before = nodes(seen)
    assert nodes(seen) is before
    more = {"n0": Amount(300, 64), "n1": Amount(100, 0)}
    first, second = nodes(msgspec.structs.replace(seen, cardless=more))
    assert first is before[0]
    assert (second.cpu_held_milli, before[1].cpu_held_milli) == (100, 0)


def test_a_tier_that_no_label_names_is_left_out() -> None:
    assert one(labels={"fabric.topograph.run/tier-0": "leaf"}).switch_path == ("z0", "leaf")


@pytest.mark.parametrize(
    ("change", "ready", "cordoned"),
    [
        ({}, True, False),
        ({"ready": "False"}, False, False),
        ({"ready": "Unknown"}, False, False),
        (
            {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]},
            False,
            False,
        ),
        ({"unschedulable": True}, True, True),
        (
            {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]},
            True,
            True,
        ),
    ],
)
def test_ready_and_cordoned(change: dict[str, Any], ready: bool, cordoned: bool) -> None:
    value = one(**change)
    assert (value.ready, value.cordoned) == (ready, cordoned)


@pytest.mark.parametrize(
    "labels",
    [
        {"karpenter.sh/capacity-type": "spot"},
        {"cloud.google.com/gke-spot": "true"},
        {"eks.amazonaws.com/capacityType": "SPOT"},
        {"kubernetes.azure.com/scalesetpriority": "spot"},
    ],
)
def test_spot(labels: dict[str, str]) -> None:
    assert one(labels=labels).spot
    assert not one(labels=dict.fromkeys(labels, "on-demand")).spot


def test_only_gpu_nodes_count_and_their_model_has_the_policys_name() -> None:
    seen = Observed(
        nodes=(
            node("b", resource="amd.com/gpu", labels={"nvidia.com/gpu.product": "MI300X-OAM"}),
            node("a", labels={"nvidia.com/gpu.product": ""}),
            node("c", resource="example.com/fpga"),
        )
    )
    rules = policy(
        {"gpu_models": {"MI300X-OAM": "MI300X"}}, decode={"kind": "Deployment", "name": "a"}
    )
    nodes = snapshot(seen, rules, NOW).nodes
    assert [(n.name, n.resource_name, n.gpu_model) for n in nodes] == [
        ("a", "nvidia.com/gpu", "unknown"),
        ("b", "amd.com/gpu", "MI300X"),
    ]


def test_devices_go_to_the_pod_that_was_bound_first() -> None:
    late = pod("late", "n0", gpus=1, bound_seconds=NOW - 10)
    early = pod("early", "n0", gpus=2, bound_seconds=NOW - 99)
    assert held(one(late, early)) == {
        0: "uid-default-early",
        1: "uid-default-early",
        2: "uid-default-late",
    }


def test_a_terminating_pod_holds_its_devices_and_a_finished_one_does_not() -> None:
    going = pod("going", "n0", terminating=True)
    done = pod("done", "n0", phase="Succeeded")
    failed = pod("failed", "n0", phase="Failed")
    assert held(one(going, done, failed)) == {0: "uid-default-going"}


def test_unheld_devices_are_unhealthy_first() -> None:
    sick = one(pod("a", "n0", gpus=3), gpus=4, able=2)
    assert [d.healthy for d in sick.devices] == [True, True, False, False]
    assert held(sick) == dict.fromkeys(range(3), "uid-default-a")


def test_a_node_that_lost_its_device_plugin_has_no_free_device() -> None:
    gone = one(pod("a", "n0", gpus=3), gpus=4, able=0)
    assert gone.free_gpus == 0
    assert one(pod("a", "n0", gpus=3), gpus=0).devices == ()


def test_init_containers_count_as_kubernetes_counts_them() -> None:
    init = [{"resources": {"limits": {"nvidia.com/gpu": "4"}}}]
    assert len(held(one(pod("a", "n0", gpus=1, init=init)))) == 4


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9), st.booleans()), max_size=6),
    st.integers(0, 8),
)
def test_counts_are_exact_and_no_device_is_shared(
    pods: list[tuple[int, int, bool]], able: int
) -> None:
    made = tuple(
        pod(f"p{index}", "n0", gpus=gpus, bound_seconds=NOW - age, terminating=going)
        for index, (gpus, age, going) in enumerate(pods)
    )
    seen = snapshot(Observed(nodes=(node("n0", able=able),), pods=made), POLICY, NOW)
    assert broken(seen) == ()
    asked = sum(gpus for gpus, _, _ in pods)
    assert len(held(seen.nodes[0])) == min(8, asked)
    assert seen.nodes[0].free_gpus == max(0, able - asked)
    again = snapshot(Observed(nodes=(node("n0", able=able),), pods=made[::-1]), POLICY, NOW)
    assert again == seen


def test_unchanged_nodes_stay_the_same_values() -> None:
    pods = (deployment_pod("a", "a-x", "n0"), pod("b", "n1"))
    nodes = (node("n0"), node("n1"))
    assembler = Assembler()
    seen = Observed(nodes=nodes, pods=pods, deployments=(deployment("a", 1),))
    first = assembler.snapshot(seen, POLICY, NOW)
    changed = (pods[0], pod("b", "n1", version="2", phase="Succeeded"))
    heartbeat = (node("n0"), node("n1"))
    second = assembler.snapshot(
        Observed(nodes=heartbeat, pods=changed, deployments=(deployment("a", 1),)), POLICY, NOW + 15
    )
    assert second.nodes[0] is first.nodes[0]
    assert (first.nodes[1].free_gpus, second.nodes[1].free_gpus) == (7, 8)
    third = assembler.snapshot(seen, POLICY, NOW + 30)
    assert third.nodes == first.nodes


def test_a_new_policy_is_read_anew() -> None:
    assembler = Assembler()
    seen = Observed(nodes=(node("n0"),))
    assert assembler.snapshot(seen, POLICY, NOW).nodes[0].gpu_model == "H100"
    other = policy({"gpu_models": {"H100": "hopper"}}, decode={"kind": "Deployment", "name": "a"})
    assert assembler.snapshot(seen, other, NOW).nodes[0].gpu_model == "hopper"
