"""The packing benchmark: lists, arrivals, counting, rivals, and its command on a small cluster."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from binpacking.cards import Fleet, PodShape
from binpacking.foresight import Seat
from binpacking.fragmentation import Mixture
from tests.benchmarks import packing
from tests.benchmarks import packing_rivals as rivals
from tests.benchmarks.packing_lists import ListError, Pod, read_hosts, read_pods
from tests.benchmarks.packing_protocol import Count, Taken, arrivals, one_by_one
from tests.binpacking.fleets import fleet, host, pod

NODES = "sn,cpu_milli,memory_mib,gpu,model\nb,8000,1000,2,H\na,8000,1000,4,A\nc,8000,1000,0,\n"
PODS = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
    "p3,1000,10,1,500,\np1,1000,10,1,1000,H|A\np2,2000,10,0,0,\np4,1000,10,4,1000,A\n"
)


def listed(folder: Path, nodes: str = NODES, pods: str = PODS) -> tuple[Path, Path]:
    (folder / "nodes.csv").write_text(nodes)
    (folder / "pods.csv").write_text(pods)
    return folder / "nodes.csv", folder / "pods.csv"


def test_lists_are_read_in_order_of_name_and_nodes_without_gpu_left_out(tmp_path: Path) -> None:
    nodes, pods = listed(tmp_path)
    assert sorted(one.name for one in read_hosts(nodes)) == ["a", "b"]
    assert [one.name for one in read_pods(pods)] == ["p1", "p2", "p3", "p4"]
    assert read_pods(pods)[0].shape == PodShape(1000, 10, 1, 1000, ("A", "H"))


@pytest.mark.parametrize(
    ("pods", "told"),
    [
        (PODS.replace("500", "1500"), "gpu_milli is 1500"),
        (PODS.replace("500", "-1"), "gpu_milli is '-1'"),
        (PODS.replace("gpu_spec", "spec"), "column gpu_spec is missing"),
        (PODS.replace("p3", "p1"), "name 'p1' stands twice"),
        (PODS.split("p3", maxsplit=1)[0], "no pod asks for a GPU"),
    ],
)
def test_a_bad_list_is_refused_with_its_column(tmp_path: Path, pods: str, told: str) -> None:
    with pytest.raises(ListError, match=told):
        read_pods(listed(tmp_path, pods=pods)[1])


def test_arrivals_are_all_pods_once_then_draws_up_to_the_last_that_fits_below_130() -> None:
    pods = [Pod(f"p{place}", pod(1, 100 + place)) for place in range(50)]
    order = arrivals(pods, 20_000, 7)
    assert sorted(one.name for one in order[:50]) == sorted(one.name for one in pods)
    asked = sum(one.shape.gpu_milli for one in order)
    assert 26_000 - 150 < asked <= 26_000
    assert arrivals(pods, 20_000, 7) == order
    assert arrivals(pods, 20_000, 8) != order


def test_a_dropped_pod_counts_as_arrived_and_is_not_tried_again() -> None:
    hosts = (host("n", 1000, 1000),)
    big, small = Pod("big", pod(2)), Pod("small", pod(1))
    policy = rivals.Rival(Fleet(hosts), rivals.best_fit)
    taken = list(one_by_one(policy, (small, big, small)))
    assert [one.seat for one in taken] == [Seat(0, (0,)), None, Seat(0, (1,))]
    count = Count(hosts, Mixture(((pod(1), 1),)))
    for one in taken:
        count.add(one)
    told = {row["arrived_percent"]: row["allocated_percent"] for row in count.records}
    assert told == {50: 50, 60: 50, 70: 50, 80: 50, 90: 50, 100: 50, 110: 50, 120: 50, 130: 50}


def test_each_level_sees_the_pods_that_had_arrived_by_then() -> None:
    hosts = (host("n", *([1000] * 4)),)
    count = Count(hosts, Mixture(((pod(1), 3), (pod(0), 1))))
    for place in range(3):
        count.add(Taken(Pod("p", pod(1)), Seat(0, (place,))))
    count.close()
    records = {row["arrived_percent"]: row for row in count.records}
    assert (records[50]["allocated_percent"], records[70]["allocated_percent"]) == (50, 75)
    assert records[50]["fragmentation_floor_percent"] == 50 / 4
    assert records[50]["fragmentation_percent"] == 50 / 4
    assert records[50]["placed_share_8gpu"] is None


def test_counting_refuses_a_seat_that_is_taken() -> None:
    count = Count((host("n", 1000),), Mixture(((pod(1), 1),)))
    count.add(Taken(Pod("p", pod(1)), Seat(0, (0,))))
    with pytest.raises(AssertionError, match="n has no room"):
        count.add(Taken(Pod("q", pod(1)), Seat(0, (0,))))


def test_scores_of_rivals_by_hand() -> None:
    # a: 4 cards, all free; b: one of 2 cards half taken; c: one of 2 cards taken
    world = fleet(
        host("a", 1000, 1000, 1000, 1000, cpu=8000),
        host("b", 500, 1000, cpu=4000),
        host("c", 0, 1000, cpu=8000),
    )
    rows = np.arange(3)
    rival = rivals.Rival(world, rivals.gpu_packing)
    rival.sizes = np.array([4, 2, 2])
    shared = pod(1, 500)
    # all four free: 33 - 4; the card in use: 100 - 50 % / 10; one card opened: 50 - 1
    assert rivals.gpu_packing(rival, shared, rows).tolist() == [29, 95, 49]
    assert rivals.gpu_packing(rival, pod(0), rows).tolist() == [0, 0, 0]
    rival.kinds = {0: np.array([0, 1, 0]), 1: np.array([0, 0, 1])}
    # no GPU pod: 25; only shares: 75; only whole cards: 0; and 25 (8 - wholly free) / 8
    assert rivals.gpu_clustering(rival, shared, rows).tolist() == [25 + 12, 75 + 21, 21]
    assert world.tightest(shared, 1) == (0,)


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["packing", *map(str, words)])
    return packing.main()


def measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, window: int
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    nodes, pods = listed(folder)
    words = ("--nodes", nodes, "--pods", pods, "--seeds", "1-2", "--window", str(window))
    placements = folder / "placements.csv"
    assert run(monkeypatch, *words, "--placements", placements, "-o", "json") == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document, list(csv.DictReader(io.StringIO(placements.read_text())))


@pytest.mark.parametrize("window", [1, 3])
def test_the_command_gives_the_same_bytes_and_placements_that_hold(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    window: int,
) -> None:
    monkeypatch.setattr(packing, "REHEARSED_PODS", 0)
    first, rows = measured(monkeypatch, capsys, tmp_path, window)
    second, _ = measured(monkeypatch, capsys, tmp_path, window)
    first.pop("timing")
    second.pop("timing")
    assert first == second
    assert first["schema"] == "tidal.packing/1"
    assert {row["policy"] for row in first["results"]} == set(packing.POLICIES)
    assert len(first["results"]) == len(packing.POLICIES) * 2 * 9
    cards = {"a": 4, "b": 2}
    taken: dict[tuple[str, ...], int] = {}
    for row in rows:
        for part in filter(None, row["gpus"].split(";")):
            card, milli = part.split(":")
            assert int(card) < cards[row["node"]]
            key = (row["policy"], row["seed"], row["node"], card)
            taken[key] = taken.get(key, 0) + int(milli)
    assert max(taken.values()) <= 1000


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--seeds", "x"), "is no seed"),
        (("--policies", "fgd,best"), "--policies: 'best' is unknown; use random, "),
        (("--window", "0"), "--window: '0' is not a whole number of 1 or more"),
    ],
)
def test_wrong_use_names_the_fix(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: tuple[str, ...],
    told: str,
) -> None:
    nodes, pods = listed(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--nodes", nodes, "--pods", pods, *words)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_a_missing_file_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nodes, _ = listed(tmp_path)
    assert run(monkeypatch, "--nodes", nodes, "--pods", tmp_path / "no.csv") == 2
    assert capsys.readouterr().err.count("\n") == 1
