"""What the packing benchmark adds to Tidal's admission: FGD, windows, and their rehearsal."""

from math import exp

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from binpacking.cards import Fleet, Host, PodShape, Population
from binpacking.foresight import Seat
from binpacking.fragmentation import Fragments, Mixture
from tests.benchmarks.packing_fgd import Admission
from tests.benchmarks.packing_rehearsal import order_pays
from tests.benchmarks.packing_through import Through
from tests.benchmarks.packing_tidal import Tidal
from tests.benchmarks.packing_widths import wasteful
from tests.benchmarks.packing_windows import Windows
from tests.binpacking.fleets import fleets, host, mixtures, pod, shapes


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


def test_the_smallest_name_wins_a_tie_and_the_order_given_does_not_matter() -> None:
    hosts = (host("b", 1000), host("a", 1000), host("c", 1000))
    policy = Admission(Fleet(hosts), Mixture(((pod(1), 1),)))
    seat = policy.choose(pod(1))
    assert seat is not None
    assert policy.fleet.names[seat.row] == "a"


@given(fleets(), st.lists(shapes(), min_size=1, max_size=30))
@settings(max_examples=30)
def test_the_extender_names_the_hosts_that_foresight_chooses(
    hosts: tuple[Host, ...], pods: list[PodShape]
) -> None:
    population: Population = tuple((shape, 1) for shape in sorted(set(pods)))
    alone, through = Tidal(hosts, population), Through(hosts, population)
    for shape in (one for one in pods if one.card_milli in (0, 1000)):
        seat, told = alone.choose(shape), through.choose(shape)
        assert (seat is None) == (told is None)
        if seat is not None and told is not None:
            assert alone.fleet.names[seat.row] == through.fleet.names[told.row]
            alone.take(shape, seat)
            through.take(shape, told)


def test_widths_that_leave_a_rest_nobody_needs() -> None:
    population: Population = ((pod(1, 810), 20), (pod(1, 160), 2), (pod(1, 500), 8), (pod(2), 3))
    assert wasteful(population) == {810}


def windows(hosts: tuple[Host, ...], population: Population, *, ordered: bool = True) -> Windows:
    return Windows(Tidal(hosts, population), population, ordered=ordered)


def test_a_window_places_wide_shares_before_narrow_ones() -> None:
    hosts = (host("n", 1000, 1000),)
    population: Population = ((pod(1, 300), 1), (pod(1, 700), 1))
    window = (pod(1, 300), pod(1, 300), pod(1, 700), pod(1, 700))
    assert all(windows(hosts, population).admit(window))


def test_near_full_a_wasteful_pod_does_not_open_a_card_that_the_next_window_needs() -> None:
    hosts = tuple(host(f"n{place:02}", 1000, cpu=99000) for place in range(20))
    population: Population = ((pod(1), 90), (pod(1, 810), 10))
    policy = windows(hosts, population)
    first = policy.admit([pod(1)] * 15 + [pod(1, 810)])
    assert all(first), "three quarters full: nobody is left"
    second = policy.admit([pod(1)] * 3 + [pod(1, 810)] * 17)
    assert all(second[:3])
    assert not any(second[4:])


def test_windows_without_an_order_admit_pods_as_they_came() -> None:
    hosts = (host("n", 1000),)
    population: Population = ((pod(1, 300), 1), (pod(1, 800), 1))
    window = (pod(1, 300), pod(1, 800))
    ordered = windows(hosts, population).admit(window)
    as_came = windows(hosts, population, ordered=False).admit(window)
    assert [seat is not None for seat in as_came] == [True, False]
    assert sum(seat is not None for seat in ordered) == 1


def test_an_order_pays_where_it_falls_behind_at_no_level() -> None:
    hosts = (host("n", 1000),)
    small, large = pod(1, 300), pod(1, 800)
    population: Population = ((small, 3), (large, 1))
    # 0.8 leaves 0.2 that nobody needs, so it comes last in an order; then 0.3 has the card
    assert order_pays(hosts, population, [[small, large]], 2)
    assert not order_pays(hosts, population, [[large, small]], 2)
