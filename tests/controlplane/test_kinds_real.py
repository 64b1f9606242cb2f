"""What the API server itself does with custom kinds that are driven from outside (`kinds.md`
section 2), and scaling adapters (3.4), which overrule the group in two ways.
"""

import msgspec

from tests.controlplane.kinds.cases import (
    HELD,
    WITH_ADAPTER,
    R,
    bound,
    controllers,
    dying,
    group_ready,
    let_go,
    patch,
    rbg,
    refused,
    role,
    scale,
    set_role,
    uids,
)
from tests.controlplane.kinds.store import ADAPTER, RBG
from tests.controlplane.kinds.world import World, eventually

# ---- what the API server itself does with these kinds: section 2 ------------------------------


def test_writes_are_guarded_and_merge_patches_are_dangerous(kinds_world: World) -> None:
    kinds_world.make(RBG, rbg(role("prefill", 3), role("decode", 2)))
    test = {"op": "test", "path": "/spec/roles/0/replicas", "value": 9}
    failed = refused(lambda: patch(kinds_world, RBG, "pd", [test], "json"))
    assert (failed.status, msgspec.json.decode(failed.body)["details"]) == (422, {})
    negative = refused(lambda: set_role(kinds_world, 0, -1))
    assert negative.status == 422
    assert "spec.roles[0].replicas" in negative.message
    strategic = refused(lambda: patch(kinds_world, RBG, "pd", {"spec": {}}, "strategic"))
    assert strategic.status == 415
    patch(kinds_world, RBG, "pd", [{"op": "remove", "path": "/spec/roles/0/replicas"}], "json")
    assert kinds_world.read(RBG, "pd")["spec"]["roles"][0]["replicas"] == 1
    assert refused(lambda: scale(kinds_world, RBG, "pd", 2)).status == 404
    one_role = {"spec": {"roles": [role("prefill", 2)]}}
    patch(kinds_world, RBG, "pd", one_role)
    assert [one["name"] for one in kinds_world.read(RBG, "pd")["spec"]["roles"]] == ["prefill"]


def test_one_field_apply_meets_its_owner(kinds_world: World) -> None:
    kinds_world.make(RBG, rbg(role("prefill", 3), role("decode", 2)))
    body = rbg({"name": "decode", "replicas": 3})
    where = kinds_world.path(RBG, "pd")
    conflict = refused(lambda: kinds_world.api.patch(where, body, "apply", fieldManager="other"))
    assert conflict.status == 409
    assert '.spec.roles[name="decode"].replicas' in conflict.message


# ---- scaling adapters: section 3.4 ------------------------------------------------------------


def test_an_adapter_is_bound_once_and_is_then_the_master(kinds_world: World) -> None:
    with controllers(kinds_world):
        kinds_world.make(RBG, rbg(role("prefill", 2, **WITH_ADAPTER)))
        group_ready(kinds_world, prefill=2)
        adapter = bound(kinds_world)
        assert adapter["spec"]["replicas"] == 2
        assert f"{R}/role-name=prefill" in adapter["status"]["selector"]
        assert "controller" not in adapter["metadata"]["ownerReferences"][0]
        for count in (3, 0, 1):
            scale(kinds_world, ADAPTER, "pd-prefill", count)
            group_ready(kinds_world, prefill=count)
            assert kinds_world.read(RBG, "pd")["spec"]["roles"][0]["replicas"] == count
        kinds_world.delete(ADAPTER, "pd-prefill")
        old = adapter["metadata"]["uid"]
        eventually(
            lambda: (kinds_world.found(ADAPTER, "pd-prefill") or adapter)["metadata"]["uid"] != old,
            "made again",
        )
        assert bound(kinds_world)["spec"]["replicas"] == 1
        off = {"op": "replace", "path": "/spec/roles/0/scalingAdapter/enable", "value": False}
        patch(kinds_world, RBG, "pd", [off], "json")
        eventually(lambda: kinds_world.names(ADAPTER) == [], "adapter gone")
        assert group_ready(kinds_world, prefill=1)["spec"]["roles"][0]["replicas"] == 1


def test_an_adapter_that_somebody_made_by_hand_is_ignored(kinds_world: World) -> None:
    with controllers(kinds_world):
        kinds_world.make(RBG, rbg(role("prefill", 1)))
        target = {"name": "pd", "role": "prefill"}
        body = {"metadata": {"name": "mine"}, "spec": {"replicas": 3, "scaleTargetRef": target}}
        kind = {"apiVersion": ADAPTER.rpartition("/")[0], "kind": "RoleBasedGroupScalingAdapter"}
        kinds_world.make(ADAPTER, {**kind, **body})
        group_ready(kinds_world, prefill=1)
        assert "status" not in kinds_world.read(ADAPTER, "mine")


def test_07_an_edit_of_the_parent_kills_replicas_and_is_then_reverted(kinds_world: World) -> None:
    with controllers(kinds_world, "0.7"):
        kinds_world.make(RBG, rbg(role("prefill", 3, exit_seconds=HELD, **WITH_ADAPTER)))
        group_ready(kinds_world, prefill=3)
        bound(kinds_world)
        before = uids(kinds_world)
        set_role(kinds_world, 0, 1)
        eventually(lambda: dying(kinds_world) == ["pd-prefill-1", "pd-prefill-2"], "two are killed")
        eventually(
            lambda: kinds_world.read(RBG, "pd")["spec"]["roles"][0]["replicas"] == 3, "reverted"
        )
        let_go(kinds_world, "pd-prefill-1", "pd-prefill-2")
        eventually(
            lambda: (
                set(uids(kinds_world).values()) & set(before.values()) == {before["pd-prefill-0"]}
            ),
            "rebuilt",
        )
        group_ready(kinds_world, prefill=3)


def test_08_an_edit_of_the_parent_stays_in_the_spec_and_does_nothing(kinds_world: World) -> None:
    with controllers(kinds_world, "0.8"):
        kinds_world.make(RBG, rbg(role("prefill", 2, **WITH_ADAPTER)))
        group_ready(kinds_world, prefill=2)
        bound(kinds_world)
        before = uids(kinds_world)
        set_role(kinds_world, 0, 4)

        def told() -> bool:
            events = [one for one in kinds_world.all("events") if one["type"] == "Warning"]
            return any("(desired=2, observed=4)" in one["message"] for one in events)

        eventually(told, "an event says who overruled")

        def seen() -> bool:
            found = group_ready(kinds_world, prefill=2)
            assert found["spec"]["roles"][0]["replicas"] == 4
            return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"])

        eventually(seen, "the controller has seen the edit")
        assert uids(kinds_world) == before
        scale(kinds_world, ADAPTER, "pd-prefill", 3)
        group_ready(kinds_world, prefill=3)
        assert kinds_world.read(RBG, "pd")["spec"]["roles"][0]["replicas"] == 3
