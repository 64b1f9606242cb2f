"""Quantities as Kubernetes writes them, and what a pod occupies."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.apiserver.objects import PodSpec
from scheduler.apiserver.quantities import (
    exact,
    mib_down,
    mib_up,
    milli_down,
    milli_up,
    whole_down,
    whole_up,
)
from scheduler.apiserver.requests import cpu_and_memory, gpus_of, occupied

GPU = "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("0", 0),
        ("1k", 1000),
        ("2M", 2_000_000),
        ("3G", 3_000_000_000),
        ("1E", 10**18),
        ("1Ki", 1024),
        ("1.5Gi", 3 * 2**29),
        ("2Ei", 2**61),
        ("2e3", 2000),
        ("1E3", 1000),
        ("12e-1", 2),
        ("500m", 1),
        ("1500m", 2),
        ("1n", 1),
        (".5", 1),
        ("5.", 5),
        ("+7", 7),
        ("-2", -2),
    ],
)
def test_whole_up(text: str, value: int) -> None:
    assert whole_up(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "1KI", "1 Gi", "1K", "one", "1e", "1e400", "4x", "٤x"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        exact(text)


def test_room_is_rounded_down() -> None:
    assert whole_down("1999m") == 1
    assert milli_down("63500m") == 63_500
    assert mib_down("1056270392Ki") == 1_031_514
    assert mib_down("847891234567") == 808_612


def test_what_a_pod_asks_is_rounded_up() -> None:
    assert (milli_up("1.5"), milli_up("100u")) == (1500, 1)
    assert (mib_up("1Gi"), mib_up("1")) == (1024, 1)
    containers = [
        {"resources": {"requests": {"cpu": "1500m", "memory": "1Gi"}}},
        {"resources": {"limits": {"cpu": 2}}},
    ]
    inits = [{"resources": {"requests": {"cpu": "4", "memory": "1"}}}]
    spec = msgspec.convert({"containers": containers, "initContainers": inits}, PodSpec)
    assert cpu_and_memory(spec) == (4000, 1024), "the init container alone needs more CPU"


@given(st.integers(0, 2**40), st.sampled_from(["", "Ki", "Mi", "Gi", "Ti", "k", "M", "G", "m"]))
def test_rounding_brackets_the_value(number: int, suffix: str) -> None:
    text = f"{number}{suffix}"
    assert whole_down(text) <= exact(text) <= whole_up(text)
    assert whole_up(text) - whole_down(text) <= 1


def spec(containers: list[int], inits: list[tuple[int, bool]]) -> PodSpec:
    value = {
        "containers": [{"resources": {"limits": {GPU: str(n)}}} for n in containers],
        "initContainers": [
            {"resources": {"requests": {GPU: str(n)}}, "restartPolicy": "Always" if side else None}
            for n, side in inits
        ],
    }
    return msgspec.convert(value, PodSpec)


@pytest.mark.parametrize(
    ("containers", "inits", "gpus"),
    [
        ([2, 1], [], 3),
        ([1], [(4, False)], 4),
        ([2], [(1, True)], 3),
        ([1], [(1, True), (3, False)], 4),
        ([1], [(3, False), (1, True)], 3),
        ([], [], 0),
    ],
)
def test_a_pod_occupies_what_runs_at_once(
    containers: list[int], inits: list[tuple[int, bool]], gpus: int
) -> None:
    assert gpus_of(spec(containers, inits), (GPU,)) == ((GPU, gpus) if gpus else ("", 0))
    assert occupied(containers, inits) == gpus


def test_the_first_resource_that_is_asked_for_counts() -> None:
    assert gpus_of(spec([2], []), ("amd.com/gpu", GPU)) == (GPU, 2)
