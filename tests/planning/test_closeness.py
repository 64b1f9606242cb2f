"""Roles of a model that belong together: where they go, what waits, what may come and go."""

import msgspec
import pytest

from scheduler.planning.actions import Plan, ScaleRole
from scheduler.planning.index import index_of
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from scheduler.planning.policy import Policy, parse
from scheduler.planning.snapshot import Replica, Snapshot
from scheduler.planning.standing import PodAsk, standing_of
from scheduler.planning.steering import steer
from scheduler.planning.verdicts import filter_nodes
from tests.fixtures.worlds import forecasts, node, policy, replica, role, signal, world

SEEN = Memory(since_seconds=0.0)
PREFILL, DECODE = "chat/prefill", "chat/decode"
LEAVES = {"n0": "leaf-0", "n1": "leaf-1", "n2": "leaf-2"}


def close(proximity: str = "required", level: str = "leaf") -> Policy:
    document = policy().model_dump(mode="json")
    chat = document["models"]["chat"]
    chat["roles"]["prefill"] = {**chat["roles"]["decode"], "tokens": "prompt"}
    return parse({**document, "models": {"chat": {**chat, **_near(proximity, level)}}})


def _near(proximity: str, level: str) -> dict[str, str]:
    return {"proximity": proximity, "proximity_level": level}


def of(key: str, name: str, on: str) -> Replica:
    return msgspec.structs.replace(replica(name, on), role=key)


def cluster(
    prefill: float, decode: float, *replicas: Replica, full: dict[str, int] | None = None
) -> Snapshot:
    """Three leaves of one node each; strangers hold so many GPUs; demand as given."""
    held = {name: dict.fromkeys(range((full or {}).get(name, 0)), "stranger") for name in LEAVES}
    for one in replicas:
        for where, gpus in one.parts:
            held[where] |= {len(held[where]) + n: one.id for n in range(gpus)}
    known = forecasts(decode)
    other = msgspec.structs.replace(
        forecasts(prefill).series["chat/generated_tokens"], key="chat/prompt_tokens"
    )
    return world(
        *(node(name, held[name], leaf=leaf) for name, leaf in LEAVES.items()),
        roles=tuple(
            role(sum(one.role == key for one in replicas), key=key, role=key.partition("/")[2])
            for key in (PREFILL, DECODE)
        ),
        replicas=replicas,
        signals=(signal(prefill, role=PREFILL), signal(decode, role=DECODE)),
        forecasts=msgspec.structs.replace(known, series={**known.series, other.key: other}),
    )


def planned(snapshot: Snapshot, rules: Policy, effort: str = "full") -> Plan:
    return plan(snapshot, SEEN, rules, effort)[0]


def places(made: Plan, key: str) -> list[str]:
    mine = (one for one in made.reservations if one.owner == key)
    return sorted(name for one in mine for name, _ in one.parts)


THERE = (of(PREFILL, "p0", "n1"), of(DECODE, "d0", "n1"))


@pytest.mark.parametrize("effort", ["heuristic", "quick", "full"])
def test_shares_come_to_differ_as_little_as_they_can(effort: str) -> None:
    """Decode on `n1` waits for as much prefill; `n0` is the tighter fit."""
    decode = tuple(of(DECODE, f"d{n}", "n1") for n in range(2))
    snapshot = cluster(2000.0, 2000.0, *decode, full={"n0": 4})
    assert places(planned(snapshot, close("any"), effort), PREFILL) == ["n0", "n0"]
    assert places(planned(snapshot, close("preferred"), effort), PREFILL) == ["n1", "n1"]


@pytest.mark.parametrize("effort", ["heuristic", "quick", "full"])
def test_a_preference_keeps_nobody_waiting(effort: str) -> None:
    snapshot = cluster(1000.0, 3000.0, *THERE, full={"n1": 4})
    assert places(planned(snapshot, close("preferred"), effort), DECODE) == ["n0", "n0"]


