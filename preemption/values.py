"""Words of preemption: who may be asked to give way, on what terms, and how far it has come."""

from typing import Literal

import msgspec

NEVER_SECONDS = float("-inf")
"""Before every time: worlds may count from a later origin, so 0 is a time like any other."""


class Claimant(msgspec.Struct, frozen=True, kw_only=True):
    """A running job as the question "may it be stopped?" sees it."""

    key: str
    tenant: str
    priority: int
    gpus: int
    parts: tuple[tuple[str, int], ...]
    started_seconds: float
    last_checkpoint_seconds: float | None
    """None: it writes none, so everything since the start is at stake."""
    checkpoint_write_seconds: float | None
    """None: it cannot write one on notice."""
    restart_seconds: float
    opted_out: bool = False
    protected_until_seconds: float = NEVER_SECONDS


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The contract's terms, from the policy."""

    minimum_runtime_seconds: float
    notice_seconds: float
    stops_per_hour: int
    tenant_stops_per_hour: int


class Stop(msgspec.Struct, frozen=True):
    """A stop that happened, for the budgets."""

    at_seconds: float
    job: str
    tenant: str


class Refusal(msgspec.Struct, frozen=True):
    """Why a running job is no candidate."""

    key: str
    reason: Literal["opted_out", "minimum_runtime", "protected", "budget", "tenant_budget"]
    sentence: str
