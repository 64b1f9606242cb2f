"""Sections of nodes: who may come where, as the snapshot tells it."""

from typing import TypeVar

import msgspec
import pytest

from scheduler.adapters.cluster.assembly import Assembler
from scheduler.adapters.cluster.observed import Observed
from scheduler.apiserver import objects
from scheduler.planning.snapshot import Snapshot
from tests.fixtures.kubeobjects import (
    NOW,
    Part,
    deployment,
    node,
    policy,
    snapshot,
    suspended_job,
)

POLICY = policy(decode={"kind": "Deployment", "name": "a"})
Workload = TypeVar("Workload", objects.Replicated, objects.Job)
TEAM = {"key": "team", "value": "a", "effect": "NoSchedule"}
NOT_OURS = "taint team=a:NoSchedule is not tolerated"


def tainted(name: str, *taints: dict[str, str], **change: Part) -> objects.Node:
    return node(name, taints=list(taints or (TEAM,)), **change)


def workload(**spec: Part) -> objects.Replicated:
    """The policy's role, its pods with these words."""
    return changed(deployment("a", 1, 2), **spec)


def batch(name: str, **spec: Part) -> objects.Job:
    return changed(suspended_job(name), **spec)


def changed(one: Workload, **spec: Part) -> Workload:
    body = msgspec.to_builtins(one)
    body["spec"]["template"]["spec"] |= spec
    return msgspec.convert(body, type(one))


def seen(*nodes: objects.Node, **more: Part) -> Snapshot:
    return snapshot(Observed(nodes=nodes, **more), POLICY, NOW)


def sections(found: Snapshot) -> dict[str, str]:
    return {one.name: one.section for one in found.nodes}


def test_without_words_there_are_no_sections() -> None:
    found = seen(node("n0"), node("n1"), deployments=(workload(),), jobs=(batch("j"),))
    assert sections(found) == {"n0": "", "n1": ""}
    assert (found.roles[0].shut, found.jobs[0].shut) == ({}, {})


def test_a_taint_shuts_nodes_to_those_who_do_not_tolerate_it() -> None:
    tolerant = batch("j", tolerations=[{"key": "team", "operator": "Exists"}])
    found = seen(
        node("n0"), tainted("n1"), tainted("n2"), deployments=(workload(),), jobs=(tolerant,)
    )
    assert sections(found) == {"n0": "", "n1": "n1", "n2": "n1"}
    assert found.roles[0].shut == {"n1": NOT_OURS}
    assert found.jobs[0].shut == {}


@pytest.mark.parametrize(
    "taint",
    [
        {"key": "team", "value": "a", "effect": "PreferNoSchedule"},
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"},
    ],
)
def test_what_is_no_ban_or_is_known_otherwise_makes_no_section(taint: dict[str, str]) -> None:
    assert sections(seen(tainted("n0", taint), deployments=(workload(),))) == {"n0": ""}


def test_nodes_that_the_same_may_use_are_one_section_whatever_keeps_the_others_off() -> None:
    picky = workload(nodeSelector={"disk": "ssd"})
    ssd = {"disk": "ssd"}
    found = seen(
        node("n0", labels=ssd), node("n1"), node("n2", labels={"disk": "hdd"}), deployments=(picky,)
    )
    assert sections(found) == {"n0": "", "n1": "n1", "n2": "n1"}
    assert found.roles[0].shut == {"n1": "node selector disk=ssd"}


def test_a_jobs_gpu_model_is_no_section() -> None:
    product = {"nvidia.com/gpu.product": "H100"}
    other = node("n1", labels={"nvidia.com/gpu.product": "A100"})
    found = seen(node("n0"), other, jobs=(batch("j", nodeSelector=product),))
    assert sections(found) == {"n0": "", "n1": ""}
    assert found.jobs[0].gpu_models == ("H100",)


def test_of_a_workload_without_a_template_nothing_is_known_and_nothing_is_shut() -> None:
    unknown = msgspec.convert(
        {"metadata": msgspec.to_builtins(workload().metadata), "spec": {"replicas": 1}},
        objects.Replicated,
    )
    found = seen(tainted("n0"), deployments=(unknown,))
    assert (sections(found), found.roles[0].shut) == ({"n0": ""}, {})


@pytest.mark.parametrize(
    ("term", "apart"),
    [
        ({"labelSelector": {"matchLabels": {"app": "llm"}}}, True),
        ({"labelSelector": {}}, True),
        ({"labelSelector": {"matchLabels": {"app": "other"}}}, False),
        ({"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {}}, False),
        ({}, False),
    ],
)
def test_anti_affinity_of_pods_to_their_own_kind_is_seen(term: Part, apart: bool) -> None:
    required = [{"topologyKey": "kubernetes.io/hostname", **term}]
    against = {"requiredDuringSchedulingIgnoredDuringExecution": required}
    found = seen(node("n0"), deployments=(workload(affinity={"podAntiAffinity": against}),))
    assert found.roles[0].apart == apart


def test_unchanged_nodes_stay_the_same_values() -> None:
    assembler = Assembler()
    world = Observed(nodes=(node("n0"), tainted("n1")), deployments=(workload(),))
    one = assembler.snapshot(world, POLICY, NOW)
    other = assembler.snapshot(world, POLICY, NOW + 15)
    assert all(a is b for a, b in zip(one.nodes, other.nodes, strict=True))
    more = msgspec.structs.replace(world, jobs=(batch("j"),))
    third = assembler.snapshot(more, POLICY, NOW + 30)
    assert third.nodes[1] is one.nodes[1]
    assert third.jobs[0].shut == {"n1": NOT_OURS}


def test_a_section_ends_with_what_made_it() -> None:
    assembler = Assembler()
    world = Observed(nodes=(node("n0"), tainted("n1")), deployments=(workload(),))
    assert sections(assembler.snapshot(world, POLICY, NOW)) == {"n0": "", "n1": "n1"}
    untainted = node("n1")
    meta = msgspec.structs.replace(untainted.metadata, resource_version="2")
    later = (node("n0"), msgspec.structs.replace(untainted, metadata=meta))
    open_again = msgspec.structs.replace(world, nodes=later)
    assert sections(assembler.snapshot(open_again, POLICY, NOW + 15)) == {"n0": "", "n1": ""}
