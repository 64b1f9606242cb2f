"""Foresight's choice of host and card, and its prices, on fleets small enough to see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binpacking.balance import Balance, balance_of
from binpacking.cards import Fleet, Host, Ints, PodShape, Population
from binpacking.chances import exceeds, expected_excess
from binpacking.foresight import INFEASIBLE, Foresight, Seat
from binpacking.fragmentation import Mixture
from binpacking.prices import HostKind, Prices, SlotPrice, Slots
from binpacking.scarcity import Scarcity
from tests.binpacking.fleets import fleets, host, pod, shapes


def scarcity(hosts: tuple[Host, ...], population: Population) -> tuple[Scarcity, Ints]:
    """Prices of the hosts, as they are with nothing on them, and the kind of each."""
    kinds = [
        HostKind(one.gpu_model, len(one.cards), one.cpu_milli, one.memory_mib) for one in hosts
    ]
    known = tuple(sorted(set(kinds)))
    rows = np.array([known.index(kind) for kind in kinds], dtype=np.int64)
    return Scarcity(known, rows, population), rows


def foresight(hosts: tuple[Host, ...], population: Population) -> Foresight:
    """All hosts free; they are given in order of name."""
    prices, rows = scarcity(hosts, population)
    world = Fleet(hosts)
    return Foresight(world, rows, Mixture(population), prices.prices(world))


def room(world: Fleet, shape: PodShape) -> list[int]:
    return np.flatnonzero(
        world.allows(shape) & world.fits(shape, np.arange(len(world.names)))
    ).tolist()


@given(fleets(), st.lists(shapes(), min_size=1, max_size=14), st.integers(1, 5))
@settings(max_examples=50)
def test_foresight_refuses_only_where_nothing_fits_and_never_oversells(
    hosts: tuple[Host, ...], pods: list[PodShape], count: int
) -> None:
    policy = foresight(hosts, tuple((shape, count) for shape in sorted(set(pods))))
    world = policy.fleet
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


@given(fleets(), st.lists(shapes(), min_size=1, max_size=10))
@settings(max_examples=40)
def test_remembered_worth_equals_worth_computed_anew(
    hosts: tuple[Host, ...], pods: list[PodShape]
) -> None:
    population: Population = tuple((shape, 1) for shape in sorted(set(pods)))
    prices, rows = scarcity(hosts, population)
    policy = foresight(hosts, population)
    for shape in pods:
        now = prices.prices(policy.fleet)
        policy.reprice(now)
        anew = Foresight(policy.fleet, rows, Mixture(population), now)
        assert policy.choose(shape) == anew.choose(shape)
        picked = policy.pick(policy.fleet, np.arange(len(hosts)))
        assert picked.steps(shape).tolist() == anew.steps(shape).tolist()
        seat = policy.choose(shape)
        if seat is not None:
            policy.take(shape, seat)


def test_picked_hosts_are_weighed_with_what_sits_on_them() -> None:
    hosts = (host("a", 1000), host("b", 1000), host("c", 1000))
    policy = foresight(hosts, ((pod(1), 1),))
    rows = np.array([2, 1])
    alone = policy.fleet.pick(rows)
    assert alone.sit(pod(1), 0)
    assert not alone.sit(pod(1), 0)
    steps = policy.pick(alone, rows).steps(pod(1)).tolist()
    assert steps == [INFEASIBLE, policy.steps(pod(1))[1]]
    assert policy.fleet.cards.tolist() == [[1000]] * 3


def test_a_pod_with_much_cpu_goes_where_cpu_is_to_spare() -> None:
    hosts = (host("poor", 1000, 1000, cpu=8000), host("rich", 1000, 1000, cpu=40000))
    policy = foresight(hosts, ((pod(1, cpu=4000), 9), (pod(1, cpu=6000), 1)))
    heavy = policy.choose(pod(1, cpu=6000))
    assert heavy is not None
    assert policy.fleet.names[heavy.row] == "rich"


def test_a_pod_without_gpu_fills_a_host_up_before_it_begins_another() -> None:
    hosts = tuple(host(f"n{place}", 1000, 1000, cpu=20000) for place in range(3))
    policy = foresight(hosts, ((pod(1, cpu=2000), 1), (pod(1, cpu=8000), 1)))
    small = pod(0, cpu=1000)
    rows = []
    for _ in range(20):
        seat = policy.choose(small)
        assert seat is not None
        policy.take(small, seat)
        rows.append(seat.row)
    # down to the CPU that the larger pod with GPU asks, but one host at a time
    assert rows == [0] * 12 + [1] * 8


@pytest.mark.parametrize(("spare", "name"), [(0, "slot"), (1000, "one")])
def test_a_pod_without_gpu_spares_a_slot_only_where_that_costs_little(
    spare: int, name: str
) -> None:
    world = Fleet((host("one", 1000, cpu=7000 + spare), host("slot", 1000, 1000, cpu=14000)))
    slot = SlotPrice(cards=2, kinds=(1,), asks=((14000, 0, 1),), milli_gpus=4000)
    prices = Prices(kinds=(), cards=(0, 0), slots=(slot,))
    mixture = Mixture(((pod(1, cpu=7000), 1),))
    seat = Foresight(world, np.array([0, 1]), mixture, prices).choose(pod(0, cpu=1000))
    assert seat is not None
    assert world.names[seat.row] == name


def test_a_scarce_model_is_kept_for_the_pods_that_demand_it() -> None:
    hosts = (host("a", 1000), host("b", 1000, model="B"))
    policy = foresight(hosts, ((pod(1), 1), (pod(1, models=("A",)), 1)))
    assert policy.choose(pod(1)) == Seat(1, (0,))
    policy.reprice(Prices(kinds=(), cards=(0, 0)))
    assert policy.choose(pod(1)) == Seat(1, (0,)), "to A's own pods a host of B is fragment"


def test_a_share_goes_to_a_card_in_use_unless_a_whole_one_is_worth_more() -> None:
    hosts = (host("n", 1000, 1000),)
    policy = foresight(hosts, ((pod(1, 500), 1), (pod(1), 1)))
    policy.take(pod(1, 500), Seat(0, (1,)))
    assert policy.choose(pod(1, 500)) == Seat(0, (1,))
    assert policy.choose(pod(1, 600)) == Seat(0, (0,))


def test_slots_for_big_pods_are_priced_by_the_chance_that_they_run_out() -> None:
    hosts = tuple(host(f"n{place}", *([1000] * 4), cpu=99000) for place in range(4))
    rare: Population = ((pod(1), 400), (pod(4), 1))
    common: Population = ((pod(1), 4), (pod(4), 9))
    world, every = Fleet(hosts), np.arange(4)
    (low,) = scarcity(hosts, rare)[0].prices(world).slots
    (high,) = scarcity(hosts, common)[0].prices(world).slots
    assert 0 <= low.milli_gpus < 100 < high.milli_gpus <= 4000
    slots = Slots((high,), np.zeros(4, dtype=np.int64))
    assert slots.held(world, every).tolist() == [[1.0]] * 4
    assert slots.left(world, every, pod(1), 1).tolist() == [[0.0]] * 4
    assert slots.left(world, every, pod(1, 300), 0).tolist() == [[1.0]] * 4


def test_starved_gpus_by_hand() -> None:
    balance = balance_of(((pod(1, cpu=2000), 1), (pod(2, cpu=4000), 3)))
    assert balance == Balance(2000.0, 0.0)
    told = balance.starved(np.array([0, 2000, 8000]), np.array([3000, 3000, 3000]))
    assert told == pytest.approx([3.0, 2.0, 0.0], abs=1e-3)


def test_pods_without_gpu_weigh_on_the_balance_only_where_cpu_ends_before_gpus() -> None:
    population: Population = ((pod(0, cpu=4000), 1), (pod(1, cpu=2000), 1))
    enough, short = host("n", 1000, cpu=6000), host("n", 1000, cpu=5999)
    balances = [
        scarcity((one,), population)[0].prices(Fleet((one,))).balance for one in (enough, short)
    ]
    assert balances == [Balance(2000.0, 0.0), Balance(6000.0, 4000.0**2 + 4000.0**2)]


def test_pods_come_until_cpu_is_used_up_and_no_further() -> None:
    hosts = tuple(host(f"n{place}", *([1000] * 4), cpu=4000) for place in range(3))
    mix: Population = ((pod(4, cpu=2000), 1), (pod(1, cpu=2000), 2))
    (slot,) = scarcity(hosts, mix)[0].prices(Fleet(hosts)).slots
    # CPU for 12 GPUs, so 2 pods of 4 GPUs on the mean, of variance 2; room for 3
    lacking = float(exceeds(np.array([(3 - 0.5 - 2) / np.sqrt(2 + 0.25)]))[0])
    assert slot.milli_gpus == round(4000 * lacking)


def test_the_normal_tail_and_excess() -> None:
    known = exceeds(np.array([-1.96, 0.0, 1.0, 3.0]))
    assert known == pytest.approx([0.9750021, 0.5, 0.1586553, 0.0013499], abs=1e-6)
    zero, one = np.array([0.0]), np.array([1.0])
    assert expected_excess(zero, one, zero) == pytest.approx([0.3989423], abs=1e-6)
