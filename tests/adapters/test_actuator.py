"""The actuator as a whole: fences, reservations, gates, waking, edits that are noted."""

from hypothesis import given
from hypothesis import strategies as st

from scheduler.adapters.cluster.waking import AGAIN_SECONDS
from tests.adapters.actuating import (
    NOW,
    ROLE,
    World,
    deployment,
    job,
    meta,
    path_of,
    pod,
    reservation,
    scale,
    start,
)
from tests.adapters.fakeapi import UNREACHABLE, Object, refusal

GATE = {"name": "tidal.dev/gang"}
HOSTNAME = "kubernetes.io/hostname"


def nodes(world: World, *names: str) -> World:
    for name in names:
        world.add("nodes", {"metadata": {"name": name, "labels": {HOSTNAME: f"host-{name}"}}})
    return world


def gated(
    name: str, master: tuple[str, str] = ("Job", "j"), *gates: Object, **more: object
) -> Object:
    spec = {"nodeName": "", "schedulingGates": list(gates or [GATE])}
    return pod(name, master, spec=spec, status={"phase": "Pending"}, **more)


def gang(*names: str, size: int = 2) -> World:
    body = job(spec={"parallelism": size, "completions": size})
    return nodes(World(), "n1", "n2").add("jobs", body).add("pods", *map(gated, names))


KEPT = reservation("R", "ns/j", ("n1", 1), ("n2", 1))


def placed(world: World, name: str) -> tuple[object, object]:
    spec = world.now_at("pods", name)["spec"]
    return spec.get("nodeSelector", {}).get(HOSTNAME), spec["schedulingGates"]


# ---- answers -----------------------------------------------------------------------------------


def test_an_object_that_cannot_be_read_again_is_an_outcome() -> None:
    world = World().add("deployments", deployment())
    world.freeze()
    spec = world.now_at("deployments", "d")["spec"]
    world.api.between.append(lambda: spec.update(replicas="many"))
    applied, detail = world.apply(scale(3, 4))
    assert not applied
    assert f"{path_of('deployments', 'd')} cannot be read" in detail


# ---- fences ------------------------------------------------------------------------------------


def test_an_epoch_that_another_has_succeeded_does_nothing() -> None:
    world = World().add("deployments", deployment())
    world.actuator.apply((), 5)
    assert world.apply(scale(3, 4), epoch=4) == (False, "epoch 4 is fenced off by 5")
    world.actuator.reserve((KEPT,), 4)
    assert world.api.calls == []
    assert world.actuator.problems == ("epoch 4 is fenced off by 5",)


def test_outcomes_are_in_the_order_of_the_actions() -> None:
    world = World().add("deployments", deployment()).add("jobs", job(suspend=True))
    actions = (scale(3, 4), start(), scale(4, 6), scale(9, 1))
    outcomes = world.actuator.apply(actions, 1)
    assert tuple(one.action for one in outcomes) == actions
    # all are decided on what was seen when the call began
    assert [one.applied for one in outcomes] == [True, True, False, False]


# ---- gates -------------------------------------------------------------------------------------


def test_a_whole_gang_is_pinned_and_let_go() -> None:
    world = gang("a", "b")
    world.actuator.reserve((KEPT,), 1)
    assert placed(world, "a") == ("host-n1", [])
    assert placed(world, "b") == ("host-n2", [])
    assert world.notes("pods", "a") == {"tidal.dev/reservation": "R"}
    assert [verb for verb, path, _ in world.api.calls if verb in ("DRY", "PATCH")] == [
        "DRY",
        "DRY",
        "PATCH",
        "PATCH",
    ]


def test_a_gang_that_is_not_whole_waits() -> None:
    world = gang("a", "b", size=3)
    world.actuator.reserve((KEPT,), 1)
    assert world.api.calls == []


def test_a_gang_is_whole_without_the_pods_of_finished_work() -> None:
    world = gang("a", "b", size=3)
    world.now_at("jobs", "j")["status"] = {"succeeded": 1}
    world.actuator.reserve((KEPT,), 1)
    assert placed(world, "b") == ("host-n2", [])


def test_without_a_reservation_nothing_is_lifted() -> None:
    world = gang("a", "b")
    world.actuator.reserve((reservation("R", "ns/other", ("n1", 1), ("n2", 1)),), 1)
    assert world.api.calls == []


