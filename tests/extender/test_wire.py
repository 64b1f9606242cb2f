"""The wire: what is read out of a body, and how a bad body is refused."""

import json
from typing import Any

import pytest

from scheduler.extender import wire
from scheduler.extender.asks import ask_of
from scheduler.extender.wire import BodyError
from scheduler.planning.standing import PodAsk
from scheduler.planning.targets import Target, Targets
from scheduler.planning.verdicts import FilterVerdict
from tests.fixtures import payloads

GPU = ("amd.com/gpu", "nvidia.com/gpu")
TARGETS = Targets(
    (
        ("chat/decode", Target("RoleBasedGroup", "default", "chat", "decode")),
        ("code/decode", Target("Deployment", "default", "code")),
    )
)


def read(asked: payloads.Json) -> PodAsk:
    args = wire.decode_args(json.dumps(payloads.by_names(asked, "a")).encode())
    return ask_of(args.pod, GPU, TARGETS)


def test_an_ask_carries_what_verdicts_need() -> None:
    asked = payloads.pod("u1", 4, "chat/decode", "r1")
    asked["status"]["nominatedNodeName"] = "a"
    assert read(asked) == PodAsk(
        uid="u1",
        name="pod-u1",
        namespace="default",
        owner="chat/decode",
        group="r1",
        gpus=4,
        resource="nvidia.com/gpu",
        cpu_milli=4000,
        priority=1000,
        nominated="a",
    )


def test_cpu_and_memory_rank_nodes_and_are_not_checked() -> None:
    asked = payloads.pod("u1", 1)
    resources = asked["spec"]["containers"][0]["resources"]
    resources["requests"] = {**resources["requests"], "cpu": "1500m", "memory": "3Gi"}
    assert (read(asked).cpu_milli, read(asked).memory_mib) == (1500, 3072)
    resources["requests"] |= {"cpu": "much", "memory": "-1"}
    assert (read(asked).gpus, read(asked).cpu_milli, read(asked).memory_mib) == (1, 0, 0)


def test_a_pod_may_ask_as_a_whole_and_has_its_overhead() -> None:
    asked = payloads.pod("u1", 1)
    asked["spec"] |= {
        "resources": {"requests": {"cpu": "6"}},
        "overhead": {"cpu": "250m", "memory": "1Gi"},
    }
    assert (read(asked).cpu_milli, read(asked).memory_mib) == (6250, 1024)


def test_an_owner_may_stand_in_a_label() -> None:
    asked = payloads.pod()
    asked["metadata"]["labels"] = {"tidal.dev/owner": "job-1"}
    assert read(asked).owner == "job-1"


def owned(kind: str, name: str) -> list[payloads.Json]:
    stranger = {"apiVersion": "v1", "kind": "Other", "name": "x", "uid": "1"}
    return [stranger, {"kind": kind, "name": name, "uid": "2", "controller": True}]


@pytest.mark.parametrize(
    ("meta", "owner", "group"),
    [
        ({"ownerReferences": owned("Job", "train")}, "default/train", "default/train"),
        (
            {
                "ownerReferences": owned("ReplicaSet", "code-5d8f"),
                "labels": {"pod-template-hash": "5d8f"},
            },
            "code/decode",
            "default/pod-u1",
        ),
        (
            {
                "labels": {
                    "rbg.workloads.x-k8s.io/group-name": "chat",
                    "rbg.workloads.x-k8s.io/role-name": "decode",
                    "rbg.workloads.x-k8s.io/role-instance-name": "chat-decode-3",
                }
            },
            "chat/decode",
            "default/chat-decode-3",
        ),
        (
            {
                "ownerReferences": owned("Job", "train"),
                "annotations": {"tidal.dev/owner": "code/decode"},
            },
            "code/decode",
            "",
        ),
        ({"ownerReferences": owned("ReplicaSet", "web-5d8f"), "labels": None}, "", ""),
        ({"ownerReferences": None, "annotations": None}, "", ""),
    ],
)
def test_whose_a_pod_is_stands_in_its_metadata(meta: payloads.Json, owner: str, group: str) -> None:
    asked = payloads.pod()
    asked["metadata"] |= meta
    found = read(asked)
    assert (found.owner, found.group) == (owner, group)


def test_a_pod_without_uid_or_name_is_known_by_what_it_has() -> None:
    asked = payloads.pod()
    del asked["metadata"]["uid"]
    assert read(asked).uid == "default/pod-u1"
    del asked["metadata"]["name"]
    asked["metadata"]["generateName"] = "code-5d8f-"
    assert (read(asked).uid, read(asked).name) == ("default/code-5d8f-", "code-5d8f-")
    del asked["metadata"]["generateName"]
    with pytest.raises(BodyError, match="neither `name` nor `generateName`"):
        read(asked)


def container(gpus: int, restart: str | None = None) -> payloads.Json:
    wants = {"limits": {"amd.com/gpu": gpus}}
    return {"resources": wants, "restartPolicy": restart} if restart else {"resources": wants}


