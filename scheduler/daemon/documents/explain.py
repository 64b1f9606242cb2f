"""One object by name: what it is, who holds what, and why.

A name is looked up among roles, replicas, jobs, nodes, loans and reservations; where it means
several, or to be exact, the kind goes in front: `job/train-1`. What concerns jobs alone is in
`explain_job`.
"""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from itertools import chain

import msgspec

from binpacking.inventory import WHOLE_GPU_MILLI, Device, Node
from scheduler.daemon.documents.actions import action_lines
from scheduler.daemon.documents.explain_job import explain_job, share_facts, some
from scheduler.daemon.documents.shapes import (
    ActionLine,
    Explanation,
    Fact,
    Holding,
    NoSuchError,
)
from scheduler.planning.actions import (
    Action,
    NotifyJob,
    ResizeJob,
    ScaleRole,
    StartJob,
    StopJob,
)
from scheduler.planning.admission import admits, refusals
from scheduler.planning.cards import left_of, shared_devices
from scheduler.planning.closeness import company
from scheduler.planning.policy import Policy
from scheduler.planning.snapshot import Job, Loan, Pod, Replica, Reservation, Role, amount
from scheduler.planning.spreading import Terms, terms_of
from scheduler.ports import Tick

Explain = Callable[[Tick, str], Explanation]


def explain(tick: Tick, name: str) -> Explanation:
    """Return `tidal.explain/1`; raise `NoSuchError` naming the kinds and what is near."""
    ids = _ids(tick)
    found = [kind for kind, names in ids.items() if name in names]
    if len(found) > 1:
        both = " or ".join(f"{kind}/{name}" for kind in found)
        raise NoSuchError(f"object: {name!r} means several things; say {both}")
    kind, _, rest = name.partition("/")
    if found:
        kind, rest = found[0], name
    elif kind not in ids or rest not in ids[kind]:
        raise NoSuchError(_unknown(name, ids))
    explained = EXPLAINERS[kind](tick, rest)
    return msgspec.structs.replace(explained, actions=_concerning(tick, rest))


def _ids(tick: Tick) -> dict[str, set[str]]:
    snapshot = tick.snapshot
    reservations = chain(snapshot.reservations, tick.plan.reservations)
    return {
        "role": {role.key for role in snapshot.roles},
        "replica": {replica.id for replica in snapshot.replicas},
        "job": {job.id for job in snapshot.jobs},
        "node": {node.name for node in snapshot.nodes},
        "loan": {loan.id for loan in snapshot.loans},
        "reservation": {reservation.id for reservation in reservations},
    }


def _unknown(name: str, ids: dict[str, set[str]]) -> str:
    known = sorted(set().union(*ids.values()))
    wanted = name.partition("/")[2] if name.partition("/")[0] in ids else name
    near = get_close_matches(wanted, known, n=3)
    hint = f"near: {', '.join(near)}" if near else "nothing has a name like it"
    return f"object: there is no {name!r} among {', '.join(f'{kind}s' for kind in ids)}; {hint}"


def _concerning(tick: Tick, name: str) -> tuple[ActionLine, ...]:
    """Return the last plan's actions on, for, or because of the object."""
    return tuple(
        line
        for line, outcome in zip(action_lines(tick), tick.outcomes, strict=True)
        if name == line.target or name in _touched(outcome.action)
    )


def _touched(action: Action) -> tuple[str, ...]:
    """Return who else the action is about: replicas that go, the role that needs the GPUs."""
    match action:
        case ScaleRole():
            return action.retire
        case StartJob():
            return (action.loan.id,)
        case NotifyJob() | StopJob() | ResizeJob():
            return (action.for_role,)


def _head(tick: Tick, kind: str, name: str, sentence: str) -> Explanation:
    return Explanation(
        tick=tick.number,
        now_seconds=tick.snapshot.now_seconds,
        object=name,
        kind=kind,
        sentence=sentence,
    )


def _role(tick: Tick, name: str) -> Explanation:
    role = next(one for one in tick.snapshot.roles if one.key == name)
    mine = [one for one in tick.snapshot.replicas if one.role == name]
    sizing = next((one for one in tick.plan.sizings if one.role == name), None)
    wanted = f"wanted: {sizing.wanted_milli / 1000:g}" if sizing else "not sized by the policy"
    ready = sum(one.state == "ready" for one in mine)
    held = (holding for one in mine for holding in _held_by(one.id, one.pods))
    kept = (
        Holding(f"reservation {one.id}", node, gpus, one.share.milli)
        for one in tick.plan.reservations
        if one.owner == name
        for node, gpus in one.parts
    )
    return msgspec.structs.replace(
        _head(tick, "role", name, f"{name}: {ready} of {len(mine)} replicas are ready; {wanted}"),
        facts=(*_role_facts(role), *_rule_facts(tick, role)),
        holdings=(*held, *kept),
        reasons=sizing.reasons if sizing else (),
        remarks=tuple(_role_remarks(tick, role)),
    )


