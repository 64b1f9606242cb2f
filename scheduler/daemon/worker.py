"""Planning in a process of its own, so that no solve ever delays the daemon's other answers.

Values travel as msgpack over a pipe. A plan that does not come back within the wall limit, or a
worker that died, costs one heuristic plan computed here; the worker is started anew.
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
    """`ports.Planner` in a worker process; `failures` counts heuristic stand-ins."""

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
        """Return the worker's plan, or a heuristic one when the worker fails."""
        question = Question(
            snapshot=snapshot, memory=memory, policy=self._encoded(policy), effort=effort
        )
        try:
            pipe = self._worker.pipe
            pipe.send_bytes(self._encode(question))
            if pipe.poll(self._wall_limit_seconds):
                answer = self._decode(pipe.recv_bytes())
                return answer.plan, answer.memory
        except (OSError, EOFError):
            pass
        return self._stand_in(snapshot, memory, policy)

    def stop(self) -> None:
        """End the worker."""
        self._worker.stop(STOP_SECONDS)

    def _stand_in(self, snapshot: Snapshot, memory: Memory, policy: Policy) -> tuple[Plan, Memory]:
        self.failures += 1
        self._worker.stop(0.0)
        self._worker = _start()
        return plan(snapshot, memory, policy, "heuristic")

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
