"""FGD's choice of host and card, and foresight's, on fleets small enough to see."""

from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binpacking.admission import Admission, Seat
from binpacking.balance import Balance, balance_of
from binpacking.cards import Fleet, Host, PodShape
from binpacking.chances import exceeds, expected_excess
from binpacking.foresight import Foresight, Weights
from binpacking.fragmentation import Fragments, Mixture
from binpacking.rehearsal import Knowledge, rehearse, windows
from binpacking.scarcity import Population, Scarcity
from binpacking.widths import wasteful
from binpacking.windows import Windows
from tests.binpacking.fleets import fleet, fleets, host, mixtures, pod, shapes


def naive_seat(world: Fleet, mixture: Mixture, shape: PodShape) -> Seat | None:
    """Every host and card tried in turn; the first with the best whole-number score."""
    best, found = -1, None
    before = Fragments(world, mixture).now
    for row in range(len(world.names)):
        if not world.allows(shape)[row] or not world.fits(shape, np.array([row]))[0]:
            continue
        usable = np.flatnonzero(world.cards[row] >= shape.card_milli).tolist()
        ways = [(card,) for card in usable] if shape.cards == 1 else [tuple(usable[: shape.cards])]
        for cards in ways:
            twin = world.copy()
            twin.seat(shape, row, cards)
            fall = int(before[row] - Fragments(twin, mixture).now[row])
            score = int(100 / (1 + exp(-fall / (1000 * mixture.weight))))
            if score > best:
                best, found = score, Seat(row, cards)
    return found


@given(fleets(), mixtures(), st.lists(shapes(), max_size=10))
@settings(max_examples=50)
def test_fgd_chooses_as_a_naive_search_does(
    hosts: tuple[Host, ...], mixture: Mixture, pods: list[PodShape]
) -> None:
    world = Fleet(hosts)
    policy = Admission(world, mixture)
    for shape in pods:
        seat = policy.choose(shape)
        assert seat == naive_seat(world, mixture, shape)
        if seat is not None:
            policy.take(shape, seat)


def room(world: Fleet, shape: PodShape) -> list[int]:
    return np.flatnonzero(
        world.allows(shape) & world.fits(shape, np.arange(len(world.names)))
    ).tolist()


@given(fleets(), mixtures(), st.lists(shapes(), min_size=1, max_size=14), st.integers(1, 5))
@settings(max_examples=50)
def test_foresight_refuses_only_where_nothing_fits_and_never_oversells(
    hosts: tuple[Host, ...], mixture: Mixture, pods: list[PodShape], count: int
) -> None:
    population: Population = tuple((shape, count) for shape in sorted(set(pods)))
    world = Fleet(hosts)
    policy = Foresight(world, Fleet(hosts), mixture, population, Weights())
    for shape in pods:
        fitting = room(world, shape)
        seat = policy.choose(shape)
        assert (seat is not None) == bool(fitting)
        if seat is not None:
            assert seat.row in fitting
            assert len(set(seat.cards)) == shape.cards
            policy.take(shape, seat)
            assert (world.cards[:, :] >= -1).all()
            assert (world.cards[seat.row, list(seat.cards)] >= 0).all()
            assert world.cpu.min() >= 0


@given(fleets(), mixtures(), st.lists(shapes(), min_size=1, max_size=10))
@settings(max_examples=40)
def test_remembered_worth_equals_worth_computed_anew(
    hosts: tuple[Host, ...], mixture: Mixture, pods: list[PodShape]
) -> None:
    population: Population = tuple((shape, 1) for shape in sorted(set(pods)))
    world = Fleet(hosts)
    policy = Foresight(world, Fleet(hosts), mixture, population, Weights())
    for shape in pods:
        anew = Foresight(world, Fleet(hosts), mixture, population, Weights())
        policy.scarcity.reprice()
        assert policy.choose(shape) == anew.choose(shape)
        seat = policy.choose(shape)
        if seat is not None:
            policy.take(shape, seat)


def test_the_smallest_name_wins_a_tie_and_the_order_given_does_not_matter() -> None:
    hosts = (host("b", 1000), host("a", 1000), host("c", 1000))
    policy = Admission(Fleet(hosts), Mixture(((pod(1), 1),)))
    seat = policy.choose(pod(1))
    assert seat is not None
    assert policy.fleet.names[seat.row] == "a"


def test_a_pod_with_much_cpu_goes_where_cpu_is_to_spare() -> None:
    hosts = (host("poor", 1000, 1000, cpu=8000), host("rich", 1000, 1000, cpu=40000))
    population: Population = ((pod(1, cpu=4000), 9), (pod(1, cpu=6000), 1))
    mixture = Mixture(population)
    policy = Foresight(Fleet(hosts), Fleet(hosts), mixture, population, Weights())
    heavy = policy.choose(pod(1, cpu=6000))
    assert heavy is not None
    assert policy.fleet.names[heavy.row] == "rich"


def test_a_scarce_model_is_kept_for_the_pods_that_demand_it() -> None:
    hosts = (host("a", 1000), host("b", 1000, model="B"))
    bound = pod(1, models=("A",))
    population: Population = ((pod(1), 1), (bound, 1))
    mixture = Mixture(((pod(1), 1),))
    plain = Admission(Fleet(hosts), mixture).choose(pod(1))
    ahead = Foresight(Fleet(hosts), Fleet(hosts), mixture, population, Weights()).choose(pod(1))
    assert plain == Seat(0, (0,))
    assert ahead == Seat(1, (0,))


