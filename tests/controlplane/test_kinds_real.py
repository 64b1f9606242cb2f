"""The stand-ins of RoleBasedGroup and LeaderWorkerSet on a real API server do what the real ones
were seen to do (`kinds.md`), above all the traps: what looks released and is not.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import msgspec
import pytest

from scheduler.apiserver.client import Api, ApiError, Form
from scheduler.simulation.kubelet.manners import Manners
from tests.controlplane.kinds.controller import StandIn, install
from tests.controlplane.kinds.store import ADAPTER, INSTANCE, LWS, RBG, SET
from tests.controlplane.kinds.world import Log, Object, World, condition, eventually, kubelets
from tests.controlplane.plane import ControlPlane

R = "rbg.workloads.x-k8s.io"
L = "leaderworkerset.sigs.k8s.io"
MANNERS = Manners(
    start_seconds=0.1,
    exit_seconds=0.1,
    image_mib=0,
    relist_seconds=0.0,
    unready_seconds=0.05,
)
LAZY = msgspec.structs.replace(MANNERS, unready_seconds=1e6)
"""Leaves Ready=True on a dying pod, as the kubelet did with which the facts were recorded."""
LONG = 1.5
"""A termination long enough to look at things meanwhile."""


@pytest.fixture(scope="session")
def kinds_served(plane: ControlPlane) -> None:
    """Our definitions; asked for before `namespace`, so that they outlive the single test."""
    api = Api.load(plane.kubeconfig)
    install(api)
    api.close()


@pytest.fixture
def world(plane: ControlPlane, kinds_served: None, namespace: str) -> Iterator[World]:
    api = Api.load(plane.kubeconfig)
    yield World(api, namespace)
    api.close()


@contextmanager
def controllers(
    world: World, version: Literal["0.7", "0.8"] = "0.7", manners: Manners = MANNERS
) -> Iterator[None]:
    with kubelets(world.api, 3, 8, manners):
        one = StandIn(world.api, version)
        one.start()
        try:
            yield
        finally:
            one.stop()


# ---- builders --------------------------------------------------------------------------------


def template(exit_seconds: float = 0.1, gpus: int = 1) -> Object:
    container: Object = {
        "name": "engine",
        "image": "e:1",
        "resources": {"limits": {"nvidia.com/gpu": gpus}},
    }
    notes = {"tidal.dev/sim-exit-seconds": str(exit_seconds)}
    return {"metadata": {"annotations": notes}, "spec": {"containers": [container]}}


def lws(replicas: int, size: int = 2, exit_seconds: float = 0.1) -> Object:
    parts = {"size": size, "workerTemplate": template(exit_seconds)}
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "w"},
        "spec": {"replicas": replicas, "leaderWorkerTemplate": parts},
    }


def role(name: str, replicas: int, size: int = 1, exit_seconds: float = 0.1, **more: Any) -> Object:  # noqa: ANN401
    made = template(exit_seconds)
    shape: Object = {"standalonePattern": {"template": made}}
    if size > 1:
        shape = {"leaderWorkerPattern": {"size": size, "template": made}}
    return {"name": name, "replicas": replicas, **shape, **more}


def rbg(*roles: Object) -> Object:
    return {
        "apiVersion": "workloads.x-k8s.io/v1alpha2",
        "kind": "RoleBasedGroup",
        "metadata": {"name": "pd"},
        "spec": {"roles": list(roles)},
    }


WITH_ADAPTER: Object = {"scalingAdapter": {"enable": True}}
STATELESS: Object = {"annotations": {f"{R}/role-instance-pattern": "Stateless"}}


# ---- words -----------------------------------------------------------------------------------


def patch(world: World, kind: str, name: str, body: object, form: Form = "merge") -> None:
    world.api.patch(world.path(kind, name), body, form)


def scale(world: World, kind: str, name: str, replicas: int) -> None:
    world.api.patch(world.path(kind, name) + "/scale", {"spec": {"replicas": replicas}}, "merge")


def set_role(world: World, index: int, replicas: int) -> None:
    change = {"op": "replace", "path": f"/spec/roles/{index}/replicas", "value": replicas}
    patch(world, RBG, "pd", [change], "json")


def lws_ready(world: World, replicas: int) -> Object:
    def look() -> Object | None:
        found = world.read(LWS, "w")
        status = found.get("status", {})
        good = status.get("replicas", 0) == status.get("readyReplicas", 0) == replicas
        return found if good and condition(found, "Available") == "True" else None

    found = eventually(look, f"LeaderWorkerSet ready with {replicas}")
    assert found is not None
    return found


def group_ready(world: World, **replicas: int) -> Object:
    def look() -> Object | None:
        found = world.read(RBG, "pd")
        rows = {one["name"]: one for one in found.get("status", {}).get("roleStatuses", [])}
        good = all(
            name in rows and rows[name]["replicas"] == rows[name]["readyReplicas"] == count
            for name, count in replicas.items()
        )
        return found if good and condition(found, "Ready") == "True" else None

    found = eventually(look, f"RoleBasedGroup ready with {replicas}")
    assert found is not None
    return found


def settled(world: World, names: list[str]) -> None:
    eventually(lambda: world.names("pods") == names, f"pods {names}; got {world.names('pods')}")


def dying(world: World) -> list[str]:
    pods = world.all("pods")
    return [one["metadata"]["name"] for one in pods if "deletionTimestamp" in one["metadata"]]


def label(world: World, pod: str, key: str) -> str:
    return str(world.read("pods", pod)["metadata"]["labels"].get(key))


def uids(world: World) -> dict[str, str]:
    return {one["metadata"]["name"]: one["metadata"]["uid"] for one in world.all("pods")}


def bound(world: World) -> Object:
    def look() -> Object | None:
        found = world.found(ADAPTER, "pd-prefill")
        return found if found and found.get("status", {}).get("phase") == "Bound" else None

    found = eventually(look, "adapter bound")
    assert found is not None
    return found


def refused(call: Callable[[], object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        call()
    return caught.value


# ---- what the API server itself does with these kinds: section 2 ------------------------------


def test_writes_are_guarded_and_merge_patches_are_dangerous(world: World) -> None:
    world.make(RBG, rbg(role("prefill", 3), role("decode", 2)))
    test = {"op": "test", "path": "/spec/roles/0/replicas", "value": 9}
    failed = refused(lambda: patch(world, RBG, "pd", [test], "json"))
    assert (failed.status, msgspec.json.decode(failed.body)["details"]) == (422, {})
    negative = refused(lambda: set_role(world, 0, -1))
    assert negative.status == 422
    assert "spec.roles[0].replicas" in negative.message
    strategic = refused(lambda: patch(world, RBG, "pd", {"spec": {}}, "strategic"))
    assert strategic.status == 415
    patch(world, RBG, "pd", [{"op": "remove", "path": "/spec/roles/0/replicas"}], "json")
    assert world.read(RBG, "pd")["spec"]["roles"][0]["replicas"] == 1
    assert refused(lambda: scale(world, RBG, "pd", 2)).status == 404
    one_role = {"spec": {"roles": [role("prefill", 2)]}}
    patch(world, RBG, "pd", one_role)
    assert [one["name"] for one in world.read(RBG, "pd")["spec"]["roles"]] == ["prefill"]


def test_one_field_apply_meets_its_owner(world: World) -> None:
    world.make(RBG, rbg(role("prefill", 3), role("decode", 2)))
    body = rbg({"name": "decode", "replicas": 3})
    where = world.path(RBG, "pd")
    conflict = refused(lambda: world.api.patch(where, body, "apply", fieldManager="other"))
    assert conflict.status == 409
    assert '.spec.roles[name="decode"].replicas' in conflict.message


# ---- LeaderWorkerSet: section 4 ---------------------------------------------------------------


def test_lws_children_and_status(world: World) -> None:
    with controllers(world):
        world.make(LWS, lws(2))
        status = lws_ready(world, 2)["status"]
        settled(world, ["w-0", "w-0-1", "w-1", "w-1-1"])
        worker = world.read("pods", "w-1-1")["metadata"]
        scale_now = msgspec.json.decode(world.api.get(world.path(LWS, "w") + "/scale"))
    assert status["hpaPodSelector"] == f"{L}/name=w,{L}/worker-index=0"
    assert {key: worker["labels"][f"{L}/{key}"] for key in ("name", "group-index")} == {
        "name": "w",
        "group-index": "1",
    }
    assert worker["labels"][f"{L}/worker-index"] == "1"
    assert worker["annotations"][f"{L}/size"] == "2"
    assert worker["annotations"][f"{L}/leader-name"] == "w-1"
    assert worker["ownerReferences"][0]["name"] == "w-1"
    assert (scale_now["spec"], scale_now["status"]["replicas"]) == ({"replicas": 2}, 2)


def test_lws_gpus_are_held_for_two_terminations_and_the_status_is_down_after_one(
    world: World,
) -> None:
    with controllers(world):
        world.make(LWS, lws(3, exit_seconds=LONG))
        lws_ready(world, 3)
        notes = {"controller.kubernetes.io/pod-deletion-cost": "-1000"}
        world.api.patch(world.path("pods", "w-0"), {"metadata": {"annotations": notes}}, "merge")
        began = time.monotonic()
        log = Log(world, LWS)
        scale(world, LWS, "w", 2)
        eventually(lambda: dying(world) == ["w-2"], "only the highest leader goes")
        assert world.read(LWS, "w")["status"]["replicas"] == 3
        eventually(lambda: world.read(LWS, "w")["status"]["replicas"] == 2, "status is down")
        first = time.monotonic() - began
        assert "w-2-1" in world.names("pods")
        settled(world, ["w-0", "w-0-1", "w-1", "w-1-1"])
        both = time.monotonic() - began
        events = log.stop()
    assert first >= LONG
    assert both >= 2 * LONG
    assert {condition(one, "Available") for _, one in events} == {"True"}


def test_lws_null_means_one_and_zero_means_no_fields(world: World) -> None:
    with controllers(world):
        world.make(LWS, lws(2))
        lws_ready(world, 2)
        patch(world, LWS, "w", {"spec": {"replicas": None}})
        lws_ready(world, 1)
        scale(world, LWS, "w", 0)
        settled(world, [])
        found = lws_ready(world, 0)
        assert "replicas" not in found["status"]
        scale_now = msgspec.json.decode(world.api.get(world.path(LWS, "w") + "/scale"))
        assert scale_now["status"]["replicas"] == 0
        scale(world, LWS, "w", 1)
        lws_ready(world, 1)


def test_lws_losing_a_worker_costs_the_group(world: World) -> None:
    with controllers(world):
        world.make(LWS, lws(2))
        lws_ready(world, 2)
        before = uids(world)
        world.delete("pods", "w-1-1")
        eventually(lambda: uids(world).get("w-1", before["w-1"]) != before["w-1"], "new leader")
        lws_ready(world, 2)
        settled(world, sorted(before))
        after = uids(world)
    assert {name for name in before if before[name] == after[name]} == {"w-0", "w-0-1"}


def test_lws_flap_cancels_nothing_while_the_status_says_ready(world: World) -> None:
    with controllers(world, manners=LAZY):
        world.make(LWS, lws(2, exit_seconds=LONG))
        lws_ready(world, 2)
        before = uids(world)
        scale(world, LWS, "w", 1)
        eventually(lambda: dying(world) == ["w-1"], "leader 1 goes")
        scale(world, LWS, "w", 2)
        time.sleep(0.3)
        found = world.read(LWS, "w")
        assert found["status"]["readyReplicas"] == 2
        assert condition(found, "Available") == "True"
        assert dying(world) == ["w-1"]
        eventually(lambda: uids(world).get("w-1-1", before["w-1-1"]) != before["w-1-1"], "rebuilt")
        lws_ready(world, 2)


# ---- RoleBasedGroup: section 3 ----------------------------------------------------------------


def test_rbg_children_gates_and_the_wrong_index_label(world: World) -> None:
    with controllers(world):
        world.make(RBG, rbg(role("prefill", 2), role("decode", 2, size=2)))
        group_ready(world, prefill=2, decode=2)
        assert world.names(SET) == ["pd-decode", "pd-prefill"]
        assert world.names(INSTANCE) == [
            "pd-decode-0",
            "pd-decode-1",
            "pd-prefill-0",
            "pd-prefill-1",
        ]
        pods = world.names("pods", f"{R}/role-instance-name=pd-decode-0")
        assert pods == ["pd-decode-0-0", "pd-decode-0-1"]
        worker = world.read("pods", "pd-decode-0-1")
        # trap R1: instance 0's pod says 1, because both were made in one go
        assert worker["metadata"]["labels"][f"{R}/role-instance-index"] == "1"
        assert worker["metadata"]["labels"][f"{R}/component-index"] == "1"
        assert worker["metadata"]["labels"][f"{R}/component-size"] == "2"
        gates = [one["conditionType"] for one in worker["spec"]["readinessGates"]]
        assert gates == ["InPlaceUpdateReady", "InstancePodReady"]
        instance = world.read(INSTANCE, "pd-decode-0")
        assert instance["metadata"]["labels"][f"{R}/role-instance-index"] == "0"
        set_role(world, 1, 3)
        group_ready(world, decode=3)
        assert label(world, "pd-decode-2-0", f"{R}/role-instance-index") == "2"


def test_rbg_is_ready_while_the_removed_pods_still_hold_their_gpus(world: World) -> None:
    with controllers(world):
        world.make(RBG, rbg(role("decode", 3, size=2, exit_seconds=LONG)))
        group_ready(world, decode=3)
        set_role(world, 0, 1)
        group_ready(world, decode=1)
        assert world.names(INSTANCE) == ["pd-decode-0"]
        assert dying(world) == [f"pd-decode-{i}-{j}" for i in (1, 2) for j in (0, 1)]
        settled(world, ["pd-decode-0-0", "pd-decode-0-1"])
        set_role(world, 0, 0)
        group_ready(world, decode=0)
        settled(world, [])
        set_role(world, 0, 1)
        group_ready(world, decode=1)


def test_rbg_a_write_to_the_set_is_carried_out_and_then_reverted(world: World) -> None:
    with controllers(world):
        world.make(RBG, rbg(role("decode", 2, size=2)))
        group_ready(world, decode=2)
        before = uids(world)
        log = Log(world, INSTANCE)
        scale(world, SET, "pd-decode", 1)
        eventually(lambda: world.read(SET, "pd-decode")["spec"]["replicas"] == 2, "reverted")
        eventually(
            lambda: uids(world).get("pd-decode-1-0", "") not in {"", before["pd-decode-1-0"]},
            "rebuilt",
        )
        group_ready(world, decode=2)
        kinds = [(event, one["metadata"]["name"]) for event, one in log.stop()]
    assert ("DELETED", "pd-decode-1") in kinds
    assert ("ADDED", "pd-decode-1") in kinds


def test_rbg_stateless_the_cheapest_instance_goes(world: World) -> None:
    with controllers(world):
        world.make(RBG, rbg(role("decode", 3, **STATELESS)))
        group_ready(world, decode=3)
        first, chosen, last = world.names(INSTANCE)
        assert not any(name.removeprefix("pd-decode-").isdecimal() for name in (first, last))
        selector = world.read(SET, "pd-decode")["status"]["labelSelector"]
        assert selector.startswith(f"{R}/role-instance-owner=")
        cost = {"controller.kubernetes.io/instance-deletion-cost": "-100"}
        patch(world, INSTANCE, chosen, {"metadata": {"annotations": cost}})
        wrong = {"controller.kubernetes.io/pod-deletion-cost": "-1000"}
        world.api.patch(world.path("pods", first), {"metadata": {"annotations": wrong}}, "merge")
        set_role(world, 0, 2)
        group_ready(world, decode=2)
        assert world.names(INSTANCE) == [first, last]
        settled(world, [first, last])


def test_rbg_one_lost_pod_makes_its_sibling_unready_and_restarts_nothing_else(
    world: World,
) -> None:
    with controllers(world):
        world.make(RBG, rbg(role("decode", 1, size=2, exit_seconds=LONG)))
        group_ready(world, decode=1)
        before = uids(world)
        world.delete("pods", "pd-decode-0-1")
        eventually(
            lambda: condition(world.read("pods", "pd-decode-0-0"), "Ready") == "False",
            "the leader is not ready",
        )
        eventually(lambda: uids(world).get("pd-decode-0-1") != before["pd-decode-0-1"], "gone")
        group_ready(world, decode=1)
        assert uids(world)["pd-decode-0-0"] == before["pd-decode-0-0"]


def test_rbg_a_flap_adopts_dying_pods_and_says_ready(world: World) -> None:
    with controllers(world, manners=LAZY):
        world.make(RBG, rbg(role("decode", 2, exit_seconds=LONG)))
        group_ready(world, decode=2)
        before = uids(world)
        set_role(world, 0, 1)
        eventually(lambda: dying(world) == ["pd-decode-1"], "pod 1 goes")
        set_role(world, 0, 2)
        group_ready(world, decode=2)
        assert dying(world) == ["pd-decode-1"]
        eventually(
            lambda: uids(world).get("pd-decode-1") not in {None, before["pd-decode-1"]}, "new"
        )
        group_ready(world, decode=2)


def test_rbg_an_unmet_dependency_holds_a_role_both_ways(world: World) -> None:
    with controllers(world):
        world.make(RBG, rbg(role("prefill", 1), role("decode", 2, dependencies=["prefill"])))
        group_ready(world, prefill=1, decode=2)
        set_role(world, 0, 99)  # cannot be placed
        eventually(lambda: len(world.names(INSTANCE)) > 50, "many instances")
        set_role(world, 1, 1)
        eventually(
            lambda: "DependencyNotMet" in {one["reason"] for one in world.all("events")},
            "an event says so",
        )
        assert world.read(SET, "pd-decode")["spec"]["replicas"] == 2
        set_role(world, 0, 1)
        group_ready(world, prefill=1, decode=1)


# ---- scaling adapters: section 3.4 ------------------------------------------------------------


def test_an_adapter_is_bound_once_and_is_then_the_master(world: World) -> None:
    with controllers(world):
        world.make(RBG, rbg(role("prefill", 2, **WITH_ADAPTER)))
        group_ready(world, prefill=2)
        adapter = bound(world)
        assert adapter["spec"]["replicas"] == 2
        assert f"{R}/role-name=prefill" in adapter["status"]["selector"]
        assert "controller" not in adapter["metadata"]["ownerReferences"][0]
        for count in (3, 0, 1):
            scale(world, ADAPTER, "pd-prefill", count)
            group_ready(world, prefill=count)
            assert world.read(RBG, "pd")["spec"]["roles"][0]["replicas"] == count
        world.delete(ADAPTER, "pd-prefill")
        old = adapter["metadata"]["uid"]
        eventually(
            lambda: (world.found(ADAPTER, "pd-prefill") or adapter)["metadata"]["uid"] != old,
            "made again",
        )
        assert bound(world)["spec"]["replicas"] == 1
        off = {"op": "replace", "path": "/spec/roles/0/scalingAdapter/enable", "value": False}
        patch(world, RBG, "pd", [off], "json")
        eventually(lambda: world.names(ADAPTER) == [], "adapter gone")
        assert group_ready(world, prefill=1)["spec"]["roles"][0]["replicas"] == 1


def test_an_adapter_that_somebody_made_by_hand_is_ignored(world: World) -> None:
    with controllers(world):
        world.make(RBG, rbg(role("prefill", 1)))
        target = {"name": "pd", "role": "prefill"}
        body = {"metadata": {"name": "mine"}, "spec": {"replicas": 3, "scaleTargetRef": target}}
        kind = {"apiVersion": ADAPTER.rpartition("/")[0], "kind": "RoleBasedGroupScalingAdapter"}
        world.make(ADAPTER, {**kind, **body})
        group_ready(world, prefill=1)
        assert "status" not in world.read(ADAPTER, "mine")


def test_07_an_edit_of_the_parent_kills_replicas_and_is_then_reverted(world: World) -> None:
    with controllers(world, "0.7"):
        world.make(RBG, rbg(role("prefill", 3, exit_seconds=0.5, **WITH_ADAPTER)))
        group_ready(world, prefill=3)
        bound(world)
        before = uids(world)
        set_role(world, 0, 1)
        eventually(lambda: dying(world) == ["pd-prefill-1", "pd-prefill-2"], "two are killed")
        eventually(lambda: world.read(RBG, "pd")["spec"]["roles"][0]["replicas"] == 3, "reverted")
        eventually(
            lambda: set(uids(world).values()) & set(before.values()) == {before["pd-prefill-0"]},
            "rebuilt",
        )
        group_ready(world, prefill=3)


def test_08_an_edit_of_the_parent_stays_in_the_spec_and_does_nothing(world: World) -> None:
    with controllers(world, "0.8"):
        world.make(RBG, rbg(role("prefill", 2, **WITH_ADAPTER)))
        group_ready(world, prefill=2)
        bound(world)
        before = uids(world)
        set_role(world, 0, 4)

        def told() -> bool:
            events = [one for one in world.all("events") if one["type"] == "Warning"]
            return any("(desired=2, observed=4)" in one["message"] for one in events)

        eventually(told, "an event says who overruled")
        found = group_ready(world, prefill=2)
        assert found["spec"]["roles"][0]["replicas"] == 4
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
        assert uids(world) == before
        scale(world, ADAPTER, "pd-prefill", 3)
        group_ready(world, prefill=3)
        assert world.read(RBG, "pd")["spec"]["roles"][0]["replicas"] == 3
