"""Planning in a process of its own, so that no solve ever delays the daemon's other answers.

Values travel as msgpack over a pipe. A worker that died, or has no plan within the wall limit, is
started anew and asked for less: a quick plan in place of a full one. Where that fails too, a
heuristic plan is computed here.
"""

import os
from multiprocessing.connection import Connection

import msgspec

from scheduler.child import Child
from scheduler.planning.actions import Plan
from scheduler.planning.memory import Memory
from scheduler.planning.planner import plan
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Snapshot

WALL_LIMIT_SECONDS = 30.0
STOP_SECONDS = 1.0
NICENESS = 5
"""The extender answers first when both want the same core."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One call of `plan`."""

    snapshot: Snapshot
    memory: Memory
    policy: bytes
    effort: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What `plan` returned."""

    plan: Plan
    memory: Memory


class PlanningProcess:
    """`ports.Planner` in a worker process; `failures` counts plans that it did not give."""

    def __init__(self, wall_limit_seconds: float = WALL_LIMIT_SECONDS) -> None:
        """Start the worker."""
        self._wall_limit_seconds = wall_limit_seconds
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Answer).decode
        self._policy: tuple[Policy, bytes] | None = None
        self.failures = 0
        self._worker = _start()

    def __call__(
        self, snapshot: Snapshot, memory: Memory, policy: Policy, effort: str
    ) -> tuple[Plan, Memory]:
        """Return the worker's plan, or one of less effort when the worker fails."""
        for less in dict.fromkeys((effort, "quick")):
            question = Question(
                snapshot=snapshot, memory=memory, policy=self._encoded(policy), effort=less
            )
            if (answer := self._answer(question)) is not None:
                return answer.plan, answer.memory
        return plan(snapshot, memory, policy, "heuristic")

    def stop(self) -> None:
        """End the worker."""
        self._worker.stop(STOP_SECONDS)

    def _answer(self, question: Question) -> Answer | None:
        """Return the worker's answer; without one in time, start another worker."""
        try:
            pipe = self._worker.pipe
            pipe.send_bytes(self._encode(question))
            if pipe.poll(self._wall_limit_seconds):
                return self._decode(pipe.recv_bytes())
        except (OSError, EOFError):
            pass
        self.failures += 1
        self._worker.stop(0.0)
        self._worker = _start()
        return None

    def _encoded(self, policy: Policy) -> bytes:
        if self._policy is None or self._policy[0] is not policy:
            self._policy = (policy, policy.model_dump_json().encode())
        return self._policy[1]


def _start() -> Child:
    return Child("tidal-planner", _serve)


def _serve(pipe: Connection) -> None:
    """Answer questions until the pipe closes, which it does when the daemon is gone."""
    os.nice(NICENESS)
    decode = msgspec.msgpack.Decoder(Question).decode
    encode = msgspec.msgpack.Encoder().encode
    policies: dict[bytes, Policy] = {}
    while True:
        try:
            question = decode(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        if question.policy not in policies:
            policies = {question.policy: Policy.model_validate_json(question.policy)}
        policy = policies[question.policy]
        planned, memory = plan(question.snapshot, question.memory, policy, question.effort)
        pipe.send_bytes(encode(Answer(plan=planned, memory=memory)))
