"""Cards that pods share: the ladder against exhaustive search on small worlds, and by hand."""

from random import Random

import msgspec
import pytest
from hypothesis import settings

from binpacking.ladder import solve
from binpacking.problem import (
    BatchRequest,
    Effort,
    Gang,
    Member,
    OnlineRequest,
    Problem,
    Shape,
    Spread,
    Supply,
)
from binpacking.shares import Deal, Held, Share, dealt
from binpacking.sharing import fillings
from binpacking.standby import Standby
from binpacking.verify import verify
from tests.binpacking.problems import AT_ONCE, FULL, QUICK
from tests.binpacking.sharers import accepts, best, best_with, sharing_problem

FEW = 3
BLOCKS = FEW if settings.default.max_examples < 1000 else 20 * FEW  # type: ignore[union-attr]
WORLDS_PER_BLOCK = 12


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("stinted", [False, True], ids=["cards", "stinted"])
def test_small_worlds_are_packed_as_well_as_can_be(stinted: bool, block: int) -> None:
    """Unserved and loss are the best of all, batch the best that the stops leave, no victim is in
    vain, and both checkers accept what every effort answers.
    """
    for number in range(block * WORLDS_PER_BLOCK, (block + 1) * WORLDS_PER_BLOCK):
        problem = sharing_problem(Random(number), stinted=stinted)  # noqa: S311  # a numbered world
        if len(problem.gangs) > 5:
            continue
        ideal = best(problem)
        for effort in (QUICK, AT_ONCE, FULL):
            packing = solve(problem, effort)
            tiers = packing.tiers
            assert packing.rejected == verify(problem, packing) == (), number
            assert accepts(problem, packing), number
            found = (tiers.unserved_milli_gpus, tiers.loss, -tiers.batch_value)
            assert (*found, tiers.fragmentation_milli_gpus) >= ideal, number
            if effort is QUICK:
                continue
            assert packing.gap == 0.0, number
            assert found[:2] == ideal[:2], number
            for key in packing.killed:
                spared = best_with(problem, frozenset(packing.killed) - {key})
                assert spared is not None
                assert spared[0] > tiers.unserved_milli_gpus, (number, key)
        left = best_with(problem, frozenset(packing.killed))
        assert left is not None
        assert found == left[:3], number


def mixed(chance: Random) -> Problem:
    """The same worlds with fixed groups of shares and whole GPUs, floors, and units asleep."""
    problem = sharing_problem(chance, stinted=chance.random() < 0.5)
    online, units = list[OnlineRequest](), list[Standby]()
    for one in problem.online:
        if chance.random() < 0.4:
            other = Shape(1, 1) if one.shape.share.milli else Shape(1, 0, share=Share(300))
            pods = (Member("p", 1, one.shape), Member("d", chance.choice([1, 2]), other))
            online.append(
                msgspec.structs.replace(one, shape=Shape(0, 0), members=pods, reach="spine")
            )
            continue
        floor = Spread("node", chance.choice([1, 2])) if chance.random() < 0.5 else None
        online.append(msgspec.structs.replace(one, spread=floor))
        if one.shape.size == one.shape.pieces == 1:
            units += [
                Standby(
                    key=f"{one.key} on {node.node}",
                    request=one.key,
                    node=node.node,
                    devices=(7,),
                    saved_seconds=chance.randint(1, 40),
                )
                for node in problem.supplies
                if node.free
            ]
    return msgspec.structs.replace(problem, online=tuple(online), standby=tuple(units))


@pytest.mark.parametrize("block", range(BLOCKS))
def test_groups_floors_and_sleepers_go_with_shares(block: int) -> None:
    """Every answer passes the checker, and more effort gives none that is worse."""
    for number in range(block * 3 * WORLDS_PER_BLOCK, (block + 1) * 3 * WORLDS_PER_BLOCK):
        problem = mixed(Random(number))  # noqa: S311  # a numbered world
        found = [solve(problem, effort) for effort in (QUICK, AT_ONCE, FULL)]
        assert [one.rejected for one in found] == [()] * 3, number
        assert all(verify(problem, one) == () for one in found), number
        tiers = [(one.tiers.unserved_milli_gpus, one.tiers.loss) for one in found]
        assert tiers == sorted(tiers, reverse=True), number


def test_a_gang_whose_cpu_a_waking_pod_took_is_not_revived() -> None:
    """The unit keeps its pod on the node, where only the stop leaves CPU for it."""
    problem = Problem(
        supplies=(Supply("n", "h100", ("p", "l", "h100"), 2, 8, cpu_milli=0),),
        online=(
            msgspec.structs.replace(_asks("chat", Share(0), 1000), shape=Shape(1, 1, cpu_milli=1)),
        ),
        gangs=(Gang(key="job", parts=(("n", 1),), cost=5, cpu_milli=2),),
        standby=(Standby(key="u", request="chat", node="n", devices=(7,), saved_seconds=18),),
    )
    packing = solve(problem, QUICK)
    assert packing.rejected == ()
    assert packing.killed == ("job",)


