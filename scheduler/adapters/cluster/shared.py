"""The newest plan in the cluster: what every replica answers from, and what a restart reads back.

The planner writes ConfigMaps of at most 256 KiB: shards with the reservations of one topology
block each, and a head that names the shards of one plan with their digests. A changed shard is
written under a name that the head in force does not use, and the head last, so that at every
instant the head in force and its shards are one whole plan, also after a kill half way. Every
write is guarded by the version last read, and none goes over a higher epoch.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Literal, TypeVar

import msgspec

from binpacking.inventory import Node
from preemption.values import Stop
from scheduler.apiserver.client import Api, ApiError
from scheduler.apiserver.objects import ConfigMap
from scheduler.apiserver.reflector import Reflector
from scheduler.planning import marks
from scheduler.planning.snapshot import Reservation

HEAD = "tidal-plan"
STATE_LABEL = "tidal.dev/state"
STATE = "plan"
KEY = "plan.json"
MOST_BYTES = 256 * 1024
NO_BLOCK = ""

Source = Literal["full", "quick", "heuristic"]
T = TypeVar("T")


class SharedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What of a plan must survive the process that made it, and reach its other replicas."""

    at_seconds: float
    epoch: int
    source: Source
    summary: str = ""
    reservations: tuple[Reservation, ...] = ()
    stopping: tuple[str, ...] = ()
    """Ids of jobs that the plan stops; no other pod may be evicted."""
    stops: tuple[Stop, ...] = ()
    """Of the last hour, for the budgets: their jobs may be gone."""


class FencedOffError(Exception):
    """Another planner with a higher epoch has written; nothing of ours was."""


class _Shard(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a plan: of one topology block, or jobs and stops, which belong to none."""

    block: str
    reservations: tuple[Reservation, ...] = ()
    stopping: tuple[str, ...] = ()
    stops: tuple[Stop, ...] = ()


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    """Which ConfigMap holds a shard, and the digest of its text."""

    number: int
    digest: str


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    """One plan without its parts."""

    at_seconds: float
    epoch: int
    source: Source
    summary: str
    shards: tuple[_Entry, ...]


def blocks_of(nodes: Iterable[Node]) -> dict[str, str]:
    """Return each node's topology block: the path above its leaf switch, or its only switch."""
    return {one.name: "/".join(one.switch_path[:-1] or one.switch_path) for one in nodes}


def assembled(maps: Iterable[ConfigMap]) -> SharedPlan | None:
    """Return the plan that the head names, or None where a part of it is not there yet.

    Raises msgspec.MsgspecError where a text is not what this version writes.
    """
    texts = {one.metadata.name: one.data.get(KEY, "") for one in maps}
    if not texts.get(HEAD):
        return None
    head = msgspec.json.decode(texts[HEAD], type=_Head)
    parts = [texts.get(_name(entry.number), "") for entry in head.shards]
    if any(_digest(text) != entry.digest for text, entry in zip(parts, head.shards, strict=True)):
        return None
    shards = [msgspec.json.decode(text, type=_Shard) for text in parts]
    return SharedPlan(
        at_seconds=head.at_seconds,
        epoch=head.epoch,
        source=head.source,
        summary=head.summary,
        reservations=tuple(one for shard in shards for one in shard.reservations),
        stopping=tuple(one for shard in shards for one in shard.stopping),
        stops=tuple(one for shard in shards for one in shard.stops),
    )


class PlanReader:
    """Follows the plan by list and watch; keeps the newest whole one."""

    def __init__(
        self, api: Api, namespace: str, on_change: Callable[[], None] = lambda: None
    ) -> None:
        """`on_change` is called from the watching thread; `newest` may have changed then."""
        self._maps: Reflector[ConfigMap] = Reflector(
            api,
            _all(namespace),
            ConfigMap,
            on_change=on_change,
            query={"labelSelector": f"{STATE_LABEL}={STATE}"},
        )
        self._whole: SharedPlan | None = None
        self.error = ""
        """Why the newest text cannot be read; empty while it can."""

    def start(self) -> None:
        """Begin to follow."""
        self._maps.start()

    def stop(self) -> None:
        """End following."""
        self._maps.stop()

    @property
    def synced(self) -> bool:
        """Whether the first list is done: from then on no plan means that there is none."""
        return self._maps.synced

    @property
    def problem(self) -> str:
        """Why there is nothing newer; empty while the ConfigMaps are followed."""
        return self._maps.problem

    def newest(self) -> SharedPlan | None:
        """Return the newest whole plan, None where none was ever seen."""
        try:
            found = assembled(self._maps.items())
            self.error = ""
        except msgspec.MsgspecError as error:
            self.error = f"plan: its ConfigMaps cannot be read ({error}); update this replica"
            found = None
        if found is not None:
            self._whole = found
        return self._whole


class PlanWriter:
    """Writes plans; for one thread of the leader. Nothing is kept between two calls."""

    def __init__(self, api: Api, namespace: str) -> None:
        """Write into the namespace of the daemon."""
        self._api = api
        self._all = _all(namespace)

    def write(self, plan: SharedPlan, blocks: Mapping[str, str]) -> int:
        """Replace the plan in the cluster; return how many ConfigMaps were written.

        `blocks` names each node's topology block. Raises FencedOffError, ApiError or
        ApiUnreachableError; then the plan in force is a whole one still. A conflict is read
        again and tried once more: an old leader may have written until now.
        """
        try:
            return self._written(plan, blocks)
        except ApiError as error:
            if error.status not in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}:
                raise
        return self._written(plan, blocks)

    def _written(self, plan: SharedPlan, blocks: Mapping[str, str]) -> int:
        maps = self._claimed(plan.epoch)
        head = _head_of(maps)
        kept = {} if head is None else _in_place(head, maps)
        used = () if head is None else (one.number for one in head.shards)
        free = _free_numbers(set(used))
        entries, count = [], 0
        for text in _texts(plan, blocks):
            entry = kept.get(_digest(text))
            if entry is None:
                entry = _Entry(next(free), _digest(text))
                self._put(_name(entry.number), text, plan.epoch, maps)
                count += 1
            entries.append(entry)
        new = _Head(
            at_seconds=plan.at_seconds,
            epoch=plan.epoch,
            source=plan.source,
            summary=plan.summary,
            shards=tuple(entries),
        )
        if new == head:
            return count
        self._put(HEAD, msgspec.json.encode(new).decode(), plan.epoch, maps)
        return count + 1

    def _claimed(self, epoch: int) -> dict[str, ConfigMap]:
        """Return what is there, with the head marked as this epoch's.

        An older leader that is about to write the head then fails, so that its head never names
        shards which we have begun to write.
        """
        maps = self._maps()
        head = maps.get(HEAD)
        if head is not None:
            _fence(head, epoch)
        if head is None or head.metadata.annotations.get(marks.EPOCH) != str(epoch):
            self._put(HEAD, head.data.get(KEY, "") if head else "", epoch, maps)
            maps = self._maps()
        return maps

    def _maps(self) -> dict[str, ConfigMap]:
        body = self._api.get(self._all, labelSelector=f"{STATE_LABEL}={STATE}")
        items = msgspec.json.decode(body, type=_List).items or ()
        return {one.metadata.name: one for one in items}

    def _put(self, name: str, text: str, epoch: int, maps: Mapping[str, ConfigMap]) -> None:
        """Create or replace one ConfigMap; fails with 409 or 404 where it is not as we read it."""
        metadata: dict[str, object] = {
            "name": name,
            "labels": {STATE_LABEL: STATE},
            "annotations": {marks.EPOCH: str(epoch)},
        }
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {KEY: text}}
        before = maps.get(name)
        if before is None:
            self._api.post(self._all, body)
            return
        _fence(before, epoch)
        metadata["resourceVersion"] = before.metadata.resource_version
        self._api.patch(f"{self._all}/{name}", body, "merge")


