"""For each right of deploy/ a piece of Tidal that needs it.

A probe runs product code as somebody, and returns what that code says went wrong, else nothing.
Objects that the piece works on are made by the administrator before. Where the code reads an
object again only after a refused write, the probe shows it the object under another uid first.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from scheduler.adapters.cluster.access import Access, User
from scheduler.adapters.cluster.actuator import KubernetesActuator
from scheduler.adapters.cluster.drivers.writing import Cluster
from scheduler.adapters.cluster.events import EventRecorder, Reference
from scheduler.adapters.cluster.lease import Leadership
from scheduler.adapters.cluster.observed import Observed
from scheduler.adapters.cluster.policymap import PolicyConfigMap
from scheduler.adapters.cluster.shared import PlanReader, PlanWriter, SharedPlan
from scheduler.adapters.cluster.watching import KINDS, Watching
from scheduler.apiserver import objects
from scheduler.apiserver.client import Api, ApiError
from scheduler.cli.cluster import Choice
from scheduler.cli.cluster import Cluster as Way
from scheduler.cli.terminal import CommandError
from scheduler.extender.binding import ApiBinder
from scheduler.extender.server import BindError
from scheduler.extender.wire import BindArgs
from scheduler.planning.actions import Action, ScaleRole, StartJob, StopJob
from scheduler.planning.policy import Policy, parse
from scheduler.planning.snapshot import Loan, Reservation
from tests.controlplane.kinds.world import eventually
from tests.controlplane.rbac_stage import (
    ADAPTERS,
    DEPLOYMENTS,
    GPU,
    INSTANCES,
    JOBS,
    LWS,
    NAME,
    NODE,
    RBG,
    STATEFUL_SETS,
    TOUCHED,
    Stage,
)

POLICY = """
version: 1
models: {m: {roles: {r: {tokens: prompt, capacity_tokens_per_second: {H100: 1}}}}}
"""


Probe = Callable[[Path, Stage], str]


def _as(run: Callable[[Api, Stage], str]) -> Probe:
    """A probe that needs a client only; a refusal that is raised is what it says."""

    def probe(kubeconfig: Path, stage: Stage) -> str:
        api = Api.load(kubeconfig)
        try:
            return run(api, stage)
        except ApiError as error:
            return str(error)
        finally:
            api.close()

    return probe


# ---- observe ---------------------------------------------------------------------------------


def _watches(kind: str, api: Api, stage: Stage) -> str:
    """List everything, and see a change of one object of this kind."""
    (field,) = (one.field for one in KINDS if one.resource == kind)
    watching = Watching(api, (GPU,))
    watching.start()
    try:
        eventually(lambda: watching.problems or watching.synced, "lists or problems")
        value = stage.touch(kind)

        def seen() -> bool:
            every = getattr(watching.observed(), field)
            return any(one.metadata.annotations.get(TOUCHED) == value for one in every)

        eventually(lambda: watching.problems or seen(), "the change or problems")
        return "; ".join(watching.problems)
    finally:
        watching.stop()


# ---- act -------------------------------------------------------------------------------------


def _policy(stage: Stage, kind: str, name: str, role: str) -> Policy:
    target = {"kind": kind, "namespace": stage.world.namespace, "name": name, "role": role}
    body = {"tokens": "prompt", "capacity_tokens_per_second": {"H100": 1.0}, "target": target}
    return parse({"version": 1, "models": {"m": {"roles": {"r": body}}}})


def _actuator(stack: ExitStack, api: Api, observed: Observed, policy: Policy) -> KubernetesActuator:
    watching = Watching(api, (GPU,))
    watching.start()
    stack.callback(watching.stop)
    eventually(lambda: watching.versions, "discovery")
    cluster = Cluster(
        api=api,
        observed=lambda: observed,
        versions=lambda: watching.versions,
        policy=lambda: policy,
        now_seconds=time.time,
        tell=lambda *_: None,
    )
    actuator = KubernetesActuator(cluster)
    stack.callback(actuator.close)
    return actuator


def _applied(api: Api, action: Action, observed: Observed, policy: Policy) -> str:
    with ExitStack() as stack:
        (outcome,) = _actuator(stack, api, observed, policy).apply((action,), 1)
        return "" if outcome.applied else outcome.detail or "not applied, and no word why"


def _scale(expected: int, replicas: int, *retire: str) -> ScaleRole:
    return ScaleRole(
        role="m/r",
        expected_replicas=expected,
        replicas=replicas,
        retire=retire,
        code="demand_rises",
        sentence="because",
    )


def _scales(kind: Any, field: str, resource: str, api: Api, stage: Stage) -> str:  # noqa: ANN401
    """One replica more, at the second try."""
    shape = {LWS: objects.LeaderWorkerSet}.get(resource, objects.Replicated)
    found = stage.stale(resource, NAME, shape)
    observed = msgspec.structs.replace(Observed(), **{field: (found,)})
    now = found.spec.replicas
    return _applied(api, _scale(now, now + 1), observed, _policy(stage, kind, NAME, ""))


def _scales_group(role: str, api: Api, stage: Stage) -> str:
    """One replica more of a role of the group; role `a` has an adapter."""
    group = stage.stale(RBG, "g", objects.RoleBasedGroup)
    adapter = stage.stale(ADAPTERS, "g-a", objects.ScalingAdapter)
    now = adapter.spec.replicas if role == "a" else group.spec.roles[0].replicas
    observed = Observed(role_based_groups=(group,), scaling_adapters=(adapter,))
    policy = _policy(stage, "RoleBasedGroup", "g", role)
    return _applied(api, _scale(now, now + 1), observed, policy)


def _retires_instance(api: Api, stage: Stage) -> str:
    """One replica less of a stateless role, and which one."""
    mark = "controller.kubernetes.io/instance-deletion-cost"
    body = {"metadata": {"annotations": {mark: None}}}
    stage.world.api.patch(stage.world.path(INSTANCES, "g-r-x"), body, "merge")
    _set_role(stage, 1)
    group = stage.read(RBG, "g", objects.RoleBasedGroup)
    observed = Observed(role_based_groups=(group,), pods=(stage.read("pods", NAME, objects.Pod),))
    action = _scale(1, 0, f"{stage.world.namespace}/g-r-x")
    return _applied(api, action, observed, _policy(stage, "RoleBasedGroup", "g", "r"))


def _set_role(stage: Stage, replicas: int) -> None:
    """As a user would not: without Tidal's memory of what it wrote."""
    operations = [
        {"op": "add", "path": "/spec/roles/0/replicas", "value": replicas},
        {"op": "add", "path": "/metadata/annotations", "value": {}},
    ]
    stage.world.api.patch(stage.world.path(RBG, "g"), operations, "json")