WHOLE = Share(1000, 40)


@pytest.mark.parametrize(
    ("cards", "shares", "deal"),
    [
        ((), (Share(600), Share(600)), Deal((0, 1), 2)),
        ((Share(600), Share(400)), (Share(400), Share(500)), Deal((1, 0), 0)),
        # best fit alone would open a card: 300 and 300 on 600, 500 on 500
        ((Share(500), Share(600)), (Share(300), Share(300), Share(500)), Deal((1, 1, 0), 0)),
        ((Share(900, 3),), (Share(100, 4),), Deal((1,), 1)),
        ((), (Share(100, 41),), None),
    ],
)
def test_shares_open_as_few_cards_as_can_be(
    cards: tuple[Share, ...], shares: tuple[Share, ...], deal: Deal | None
) -> None:
    assert dealt(cards, WHOLE, shares) == deal


def test_halves_of_two_cards_are_no_room_for_more_than_a_half() -> None:
    problem = _problem((Share(500), Share(500)), Share(600), free=0)
    assert solve(problem, FULL).unserved == {"chat": 1000}


def test_the_sharer_that_loses_least_gives_way() -> None:
    gangs = (_sharer("dear", 9, 0, 500), _sharer("cheap", 4, 1, 500))
    packing = solve(_problem((Share(400), Share(400)), Share(500), free=0, gangs=gangs), FULL)
    assert packing.killed == ("cheap",)
    assert packing.online[0].cards == (1,)


def test_a_card_is_whole_again_once_all_its_sharers_are_gone() -> None:
    gangs = (_sharer("a", 2, 0, 600), _sharer("b", 3, 0, 400))
    problem = _problem((Share(0),), Share(0), free=0, gangs=gangs)
    packing = solve(problem, FULL)
    assert packing.killed == ("a", "b")
    assert packing.online[0].parts == (("n", 1),)


def test_online_and_batch_share_a_card_before_a_whole_one_is_opened() -> None:
    job = BatchRequest(key="job", shape=Shape(1, 0, share=Share(500)), gpu_models=(), value=5)
    packing = solve(_problem((), Share(500), free=2, batch=(job,)), FULL)
    assert packing.online[0].cards == packing.batch[0].cards == (0,)


def test_what_is_unserved_counts_in_milli_gpus() -> None:
    packing = solve(_problem((), Share(250), free=0), QUICK)
    assert packing.tiers.unserved_milli_gpus == 250


@pytest.mark.parametrize("effort", [QUICK, FULL], ids=["quick", "full"])
def test_too_many_ways_to_fill_a_card_are_no_obstacle(effort: Effort) -> None:
    sizes = (70, 90, 110, 130, 170, 190)
    assert fillings(WHOLE, tuple(Share(milli) for milli in sizes), full=True) is None
    online = tuple(_asks(f"r{milli}", Share(milli), 2000) for milli in sizes)
    supply = Supply("n", "h100", ("l", "h100"), 2, 2)
    packing = solve(Problem(supplies=(supply,), online=online), effort)
    assert not packing.unserved


@pytest.mark.parametrize(
    ("card", "share", "complaint"),
    [
        (Share(400), Share(700), "those on card 0 of n and what is left of it make 1100"),
        (Share(1000), Share(1), "card 0 of n is 1000; give 0 to 999"),
        (Share(0), Share(0), "share of a in milli-GPU is 0; give 1 to 999"),
    ],
)
def test_cards_that_cannot_be_are_refused(card: Share, share: Share, complaint: str) -> None:
    gang = Gang(key="a", parts=(), cost=1, shares=(Held("n", 0, share),))
    with pytest.raises(ValueError, match=complaint):
        solve(_problem((card,), Share(500), free=0, gangs=(gang,)), QUICK)


def _problem(
    cards: tuple[Share, ...],
    share: Share,
    *,
    free: int,
    gangs: tuple[Gang, ...] = (),
    batch: tuple[BatchRequest, ...] = (),
) -> Problem:
    """One node with these cards, and one replica of this share, or of a whole GPU, to be placed."""
    return Problem(
        supplies=(Supply("n", "h100", ("l", "h100"), free, 8, cards=cards),),
        online=(_asks("chat", share, 1000),),
        gangs=gangs,
        batch=batch,
    )


def _asks(key: str, share: Share, milli: int) -> OnlineRequest:
    shape = Shape(1, 0, share=share) if share.milli else Shape(1, 1)
    return OnlineRequest(
        key=key, shape=shape, capacity_milli={"h100": 1000}, shortage_milli=milli, limit=9
    )


def _sharer(key: str, cost: int, card: int, milli: int) -> Gang:
    return Gang(key=key, parts=(), cost=cost, shares=(Held("n", card, Share(milli)),))