def test_a_reservation_that_does_not_fit_is_not_taken() -> None:
    world = gang("a", "b")
    world.actuator.reserve((reservation("R", "ns/j", ("n1", 2)),), 1)
    assert world.api.calls == []


def test_gates_of_others_stay() -> None:
    other = {"name": "kueue.x-k8s.io/admission"}
    world = gang("a", "b").add("pods", gated("a", ("Job", "j"), other, GATE))
    world.actuator.reserve((KEPT,), 1)
    assert placed(world, "a") == ("host-n1", [other])


def test_where_the_server_refuses_one_none_is_lifted() -> None:
    world = gang("a", "b")
    world.api.answers[f"DRY {path_of('pods', 'b')}"] = [refusal(422, "Invalid", "no", {"n": 1})]
    world.actuator.reserve((KEPT,), 1)
    assert world.api.wrote() == []
    assert world.actuator.problems == ("ns/j: the API server refused pods/b: 422 Invalid: no",)


def test_an_interrupted_gang_goes_on_with_its_own_reservation() -> None:
    world = gang("a", "b")
    world.api.answers[f"PATCH {path_of('pods', 'b')}"] = [UNREACHABLE]
    world.actuator.reserve((KEPT,), 1)
    assert placed(world, "a")[1] == []
    assert placed(world, "b")[1] == [GATE]
    earlier = reservation("Q", "ns/j", ("n2", 1), ("n1", 1), created=NOW - 9)
    world.actuator.reserve((earlier,), 1)
    assert placed(world, "b")[1] == [GATE], "its reservation is gone"
    world.actuator.reserve((earlier, KEPT), 1)
    assert placed(world, "b") == ("host-n2", [])