@pytest.mark.parametrize("effort", ["heuristic", "quick", "full"])
def test_what_must_be_near_waits_and_says_so(effort: str) -> None:
    snapshot = cluster(1000.0, 3000.0, *THERE, full={"n1": 4})
    made = planned(snapshot, close(), effort)
    assert made.reservations == ()
    (lack,) = made.unplaced
    assert (lack.owner, lack.milli_replicas, lack.code) == (DECODE, 2000, "proximity")
    assert lack.sentence == (
        "chat/decode lacks 2.0 replicas: it must stand beside chat/prefill, under leaf switch"
        " core/leaf-1; no more GPU can be freed there; no job runs"
    )


@pytest.mark.parametrize("effort", ["heuristic", "quick", "full"])
def test_roles_that_must_be_near_come_together(effort: str) -> None:
    """`n0` has room for one of them only."""
    made = planned(cluster(1000.0, 1000.0, full={"n0": 6, "n1": 7}), close(), effort)
    assert (places(made, PREFILL), places(made, DECODE)) == (["n2"], ["n2"])


@pytest.mark.parametrize("effort", ["heuristic", "quick", "full"])
def test_a_floor_counts_only_domains_where_the_others_are(effort: str) -> None:
    """Prefill does not grow and has one leaf: decode, which should have two, keeps to that."""
    document = close().model_dump(mode="json")
    document["models"]["chat"]["roles"]["decode"]["spread"] = {"level": "leaf", "domains": 2}
    made = planned(cluster(1000.0, 3000.0, *THERE), parse(document), effort)
    assert places(made, DECODE) == ["n1", "n1"]
    both = (*THERE, of(PREFILL, "p1", "n2"))
    made = planned(cluster(2000.0, 3000.0, *both), parse(document), effort)
    assert places(made, DECODE) == ["n1", "n2"]


def test_where_no_domain_has_room_for_each_none_goes() -> None:
    full = dict.fromkeys(LEAVES, 6)
    made = planned(cluster(1000.0, 1000.0, full=full), close())
    assert made.reservations == ()
    assert {one.code for one in made.unplaced} == {"proximity"}
    assert "no leaf switch has room for each of them" in made.unplaced[0].sentence
    wide = planned(cluster(1000.0, 1000.0, full=full), close(level="spine"))
    assert len(wide.reservations) == 2


@pytest.mark.parametrize(("rules", "gone"), [(close("any"), "d0"), (close(), "d1")])
def test_the_last_of_a_role_beside_another_goes_last(rules: Policy, gone: str) -> None:
    decode = (of(DECODE, "d0", "n1"), of(DECODE, "d1", "n2"), of(DECODE, "d2", "n2"))
    prefill = (of(PREFILL, "p0", "n1"), of(PREFILL, "p1", "n2"))
    snapshot = cluster(2000.0, 2000.0, *prefill, *decode)
    (scaled,) = planned(snapshot, rules).actions
    assert isinstance(scaled, ScaleRole)
    assert scaled.retire == (gone,)


@pytest.mark.parametrize("steered", [False, True])
def test_between_plans_a_pod_goes_only_beside_the_others(steered: bool) -> None:
    for rules, passed in ((close("any"), tuple(LEAVES)), (close(), ("n1",))):
        snapshot = cluster(1000.0, 1000.0, *THERE)
        made = Plan(at_seconds=snapshot.now_seconds, source="full")
        one = index_of(standing_of(snapshot, made, rules))
        ask = PodAsk(uid="new", name="new", owner=DECODE, group="new", gpus=2)
        now, names = snapshot.now_seconds + 1, tuple(LEAVES)
        if steered:
            found = steer(one, (), (), ask, names, now)
            assert set(found.passed) <= set(passed)
            assert len(found.passed) == 1
        else:
            assert filter_nodes(one, (), ask, names, now).passed == passed
    refused = filter_nodes(one, (), ask, names, now).refused
    assert refused["n0"] == (
        "its leaf switch holds no replica of a role that this one must stand beside"
    )
