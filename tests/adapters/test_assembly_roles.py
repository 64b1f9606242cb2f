"""Roles and replicas of a snapshot, from workloads and pods with the traps of real controllers."""

from typing import Any

import msgspec
import pytest

from scheduler.adapters.cluster.assembly import Assembler
from scheduler.adapters.cluster.complaints import complaints
from scheduler.adapters.cluster.observed import Observed
from scheduler.planning.invariants import broken
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Replica, Role, Snapshot
from tests.fixtures.kubeobjects import (
    NOW,
    Part,
    adapter,
    autoscaler,
    deployment,
    deployment_pod,
    group_role,
    instance_pod,
    leader_worker_pod,
    leader_worker_set,
    node,
    owner,
    pod,
    policy,
    role_based_group,
    snapshot,
)

NODES = (node("n0"), node("n1"))
DEPLOYMENT = policy(decode={"kind": "Deployment", "name": "a"})
STATEFUL = policy(decode={"kind": "StatefulSet", "name": "a"})
LEADERS = policy(decode={"kind": "LeaderWorkerSet", "name": "l"})
GROUP = policy(decode={"kind": "RoleBasedGroup", "name": "pd", "role": "decode"})


def seen(rules: Policy, **kinds: Part) -> Snapshot:
    found = snapshot(Observed(nodes=NODES, **kinds), rules, NOW)
    assert broken(found) == ()
    return found


def role(rules: Policy, **kinds: Part) -> Role:
    (found,) = seen(rules, **kinds).roles
    return found


def replicas(rules: Policy, **kinds: Part) -> dict[str, Replica]:
    return {one.id: one for one in seen(rules, **kinds).replicas}


def test_a_deployment() -> None:
    found = role(DEPLOYMENT, deployments=(deployment("other", 9), deployment("a", 3, gpus=2)))
    assert found == Role(
        key="chat/decode",
        model="chat",
        role="decode",
        kind="Deployment",
        replicas=3,
        gpus_per_pod=2,
        cpu_milli_per_pod=2500,
        memory_mib_per_pod=8192,
        removable="any",
    )


def test_a_leader_worker_set_counts_pods_with_gpus() -> None:
    even = role(LEADERS, leader_worker_sets=(leader_worker_set("l", 2, 4, gpus=8),))
    assert (even.pods_per_replica, even.gpus_per_pod, even.removable) == (4, 8, "last")
    router = role(LEADERS, leader_worker_sets=(leader_worker_set("l", 2, 3, gpus=8, leader=0),))
    assert (router.pods_per_replica, router.gpus_per_pod) == (2, 8)
    assert (even.cpu_milli_per_pod, router.memory_mib_per_pod) == (2500, 8192)


@pytest.mark.parametrize(
    ("more", "size", "removable"),
    [
        ({}, 1, "last"),
        ({}, 2, "last"),
        ({"annotations": {"rbg.workloads.x-k8s.io/role-instance-pattern": "Stateless"}}, 2, "any"),
        ({"annotations": {"rbg.workloads.x-k8s.io/role-instance-pattern": "Stateful"}}, 2, "last"),
        (
            {"annotations": {"rbg.workloads.x-k8s.io/role-workload-type": "apps/v1/Deployment"}},
            1,
            "any",
        ),
        (
            {"annotations": {"rbg.workloads.x-k8s.io/role-workload-type": "apps/v1/StatefulSet"}},
            1,
            "last",
        ),
        ({"workload": {"kind": "Deployment", "name": ""}}, 1, "any"),
    ],
)
def test_a_role_of_a_group(more: dict[str, Any], size: int, removable: str) -> None:
    group = role_based_group(
        "pd", group_role("prefill", 9), group_role("decode", 2, size, 4, **more)
    )
    found = role(GROUP, role_based_groups=(group,))
    assert (found.replicas, found.pods_per_replica, found.gpus_per_pod) == (2, size, 4)
    assert found.removable == removable


