"""Node and pod lists of the openb schema, read for the `packing` benchmark.

    nodes: sn, cpu_milli, memory_mib, gpu, model
    pods:  name, cpu_milli, memory_mib, num_gpu, gpu_milli (per GPU), gpu_spec (models by `|`)

Other columns are not read. Nodes without GPU are left out: the measure is of GPUs.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import msgspec

from binpacking.cards import Host, PodShape
from binpacking.inventory import WHOLE_GPU_MILLI


class ListError(ValueError):
    """A list cannot be used; the message names the file, the line and the column."""


class Pod(msgspec.Struct, frozen=True):
    """One row of a pod list."""

    name: str
    shape: PodShape


def read_hosts(path: Path) -> tuple[Host, ...]:
    """The nodes with GPUs, all free."""
    hosts = []
    for place, row in _rows(path, ("sn", "cpu_milli", "memory_mib", "gpu", "model")):
        gpus = _whole(row, "gpu", place)
        hosts.append(
            Host(
                name=row["sn"],
                gpu_model=row["model"],
                cpu_milli=_whole(row, "cpu_milli", place),
                memory_mib=_whole(row, "memory_mib", place),
                cards=(WHOLE_GPU_MILLI,) * gpus,
            )
        )
    _refuse_twins(path, "sn", [host.name for host in hosts])
    kept = tuple(host for host in hosts if host.cards)
    if not kept:
        raise ListError(f"{path}: no node has a GPU (column gpu)")
    return kept


def read_pods(path: Path) -> tuple[Pod, ...]:
    """All pods in order of name."""
    columns = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec")
    pods = [Pod(row["name"], _shape(row, place)) for place, row in _rows(path, columns)]
    _refuse_twins(path, "name", [pod.name for pod in pods])
    if not any(pod.shape.gpu_milli for pod in pods):
        raise ListError(f"{path}: no pod asks for a GPU (columns num_gpu, gpu_milli)")
    return tuple(sorted(pods, key=lambda pod: pod.name))


def _shape(row: dict[str, str], place: str) -> PodShape:
    cards, milli = _whole(row, "num_gpu", place), _whole(row, "gpu_milli", place)
    if milli > WHOLE_GPU_MILLI:
        raise ListError(f"{place}: gpu_milli is {milli}; it is per GPU, at most {WHOLE_GPU_MILLI}")
    if not milli:
        cards = 0
    models = sorted(filter(None, (model.strip() for model in row["gpu_spec"].split("|"))))
    return PodShape(
        cpu_milli=_whole(row, "cpu_milli", place),
        memory_mib=_whole(row, "memory_mib", place),
        cards=cards,
        card_milli=milli if cards else 0,
        models=tuple(models) if cards else (),
    )


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            lacking = [column for column in columns if column not in (reader.fieldnames or ())]
            if lacking:
                raise ListError(f"{path}: column {lacking[0]} is missing; give the openb schema")
            for row in reader:
                yield (
                    f"{path}:{reader.line_num}",
                    {column: row[column] or "" for column in columns},
                )
    except OSError as error:
        raise ListError(f"{path}: cannot be read: {error.strerror}; name a CSV file") from None


def _whole(row: dict[str, str], column: str, place: str) -> int:
    text = row[column]
    if not text.isdecimal():
        raise ListError(f"{place}: {column} is {text!r}; give a whole number of 0 or more")
    return int(text)


def _refuse_twins(path: Path, column: str, names: list[str]) -> None:
    if len(set(names)) < len(names):
        twin = next(name for name in names if names.count(name) > 1)
        raise ListError(f"{path}: {column} {twin!r} stands twice")
