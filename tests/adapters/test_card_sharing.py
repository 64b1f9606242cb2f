"""Cards that HAMi shares, from a cluster's objects through plan and extender.

A world is nodes, pods and Jobs as the API server sends them; the annotations are written as HAMi
documents them.
"""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binpacking.inventory import Node
from binpacking.shares import NO_SHARE, Share
from scheduler.adapters.cluster import reduction
from scheduler.adapters.cluster.drivers.gangs import Gangs
from scheduler.adapters.cluster.gates import Fit, lifts
from scheduler.adapters.cluster.observed import Observed
from scheduler.apiserver import objects
from scheduler.apiserver.sharing import ALLOCATED, CORES_PERCENT, MEMORY, MEMORY_PERCENT, REGISTERED
from scheduler.extender.asks import ask_of
from scheduler.extender.wire import Pod as AskingPod
from scheduler.planning import reasons
from scheduler.planning.actions import Plan, StartJob
from scheduler.planning.invariants import broken, broken_by
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from scheduler.planning.snapshot import Reservation, Snapshot
from scheduler.planning.standing import standing_of
from scheduler.planning.targets import Targets
from scheduler.planning.verdicts import FilterVerdict
from scheduler.view import View
from tests.fixtures.kubeobjects import (
    NOW,
    Part,
    deployment,
    job_pod,
    node,
    pod,
    policy,
    snapshot,
    suspended_job,
)
from tests.fixtures.payloads import pod as asking

CARD = 80_000
POLICY = policy({"gpu_models": {"H100": "H100"}}, decode={"kind": "Deployment", "name": "a"})
TASKS = 10
HALF = {MEMORY: "40000"}


def card(name: str, *, mode: str = "hami-core", healthy: bool = True) -> str:
    return f"{name},{TASKS},{CARD},100,NVIDIA-H100,0,{str(healthy).lower()},0,{mode}:"


def shared_node(name: str, cards: int = 2, **change: Part) -> objects.Node:
    """A node of HAMi's: its resource counts tasks."""
    told = change.pop("told", "".join(card(f"{name}-{n}") for n in range(cards)))
    return node(name, cards * TASKS, annotations={REGISTERED: told}, **change)


def sharer(
    name: str, on: str, uuid: str, mib: int = 40_000, cores: int = 0, **more: Part
) -> objects.Pod:
    annotations = {ALLOCATED: f"{uuid},NVIDIA,{mib},{cores}:;"}
    part = {MEMORY: str(mib), CORES_PERCENT: str(cores)}
    return pod(name, on, annotations=annotations, part=part, **more)


def seen(*objects_: Part, **change: Part) -> Snapshot:
    """The snapshot of nodes, pods and Jobs as they are kept in memory, which breaks no rule."""
    kinds: dict[str, list[Part]] = {"Node": [], "Pod": [], "Job": [], "Replicated": []}
    for one in objects_:
        kinds[type(one).__name__].append(one)
    reduced, kept = reduction.nodes(), reduction.pods_that_ask_for(("nvidia.com/gpu",))
    observed = Observed(
        nodes=tuple(map(reduced, kinds["Node"])),
        pods=tuple(one for one in map(kept, kinds["Pod"]) if one is not None),
        jobs=tuple(kinds["Job"]),
        deployments=tuple(kinds["Replicated"]),
    )
    found = snapshot(observed, POLICY, NOW, **change)
    assert broken(found) == ()
    return found


def held(value: Node) -> list[list[tuple[str, int, int]]]:
    return [
        [(one.owner.rpartition("-")[2], one.milli_gpu, one.memory_mib) for one in device.holders]
        for device in value.devices
    ]


def planned(found: Snapshot, effort: str = "full") -> Plan:
    made, _ = plan(found, Memory(), POLICY, effort)
    assert broken_by(found, made) == ()
    return made


def answers(found: Snapshot, made: Plan) -> View:
    view = View()
    view.publish(standing_of(found, made, POLICY))
    return view


def ask(view: View, uid: str, part: dict[str, str] | None = None, **change: Part) -> FilterVerdict:
    """Ask about a pod as kube-scheduler would, on all nodes."""
    body = asking(uid, change.get("gpus", 1), change.get("owner", ""), change.get("group", ""))
    body["spec"]["containers"][0]["resources"]["limits"] |= part or {}
    index = view.index
    wanted = ask_of(
        msgspec.convert(body, AskingPod), index.resources, index.targets, index.card_memory_mib
    )
    return view.steer(wanted, tuple(index.places), NOW + 1)