def test_each_replica_takes_a_reservation_of_its_own() -> None:
    world = nodes(World(), "n1", "n2").add("deployments", deployment(2))
    world.add("pods", gated("d-a", ("ReplicaSet", "d-5d")), gated("d-b", ("ReplicaSet", "d-5d")))
    for name in ("d-a", "d-b"):
        world.now_at("pods", name)["metadata"]["labels"] = {"pod-template-hash": "5d"}
    first = reservation("1", ROLE, ("n1", 1))
    world.actuator.reserve((first,), 1)
    assert placed(world, "d-a") == ("host-n1", [])
    assert placed(world, "d-b")[1] == [GATE]
    world.actuator.reserve((first, reservation("2", ROLE, ("n2", 1))), 1)
    assert placed(world, "d-b") == ("host-n2", [])


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 1)), max_size=6),
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2)), max_size=4),
)
def test_no_reservation_is_taken_twice(
    replicas: list[tuple[int, int]], kept: list[tuple[int, int]]
) -> None:
    """Replicas of one pod, some lifted before; each lifted one holds another reservation."""
    world = nodes(World(), "n1", "n2").add("deployments", deployment(len(replicas)))
    for index, (gpus, lifted) in enumerate(replicas):
        labels = {"pod-template-hash": "5d"}
        body = gated(f"d-{index}", ("ReplicaSet", "d-5d"), meta={"labels": labels})
        body["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = str(gpus)
        if lifted:
            body["spec"]["schedulingGates"] = []
            body["metadata"]["annotations"] = {"tidal.dev/reservation": str(index)}
        world.add("pods", body)
    wanted = tuple(
        reservation(str(index), ROLE, (f"n{node}", gpus)) for index, (gpus, node) in enumerate(kept)
    )
    world.actuator.reserve(wanted, 1)
    holders = [
        world.notes("pods", f"d-{index}").get("tidal.dev/reservation")
        for index in range(len(replicas))
    ]
    taken = [one for one in holders if one is not None]
    assert len(set(taken)) == len(taken)
    for index, (_, lifted) in enumerate(replicas):
        if not lifted and holders[index] is not None:
            host, gates = placed(world, f"d-{index}")
            part = wanted[int(str(holders[index]))].parts[0]
            assert (host, gates, part[1]) == (f"host-{part[0]}", [], replicas[index][0])


# ---- waking ------------------------------------------------------------------------------------


def waiting(name: str) -> Object:
    return pod(name, ("Job", "j"), spec={"nodeName": ""}, status={"phase": "Pending"})


def test_pods_that_wait_are_woken_once_for_each_plan_and_minute() -> None:
    world = World().add("jobs", job()).add("pods", waiting("a"), waiting("b"))
    world.actuator.reserve((KEPT,), 1)
    first = world.notes("pods", "a")["tidal.dev/plan"]
    assert world.api.wrote() == [path_of("pods", "a"), path_of("pods", "b")]
    renewed = reservation("R", "ns/j", ("n1", 1), ("n2", 1), created=NOW + 5)
    world.actuator.reserve((renewed,), 2)
    assert len(world.api.wrote()) == 2
    world.actuator.reserve((reservation("S", "ns/j", ("n1", 1), ("n2", 1)),), 1)
    world.actuator.reserve((reservation("S", "ns/j", ("n1", 1), ("n2", 1)),), 2)
    assert len(world.api.wrote()) == 4
    assert world.notes("pods", "a")["tidal.dev/plan"] != first
    world.now += AGAIN_SECONDS
    world.actuator.reserve((reservation("S", "ns/j", ("n1", 1), ("n2", 1)),), 2)
    assert len(world.api.wrote()) == 6, "an extender may have been asked before it knew the plan"


def test_pods_with_a_new_plan_are_woken_before_those_that_know_theirs() -> None:
    world = World().add("jobs", job()).add("pods", waiting("b"))
    world.actuator.reserve((KEPT,), 1)
    world.add("pods", waiting("c"))
    world.now += AGAIN_SECONDS
    world.actuator.reserve((KEPT,), 1)
    assert world.api.wrote()[1:] == [path_of("pods", "c"), path_of("pods", "b")]


def test_pods_bound_gated_or_going_are_not_woken() -> None:
    leaving = {"deletionTimestamp": "2027-01-15T08:00:00Z"}
    world = World().add("jobs", job(spec={"parallelism": 9}))
    world.add("pods", pod("a", ("Job", "j")), gated("b"), waiting("c"))
    world.now_at("pods", "c")["metadata"].update(leaving)
    world.actuator.reserve((KEPT,), 1)
    assert world.api.wrote() == []


def test_a_refused_patch_is_tried_in_the_next_call() -> None:
    world = World().add("jobs", job()).add("pods", waiting("a"))
    world.api.answers[f"PATCH {path_of('pods', 'a')}"] = [refusal(500)]
    world.actuator.reserve((KEPT,), 1)
    world.actuator.reserve((KEPT,), 1)
    assert "tidal.dev/plan" in world.notes("pods", "a")


# ---- edits of others -----------------------------------------------------------------------------


def test_a_new_edit_is_noted_on_the_object() -> None:
    world = World().add("deployments", deployment(5, annotations={"tidal.dev/replicas": "3"}))
    world.actuator.reserve((), 1)
    assert world.notes("deployments", "d") == {
        "tidal.dev/replicas": "3",
        "tidal.dev/override-replicas": "5",
        "tidal.dev/override-until": "2027-01-15T09:00:00Z",
        "tidal.dev/epoch": "1",
    }
    assert world.reasons() == ["OverriddenByUser"]
    world.actuator.reserve((), 1)
    assert len(world.api.wrote()) == 1


def test_an_edit_of_the_edit_is_not_noted_as_the_first() -> None:
    world = World().add("deployments", deployment(5, annotations={"tidal.dev/replicas": "3"}))
    world.freeze()
    world.add("deployments", deployment(6, annotations={"tidal.dev/replicas": "3"}))
    world.actuator.reserve((), 1)
    assert world.actuator.problems == (f"{ROLE}: Deployment ns/d was changed again",)
    assert world.notes("deployments", "d") == {"tidal.dev/replicas": "3"}


def test_nothing_is_noted_where_the_server_is_away() -> None:
    world = World().add("deployments", deployment(5, annotations={"tidal.dev/replicas": "3"}))
    world.api.answers[f"PATCH {path_of('deployments', 'd')}"] = [UNREACHABLE]
    world.actuator.reserve((), 1)
    assert world.actuator.problems == (f"{ROLE}: {UNREACHABLE}",)


def test_a_node_without_the_label_goes_by_its_name() -> None:
    world = gang("a", "b").add("nodes", {"metadata": meta("n1")})
    world.extra["nodes"] = [one for one in world.extra["nodes"] if one["metadata"]["name"] != "n1"]
    world.actuator.reserve((KEPT,), 1)
    assert placed(world, "a")[0] == "n1"