def _starts_job(api: Api, stage: Stage) -> str:
    name, _ = stage.job()
    whose = f"{stage.world.namespace}/{name}"
    loan = Loan(
        id="l",
        job=whose,
        gpus=1,
        granted_seconds=0.0,
        return_by_seconds=1.0,
        promised_p99_seconds=1.0,
    )
    action = StartJob(
        job=whose, expected_attempt=0, pods=1, loan=loan, code="lend", sentence="because"
    )
    observed = Observed(jobs=(stage.stale(JOBS, name, objects.Job),))
    return _applied(api, action, observed, _policy(stage, "Deployment", NAME, ""))


def _stops_job(api: Api, stage: Stage) -> str:
    name, pods = stage.job(gated=True)
    action = StopJob(
        job=f"{stage.world.namespace}/{name}",
        expected_attempt=0,
        for_role="m/r",
        code="deadline",
        sentence="because",
    )
    observed = Observed(jobs=(stage.read(JOBS, name, objects.Job),), pods=pods)
    return _applied(api, action, observed, _policy(stage, "Deployment", NAME, ""))


def _lifts_gate(api: Api, stage: Stage) -> str:
    name, pods = stage.job(gated=True)
    observed = Observed(jobs=(stage.read(JOBS, name, objects.Job),), pods=pods)
    kept = Reservation(
        id="R",
        owner=f"{stage.world.namespace}/{name}",
        parts=((NODE, 1),),
        created_seconds=time.time(),
        expires_seconds=time.time() + 300,
    )
    policy = _policy(stage, "Deployment", NAME, "")
    with ExitStack() as stack:
        actuator = _actuator(stack, api, observed, policy)
        actuator.reserve((kept,), 1)
        if actuator.problems:
            return "; ".join(actuator.problems)
    gates = stage.world.read("pods", pods[0].metadata.name)["spec"].get("schedulingGates", [])
    return "the gate is still there" if gates else ""


def _binds(kubeconfig: Path, stage: Stage) -> str:
    name, uid = stage.bare()
    binder = ApiBinder(partial(Api.load, kubeconfig))
    args = BindArgs(name, stage.world.namespace, uid, NODE)
    try:
        asyncio.run(_bound(binder, args))
    except BindError as error:
        return str(error)
    finally:
        binder.close()
    return ""


async def _bound(binder: ApiBinder, args: BindArgs) -> None:
    await binder(args)


# ---- tell, ask, share ------------------------------------------------------------------------


def _tells(api: Api, stage: Stage) -> str:
    recorder = EventRecorder(api, time.time, "tidal-0")
    recorder.start()
    job = Reference(
        api_version="batch/v1", kind="Job", namespace=stage.world.namespace, name="j", uid="1"
    )
    for _ in range(2):
        recorder.tell(job, "Normal", "Lent", "8 GPUs")
    recorder.stop()
    return recorder.error


