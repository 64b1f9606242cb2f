"""Sentences of refusals: what a pod waits for, for the person who reads its condition.

kube-scheduler adds equal sentences up over the nodes, writes the sum into the pod's condition,
and each change of a condition makes it try the pod again at once. So the same situation has the
same sentence on every node, and no sentence holds a time or a count that moves.
"""

from collections.abc import Iterable

from binpacking.problem import Level

UNKNOWN = "not observed by Tidal yet; the next observation adds it"
CLOSED = "cordoned or not ready when last observed"
FULL = "fewer free GPUs than the pod asks for"
SLICED = "its GPUs are slices of shared cards; Tidal places whole GPUs and parts of known cards"
OTHER_LEAF = "not under the leaf switch of the pod's group"
APART = "left to pods that have no other node"
SWITCHES = {"node": "node", "leaf": "leaf switch", "spine": "spine pod"}
NAMED = 3
"""So many names stand in a sentence; of more it says `and others`."""


def other_resource(offered: str, asked: str) -> str:
    """Return why a node with other devices does not do."""
    return f"offers {offered}, the pod asks for {asked}"


def planned_here(leaving: Iterable[str]) -> str:
    """Return why the planned node cannot be taken yet."""
    return f"planned for this node; {_until(leaving)}"


def planned_elsewhere(nodes: Iterable[str], leaving: Iterable[str]) -> str:
    """Return why no other node than the planned ones will do, and what these wait for."""
    return f"planned for {_some(nodes)}; {_until(leaving)}"


def not_lent(job: str) -> str:
    """Return why a job's pod gets no GPU."""
    return f"Tidal has lent no GPU to {job} yet; it waits for a plan"


def not_reserved(role: str) -> str:
    """Return why a role's pod gets no GPU."""
    return f"Tidal has reserved no GPU for {role} yet; it waits for a plan"


def stopping(job: str) -> str:
    """Return why a pod that a stopping job's controller has made gets no GPU."""
    return f"Tidal is stopping {job}; it waits for a plan that starts it again"


def kept_for(owner: str) -> str:
    """Return why free GPUs cannot be taken."""
    return f"reserved for {owner}; this pod waits for a plan"


def crowded(level: Level) -> str:
    """Return why a role that must spread cannot take a node with room."""
    return f"its {SWITCHES[level]} holds as much of the role as its spread allows"


def alone(level: Level) -> str:
    """Return why a role that must stand beside others cannot take a node with room."""
    return f"its {SWITCHES[level]} holds no replica of a role that this one must stand beside"


def _until(leaving: Iterable[str]) -> str:
    who = _some(leaving)
    return f"waits until its GPUs are released by {who}" if who else "waits until its GPUs are free"


def _some(names: Iterable[str]) -> str:
    every = sorted(set(names))
    shown = ", ".join(every[:NAMED])
    return f"{shown} and others" if len(every) > NAMED else shown
