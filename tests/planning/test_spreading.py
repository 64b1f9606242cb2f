"""Roles that must spread over failure domains: what is planned, what goes, and what may come."""

import msgspec
import pytest

from scheduler.daemon.documents.explain import explain
from scheduler.daemon.documents.shapes import Explanation
from scheduler.planning.actions import Plan, ScaleRole, StopJob
from scheduler.planning.index import index_of
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from scheduler.planning.policy import Policy, PolicyError
from scheduler.planning.snapshot import Job, Replica, Snapshot
from scheduler.planning.spreading import terms_of
from scheduler.planning.standing import Bind, PodAsk, Standing, standing_of
from scheduler.planning.steering import steer
from scheduler.planning.verdicts import filter_nodes
from scheduler.ports import Tick
from tests.fixtures.worlds import forecasts, job, node, policy, replica, role, signal, world

SEEN = Memory(since_seconds=0.0)
ROLE = "chat/decode"
LEAVES = {"n0": "leaf-0", "n1": "leaf-0", "n2": "leaf-1"}


def spreading(level: str = "leaf", domains: int = 2) -> Policy:
    return policy(spread={"level": level, "domains": domains})


def cluster(
    tokens: float,
    *replicas: Replica,
    full: tuple[str, ...] = (),
    jobs: tuple[Job, ...] = (),
    leaves: dict[str, str] = LEAVES,
) -> Snapshot:
    """Two nodes under a leaf and one under another; a stranger holds those in `full`."""
    held = {name: dict.fromkeys(range(8), "stranger") if name in full else {} for name in leaves}
    holders: list[Replica | Job] = [*replicas, *jobs]
    for one in holders:
        for where, gpus in one.parts:
            held[where] |= {len(held[where]) + n: one.id for n in range(gpus)}
    return world(
        *(node(name, held[name], leaf=leaf) for name, leaf in leaves.items()),
        roles=(role(len(replicas)),),
        replicas=replicas,
        jobs=jobs,
        signals=(signal(tokens),),
        forecasts=forecasts(tokens),
    )


def planned(snapshot: Snapshot, rules: Policy, effort: str = "full") -> Plan:
    return plan(snapshot, SEEN, rules, effort)[0]


def places(made: Plan) -> list[str]:
    return sorted(name for one in made.reservations for name, _ in one.parts)


@pytest.mark.parametrize("effort", ["heuristic", "quick", "full"])
def test_each_domain_takes_its_part_and_no_more(effort: str) -> None:
    """Without a floor one node is filled first."""
    assert len(set(places(planned(cluster(4000.0), policy(), effort)))) == 1
    spread = places(planned(cluster(4000.0), spreading(), effort))
    assert [LEAVES[name] for name in spread] == ["leaf-0"] * 2 + ["leaf-1"] * 2
    nodes = places(planned(cluster(3000.0), spreading("node", 3), effort))
    assert nodes == ["n0", "n1", "n2"]


def test_those_that_stand_count_and_none_is_moved() -> None:
    there = tuple(replica(f"r{number}", "n0") for number in range(3))
    made = planned(cluster(4000.0, *there), spreading())
    assert places(made) == ["n2"]
    assert all(not one.retire for one in made.actions if isinstance(one, ScaleRole))


def test_a_replica_that_its_floor_bars_waits_and_says_so() -> None:
    made = planned(cluster(4000.0, full=("n2",)), spreading())
    assert places(made) == ["n0", "n0"]
    (lack,) = made.unplaced
    assert (lack.owner, lack.milli_replicas, lack.code) == (ROLE, 2000, "spread")
    assert lack.sentence == (
        "chat/decode lacks 2.0 replicas: spread over 2 leaves, so that none takes more than 2"
        " replicas, which core/leaf-0 holds already; elsewhere no further GPU can be freed;"
        " no job runs"
    )


def test_what_lacks_gpus_everywhere_does_not_blame_its_floor() -> None:
    made = planned(cluster(4000.0, full=("n0", "n1", "n2")), spreading())
    assert [one.code for one in made.unplaced] == ["no_gpus"]


@pytest.mark.parametrize("effort", ["heuristic", "quick", "full"])
def test_a_job_gives_way_where_the_floor_needs_its_place(effort: str) -> None:
    """Without a floor there is room enough beside it."""
    night = job("night", {"n2": 8})
    for rules, gone in ((policy(), []), (spreading(), ["night"])):
        made = planned(cluster(2000.0, full=("n1",), jobs=(night,)), rules, effort)
        assert [one.job for one in made.actions if isinstance(one, StopJob)] == gone


def test_of_fewer_domains_than_asked_all_are_used_and_it_is_said() -> None:
    snapshot, rules = cluster(4000.0), spreading(domains=3)
    made = planned(snapshot, rules)
    assert [LEAVES[name] for name in places(made)] == ["leaf-0"] * 2 + ["leaf-1"] * 2
    assert made.unplaced == ()
    (scaled,) = made.actions
    assert scaled.sentence.endswith(
        "0 run or come; it asks to stand over 3 leaves; there are only"
        " 2 that have nodes for it, and it is spread over those"
    )
    (remark,) = explained(snapshot, made, rules).remarks
    assert remark == (
        "asks to stand over 3 leaves; there are only 2 that have nodes for it,"
        " and it is spread over those"
    )


def test_a_cordoned_domain_does_not_keep_replicas_waiting() -> None:
    snapshot = cluster(2000.0)
    away = msgspec.structs.replace(snapshot.nodes[2], cordoned=True)
    snapshot = msgspec.structs.replace(snapshot, nodes=(*snapshot.nodes[:2], away))
    assert places(planned(snapshot, spreading())) == ["n0", "n0"]