def test_a_role_of_the_older_version_has_its_template_beside_the_pattern() -> None:
    template = {"spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "4"}}}]}}
    group = role_based_group(
        "pd", {"name": "decode", "leaderWorkerSet": {"size": 2}, "template": template}
    )
    found = role(GROUP, role_based_groups=(group,))
    assert (found.replicas, found.pods_per_replica, found.gpus_per_pod) == (1, 2, 4)


@pytest.mark.parametrize(
    ("change", "replicas"),
    [({}, 2), ({"phase": ""}, 4), ({"owners": None}, 4)],
)
def test_a_bound_adapters_count_is_the_roles(change: dict[str, Any], replicas: int) -> None:
    group = role_based_group("pd", group_role("decode", 4))
    adapters = (adapter("pd", "prefill", 7), adapter("pd", "decode", 2, **change))
    assert role(GROUP, role_based_groups=(group,), scaling_adapters=adapters).replicas == replicas


def test_a_workload_that_does_not_exist_is_no_role_and_its_pods_are_strangers() -> None:
    found = seen(DEPLOYMENT, pods=(deployment_pod("a", "a-x", "n0"),))
    assert (found.roles, found.replicas) == ((), ())
    assert found.nodes[0].devices[0].holders[0].owner == "uid-default-a-x"
    assert complaints(Observed(), DEPLOYMENT) == (
        (
            "models.chat.roles.decode.target: Deployment default/a does not exist; create it or "
            "mend the policy"
        ),
    )
    group = role_based_group("pd", group_role("prefill", 1))
    assert seen(GROUP, role_based_groups=(group,)).roles == ()


@pytest.mark.parametrize(
    ("scalers", "scaled", "name"),
    [
        (((("x", "Deployment", "a"), {}),), (), "HorizontalPodAutoscaler default/x"),
        (((("x", "StatefulSet", "a"), {}),), (), ""),
        (((("x", "Deployment", "b"), {}),), (), ""),
        (((("x", "Deployment", "a"), {"namespace": "elsewhere"}),), (), ""),
        ((), (("k", "", "a"),), "ScaledObject default/k"),
        ((), (("k", "Deployment", "a"),), "ScaledObject default/k"),
        (
            ((("keda-hpa-k", "Deployment", "a"), {"ownerReferences": owner("ScaledObject", "k")}),),
            (("k", "", "a"),),
            "ScaledObject default/k",
        ),
        (
            ((("keda-hpa-k", "Deployment", "a"), {"ownerReferences": owner("ScaledObject", "k")}),),
            (),
            "ScaledObject default/k",
        ),
    ],
)
def test_another_autoscaler_is_named_once(scalers: Part, scaled: Part, name: str) -> None:
    found = role(
        DEPLOYMENT,
        deployments=(deployment("a", 1),),
        autoscalers=tuple(autoscaler(*args, **more) for args, more in scalers),
        scaled_objects=tuple(autoscaler(*args) for args in scaled),
    )
    assert found.scaled_by_other == name


def test_an_autoscaler_on_a_groups_adapter_scales_the_role() -> None:
    found = role(
        GROUP,
        role_based_groups=(role_based_group("pd", group_role("decode", 1)),),
        autoscalers=(autoscaler("x", "RoleBasedGroupScalingAdapter", "pd-decode"),),
    )
    assert found.scaled_by_other == "HorizontalPodAutoscaler default/x"


@pytest.mark.parametrize(
    ("change", "on", "state"),
    [
        ({}, "n0", "ready"),
        ({"ready": False}, "n0", "starting"),
        ({}, "", "pending"),
        ({"terminating": True}, "n0", "draining"),
        ({"terminating": True}, "", "draining"),
    ],
)
def test_states_of_a_single_pod(change: dict[str, Any], on: str, state: str) -> None:
    pods = (deployment_pod("a", "a-x", on, **change),)
    found = replicas(DEPLOYMENT, deployments=(deployment("a", 1),), pods=pods)["default/a-x"]
    assert (found.state, found.role, found.tier) == (state, "chat/decode", "weights")
    assert found.gpu_model == ("H100" if on else "")
    assert found.ready_seconds == (NOW - 2910 if state == "ready" else None)


def test_a_bound_pod_and_a_gated_one() -> None:
    pods = (
        deployment_pod("a", "a-x", "n0", bound_seconds=NOW - 50, created_seconds=NOW - 80),
        deployment_pod("a", "a-y", gated=True),
    )
    found = replicas(DEPLOYMENT, deployments=(deployment("a", 2),), pods=pods)
    (bound,) = found["default/a-x"].pods
    assert (bound.node, bound.devices, bound.bound_seconds) == ("n0", (0,), NOW - 49)
    assert found["default/a-x"].created_seconds == NOW - 80
    (waiting,) = found["default/a-y"].pods
    assert (waiting.node, waiting.devices, waiting.bound_seconds) == ("", (), None)


def test_failed_pods_are_no_replicas() -> None:
    pods = (deployment_pod("a", "a-x", "n0", phase="Failed"),)
    assert replicas(DEPLOYMENT, deployments=(deployment("a", 1),), pods=pods) == {}


@pytest.mark.parametrize(
    ("workers", "state"),
    [
        (((0, "n0", {}), (1, "n1", {})), "ready"),
        (((0, "n0", {}),), "pending"),
        (((0, "n0", {}), (1, "", {})), "pending"),
        (((0, "n0", {}), (1, "n1", {"ready": False})), "starting"),
        (((1, "n1", {}),), "pending"),
        (((0, "n0", {"terminating": True}), (1, "n1", {})), "draining"),
        (((0, "n0", {}), (1, "n1", {"phase": "Failed"})), "pending"),
    ],
)
def test_states_of_a_leader_and_its_worker(workers: Part, state: str) -> None:
    pods = tuple(leader_worker_pod("l", 3, index, on, **more) for index, on, more in workers)
    (found,) = replicas(
        LEADERS, leader_worker_sets=(leader_worker_set("l", 4, 2),), pods=pods
    ).values()
    assert (found.id, found.ordinal, found.state) == ("default/l-3", 3, state)


def test_the_leader_is_gone_and_the_worker_still_holds_its_device() -> None:
    pods = (leader_worker_pod("l", 1, 1, "n0", terminating=True),)
    found = seen(LEADERS, leader_worker_sets=(leader_worker_set("l", 1, 2),), pods=pods)
    assert [one.state for one in found.replicas] == ["draining"]
    assert found.nodes[0].free_gpus == 7


def test_instances_are_told_apart_by_name_for_the_index_label_is_wrong() -> None:
    pods = tuple(instance_pod("pd", "decode", i, c, "n0") for i in ("0", "1") for c in (0, 1))
    found = replicas(
        GROUP, role_based_groups=(role_based_group("pd", group_role("decode", 2, 2)),), pods=pods
    )
    assert {key: (one.ordinal, len(one.pods), one.state) for key, one in found.items()} == {
        "default/pd-decode-0": (0, 2, "ready"),
        "default/pd-decode-1": (1, 2, "ready"),
    }


def test_instances_keep_their_name_when_an_update_removes_the_index_label() -> None:
    bare = {
        "rbg.workloads.x-k8s.io/role-instance-index": "",
        "statefulset.kubernetes.io/pod-name": "",
    }
    pods = tuple(instance_pod("pd", "decode", "4", c, "n0", labels=bare) for c in (0, 1))
    found = replicas(
        GROUP, role_based_groups=(role_based_group("pd", group_role("decode", 5, 2)),), pods=pods
    )
    assert found["default/pd-decode-4"].ordinal == 4


def test_a_new_instance_that_adopted_terminating_pods_is_draining() -> None:
    pods = tuple(instance_pod("pd", "decode", "1", c, "n0", terminating=True) for c in (0, 1))
    found = replicas(
        GROUP, role_based_groups=(role_based_group("pd", group_role("decode", 2, 2)),), pods=pods
    )
    assert found["default/pd-decode-1"].state == "draining"


def test_a_random_name_is_no_ordinal() -> None:
    annotations = {"rbg.workloads.x-k8s.io/role-instance-pattern": "Stateless"}
    group = role_based_group("pd", group_role("decode", 1, annotations=annotations))
    pods = (instance_pod("pd", "decode", "24567", 0, "n0"),)
    found = replicas(GROUP, role_based_groups=(group,), pods=pods)
    assert found["default/pd-decode-24567"].ordinal == 0


def test_a_stateful_sets_pods_count_by_their_name() -> None:
    pods = tuple(pod(f"a-{i}", "n0", owners=owner("StatefulSet", "a")) for i in (0, 12))
    found = replicas(STATEFUL, stateful_sets=(deployment("a", 13),), pods=pods)
    assert [one.ordinal for one in found.values()] == [0, 12]


def test_start_times_are_measured_on_ready_replicas() -> None:
    pods = (
        deployment_pod("a", "a-1", "n0", ready_seconds=NOW - 3000 + 60),
        deployment_pod("a", "a-2", "n0", ready_seconds=NOW - 3000 + 100),
        deployment_pod("a", "a-3", "n0", ready=False),
        deployment_pod("a", "a-4", "n0", bound_seconds=NOW - 9000, ready_seconds=NOW - 1),
    )
    (found,) = seen(DEPLOYMENT, deployments=(deployment("a", 4),), pods=pods).starts
    assert (found.role, found.tier, found.samples) == ("chat/decode", "weights", 2)
    assert found.p50_seconds == pytest.approx(80.0)
    assert found.p99_seconds == pytest.approx(99.6)


def test_a_restart_in_place_is_no_start() -> None:
    assembler = Assembler()

    def measured(version: str, **change: Part) -> float:
        pods = (deployment_pod("a", "a-1", "n0", version=version, **change),)
        world = Observed(nodes=NODES, deployments=(deployment("a", 1),), pods=pods)
        found = assembler.snapshot(world, DEPLOYMENT, NOW)
        return found.starts[0].p50_seconds if found.starts else -1.0

    assert measured("1", ready=False) == -1.0
    assert measured("2", ready_seconds=NOW - 2940) == 60.0
    assert measured("3", ready=False) == -1.0
    assert measured("4", ready_seconds=NOW - 1000) == 60.0


def test_the_snapshot_is_the_same_from_a_fresh_start_and_in_any_order() -> None:
    world = Observed(
        nodes=NODES,
        leader_worker_sets=(leader_worker_set("l", 2, 2),),
        pods=tuple(leader_worker_pod("l", g, w, "n0") for g in (0, 1) for w in (0, 1)),
    )
    assembler = Assembler()
    assembler.snapshot(msgspec.structs.replace(world, pods=world.pods[:1]), LEADERS, NOW - 15)
    turned = msgspec.structs.replace(world, pods=world.pods[::-1], nodes=NODES[::-1])
    expected = snapshot(world, LEADERS, NOW)
    assert assembler.snapshot(world, LEADERS, NOW) == expected
    assert assembler.snapshot(turned, LEADERS, NOW) == expected


def test_a_role_whose_gpu_models_no_node_has_is_complained_about() -> None:
    nodes = (node("n0", labels={"nvidia.com/gpu.product": "A100-SXM4-80GB"}),)
    there = Observed(nodes=nodes, deployments=(deployment("a", 1),))
    (line,) = complaints(there, DEPLOYMENT)
    assert line.startswith("models.chat.roles.decode.capacity_tokens_per_second: no node has ")
    assert "nodes have A100-SXM4-80GB" in line
    assert "kubernetes.gpu_models" in line
