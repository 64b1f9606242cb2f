"""What pods without GPU hold, summed as they come and go."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.adapters.cluster.cardless import Amount, Cardless
from tests.fixtures.kubeobjects import Part, pod

HELD = Amount(2500, 8192)
"""What `pod` asks."""


def amount(**change: Part) -> Amount | None:
    sums = Cardless()
    sums.put(("a", "one"), pod("one", change.pop("on", "n0"), 0, **change))
    return sums.by_node().get("n0")


@pytest.mark.parametrize(
    ("change", "held"),
    [
        ({}, HELD),
        ({"terminating": True}, HELD),
        ({"on": ""}, None),
        ({"phase": "Succeeded"}, None),
        ({"phase": "Failed"}, None),
        ({"init": [{"resources": {"requests": {"cpu": "4"}}}]}, Amount(4000, 8192)),
        (
            {"init": [{"resources": {"requests": {"cpu": "1"}}, "restartPolicy": "Always"}]},
            Amount(3500, 8192),
        ),
        ({"init": [{"resources": {"requests": {"cpu": "lots"}}}]}, None),
    ],
)
def test_a_pod_holds_its_requests_from_its_bind_to_its_end(
    change: Part, held: Amount | None
) -> None:
    assert amount(**change) == held


def test_overhead_counts_and_a_pod_may_ask_as_a_whole() -> None:
    one = pod("one", "n0", 0)
    whole = {"resources": {"limits": {"memory": "1Gi"}}, "overhead": {"cpu": "100m"}}
    spec = msgspec.convert(msgspec.to_builtins(one.spec) | whole, type(one.spec))
    sums = Cardless()
    sums.put(("a", "one"), msgspec.structs.replace(one, spec=spec))
    assert sums.by_node() == {"n0": (2600, 1024)}


EVENTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(("", "n0", "n1", "gone", "others gone"))),
    max_size=20,
)


@given(EVENTS)
def test_sums_are_those_of_the_pods_that_are_there(events: list[tuple[str, str]]) -> None:
    sums, there = Cardless(), dict[str, str]()
    for name, event in events:
        key = ("default", name)
        match event:
            case "gone":
                sums.drop(key)
                there.pop(name, None)
            case "others gone":
                sums.only({key})
                there = {name: there[name]} if name in there else {}
            case node:
                sums.put(key, pod(name, node, 0))
                there[name] = node
        nodes = [node for node in there.values() if node]
        expected = {
            node: (HELD.cpu_milli * nodes.count(node), HELD.memory_mib * nodes.count(node))
            for node in set(nodes)
        }
        assert sums.by_node() == expected