def test_slots_for_big_pods_are_priced_by_the_chance_that_they_run_out() -> None:
    hosts = tuple(host(f"n{place}", *([1000] * 4), cpu=99000) for place in range(4))
    rare: Population = ((pod(1), 400), (pod(4), 1))
    common: Population = ((pod(1), 4), (pod(4), 9))
    low = Scarcity(Fleet(hosts), Fleet(hosts), rare, 1.0)
    high = Scarcity(Fleet(hosts), Fleet(hosts), common, 1.0)
    assert low.rows == high.rows == 1
    assert 0 <= low.slot_price[0] < 0.1 < high.slot_price[0] <= 4
    every = np.arange(4)
    assert low.slots_lost(pod(1), every, 1).tolist() == [[1.0]] * 4
    assert low.slots_lost(pod(1, 300), every, 0).tolist() == [[0.0]] * 4


def test_starved_gpus_by_hand() -> None:
    balance = balance_of(((pod(1, cpu=2000), 1), (pod(2, cpu=4000), 3)))
    assert balance == Balance(2000.0, 0.0)
    told = balance.starved(np.array([0, 2000, 8000]), np.array([3000, 3000, 3000]))
    assert told == pytest.approx([3.0, 2.0, 0.0], abs=1e-3)


def test_the_normal_tail_and_excess() -> None:
    known = exceeds(np.array([-1.96, 0.0, 1.0, 3.0]))
    assert known == pytest.approx([0.9750021, 0.5, 0.1586553, 0.0013499], abs=1e-6)
    zero, one = np.array([0.0]), np.array([1.0])
    assert expected_excess(zero, one, zero) == pytest.approx([0.3989423], abs=1e-6)


def test_widths_that_leave_a_rest_nobody_needs() -> None:
    population: Population = ((pod(1, 810), 20), (pod(1, 160), 2), (pod(1, 500), 8), (pod(2), 3))
    assert wasteful(population) == {810}


def test_a_window_places_wide_shares_before_narrow_ones() -> None:
    hosts = (host("n", 1000, 1000),)
    population: Population = ((pod(1, 300), 1), (pod(1, 700), 1))
    known = Knowledge(Mixture(population), population)
    window = (pod(1, 300), pod(1, 300), pod(1, 700), pod(1, 700))
    seats = windows(Fleet(hosts), Fleet(hosts), known, Weights()).admit(window)
    assert all(seats)


def test_near_full_a_wasteful_pod_does_not_open_a_card_that_the_next_window_needs() -> None:
    hosts = tuple(host(f"n{place:02}", 1000, cpu=99000) for place in range(20))
    population: Population = ((pod(1), 90), (pod(1, 810), 10))
    known = Knowledge(Mixture(population), population)
    policy = windows(Fleet(hosts), Fleet(hosts), known, Weights())
    first = policy.admit([pod(1)] * 15 + [pod(1, 810)])
    assert all(first), "three quarters full: nobody is left"
    second = policy.admit([pod(1)] * 3 + [pod(1, 810)] * 17)
    assert all(second[:3])
    assert not any(second[4:])


def test_one_by_one_is_the_same_with_and_without_windows() -> None:
    hosts = (host("a", 1000, 1000), host("b", 1000))
    population: Population = ((pod(1), 1), (pod(2), 1))
    mixture = Mixture(population)
    single = Foresight(Fleet(hosts), Fleet(hosts), mixture, population, Weights())
    policy = Windows(single, Fleet(hosts), population, together=True)
    alone = Foresight(Fleet(hosts), Fleet(hosts), mixture, population, Weights())
    for shape in (pod(1), pod(2), pod(1)):
        seat = alone.choose(shape)
        if seat is not None:
            alone.take(shape, seat)
        assert policy.admit((shape,)) == (seat,)


def test_rehearsal_takes_foresight_where_it_gains_and_fgd_where_it_loses() -> None:
    hosts = (host("a", 1000, cpu=9000), host("b", 1000, cpu=9000, model="B"))
    bound, free = pod(1, models=("A",)), pod(1)
    population: Population = ((free, 1), (bound, 1))
    known = Knowledge(Mixture(((free, 1),)), population)
    world = fleet(*hosts)
    assert rehearse(world, known, [[free, bound, free]]) == Weights()
    assert rehearse(world, known, [[free, free]]) is None, "no gain: the simpler policy"


def test_windows_that_do_not_go_together_admit_pods_as_they_came() -> None:
    hosts = (host("n", 1000),)
    population: Population = ((pod(1, 300), 1), (pod(1, 800), 1))
    known = Knowledge(Mixture(population), population)
    window = (pod(1, 300), pod(1, 800))
    ordered = windows(Fleet(hosts), Fleet(hosts), known, Weights()).admit(window)
    as_came = windows(Fleet(hosts), Fleet(hosts), known, Weights(together=False)).admit(window)
    assert [seat is not None for seat in as_came] == [True, False]
    assert as_came == windows(Fleet(hosts), Fleet(hosts), known, None).admit(window)
    assert sum(seat is not None for seat in ordered) == 1
