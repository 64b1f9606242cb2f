"""The shared plan: whole at every instant, fenced by epoch, small in every part."""

import contextlib
import json
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preemption.values import Stop
from scheduler.adapters.cluster.shared import (
    MOST_BYTES,
    FencedOffError,
    PlanReader,
    PlanWriter,
    SharedPlan,
    assembled,
    blocks_of,
)
from scheduler.apiserver.client import ApiUnreachableError
from scheduler.apiserver.objects import ConfigMap
from scheduler.planning.snapshot import Reservation
from tests.fixtures.memoryapi import MemoryApi, refusal

ALL = "/api/v1/namespaces/tidal/configmaps"
BLOCKS = {f"n{number}": f"zone/spine-{number // 10}" for number in range(100)}


def kept(number: int, reason: str = "") -> Reservation:
    return Reservation(
        id=f"r{number}",
        owner="chat/decode",
        parts=((f"n{number}", 8),),
        created_seconds=1.0,
        expires_seconds=301.0,
        reason=reason,
    )


def plan(
    *numbers: int, epoch: int = 1, at: float = 10.0, stopping: tuple[str, ...] = ()
) -> SharedPlan:
    return SharedPlan(
        at_seconds=at,
        epoch=epoch,
        source="full",
        summary="all is well",
        reservations=tuple(kept(number) for number in numbers),
        stopping=stopping,
        stops=tuple(Stop(at, job, "red") for job in stopping),
    )


def in_cluster(api: MemoryApi) -> SharedPlan | None:
    maps = [one for path, one in api.objects.items() if path.startswith(f"{ALL}/tidal-plan")]
    return assembled(msgspec.convert(maps, list[ConfigMap]))


def writes(api: MemoryApi) -> list[str]:
    return [path.removeprefix(f"{ALL}/") for method, path in api.calls if method != "GET"]


def test_a_plan_comes_back_as_it_was_written() -> None:
    api = MemoryApi()
    written = plan(1, 2, 15, stopping=("batch/a", "batch/b"))
    assert PlanWriter(api, "tidal").write(written, BLOCKS) == 5
    assert in_cluster(api) == written


def test_an_empty_plan_is_a_plan() -> None:
    api = MemoryApi()
    assert in_cluster(api) is None
    PlanWriter(api, "tidal").write(plan(), BLOCKS)
    assert in_cluster(api) == plan()


def test_only_what_changed_is_written() -> None:
    api = MemoryApi()
    writer = PlanWriter(api, "tidal")
    writer.write(plan(1, 15, 25), BLOCKS)
    assert writer.write(plan(1, 15, 25), BLOCKS) == 0
    assert writer.write(plan(1, 15, 25, at=20.0), BLOCKS) == 1
    api.calls.clear()
    assert writer.write(plan(1, 16, 25, at=20.0), BLOCKS) == 2
    assert writes(api)[-1] == "tidal-plan"
    assert in_cluster(api) == plan(1, 16, 25, at=20.0)


def test_names_are_used_again() -> None:
    api = MemoryApi()
    writer = PlanWriter(api, "tidal")
    for number in range(30):
        writer.write(plan(number, 99 - number, at=float(number)), BLOCKS)
    assert len(api.objects) <= 5


def test_at_every_instant_the_plan_in_force_is_a_whole_one() -> None:
    api = MemoryApi()
    writer = PlanWriter(api, "tidal")
    old, new = plan(1, 15, 25, stopping=("a",)), plan(2, 16, 26, at=20.0)
    writer.write(old, BLOCKS)
    seen = []
    api.before = lambda method, _path: seen.append(in_cluster(api)) if method != "GET" else None
    writer.write(new, BLOCKS)
    assert seen == [old] * 4
    assert in_cluster(api) == new


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("survived", range(4))
def test_a_kill_half_way_leaves_the_old_plan_and_the_next_one_goes_on(
    survived: int, epoch: int
) -> None:
    api = MemoryApi()
    PlanWriter(api, "tidal").write(plan(1, 15, 25), BLOCKS)
    left = [survived]

    def die(method: str, path: str) -> None:
        if method != "GET":
            left[0] -= 1
            if left[0] < 0:
                raise ApiUnreachableError(path)

    api.before = die
    with pytest.raises(ApiUnreachableError):
        PlanWriter(api, "tidal").write(plan(2, 16, 26, at=20.0, epoch=epoch), BLOCKS)
    assert in_cluster(api) == plan(1, 15, 25)
    api.away()
    PlanWriter(api, "tidal").write(plan(3, 17, 27, epoch=2, at=30.0), BLOCKS)
    assert in_cluster(api) == plan(3, 17, 27, epoch=2, at=30.0)


def test_a_lower_epoch_writes_nothing() -> None:
    api = MemoryApi()
    PlanWriter(api, "tidal").write(plan(1, epoch=4), BLOCKS)
    api.calls.clear()
    with pytest.raises(FencedOffError, match="epoch 3 is fenced off by 4"):
        PlanWriter(api, "tidal").write(plan(2, epoch=3, at=20.0), BLOCKS)
    assert writes(api) == []


@pytest.mark.parametrize("when", range(1, 4))
def test_an_old_leader_that_wakes_half_way_spoils_nothing(when: int) -> None:
    api = MemoryApi()
    PlanWriter(api, "tidal").write(plan(1, 15), BLOCKS)
    newer = plan(3, 17, epoch=2, at=30.0)
    calls = [0]

    def overtake(method: str, _path: str) -> None:
        if method == "GET":
            return
        calls[0] += 1
        if calls[0] == when:
            api.away()
            PlanWriter(api, "tidal").write(newer, BLOCKS)

    api.before = overtake
    with pytest.raises(FencedOffError):
        PlanWriter(api, "tidal").write(plan(2, 16, at=20.0), BLOCKS)
    assert in_cluster(api) == newer