def _asks_whose_token(api: Api, stage: Stage) -> str:
    return "" if Access(api, time.monotonic).user_of("none") is None else "a token of nobody's"


def _asks_who_may(api: Api, stage: Stage) -> str:
    may = Access(api, time.monotonic).may(User(username="nobody"), "get", "/v1/status")
    return "nobody may" if may else ""


def _leads(api: Api, stage: Stage) -> str:
    stage.clear("coordination.k8s.io/v1/leases", "tidal-planner")
    one = Leadership(api, stage.home.namespace, "one", time.monotonic, time.time)
    for _ in ("taken", "renewed"):
        one.step()
        if one.error:
            return one.error
    return "" if one.is_leader else "leads not"


def _shares_plan(api: Api, stage: Stage) -> str:
    """Write the first plan and the second, and follow both."""
    stage.clear("configmaps", "tidal-plan")
    home = stage.home.namespace
    reader, writer = PlanReader(api, home), PlanWriter(api, home)
    reader.start()
    try:
        for at in (1.0, 2.0):
            plan = SharedPlan(at_seconds=at, epoch=1, source="full")
            writer.write(plan, {})
            eventually(lambda: reader.problem or reader.newest() == plan, "the plan")  # noqa: B023
            if reader.problem:
                return reader.problem
    finally:
        reader.stop()
    return ""


def _keeps_policy(api: Api, stage: Stage) -> str:
    """Read the policy at the start."""
    stage.clear("configmaps", "tidal-policy")
    body = {
        "metadata": {"name": "tidal-policy"},
        "data": {"policy.yaml": POLICY},
    }
    stage.home.make("configmaps", body)
    recorder = EventRecorder(api, time.time, "tidal-0")
    PolicyConfigMap(
        api, stage.home.namespace, "tidal-policy", recorder=recorder, leading=lambda: True
    ).tend()
    return ""


# ---- people ----------------------------------------------------------------------------------


def _reaches(run: Callable[[Way], str]) -> Probe:
    """A probe of the way that scalerctl takes to the daemon."""

    def probe(kubeconfig: Path, stage: Stage) -> str:
        way = Way(Choice(kubeconfig=kubeconfig, namespace=stage.home.namespace))
        try:
            return run(way)
        except CommandError as error:
            return str(error)

    return probe


def _finds_pod(way: Way) -> str:
    """There is no kubelet to forward to: only that nobody forbids it can be seen here."""
    try:
        with way.tunnel():
            return ""
    except CommandError as error:
        return str(error) if "orbidden" in str(error) or "no pod is ready" in str(error) else ""


def _finds_ca(way: Way) -> str:
    system = ssl.create_default_context().get_ca_certs()
    return "" if len(way.tls().get_ca_certs()) > len(system) else "only the system's authorities"


def _rows(*rows: tuple[Probe, str]) -> dict[str, Probe]:
    """`resource verb verb` -> a probe for each."""
    found: dict[str, Probe] = {}
    for probe, words in rows:
        resource, *verbs = words.split()
        found |= {f"{resource}-{verb}": probe for verb in verbs}
    return found


def _watched(kind: str) -> tuple[Probe, str]:
    return _as(partial(_watches, kind)), f"{kind.partition('.')[0]} list watch"


OF_TIDAL = _rows(
    *(_watched(kind.resource) for kind in KINDS),
    (_as(_lifts_gate), "pods get patch"),
    (_as(_stops_job), "pods-eviction create"),
    (_as(partial(_scales, "Deployment", "deployments", DEPLOYMENTS)), "deployments get patch"),
    (
        _as(partial(_scales, "StatefulSet", "stateful_sets", STATEFUL_SETS)),
        "statefulsets get patch",
    ),
    (
        _as(partial(_scales, "LeaderWorkerSet", "leader_worker_sets", LWS)),
        "leaderworkersets get patch",
    ),
    (_as(partial(_scales_group, "r")), "rolebasedgroups get patch"),
    (_as(partial(_scales_group, "a")), "rolebasedgroupscalingadapters get patch"),
    (_as(_retires_instance), "roleinstances list patch"),
    (_as(_starts_job), "jobs get patch"),
    (_as(_tells), "events create patch"),
    (_as(_asks_whose_token), "tokenreviews create"),
    (_as(_asks_who_may), "subjectaccessreviews create"),
    (_as(_leads), "leases get create patch"),
    (_as(_shares_plan), "configmaps list watch create patch"),
    (_as(_keeps_policy), "configmaps get"),
)
OF_BINDING = _rows((_binds, "pods-binding create"))
OF_READERS = _rows(
    (_reaches(_finds_pod), "endpointslices list"),
    (_reaches(_finds_pod), "pods-portforward get create"),
    (_reaches(_finds_ca), "configmaps get"),
)
