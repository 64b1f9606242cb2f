"""Verdicts of preempt: which offered victims stay on the list."""

from tests.planning.standings import GONE, STALE, VICTIMS, ask, chosen, held, place, standing


def test_preempt_keeps_nodes_that_filter_will_accept() -> None:
    one = standing(place("a", 0, releasing=8), place("b", 0, releasing=2), victims=VICTIMS)
    assert chosen(one, ask(4), a="v2", b="v3") == {"a": ["v2"]}


def test_preempt_spares_pods_that_the_plan_keeps() -> None:
    one = standing(place("a", 0, releasing=8), victims=VICTIMS)
    assert chosen(one, ask(4), a="x v1") == {"a": ["v1"]}
    assert chosen(one, ask(8), a="x v1") == {}


def test_preempt_chooses_no_victims_of_its_own() -> None:
    """Synthesised: nodes offered with empty victim lists are announced for a release after 1.36.

    No published release sends them. The daemon evicts by its own plan, and an answer without a
    victim, or with others than offered, would start a second eviction beside it: such nodes are
    dropped, whether the pod's own slot is being emptied there or not, and the pod waits.
    """
    one = standing(
        place("a", 0, releasing=8),
        place("b", 8),
        victims=VICTIMS,
        reservations=(held("chat/decode", ("a", 8)),),
    )
    assert chosen(one, ask(8, "chat/decode"), a="", b="") == {}
    assert chosen(one, ask(8), a="", b="") == {}
    assert chosen(one, ask(8, "chat/decode"), a="v1 v2", b="") == {"a": ["v1", "v2"]}


def test_preempt_is_not_for_a_gang_whose_other_node_is_not_free() -> None:
    gang = (held("chat/decode", ("a", 8), ("b", 8)),)
    places = (place("a", 0, releasing=8), place("b", 0, releasing=8))
    wanted = ask(8, "chat/decode", "r1")
    assert chosen(standing(*places, victims=VICTIMS, reservations=gang), wanted, a="v1 v2") == {}
    free = standing(places[0], place("b", 8), victims=VICTIMS, reservations=gang)
    assert chosen(free, wanted, a="v1 v2") == {"a": ["v1", "v2"]}


def test_preempt_keeps_reserved_gpus_for_their_owner() -> None:
    one = standing(
        place("a", 0, releasing=8), victims=VICTIMS, reservations=(held("chat/decode", ("a", 8)),)
    )
    assert chosen(one, ask(8), a="v1 v2") == {}
    assert chosen(one, ask(8, "chat/decode"), a="v1 v2") == {"a": ["v1", "v2"]}


def test_preempt_without_a_fresh_plan() -> None:
    one = standing(place("a", 0), victims=VICTIMS)
    assert chosen(one, ask(4), after=STALE + 1, a="v1") == {}
    assert chosen(one, ask(4), after=GONE + 1, a="x", b="") == {"a": ["x"]}
