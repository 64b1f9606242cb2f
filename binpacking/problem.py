"""What the packer is asked and what it answers, as values.

The planner states a `Problem` (free GPUs, online shortages, batch candidates, gangs that may
give way); a rung of the ladder answers with a `Packing`; `verify` accepts or refuses it.
Every number is an integer, so that an answer can be checked without tolerance.
"""

from collections import defaultdict
from typing import Literal, NamedTuple

import msgspec

from binpacking.inventory import WHOLE_GPU_MILLI
from binpacking.shares import NO_SHARE, Held, Share
from binpacking.standby import Standby

USUAL_MIX = ((1, 35), (2, 20), (4, 20), (8, 25))
"""(GPUs on one node, weight) where nobody knows what pods are to come: many small ones, and GPUs
for large ones."""

Rung = Literal["empty", "greedy", "blocks", "program"]

Level = Literal["node", "leaf", "spine"]
"""What fails together: a node, what hangs on one leaf switch, or on one spine pod."""

Domain = tuple[str, ...]
"""One of them: a node's name, or the path of the switch."""


class Piece(NamedTuple):
    """What one pod asks of one node; ordered by GPUs first."""

    gpus: int
    cpu_milli: int = 0
    memory_mib: int = 0
    keeps: str = ""
    """Key of the request whose pods keep apart on nodes (see `Spread`); empty: they need not."""
    share: Share = NO_SHARE
    """Of one card, where the pod asks no whole one."""

    @property
    def amounts(self) -> tuple[int, int, int]:
        """What can be counted."""
        return self[:3]

    @property
    def bulk(self) -> tuple[int, Share, int, int]:
        """What is harder to seat is larger."""
        return self.gpus, self.share, self.cpu_milli, self.memory_mib


class Supply(msgspec.Struct, frozen=True):
    """What of a node a new pod may count on: free now, or being released."""

    node: str
    gpu_model: str
    leaf: tuple[str, ...]
    """Switch path and GPU model; tensor-parallel pieces and gangs stay inside one leaf."""
    free: int
    """Whole GPUs."""
    total: int
    cpu_milli: int | None = None
    """Free CPU; None: not known, and never short."""
    memory_mib: int | None = None
    """Free memory of the host; None: not known, and never short."""
    cards: tuple[Share, ...] = ()
    """What is left of each card that pods share; these are not among the `free` ones."""
    card_memory_mib: int | None = None
    """Of a whole card; None: not known, and never short."""

    def domain(self, level: Level) -> Domain:
        """What the node fails with."""
        return domain(self.node, self.leaf, level)


def domain(node: str, leaf: tuple[str, ...], level: Level) -> Domain:
    """What a node under this leaf, whose path ends with switch and GPU model, fails with."""
    match level:
        case "node":
            return (node,)
        case "leaf":
            return leaf[:-1]
        case "spine":
            return leaf[:-2]


class Shape(msgspec.Struct, frozen=True):
    """`pieces` pods of `gpus` whole GPUs each, all under one leaf switch."""

    pieces: int
    gpus: int
    cpu_milli: int = 0
    """Of each piece."""
    memory_mib: int = 0
    """Of each piece."""
    keeps: str = ""
    """As in `Piece`; set by `OnlineRequest.pods`."""
    share: Share = NO_SHARE
    """Of one card, each piece; then `gpus` is 0."""

    @property
    def size(self) -> int:
        """Whole GPUs of all pieces."""
        return self.pieces * self.gpus

    @property
    def size_milli(self) -> int:
        """Milli-GPU of all pieces."""
        return self.pieces * (self.gpus * WHOLE_GPU_MILLI + self.share.milli)

    @property
    def piece(self) -> Piece:
        """One of the pieces."""
        return Piece(self.gpus, self.cpu_milli, self.memory_mib, self.keeps, self.share)


class Member(msgspec.Struct, frozen=True):
    """The pods of one role in every replica of a fixed group: `count` of them, each of `shape`."""

    role: str
    count: int
    shape: Shape


class Spread(msgspec.Struct, frozen=True):
    """An anti-affinity floor: no failure domain holds more of a request than `most`.

    Counted are replicas; where domains are nodes, pieces. What stands there already counts.
    """

    level: Level
    most: int
    there: tuple[tuple[Domain, int], ...] = ()
    """How many each domain holds, where it holds any; it may be more than allowed."""

    def room(self) -> defaultdict[Domain, int]:
        """How many more each domain may take."""
        room: defaultdict[Domain, int] = defaultdict(lambda: self.most)
        room.update((where, max(0, self.most - count)) for where, count in self.there)
        return room


class OnlineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A role that lacks capacity, or a fixed group of roles that does.

    One replica on GPU model m yields `capacity_milli[m]` thousandths of a reference replica;
    replicas are added until `shortage_milli` is covered. Key order of `capacity_milli` is the
    order of preference among models. A replica is one pod of `shape`, or all pods of `members`.
    """

    key: str
    shape: Shape = Shape(0, 0)
    """Left out where `members` are given."""
    members: tuple[Member, ...] = ()
    reach: Literal["leaf", "spine"] = "leaf"
    """How far the pods of one replica may stand apart: under one leaf, or under leaves of one
    spine pod. Pieces of one pod are under one leaf in any case."""
    capacity_milli: dict[str, int]
    shortage_milli: int
    limit: int
    """Most replicas that may be added, whatever the shortage."""
    spread: Spread | None = None
    """None: replicas may stand together. Of groups only what one replica keeps to is limited:
    a leaf or a spine pod, not nodes."""

    @property
    def pods(self) -> tuple[Member, ...]:
        """The pods of one replica, whether it is one or a group."""
        if self.members:
            return self.members
        if self.spread is None or self.spread.level != "node":
            return (Member("", 1, self.shape),)
        return (Member("", 1, msgspec.structs.replace(self.shape, keeps=self.key)),)

    @property
    def size(self) -> int:
        """Whole GPUs of one replica."""
        return sum(member.count * member.shape.size for member in self.pods)

    @property
    def size_milli(self) -> int:
        """Milli-GPU of one replica."""
        return sum(member.count * member.shape.size_milli for member in self.pods)


class PoolRole(msgspec.Struct, frozen=True):
    """A role of a pool."""

    key: str
    """Of its online request, if it asks for anything now."""
    total_milli: int
    """Milli-replicas of it in all, with those that it asks for."""
    there: tuple[tuple[Domain, int], ...] = ()
    """Milli-replicas that stand, or have a place kept, by failure domain; none of 0."""


class Pool(msgspec.Struct, frozen=True):
    """Roles that are sized apart, such as prefill and decode of a model, and belong together."""

    level: Literal["leaf", "spine"]
    """Within what they are near one another."""
    required: bool
    """Whether a replica may only go where every role has one, then or before; else their shares of
    each domain shall differ as little as possible."""
    roles: tuple[PoolRole, ...]


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A gang that waits: started whole, in one leaf, or not at all."""

    key: str
    shape: Shape
    gpu_models: tuple[str, ...]
    """Allowed models; empty means any."""
    value: int
    """Worth of starting it now: priority x GPUs x expected share of work that is kept."""


class Gang(msgspec.Struct, frozen=True, kw_only=True):
    """A running gang that may be stopped, and what that would cost."""

    key: str
    parts: tuple[tuple[str, int], ...]
    """(node, GPUs) in order of node; the whole gang goes or stays."""
    cost: int
    """Priority-weighted GPU-seconds that stopping it throws away, restart included."""
    cpu_milli: int = 0
    """Of each part and of each share, as is `memory_mib`."""
    memory_mib: int = 0
    shares: tuple[Held, ...] = ()
    """What it holds of cards besides whole ones."""


class StopLimit(msgspec.Struct, frozen=True):
    """At most `most` of these gangs may be stopped by one packing."""

    name: str
    """Whose budget it is, for sentences."""
    gangs: tuple[str, ...]
    most: int


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One packing question. Tuples are in order of importance, then of key."""

    supplies: tuple[Supply, ...]
    online: tuple[OnlineRequest, ...] = ()
    pools: tuple[Pool, ...] = ()
    batch: tuple[BatchRequest, ...] = ()
    gangs: tuple[Gang, ...] = ()
    stop_limits: tuple[StopLimit, ...] = ()
    standby: tuple[Standby, ...] = ()
    """Those of no account here, such as units of other requests, may be left in."""
    late_price: int = 1
    """Priority-weighted GPU-seconds that a second of lateness of one GPU counts as."""
    mix: tuple[tuple[int, int], ...] = USUAL_MIX
    """Shapes to come: (GPUs on one node, weight), for the fragmentation tier."""
    card_mix: tuple[tuple[int, int], ...] = ()
    """Those that share a card: (milli-GPU, weight)."""


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How hard to try, in units that do not depend on the machine."""

    name: Literal["quick", "full"]
    program: bool
    """Whether the integer program may be solved; otherwise the heuristic answers."""
    node_limit: int = 2000
    """Branch-and-bound nodes per tier."""
    gap: float = 0.0


class Placed(msgspec.Struct, frozen=True):
    """One replica or job with its nodes."""

    key: str
    parts: tuple[tuple[str, int], ...]
    """(node, whole GPUs), one entry per piece, in order of node; two pieces may share a node. In a
    fixed group pod by pod, in the order of its members."""
    wakes: tuple[str, ...] = ()
    """Standby units that its pods wake, in order of key."""
    cards: tuple[int, ...] = ()
    """By part, the card that it shares: its place among the supply's `cards`, or beyond them a
    whole one that is opened; -1 for a part of whole GPUs. Empty where all parts are that."""


class Tiers(msgspec.Struct, frozen=True):
    """The objective, most important first; smaller is better in each but `batch_value`."""

    unserved_milli_gpus: int
    """Rounded up for each request."""
    loss: int
    """Work that the stops throw away, and the price of lateness."""
    batch_value: int
    fragmentation_milli_gpus: int
    apart: int = 0
    """How far the shares of pools' roles differ, in ten-thousandths (see `pools`); weighs more than
    fragmentation."""
    split: int = 0
    """Replicas of fixed groups that stand under several leaves; weighs least."""
    lateness: int = 0
    """The part of the loss that waking as many units as the shortages could use would save."""


class Packing(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: what goes where, who gives way, and how good it is known to be."""

    online: tuple[Placed, ...] = ()
    batch: tuple[Placed, ...] = ()
    killed: tuple[str, ...] = ()
    unserved: dict[str, int] = {}
    """Milli-replicas of shortage left per request key, only where above 0."""
    tiers: Tiers = Tiers(0, 0, 0, 0)
    rung: Rung = "empty"
    gap: float | None = None
    """Relative gap of tiers 1 and 2 to a proven bound; None where nothing is proven."""
    bound_unserved_milli_gpus: int | None = None
    """No packing leaves less unserved."""
    bound_loss: int | None = None
    """No packing that leaves no more unserved than the bound above loses less."""
    rejected: tuple[str, ...] = ()
    """Why candidates of other rungs were dropped: "rung: sentence"."""
