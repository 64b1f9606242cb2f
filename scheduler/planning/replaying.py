"""Whether a stored tick can be believed: its packings verified, its plan computed again.

The ledger keeps the inputs of a tick and what came out. A replay checks every accepted packing
against its own problem, runs the planner on the stored inputs, and lists each place where the
result differs from what was stored. Nothing listed means that the plan follows from its inputs.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, TypeVar

import msgspec

from binpacking.problem import Packing, Problem
from binpacking.verify import verify
from scheduler.planning.actions import Plan, SolverAnswer
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Snapshot

ABSENT = "(absent)"

Key = TypeVar("Key")


class Difference(msgspec.Struct, frozen=True):
    """One place where the stored and the recomputed value are not equal, as JSON."""

    path: str
    stored: str
    recomputed: str


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """`tidal.replay/1`."""

    schema: Literal["tidal.replay/1"] = "tidal.replay/1"
    tick: int
    now_seconds: float
    effort: str
    source: str
    packings: int
    """Accepted packings that were verified."""
    refused: tuple[str, ...] = ()
    """What is wrong with them; empty: all verified."""
    differences: tuple[Difference, ...] = ()

    @property
    def faithful(self) -> bool:
        """Whether the stored tick follows from its inputs."""
        return not self.refused and not self.differences


def replay(
    number: int,
    inputs: tuple[Snapshot, Memory, Policy, str],
    stored_plan: Plan,
    stored_memory: Memory,
) -> Replay:
    """Return the replay of one tick; `inputs` are those of `planner.plan`, in its order.

    A plan's source is the effort it was computed at: less than was asked where its worker failed.
    """
    snapshot, memory, policy, effort = inputs
    again, memory_again = plan(snapshot, memory, policy, stored_plan.source)
    return Replay(
        tick=number,
        now_seconds=snapshot.now_seconds,
        effort=effort,
        source=stored_plan.source,
        packings=len(stored_plan.answers),
        refused=tuple(_refused(stored_plan.answers)),
        differences=(
            *_differences("plan", _opened(stored_plan), _opened(again)),
            *_differences(
                "memory", msgspec.to_builtins(stored_memory), msgspec.to_builtins(memory_again)
            ),
        ),
    )


def _refused(answers: tuple[SolverAnswer, ...]) -> Iterator[str]:
    for number, answer in enumerate(answers):
        where = f"plan.answers[{number}]"
        try:
            problem = msgspec.msgpack.decode(answer.problem, type=Problem)
            packing = msgspec.msgpack.decode(answer.packing, type=Packing)
        except msgspec.MsgspecError as error:
            yield f"{where}: cannot be decoded: {error}"
            continue
        yield from (f"{where}: {sentence}" for sentence in verify(problem, packing))


def _opened(planned: Plan) -> object:
    """Return the plan as plain values, with packings decoded so that differences can be read."""
    plain = msgspec.to_builtins(planned)
    for shown, answer in zip(plain["answers"], planned.answers, strict=True):
        shown["problem"] = _decoded(answer.problem)
        shown["packing"] = _decoded(answer.packing)
    return plain


def _decoded(packed: bytes) -> object:
    try:
        return msgspec.msgpack.decode(packed)
    except msgspec.MsgspecError:
        return f"{len(packed)} bytes that are no msgpack"


def _differences(path: str, stored: object, recomputed: object) -> Iterator[Difference]:
    """Yield the deepest places that differ, in order of the stored value, then of additions."""
    if isinstance(stored, dict) and isinstance(recomputed, dict):
        for key in (*stored, *(key for key in recomputed if key not in stored)):
            yield from _child(f"{path}.{key}", stored, recomputed, key)
    elif isinstance(stored, (list, tuple)) and isinstance(recomputed, (list, tuple)):
        left, right = dict(enumerate(stored)), dict(enumerate(recomputed))
        for key in range(max(len(left), len(right))):
            yield from _child(f"{path}[{key}]", left, right, key)
    elif stored != recomputed:
        yield Difference(path, _json(stored), _json(recomputed))


def _child(
    path: str, stored: Mapping[Key, object], recomputed: Mapping[Key, object], key: Key
) -> Iterator[Difference]:
    if key not in stored:
        yield Difference(path, ABSENT, _json(recomputed[key]))
    elif key not in recomputed:
        yield Difference(path, _json(stored[key]), ABSENT)
    else:
        yield from _differences(path, stored[key], recomputed[key])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