# ---- what is observed --------------------------------------------------------------------------


def test_cards_are_those_that_are_registered_and_not_tasks() -> None:
    (value,) = seen(shared_node("n")).nodes
    assert [(one.uuid, one.memory_mib) for one in value.devices] == [("n-0", CARD), ("n-1", CARD)]
    assert (value.sharing, value.free_gpus) == ("parts", 2)


@pytest.mark.parametrize(
    ("told", "uuids"),
    [
        ("a,10,80000,100,NVIDIA-H100,0,true:b,10,80000,100,NVIDIA-H100,0,true:", ["a", "b"]),
        ('[{"id":"a","count":10,"devmem":80000,"devcore":100,"health":true,"numa":1}]', ["a"]),
        (card("a") + card("b", mode="mig"), ["a"]),
        ('[{"id":"a","devmem":80000,"health":true,"mode":"mig"}]', []),
        ("garbage", []),
        ("[{]", []),
        ("", []),
    ],
)
def test_registrations(told: str, uuids: list[str]) -> None:
    (value,) = seen(shared_node("n", told=told)).nodes
    assert [one.uuid for one in value.devices] == uuids


def test_the_model_is_registered_where_no_label_names_it() -> None:
    nameless = {"nvidia.com/gpu.product": ""}
    mixed = card("a") + card("b").replace("H100", "A10")
    worlds = [
        shared_node("n"),
        shared_node("n", labels=nameless),
        shared_node("n", labels=nameless, told=mixed),
    ]
    models = [seen(one).nodes[0].gpu_model for one in worlds]
    assert models == ["H100", "NVIDIA-H100", "unknown"]


def test_a_sick_card_is_nobodys() -> None:
    (value,) = seen(shared_node("n", told=card("a", healthy=False) + card("b"))).nodes
    assert [one.healthy for one in value.devices] == [False, True]
    assert value.free_gpus == 1


def test_sharers_are_on_the_cards_that_are_told() -> None:
    both = (sharer("a", "n", "n-1", 20_000), sharer("b", "n", "n-1", 8_000, cores=60))
    (value,) = seen(shared_node("n"), *both).nodes
    assert held(value) == [[], [("a", 250, 20_000), ("b", 600, 8_000)]]
    assert value.free_gpus == 1


@pytest.mark.parametrize(
    ("annotations", "part", "milli"),
    [
        ({}, HALF, 1000),
        ({ALLOCATED: "elsewhere,NVIDIA,40000,0:;"}, HALF, 1000),
        ({ALLOCATED: "n-0,NVIDIA,much,0:;"}, HALF, 1000),
        ({ALLOCATED: "n-0,NVIDIA,80000,0:;"}, {}, 1000),
        ({ALLOCATED: "n-0,NVIDIA,40000,100:;"}, HALF | {CORES_PERCENT: "100"}, 1000),
        ({ALLOCATED: "n-0,NVIDIA,30000,0:;n-0,NVIDIA,10000,20:;"}, {}, 500),
    ],
)
def test_what_nobody_tells_takes_a_whole_card(
    annotations: dict[str, str], part: dict[str, str], milli: int
) -> None:
    one = pod("a", "n", annotations=annotations, part=part)
    (value,) = seen(shared_node("n"), one).nodes
    assert [(owner, share) for owner, share, _ in held(value)[0]] == [("a", milli)]
    assert value.free_gpus == 1


def test_one_of_unknown_card_takes_what_is_left_where_no_card_is_free() -> None:
    known = sharer("a", "n", "n-0", 20_000)
    (value,) = seen(shared_node("n", 1), known, pod("b", "n", part=HALF)).nodes
    assert [(owner, milli) for owner, milli, _ in held(value)[0]] == [("a", 250), ("b", 750)]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_whatever_is_told_no_card_is_held_beyond_itself(data: st.DataObject) -> None:
    mib, cores = st.sampled_from([0, 1, 10_000, 40_000, 80_000]), st.sampled_from([0, 30, 100, 250])
    cards = st.sampled_from(["n-0", "n-1", "n-9"])
    told = data.draw(st.lists(st.tuples(cards, mib, cores), max_size=5))
    pods = [sharer(f"t{number}", "n", *one) for number, one in enumerate(told)]
    pods += [pod(f"u{number}", "n", part=HALF) for number in range(data.draw(st.integers(0, 2)))]
    pods += [pod(f"w{number}", "n", gpus=2) for number in range(data.draw(st.integers(0, 1)))]
    (value,) = seen(shared_node("n"), *pods).nodes
    asked = {uuid for uuid, _, _ in told if uuid != "n-9"}
    assert all(one.holders for one in value.devices if one.uuid in asked)
    assert all(one.milli_gpu >= 0 for device in value.devices for one in device.holders)