def _role_facts(role: Role) -> tuple[Fact, ...]:
    return (
        Fact("model", role.model),
        Fact("role", role.role),
        Fact("kind", role.kind),
        Fact("replicas", role.replicas),
        Fact("pods_per_replica", role.pods_per_replica),
        Fact("gpus_per_pod", role.gpus_per_pod),
        *share_facts(role),
    )


def _held_by(name: str, pods: Iterable[Pod]) -> tuple[Holding, ...]:
    """Return what the bound ones of the pods hold, in order of node."""
    held = sorted((pod.node, pod.gpus, pod.share.milli) for pod in pods if pod.node)
    return tuple(Holding(name, *one) for one in held)


def _terms(tick: Tick, role: Role) -> Terms | None:
    policy = Policy.model_validate_json(tick.policy)
    return terms_of(tick.snapshot, policy, role, company(tick.snapshot, policy, role.key))


def _rule_facts(tick: Tick, role: Role) -> Iterable[Fact]:
    """Yield how far apart its replicas must stand, and how near to those of other roles."""
    rules = Policy.model_validate_json(tick.policy).models.get(role.model)
    if rules is not None and rules.proximity != "any":
        yield Fact("proximity", f"{rules.proximity}, by {rules.proximity_level}")
    terms = _terms(tick, role)
    if terms is not None:
        mine = (one for one in tick.snapshot.replicas if one.role == role.key)
        staying = [one for one in mine if one.state != "draining"]
        held = terms.tally(one.parts for one in staying)
        where = (f"{'/'.join(one) or 'all'} {count}" for one, count in sorted(held.items()))
        yield Fact("spread", terms.words)
        yield Fact("spread_most", terms.most(max(role.replicas, len(staying))))
        yield Fact("spread_now", ", ".join(where) or "nothing stands")


def _role_remarks(tick: Tick, role: Role) -> Iterable[str]:
    if role.scaled_by_other:
        yield f"{role.scaled_by_other} scales the same target; Tidal does not act on it"
    until = role.override_until_seconds
    left = 0.0 if until is None else until - tick.snapshot.now_seconds
    if left > 0:
        yield f"a person set the replica count; it is respected for {left:.0f} s more"
    terms = _terms(tick, role)
    if terms is not None and terms.shortfall:
        yield terms.shortfall
    lacks = tuple(one.sentence for one in tick.plan.unplaced if one.owner == role.key)
    yield from lacks or refusals(tick.snapshot, role)


def _replica(tick: Tick, name: str) -> Explanation:
    replica = next(one for one in tick.snapshot.replicas if one.id == name)
    where = ", ".join(node for node, _ in replica.parts) or "no node yet"
    return msgspec.structs.replace(
        _head(tick, "replica", name, f"{name} is {replica.state} on {where}"),
        facts=_replica_facts(replica, tick.snapshot.now_seconds),
        holdings=_held_by(name, replica.pods),
    )


def _replica_facts(replica: Replica, now_seconds: float) -> tuple[Fact, ...]:
    facts = [
        Fact("role", replica.role),
        Fact("gpu_model", replica.gpu_model or "none yet"),
        Fact("tier", replica.tier),
        Fact("pods", len(replica.pods)),
        Fact("age_seconds", now_seconds - replica.created_seconds),
    ]
    if replica.ready_seconds is not None:
        facts.append(Fact("ready_seconds", now_seconds - replica.ready_seconds))
    return tuple(facts)


def _node(tick: Tick, name: str) -> Explanation:
    node = next(one for one in tick.snapshot.nodes if one.name == name)
    state = "Ready" if node.ready else "not Ready"
    cordon = ", cordoned" if node.cordoned else ""
    sick = [device for device in node.devices if not device.healthy]
    kept = [r for r in tick.plan.reservations if any(part == name for part, _ in r.parts)]
    shared = shared_devices(node)
    beside = f", {len(shared)} are shared" if shared else ""
    free = f"{node.free_gpus} of {len(node.devices)} GPUs are free{beside}"
    head = f"{name} is {state}{cordon}; {free}"
    return msgspec.structs.replace(
        _head(tick, "node", name, head),
        facts=_node_facts(node),
        holdings=(*_held_on(node), *_kept_on(name, kept)),
        remarks=(
            *_sharing_remarks(node),
            *_shut_remarks(tick, node),
            *(f"device {name}/{device.index} is unhealthy" for device in sick),
        ),
    )


def _sharing_remarks(node: Node) -> Iterable[str]:
    if node.sharing == "slices":
        yield f"its {node.resource_name} are slices of shared cards: nothing is planned there"
    if node.sharing == "parts" and not node.devices:
        yield "no card of it is registered that may be shared: nothing is planned there"