class _List(msgspec.Struct, frozen=True):
    """A list of ConfigMaps."""

    items: tuple[ConfigMap, ...] | None = None


def _all(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def _name(number: int) -> str:
    return f"{HEAD}-{number}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _head_of(maps: Mapping[str, ConfigMap]) -> _Head | None:
    """Return the head in force; one that nobody can read is replaced as if there were none."""
    text = maps[HEAD].data.get(KEY, "") if HEAD in maps else ""
    try:
        return msgspec.json.decode(text, type=_Head) if text else None
    except msgspec.MsgspecError:
        return None


def _in_place(head: _Head, maps: Mapping[str, ConfigMap]) -> dict[str, _Entry]:
    """Return the entries, by digest, of shards that are there as the head says."""
    texts = {name: one.data.get(KEY, "") for name, one in maps.items()}
    found = ((one, _digest(texts.get(_name(one.number), ""))) for one in head.shards)
    return {digest: one for one, digest in found if digest == one.digest}


def _fence(before: ConfigMap, epoch: int) -> None:
    written = before.metadata.annotations.get(marks.EPOCH, "")
    if written.isdecimal() and int(written) > epoch:
        raise FencedOffError(f"epoch {epoch} is fenced off by {written}")


def _free_numbers(used: set[int]) -> Iterator[int]:
    number = 0
    while True:
        if number not in used:
            yield number
        number += 1


def _texts(plan: SharedPlan, blocks: Mapping[str, str]) -> Iterator[str]:
    """Yield the shards' texts in order of their block, each within the limit."""
    by_block: dict[str, list[Reservation]] = {}
    for one in plan.reservations:
        by_block.setdefault(_block(one, blocks), []).append(one)
    for names in _filled(plan.stopping):
        yield _text(_Shard(block=NO_BLOCK, stopping=names))
    for stops in _filled(plan.stops):
        yield _text(_Shard(block=NO_BLOCK, stops=stops))
    for block, kept in sorted(by_block.items()):
        for some in _filled(kept):
            yield _text(_Shard(block=block, reservations=some))


def _block(reservation: Reservation, blocks: Mapping[str, str]) -> str:
    first = reservation.parts[0][0] if reservation.parts else ""
    return blocks.get(first, NO_BLOCK)


def _filled(values: Iterable[T]) -> Iterator[tuple[T, ...]]:
    """Yield runs of values whose JSON stays below the limit, with room for the frame."""
    run: list[T] = []
    size = 0
    for one in values:
        more = len(msgspec.json.encode(one)) + 1
        if run and size + more > MOST_BYTES - 1024:
            yield tuple(run)
            run, size = [], 0
        run.append(one)
        size += more
    if run:
        yield tuple(run)


def _text(shard: _Shard) -> str:
    return msgspec.json.encode(shard).decode()