def explained(snapshot: Snapshot, made: Plan, rules: Policy) -> Explanation:
    tick = Tick(
        number=1,
        snapshot=snapshot,
        memory_before=SEEN,
        memory_after=SEEN,
        policy=rules.model_dump_json().encode(),
        effort="full",
        plan=made,
        outcomes=(),
    )
    return explain(tick, ROLE)


def test_explain_says_how_a_role_is_spread() -> None:
    snapshot = cluster(3000.0, *(replica(f"r{n}", on) for n, on in enumerate(("n0", "n1", "n2"))))
    rules = spreading()
    told = explained(snapshot, planned(snapshot, rules), rules)
    assert {one.name: one.value for one in told.facts if one.name.startswith("spread")} == {
        "spread": "over 2 leaves",
        "spread_most": 2,
        "spread_now": "core/leaf-0 2, core/leaf-1 1",
    }


@pytest.mark.parametrize(("rules", "gone"), [(policy(), ("r0", "r1")), (spreading(), ("r1", "r2"))])
def test_replicas_go_so_that_the_rest_stays_spread(rules: Policy, gone: tuple[str, ...]) -> None:
    """Without a floor the emptiest node is emptied."""
    there = (replica("r0", "n2"), *(replica(f"r{n}", "n0") for n in (1, 2, 3)))
    (scaled,) = planned(cluster(2000.0, *there), rules).actions
    assert isinstance(scaled, ScaleRole)
    assert scaled.retire == gone


# ---- between plans -------------------------------------------------------------------------------


def standing(rules: Policy, *replicas: Replica, wanted: int) -> Standing:
    snapshot = cluster(0.0, *replicas)
    asked = msgspec.structs.replace(snapshot.roles[0], replicas=wanted)
    snapshot = msgspec.structs.replace(snapshot, roles=(asked,))
    made = Plan(at_seconds=snapshot.now_seconds, source="full")
    return standing_of(snapshot, made, rules)


def ask(uid: str, group: str = "", *, choosy: bool = False) -> PodAsk:
    return PodAsk(uid=uid, name=uid, owner=ROLE, group=group or uid, gpus=2, choosy=choosy)


def passed(one: Standing, wanted: PodAsk, *binds: Bind) -> tuple[str, ...]:
    return filter_nodes(
        index_of(one), binds, wanted, ("n0", "n1", "n2"), one.now_seconds + 1
    ).passed


def test_a_pod_without_a_slot_keeps_to_the_floor() -> None:
    two = (replica("r0", "n0"), replica("r1", "n1"))
    assert passed(standing(policy(), *two, wanted=3), ask("new")) == ("n0", "n1", "n2")
    one = standing(spreading(), *two, wanted=3)
    assert passed(one, ask("new")) == ("n2",)
    reason = filter_nodes(index_of(one), (), ask("new"), ("n0",), one.now_seconds + 1).refused
    assert reason == {"n0": "its leaf switch holds as much of the role as its spread allows"}


def test_newer_binds_count_and_siblings_of_the_replica_do_not() -> None:
    one = standing(spreading(), replica("r0", "n0"), wanted=2)
    at = one.now_seconds + 1
    newer = Bind("new", ROLE, "new", "n2", 2, at)
    assert passed(one, ask("late"), newer) == ()
    assert passed(one, ask("late", "new"), newer) == ("n2",)
    assert passed(one, ask("new")) == ("n2",)


@pytest.mark.parametrize("choosy", [False, True])
def test_an_offer_bars_the_domain_for_the_next_pod(choosy: bool) -> None:
    one = standing(spreading("node", 3), wanted=3)
    offers: list[Bind] = []
    for number in range(3):
        wanted = ask(f"p{number}", choosy=choosy)
        names = tuple(LEAVES)
        found = steer(index_of(one), (), offers, wanted, names, one.now_seconds + 1).passed
        (name,) = found
        offers.append(Bind(wanted.uid, ROLE, wanted.group, name, 2, one.now_seconds + 1))
    assert sorted(offer.node for offer in offers) == ["n0", "n1", "n2"]
    late = steer(index_of(one), (), offers, ask("late"), tuple(LEAVES), one.now_seconds + 1)
    assert late.passed == ()


# ---- the words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "domains", "where"), [("leaf", 1, "domains"), ("rack", 2, "level")]
)
def test_a_floor_that_makes_no_sense_is_refused(level: str, domains: int, where: str) -> None:
    with pytest.raises(PolicyError, match=f"spread.{where}: "):
        spreading(level, domains)


@pytest.mark.parametrize(("replicas", "most"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_a_part_is_rounded_up(replicas: int, most: int) -> None:
    snapshot = cluster(0.0)
    terms = terms_of(snapshot, spreading(), snapshot.roles[0])
    assert terms is not None
    assert terms.most(replicas) == most


@pytest.mark.parametrize("rules", [policy(), spreading("node", 2)])
def test_pods_that_keep_off_each_others_nodes_get_one_node_each(rules: Policy) -> None:
    snapshot = cluster(4500.0, replica("r0", "n1"))
    alone = msgspec.structs.replace(snapshot, roles=(role(1, apart=True),))
    made = planned(alone, rules)
    assert places(made) == ["n0", "n2"]
    (lack,) = made.unplaced
    assert lack.code == "spread"
    assert "spread one pod a node, by their own anti-affinity, so that none" in lack.sentence
    assert "which n0, n1, n2 holds already" in lack.sentence
    standing = standing_of(alone, made, rules)
    assert [(one.level, one.most) for one in standing.floors] == [("node", 1)]
