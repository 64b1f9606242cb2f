"""What of the whole cluster bears on each role and job while a snapshot is made."""

from collections.abc import Mapping

import msgspec

from scheduler.adapters.cluster.budgets import Budgets
from scheduler.adapters.cluster.sections import Shut
from scheduler.apiserver.nodeterms import NodeTerms


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """Facts that no object of the role or job tells."""

    now_seconds: float
    blocked: Mapping[str, str]
    """Job id -> why it must not be stopped now."""
    budgets: Budgets
    priorities: Mapping[str, int]
    """Priority class -> value; "" is the cluster's default class."""
    shut: Mapping[NodeTerms | None, Shut]
    """Sections of nodes that do not take pods with such words."""
    card_memory_mib: int = 0
    """Of the card by which parts of one are measured; 0: none is shared."""