@pytest.mark.parametrize("when", range(1, 5))
def test_a_new_leader_that_dies_half_way_leaves_a_whole_plan_whoever_goes_on(when: int) -> None:
    api = MemoryApi()
    old = plan(1, 15)
    PlanWriter(api, "tidal").write(old, BLOCKS)
    left = [when]

    def die(method: str, path: str) -> None:
        left[0] -= method != "GET"
        if left[0] < 0:
            raise ApiUnreachableError(path)

    def overtake(method: str, path: str) -> None:
        if method == "PATCH" and path.endswith("/tidal-plan"):  # all but the head is written
            api.before = die
            with contextlib.suppress(ApiUnreachableError):
                PlanWriter(api, "tidal").write(plan(3, 17, epoch=2, at=30.0), BLOCKS)
            api.away()

    api.before = overtake
    with pytest.raises(FencedOffError):
        PlanWriter(api, "tidal").write(plan(2, 16, at=20.0), BLOCKS)
    assert in_cluster(api) in (old, plan(3, 17, epoch=2, at=30.0))


def test_a_conflict_is_read_again_and_tried_once_more() -> None:
    api = MemoryApi()
    PlanWriter(api, "tidal").write(plan(1), BLOCKS)
    refused: list[bool] = []

    def conflict(method: str, _path: str) -> None:
        if method == "PATCH" and not refused:
            refused.append(True)
            raise refusal(409, "the object has been modified")

    api.before = conflict
    PlanWriter(api, "tidal").write(plan(1, at=20.0), BLOCKS)
    assert in_cluster(api) == plan(1, at=20.0)


@pytest.mark.parametrize("name", ["tidal-plan", "tidal-plan-0"])
def test_what_somebody_deleted_is_written_again(name: str) -> None:
    api = MemoryApi()
    writer = PlanWriter(api, "tidal")
    writer.write(plan(1, 15), BLOCKS)
    api.delete(f"{ALL}/{name}")
    assert in_cluster(api) is None
    writer.write(plan(1, 15, at=20.0), BLOCKS)
    assert in_cluster(api) == plan(1, 15, at=20.0)


def test_no_part_is_larger_than_a_shard() -> None:
    api = MemoryApi()
    large = msgspec.structs.replace(
        plan(),
        reservations=tuple(kept(number % 100, "ü" * 200) for number in range(9_000)),
        stopping=tuple(f"team/{number:060}" for number in range(9_000)),
    )
    PlanWriter(api, "tidal").write(large, {})
    sizes = [len(one["data"]["plan.json"].encode()) for one in api.objects.values()]
    assert max(sizes) <= MOST_BYTES
    assert len(sizes) < 30
    assert in_cluster(api) == large


def test_a_plan_that_nobody_can_read_is_replaced() -> None:
    api = MemoryApi()
    writer = PlanWriter(api, "tidal")
    writer.write(plan(1), BLOCKS)
    api.patch(f"{ALL}/tidal-plan", {"data": {"plan.json": '{"at": '}}, "merge")
    with pytest.raises(msgspec.MsgspecError):
        in_cluster(api)
    writer.write(plan(2), BLOCKS)
    assert in_cluster(api) == plan(2)


def test_the_block_of_a_node_is_the_path_above_its_leaf() -> None:
    from binpacking.inventory import Node  # noqa: PLC0415

    paths = {"a": ("z", "s", "l"), "b": ("z", "s", "m"), "c": ("l",), "d": ()}
    nodes = [
        Node(name=name, gpu_model="H100", switch_path=path, devices=())
        for name, path in paths.items()
    ]
    assert blocks_of(nodes) == {"a": "z/s", "b": "z/s", "c": "l", "d": ""}


def test_the_reader_follows_and_keeps_the_last_whole_plan() -> None:
    api, changed = MemoryApi(), threading.Event()
    writer = PlanWriter(api, "tidal")
    writer.write(plan(1), BLOCKS)
    reader = PlanReader(api, "tidal", changed.set)
    assert reader.newest() is None
    reader.start()
    try:
        assert seen(reader, changed, 10.0) == plan(1)
        writer.write(plan(2, at=20.0), BLOCKS)
        assert seen(reader, changed, 20.0) == plan(2, at=20.0)
        api.patch(f"{ALL}/tidal-plan", {"data": {"plan.json": json.dumps({"no": 1})}}, "merge")
        while reader.newest() and not reader.error:
            assert changed.wait(60)
            changed.clear()
        assert reader.newest() == plan(2, at=20.0)
        assert "cannot be read" in reader.error
    finally:
        reader.stop()


def seen(reader: PlanReader, changed: threading.Event, at: float) -> SharedPlan | None:
    """Wait until the reader has the plan of that time."""
    while (found := reader.newest()) is None or found.at_seconds != at:
        assert changed.wait(60)
        changed.clear()
    return found


@given(st.lists(st.lists(st.integers(0, 99), max_size=12, unique=True), max_size=8))
def test_any_sequence_of_plans_comes_back(sequence: list[list[int]]) -> None:
    api = MemoryApi()
    for at, numbers in enumerate(sequence):
        PlanWriter(api, "tidal").write(plan(*numbers, at=float(at)), BLOCKS)
        found = in_cluster(api)
        assert found is not None
        assert sorted(one.id for one in found.reservations) == sorted(f"r{n}" for n in numbers)
