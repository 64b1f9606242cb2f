"""Which nodes may take a pod: each line of Kubernetes' rules, and the words for a refusal."""

from typing import Any

import msgspec
import pytest

from scheduler.apiserver.nodeterms import NodeFace, NodeTerms, keys_read, node_terms, refusal
from scheduler.apiserver.objects import Taint, TemplateSpec

Json = dict[str, Any]

FACE = NodeFace("n0", {"disk": "ssd", "gen": "9", "zone": ""}, ())
NO = "required node affinity"


def terms(**spec: Json | list[Json]) -> NodeTerms:
    return node_terms(msgspec.convert(spec, TemplateSpec))


def affinity(*some: Json) -> Json:
    required = {"nodeSelectorTerms": list(some)}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def label(key: str, operator: str, *values: str) -> Json:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def field(name: str, operator: str = "In") -> Json:
    return {"matchFields": [{"key": "metadata.name", "operator": operator, "values": [name]}]}


def test_a_template_without_words_goes_everywhere() -> None:
    assert refusal(FACE, terms()) == ""
    assert refusal(FACE, terms(affinity={"podAffinity": {}})) == ""


@pytest.mark.parametrize(
    ("selector", "why"),
    [
        ({"disk": "ssd"}, ""),
        ({"disk": "ssd", "zone": ""}, ""),
        ({"disk": "hdd"}, "node selector disk=hdd"),
        ({"rack": ""}, "node selector rack="),
    ],
)
def test_a_node_selector_wants_every_label(selector: Json, why: str) -> None:
    assert refusal(FACE, terms(nodeSelector=selector)) == why


@pytest.mark.parametrize(
    ("some", "why"),
    [
        ([label("disk", "In", "hdd", "ssd")], ""),
        ([label("disk", "In", "hdd")], NO),
        ([label("disk", "NotIn", "hdd")], ""),
        ([label("disk", "NotIn", "ssd")], NO),
        ([label("rack", "NotIn", "r1")], ""),
        ([label("zone", "Exists")], ""),
        ([label("rack", "Exists")], NO),
        ([label("rack", "DoesNotExist")], ""),
        ([label("disk", "DoesNotExist")], NO),
        ([label("gen", "Gt", "8")], ""),
        ([label("gen", "Gt", "9")], NO),
        ([label("gen", "Lt", "10")], ""),
        ([label("gen", "Lt", "9")], NO),
        ([label("disk", "Gt", "1")], NO),
        ([label("rack", "Lt", "1")], NO),
        ([label("disk", "Like", "s*")], NO),
        ([label("disk", "In", "hdd"), label("gen", "In", "9")], ""),
        ([label("disk", "In", "hdd"), label("gen", "In", "8")], NO),
        ([label("disk", "In", "ssd") | field("n1")], NO),
        ([label("disk", "In", "ssd") | field("n0")], ""),
        ([field("n0", "NotIn")], NO),
        ([{}], NO),
        ([], NO),
    ],
)
def test_one_term_must_hold_whole(some: list[Json], why: str) -> None:
    assert refusal(FACE, terms(affinity=affinity(*some))) == why


TAINT = Taint(key="team", value="a", effect="NoSchedule")
KEPT_OFF = "taint team=a:NoSchedule is not tolerated"


@pytest.mark.parametrize(
    ("toleration", "why"),
    [
        ({"key": "team", "value": "a"}, ""),
        ({"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"}, ""),
        ({"key": "team", "operator": "Exists"}, ""),
        ({"operator": "Exists"}, ""),
        ({"key": "team", "value": "b"}, KEPT_OFF),
        ({"key": "team", "operator": "Exists", "effect": "NoExecute"}, KEPT_OFF),
        ({"key": "other", "operator": "Exists"}, KEPT_OFF),
        ({"key": "team", "operator": "Gt", "value": "a"}, KEPT_OFF),
    ],
)
def test_a_taint_must_be_tolerated(toleration: Json, why: str) -> None:
    node = NodeFace("n0", {}, (TAINT,))
    assert refusal(node, terms(tolerations=[toleration])) == why


def test_every_taint_must_be_tolerated() -> None:
    node = NodeFace("n0", {}, (TAINT, Taint(key="gpu", effect="NoExecute")))
    why = "taint gpu:NoExecute is not tolerated"
    assert refusal(node, terms(tolerations=[{"key": "team", "operator": "Exists"}])) == why


def test_what_decides_is_named() -> None:
    every = [
        terms(nodeSelector={"a": "1"}),
        terms(affinity=affinity(label("b", "Exists"), field("n0"))),
    ]
    assert keys_read(every) == {"a", "b", "metadata.name"}
