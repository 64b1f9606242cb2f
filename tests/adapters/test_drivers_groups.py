"""Counts of roles of a RoleBasedGroup: by index, through an adapter, by instance."""

import pytest

from tests.adapters.actuating import (
    World,
    controlled,
    meta,
    path_of,
    pod,
    scale,
)
from tests.adapters.fakeapi import Object
from tests.adapters.test_drivers_roles import RETIRED


def group(*, adapter: bool = False, stateless: bool = False, owner: str = "") -> World:
    pattern = "Stateless" if stateless else "Stateful"
    roles = [
        {"name": "other", "replicas": 1},
        {
            "name": "r",
            "replicas": 2,
            "annotations": {"rbg.workloads.x-k8s.io/role-instance-pattern": pattern},
            "scalingAdapter": {"enable": adapter},
        },
    ]
    own = controlled("RoleBasedGroupSet", owner) if owner else []
    body = {
        "metadata": meta("g", generation=4, ownerReferences=own),
        "spec": {"roles": roles},
    }
    world = World("RoleBasedGroup", "g", "r").add("rolebasedgroups", body)
    for name in ("g-r-0", "g-r-1"):
        labels = {
            "rbg.workloads.x-k8s.io/group-name": "g",
            "rbg.workloads.x-k8s.io/role-name": "r",
            "rbg.workloads.x-k8s.io/role-instance-name": name,
        }
        world.add("pods", pod(name, ("RoleInstance", name), meta={"labels": labels}))
        instance = {"metadata": meta(name, labels=labels)}
        root = "/apis/workloads.x-k8s.io/v1alpha2/namespaces/ns/roleinstances"
        world.api.objects[f"{root}/{name}"] = instance
        listed = world.api.objects.setdefault(root, {"items": []})
        listed["items"].append(instance)
    return world


def bound(phase: str = "Bound") -> Object:
    return {
        "metadata": meta("g-r", ownerReferences=[{"kind": "RoleBasedGroup", "name": "g"}]),
        "spec": {"replicas": 2, "scaleTargetRef": {"name": "g", "role": "r"}},
        "status": {"phase": phase},
    }


def test_a_role_is_patched_by_index_with_its_name_tested() -> None:
    world = group()
    assert world.apply(scale(2, 3), epoch=2) == (True, "")
    ((_, _, operations),) = [one for one in world.api.calls if one[0] == "PATCH"]
    assert {"op": "test", "path": "/spec/roles/1/name", "value": "r"} in operations
    assert [one["replicas"] for one in world.now_at("rolebasedgroups", "g")["spec"]["roles"]] == [
        1,
        3,
    ]
    assert world.notes("rolebasedgroups", "g") == {
        "tidal.dev/replicas.r": "3",
        "tidal.dev/epoch": "2",
    }


def test_roles_that_were_put_in_another_order_are_found_again() -> None:
    world = group()
    world.freeze()
    found = world.now_at("rolebasedgroups", "g")
    found["spec"]["roles"].reverse()
    found["metadata"]["generation"] = 5
    assert world.apply(scale(2, 3)) == (True, "")
    assert [one["replicas"] for one in found["spec"]["roles"]] == [2, 1]
    changed = world.now_at("rolebasedgroups", "g")["spec"]["roles"]
    assert [(one["name"], one["replicas"]) for one in changed] == [("r", 3), ("other", 1)]


def test_two_roles_of_a_group_at_once() -> None:
    world = group()
    world.freeze()
    both = (scale(2, 3), scale(1, 2, role="m/o"))
    outcomes = world.actuator.apply(both, 1)
    assert [one.applied for one in outcomes] == [True, True]
    assert world.notes("rolebasedgroups", "g") == {
        "tidal.dev/replicas.r": "3",
        "tidal.dev/replicas.other": "2",
        "tidal.dev/epoch": "1",
    }


def test_an_adapter_is_written_instead() -> None:
    world = group(adapter=True).add("rolebasedgroupscalingadapters", bound())
    assert world.apply(scale(2, 1, "ns/g-r-1")) == (True, "")
    assert world.api.wrote() == [path_of("rolebasedgroupscalingadapters", "g-r")]
    assert world.notes("rolebasedgroupscalingadapters", "g-r") == {
        "tidal.dev/replicas": "1",
        "tidal.dev/epoch": "1",
    }
    assert world.told == [("RoleBasedGroupScalingAdapter ns/g-r", "ScaledDown", "because")]


@pytest.mark.parametrize(("adapter", "phase"), [(True, "NotBound"), (False, "Bound")])
def test_an_adapter_on_its_way_in_or_out_is_waited_for(adapter: bool, phase: str) -> None:
    world = group(adapter=adapter).add("rolebasedgroupscalingadapters", bound(phase))
    detail = "the scaling adapter of g/r is not bound, or not gone yet"
    assert world.apply(scale(2, 3)) == (False, detail)


def test_an_adapter_that_comes_meanwhile_stops_the_write_of_the_group() -> None:
    world = group()
    world.freeze()
    found = world.now_at("rolebasedgroups", "g")
    found["spec"]["roles"][1]["scalingAdapter"] = {"enable": True}
    found["metadata"]["generation"] = 5
    applied, detail = world.apply(scale(2, 3))
    assert (applied, detail) == (False, "rolebasedgroupscalingadapters/g-r is gone")
    assert found["spec"]["roles"][1]["replicas"] == 2


def test_a_group_of_a_set_is_refused() -> None:
    detail = (
        "RoleBasedGroup ns/g belongs to RoleBasedGroupSet gs, which would undo the change: "
        "name that as the target"
    )
    assert group(owner="gs").apply(scale(2, 3)) == (False, detail)


def test_a_stateless_role_lets_instances_be_chosen_by_cost() -> None:
    world = group(stateless=True)
    assert world.apply(scale(2, 1, "ns/g-r-0")) == (True, "")
    cost = "controller.kubernetes.io/instance-deletion-cost"
    root = "/apis/workloads.x-k8s.io/v1alpha2/namespaces/ns/roleinstances"
    assert world.api.wrote() == [f"{root}/g-r-0", path_of("rolebasedgroups", "g")]
    assert world.api.objects[f"{root}/g-r-0"]["metadata"]["annotations"] == {cost: RETIRED}


def test_a_stateful_role_does_not() -> None:
    applied, detail = group().apply(scale(2, 1, "ns/g-r-0"))
    assert not applied
    assert "removes its highest ordinals, ns/g-r-1, not ns/g-r-0" in detail