def test_a_part_on_a_node_that_shares_nothing_is_a_whole_gpu() -> None:
    (value,) = seen(node("n", 4), pod("a", "n", part=HALF)).nodes
    assert [milli for _, milli, _ in held(value)[0]] == [1000]
    assert value.free_gpus == 3


@pytest.mark.parametrize(
    ("part", "gpus", "share"),
    [
        (HALF, 0, Share(500, 40_000)),
        ({MEMORY_PERCENT: "25"}, 0, Share(250, 20_000)),
        ({MEMORY: "8000", CORES_PERCENT: "30"}, 0, Share(300, 8_000)),
        ({MEMORY: "1"}, 0, Share(1, 1)),
        ({CORES_PERCENT: "30"}, 1, NO_SHARE),
        ({MEMORY_PERCENT: "100"}, 1, NO_SHARE),
        ({MEMORY: "80000"}, 1, NO_SHARE),
        ({MEMORY: "lots"}, 1, NO_SHARE),
        ({}, 1, NO_SHARE),
    ],
)
def test_a_jobs_pods_ask_parts(part: dict[str, str], gpus: int, share: Share) -> None:
    (job,) = seen(shared_node("n"), suspended_job("j", template={"part": part})).jobs
    assert (job.gpus_per_pod, job.share_per_pod) == (gpus, share)


SLICED = [
    {"nvidia.com/gpu.sharing-strategy": "time-slicing"},
    {"nvidia.com/gpu.sharing-strategy": "mps"},
    {"nvidia.com/gpu.product": "H100-SHARED"},
    {"cloud.google.com/gke-gpu-sharing-strategy": "time-sharing"},
]


@pytest.mark.parametrize("labels", SLICED)
def test_slices_are_no_gpus_and_strangers_may_have_them(labels: dict[str, str]) -> None:
    found = seen(
        node("n", 32, labels=labels),
        pod("a", "n"),
        suspended_job("j"),
        deployment("a", 1),
    )
    (value,) = found.nodes
    assert (value.sharing, value.devices) == ("slices", ())
    made = planned(found)
    assert made.reservations == ()
    view = answers(found, made)
    assert ask(view, "stranger").passed == ("n",)
    assert ask(view, "role", owner="chat/decode", group="r").refused == {"n": reasons.SLICED}


def test_whole_cards_come_before_slices_and_a_word_of_none_is_none() -> None:
    plain = node("z", 1, labels={"nvidia.com/gpu.sharing-strategy": "none"})
    found = seen(node("a", 32, labels=SLICED[0]), plain)
    assert [one.sharing for one in found.nodes] == ["slices", "none"]
    assert ask(answers(found, planned(found)), "p").passed == ("z",)


# ---- what is planned ---------------------------------------------------------------------------


def starts(made: Plan) -> dict[str, tuple[tuple[str, int], ...]]:
    begun = {one.job for one in made.actions if isinstance(one, StartJob)}
    return {one.owner: one.parts for one in made.reservations if one.owner in begun}


def test_no_whole_gpu_is_planned_on_a_card_that_somebody_shares() -> None:
    worlds = [sharer(f"s{n}", "n", f"n-{n}") for n in range(2)]
    waiting = suspended_job("j", gpus=1)
    assert starts(planned(seen(shared_node("n"), *worlds, waiting))) == {}
    assert starts(planned(seen(shared_node("n"), worlds[0], waiting))) == {"default/j": (("n", 1),)}


