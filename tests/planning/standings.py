"""Builders of a standing, of pods that ask, and of what is answered to them."""

from scheduler.planning.index import index_of
from scheduler.planning.policy import parse
from scheduler.planning.snapshot import Reservation
from scheduler.planning.standing import Bind, Place, PodAsk, Standing, Victim
from scheduler.planning.verdicts import FilterVerdict, filter_nodes, preempt

NOW = 1000.0
POLICY = parse(
    {
        "version": 1,
        "models": {
            "chat": {
                "roles": {"decode": {"tokens": "generated", "capacity_tokens_per_second": {"H": 1}}}
            }
        },
    }
)
STALE = POLICY.extender.plan_stale_seconds
GONE = POLICY.extender.heuristic_stale_seconds


def place(
    name: str,
    free: int,
    releasing: int = 0,
    leaf: tuple[str, ...] = ("s0", "H"),
    resource: str = "nvidia.com/gpu",
    cordoned: str = "",
) -> Place:
    return Place(name, leaf, resource, free, releasing, 8, not cordoned)


def held(owner: str, *parts: tuple[str, int], number: int = 0, until: float = 300.0) -> Reservation:
    return Reservation(
        id=f"{owner}-{number}",
        owner=owner,
        parts=parts,
        created_seconds=NOW,
        expires_seconds=NOW + until,
    )


def standing(
    *places: Place,
    reservations: tuple[Reservation, ...] = (),
    victims: tuple[Victim, ...] = (),
    seen: tuple[str, ...] = (),
) -> Standing:
    return Standing(
        now_seconds=NOW,
        planned_at_seconds=NOW,
        plan_stale_seconds=STALE,
        heuristic_stale_seconds=GONE,
        nodes=places,
        reservations=reservations,
        victims=victims,
        seen=seen,
    )


def ask(gpus: int = 4, owner: str = "", group: str = "", uid: str = "u") -> PodAsk:
    return PodAsk(uid=uid, name=uid, owner=owner, group=group, gpus=gpus)


def bind(uid: str, owner: str, node: str, gpus: int = 4, group: str = "") -> Bind:
    return Bind(uid, owner, group, node, gpus, NOW + 1)


def verdict(
    one: Standing, wanted: PodAsk, *binds: Bind, names: str = "abc", after: float = 2.0
) -> FilterVerdict:
    return filter_nodes(index_of(one), binds, wanted, tuple(names), NOW + after)


VICTIMS = (Victim("v1", "a", 4), Victim("v2", "a", 4), Victim("v3", "b", 2))


def chosen(
    one: Standing, wanted: PodAsk, after: float = 2.0, **offers: str
) -> dict[str, list[str]]:
    candidates = {node: tuple(uids.split()) for node, uids in offers.items()}
    kept = preempt(index_of(one), (), wanted, candidates, NOW + after)
    return {node: list(uids) for node, uids in kept.items()}