@pytest.mark.parametrize(
    ("main", "init", "gpus"),
    [
        ([container(2), container(1)], [], 3),
        ([container(1)], [container(4)], 4),
        ([container(0)], [container(1)], 1),
        ([container(2)], [container(1, "Always"), container(2)], 3),
        ([container(1)], [container(4), container(2, "Always")], 4),
        ([{"resources": {}}, {}], [], 0),
    ],
)
def test_gpus_are_counted_as_kubernetes_counts_them(
    main: list[Any], init: list[Any], gpus: int
) -> None:
    asked = payloads.pod()
    asked["spec"] |= {"containers": main, "initContainers": init}
    assert read(asked).gpus == gpus


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"NodeNames": []}', "`Pod`"),
        (b'{"Pod": null}', r"\$\.Pod"),
        (b'{"Pod": {"metadata": {"name": "p"}, "spec": {"containers": 3}}}', "spec.containers"),
    ],
)
def test_a_bad_body_is_refused_by_field(body: bytes, named: str) -> None:
    with pytest.raises(BodyError, match=named):
        wire.decode_args(body)


@pytest.mark.parametrize(
    "given",
    ["500m", "-1", -1, "", "x", "1e9", "9" * 5000, 10**30, "\u0663", "0.5", "1e-3", "4Gi"],
)
def test_a_quantity_that_is_no_number_of_gpus_is_refused_by_field(given: str | int) -> None:
    asked = payloads.pod()
    asked["spec"]["containers"][0]["resources"]["requests"]["nvidia.com/gpu"] = given
    with pytest.raises(BodyError, match=r"spec\.containers\[0\]\.resources|out of range"):
        read(asked)


@pytest.mark.parametrize(("given", "gpus"), [("1k", 1000), (4, 4), ("2.0", 2), ("4000m", 4)])
def test_whole_quantities_are_read_in_every_form(given: str | int, gpus: int) -> None:
    asked = payloads.pod()
    asked["spec"]["containers"][0]["resources"]["requests"]["nvidia.com/gpu"] = given
    assert read(asked).gpus == gpus


def test_a_body_without_nodes_is_refused() -> None:
    args = wire.decode_args(json.dumps({"Pod": payloads.pod()}).encode())
    with pytest.raises(BodyError, match="NodeNames and Nodes"):
        wire.offered_nodes(args)
    preempt = wire.decode_preempt(json.dumps({"Pod": payloads.pod()}).encode())
    with pytest.raises(BodyError, match="NodeNameToMetaVictims and NodeNameToVictims"):
        wire.offers(preempt)


def test_whole_nodes_come_back_as_they_came() -> None:
    body = payloads.by_nodes(payloads.pod(), "a", "b")
    offered = wire.offered_nodes(wire.decode_args(json.dumps(body).encode()))
    assert tuple(offered) == ("a", "b")
    answer = json.loads(wire.filter_answer(FilterVerdict(("b",), {"a": "full"}), offered))
    assert answer == {
        "Nodes": {"items": [body["Nodes"]["items"][1]]},
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": {"a": "full"},
        "Error": "",
    }


@pytest.mark.parametrize("shape", [payloads.by_uids, payloads.by_pods])
def test_both_shapes_of_victims_are_answered_by_uid(shape: Any) -> None:  # noqa: ANN401
    args = wire.decode_preempt(json.dumps(shape(payloads.pod(), a=["v1", "v2"], b=[])).encode())
    given = wire.offers(args)
    assert {node: offer.uids for node, offer in given.items()} == {"a": ("v1", "v2"), "b": ()}
    answer = json.loads(wire.preempt_answer({"a": ("v2",)}, given))
    victims = answer["NodeNameToMetaVictims"]["a"]
    assert victims["Pods"] == [{"UID": "v2"}]
    assert victims["NumPDBViolations"] <= 1


PREFERRED = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}


@pytest.mark.parametrize(
    ("spec", "conditions", "choosy"),
    [
        ({}, None, False),
        ({}, [], False),
        ({}, [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}], True),
        ({}, [{"type": "PodScheduled", "status": "False", "reason": "SchedulerError"}], True),
        ({}, [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}], False),
        ({}, [{"type": "PodScheduled", "status": "True"}], False),
        ({}, [{"type": "Ready", "status": "False", "reason": None}], False),
        ({"affinity": {"nodeAffinity": PREFERRED}}, None, True),
        ({"affinity": {"podAffinity": PREFERRED, "nodeAffinity": None}}, None, True),
        ({"affinity": {"podAntiAffinity": PREFERRED}}, None, True),
        ({"affinity": {"nodeAffinity": {"requiredDuringScheduling": {}}}}, None, False),
        ({"topologySpreadConstraints": [{"whenUnsatisfiable": "ScheduleAnyway"}]}, None, True),
        ({"topologySpreadConstraints": [{"whenUnsatisfiable": "DoNotSchedule"}]}, None, False),
    ],
)
def test_a_pod_with_preferences_or_a_failed_attempt_leaves_the_choice_to_kube_scheduler(
    spec: dict[str, Any], conditions: list[dict[str, Any]] | None, choosy: bool
) -> None:
    asked = payloads.pod()
    asked["spec"] |= spec
    asked["status"]["conditions"] = conditions
    assert read(asked).choosy is choosy