def _shut_remarks(tick: Tick, node: Node) -> Iterable[str]:
    """Yield whose pods the node does not take, by reason."""
    whose: dict[str, list[str]] = {}
    for name, owner in (*((r.key, r) for r in tick.snapshot.roles), *_waiting(tick)):
        if not admits(node, owner):
            whose.setdefault(owner.shut[node.section], []).append(name)
    for reason, owners in sorted(whose.items()):
        yield f"takes no pods of {some(owners)}: {reason}"


def _waiting(tick: Tick) -> Iterable[tuple[str, Role | Job]]:
    return ((job.id, job) for job in tick.snapshot.jobs if job.state == "queued")


def _node_facts(node: Node) -> tuple[Fact, ...]:
    return (
        Fact("gpu_model", node.gpu_model),
        Fact("switches", "/".join(node.switch_path)),
        Fact("resource", node.resource_name),
        Fact("sharing", node.sharing),
        Fact("spot", node.spot),
        *(_card_fact(device) for device in shared_devices(node)),
    )


def _card_fact(device: Device) -> Fact:
    left = left_of(device)
    memory = f", {left.memory_mib} MiB" if device.memory_mib else ""
    return Fact(f"left_of_gpu_{device.index}", f"{left.milli} milli-GPU{memory}")


def _held_on(node: Node) -> Iterable[Holding]:
    """Yield what each holder has, whole devices and parts of others."""
    counted: dict[str, tuple[int, int]] = {}
    for device in node.devices:
        for holder in device.holders:
            gpus, milli = counted.get(holder.owner, (0, 0))
            whole = holder.milli_gpu >= WHOLE_GPU_MILLI
            more = (gpus + 1, milli) if whole else (gpus, milli + holder.milli_gpu)
            counted[holder.owner] = more
    return (Holding(owner, node.name, *held) for owner, held in sorted(counted.items()))


def _kept_on(node: str, kept: list[Reservation]) -> Iterable[Holding]:
    for one in kept:
        here = [gpus for part, gpus in one.parts if part == node]
        yield Holding(f"reservation {one.id}", node, sum(here), len(here) * one.share.milli)


def _loan(tick: Tick, name: str) -> Explanation:
    loan = next(one for one in tick.snapshot.loans if one.id == name)
    left = loan.return_by_seconds - tick.snapshot.now_seconds
    due = f"due back in {left:.0f} s" if left >= 0 else f"overdue for {-left:.0f} s"
    lent = amount(loan.gpus * WHOLE_GPU_MILLI + loan.share_milli)
    job = next((one for one in tick.snapshot.jobs if one.id == loan.job), None)
    return msgspec.structs.replace(
        _head(tick, "loan", name, f"{lent} lent to {loan.job}, {due}"),
        facts=_loan_facts(loan, tick.snapshot.now_seconds),
        holdings=_held_by(loan.job, job.placed if job else ()),
    )


def _loan_facts(loan: Loan, now_seconds: float) -> tuple[Fact, ...]:
    return (
        Fact("job", loan.job),
        Fact("age_seconds", now_seconds - loan.granted_seconds),
        Fact("return_in_seconds", loan.return_by_seconds - now_seconds),
        Fact("promised_p99_seconds", loan.promised_p99_seconds),
    )


def _reservation(tick: Tick, name: str) -> Explanation:
    kept = next((one for one in tick.plan.reservations if one.id == name), None)
    before = next((one for one in tick.snapshot.reservations if one.id == name), None)
    one = kept or before
    if one is None:
        raise NoSuchError(name)
    left = one.expires_seconds - tick.snapshot.now_seconds
    fate = f"held for {left:.0f} s more" if kept else "filled, void or released in the last plan"
    gpus = amount(sum(gpus * WHOLE_GPU_MILLI + one.share.milli for _, gpus in one.parts))
    return msgspec.structs.replace(
        _head(tick, "reservation", name, f"{gpus} kept for {one.owner}; {fate}"),
        facts=(Fact("owner", one.owner), Fact("reason", one.reason), Fact("epoch", one.epoch)),
        holdings=tuple(Holding(one.owner, *part, one.share.milli) for part in one.parts),
    )


def _job(tick: Tick, name: str) -> Explanation:
    job = next(one for one in tick.snapshot.jobs if one.id == name)
    told = explain_job(tick, job)
    return msgspec.structs.replace(
        _head(tick, "job", name, told.sentence),
        facts=told.facts,
        holdings=_held_by(name, job.placed),
        remarks=told.remarks,
    )


EXPLAINERS: dict[str, Explain] = {
    "role": _role,
    "replica": _replica,
    "job": _job,
    "node": _node,
    "loan": _loan,
    "reservation": _reservation,
}