def test_parts_go_beside_parts_and_leave_whole_cards_whole() -> None:
    waiting = suspended_job("small", part_of := 2, template={"part": HALF})
    found = seen(shared_node("n", 2), sharer("s", "n", "n-1"), waiting, suspended_job("big"))
    made = planned(found)
    assert part_of == 2
    assert starts(made) in (
        {"default/big": (("n", 1),)},
        {"default/small": (("n", 0), ("n", 0))},
    )
    one = seen(
        shared_node("n", 2),
        sharer("s", "n", "n-1"),
        suspended_job("small", template={"part": HALF}),
        suspended_job("big"),
    )
    assert starts(planned(one)) == {"default/big": (("n", 1),), "default/small": (("n", 0),)}


def test_parts_stay_off_nodes_that_share_nothing() -> None:
    waiting = suspended_job("j", 3, template={"part": HALF})
    found = seen(node("plain", 8), shared_node("n", 1), waiting)
    assert starts(planned(found)) == {}


def test_what_is_reserved_of_a_card_is_nobody_elses() -> None:
    first = planned(seen(shared_node("n", 1), suspended_job("a", template={"part": HALF})))
    found = seen(
        shared_node("n", 1),
        suspended_job("a", template={"part": HALF}),
        suspended_job("b", template={"part": HALF}),
        suspended_job("c", template={"part": HALF}),
        suspended_job("whole"),
        reservations=first.reservations,
    )
    made = planned(found)
    assert [one.owner for one in made.reservations] == ["default/a", "default/b"]
    assert all(one.share == Share(500, 40_000) for one in made.reservations)


# ---- what the extender answers -------------------------------------------------------------------


def test_a_part_is_admitted_where_a_card_has_room_for_it() -> None:
    found = seen(
        node("plain", 8),
        shared_node("full", 1),
        shared_node("half", 1),
        sharer("a", "full", "full-0", 48_000),
        sharer("b", "half", "half-0"),
    )
    view = answers(found, planned(found))
    assert ask(view, "p1", HALF).passed == ("half",)
    assert ask(view, "p1", HALF).passed == ("half",), "asked again, the same answer"
    assert ask(view, "p2", HALF).passed == (), "its card was offered already"
    assert ask(view, "p3", {MEMORY: "32000"}).passed == ("full",)
    assert ask(view, "p4").passed == ("plain",)


def test_a_job_gets_the_part_that_is_kept_for_it_and_nobody_else_does() -> None:
    waiting = suspended_job("j", template={"part": HALF})
    found = seen(shared_node("n", 1), sharer("s", "n", "n-0"), waiting)
    view = answers(found, planned(found))
    assert ask(view, "stranger", HALF).passed == ()
    own = ask(view, "own", HALF, owner="default/j", group="default/j")
    assert own.passed == ("n",)


def test_a_running_sharer_fills_its_reservation() -> None:
    waiting = suspended_job("j", template={"part": HALF})
    made = planned(seen(shared_node("n", 1), waiting))
    (kept,) = made.reservations
    running = job_pod(
        "j",
        "x",
        "n",
        annotations={ALLOCATED: "n-0,NVIDIA,40000,0:;"},
        part=HALF,
        bound_seconds=NOW + 2,
    )
    assert isinstance(kept, Reservation)
    started = msgspec.structs.replace(
        waiting, spec=msgspec.structs.replace(waiting.spec, suspend=False)
    )
    found = seen(shared_node("n", 1), started, running, reservations=made.reservations)
    (job,) = found.jobs
    assert [(one.gpus, one.share, one.devices) for one in job.placed] == [
        (0, Share(500, 40_000), (0,))
    ]
    assert planned(found).reservations == ()


def test_a_gang_of_sharers_is_lifted_onto_its_parts() -> None:
    waiting = suspended_job("j", 2, template={"part": HALF})
    (kept,) = planned(seen(shared_node("n"), waiting)).reservations
    gated = [job_pod("j", str(number), gated=True, part=HALF) for number in range(2)]
    fit = Fit(("nvidia.com/gpu",), {})
    gangs = Gangs(gated, Targets(POLICY.targets()))
    (lift,) = lifts((kept,), gangs, {"default/j": 2}, fit)
    assert [on for _, on in lift.pods] == ["n", "n"]
    whole = Gangs([job_pod("j", str(n), gated=True) for n in range(2)], Targets(POLICY.targets()))
    assert list(lifts((kept,), whole, {"default/j": 2}, fit)) == []
