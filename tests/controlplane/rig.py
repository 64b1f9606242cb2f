"""The whole of Tidal on the control plane: scheduler, extender, daemon, fake kubelets.

A test makes workloads, says what the engines report, and looks at the objects. Signals are the
test's words through the port, because a scenario is about a decision; the Prometheus adapter has
tests of its own, and the failover scenarios run the whole command with a real Prometheus.
"""

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from scheduler.apiserver.client import Api
from scheduler.planning.policy import Policy, parse
from scheduler.simulation.clusterfile import parse_cluster
from scheduler.simulation.kubelet.manners import Manners
from scheduler.simulation.kubelet.shell import FakeKubelet
from scheduler.wiring.cluster import ClusterSettings, Replica
from scheduler.wiring.parts import logger
from tests.controlplane.kinds.controller import StandIn
from tests.controlplane.kinds.store import LWS, RBG
from tests.controlplane.kinds.world import WAIT_SECONDS, Object, World, condition, eventually
from tests.controlplane.plane import ControlPlane
from tests.controlplane.ports import free_ports
from tests.controlplane.rights import service_account_kubeconfig
from tests.controlplane.script import Script
from tests.controlplane.settings import Extender

GPU_MODEL = "H100-SXM-80GB"
ONLINE, BATCH = "rig-online", "rig-batch"
URGENT = "rig-urgent"
"""Serving pods of it may preempt, by kube-scheduler's own choice."""
LIVELY = Manners(start_seconds=0.2, exit_seconds=0.2, image_mib=1, unready_seconds=0.1)
QUICK = {"observe_seconds": 1, "plan_seconds": 2, "forecast_seconds": 300}


class Rig:
    """One namespace in which Tidal lives and acts; `start` a replica once there is a workload."""

    def __init__(self, plane: ControlPlane, world: World, folder: Path, stack: ExitStack) -> None:
        self.plane, self.world, self.folder, self._stack = plane, world, folder, stack
        self.api = world.api
        self.scheduler_name = f"tidal-{world.namespace}"
        (self.extender_port,) = free_ports(1)
        self.script: Script
        self._replicas: list[tuple[threading.Thread, threading.Event]] = []
        self._roles: dict[str, dict[str, Any]] = {}
        self._more: dict[str, Any] = {}
        for name, value in ((ONLINE, 100_000), (BATCH, 10)):
            self._priority(name, value)
        self._priority(URGENT, 200_000, preempts=True)

    # ---- the cluster -----------------------------------------------------------------------

    def nodes(
        self, count: int, gpus: int = 8, leaf: int = 4, manners: Manners = LIVELY
    ) -> FakeKubelet:
        """Nodes n-0001.. under leaves of `leaf` nodes, with their kubelets."""
        group = {"name": "n", "count": count, "gpus": gpus, "gpu_model": GPU_MODEL}
        cluster = parse_cluster({"groups": [{**group, "leaf_nodes": leaf}]})
        kubelet = FakeKubelet(self.api, cluster, manners, time.time)
        kubelet.start()
        self._stack.callback(kubelet.stop)
        return kubelet

    def scheduler(self, **extender: Any) -> None:  # noqa: ANN401
        """The scheduler of this namespace, which asks Tidal."""
        url = f"http://127.0.0.1:{self.extender_port}"
        chosen = {"prioritize_verb": "prioritize", "ignorable": True}
        self.plane.start_scheduler(
            self.scheduler_name, extender=Extender(url=url, **{**chosen, **extender})
        )

    # ---- Tidal -----------------------------------------------------------------------------

    def policy(
        self,
        roles: dict[str, dict[str, Any]],
        near: tuple[str, ...] = (),
        **more: Any,  # noqa: ANN401
    ) -> Policy:
        """Write the policy file: `model/role` -> fields of the role; 1 GPU and 1,000 tokens/s.

        `near` are the models whose roles are to stand under one leaf.
        """
        self._roles, self._more = roles, more
        models: dict[str, Any] = {}
        for key, fields in roles.items():
            model, _, role = key.partition("/")
            plain = {
                "tokens": "prompt" if role == "prefill" else "generated",
                "capacity_tokens_per_second": {GPU_MODEL: 1000},
                "scale_down": {"stabilization_window_seconds": 0},
                "quantile": 0.5,
                "minute_sigmas": 0,
                "min_replicas": 0,
                **fields,
            }
            plain["target"] = {"namespace": self.world.namespace, **plain["target"]}
            proximity = "preferred" if model in near else "any"
            here = models.setdefault(model, {"proximity": proximity, "roles": {}})
            here["roles"][role] = plain
        chosen = {
            "cadence": QUICK,
            "preemption": {"notice_seconds": 2, "minimum_runtime_seconds": 0},
            **more,
        }
        document = {"version": 1, "models": models, **chosen}
        self.policy_file.write_text(yaml.safe_dump(document))
        return parse(document)

    def bounds(self, role: str, least: int, most: int) -> None:
        """Change how many replicas the policy allows, as an operator does while Tidal runs."""
        changed = {**self._roles[role], "min_replicas": least, "max_replicas": most}
        self.policy({**self._roles, role: changed}, **self._more)

    @property
    def policy_file(self) -> Path:
        return self.folder / "policy.yaml"

    def start(self, policy: Policy, kubeconfig: Path | None = None, **demand: float) -> Script:
        """Start a replica of Tidal with this demand; return what speaks for the engines."""
        self.script = Script(policy, **demand)
        settings = ClusterSettings(
            kubeconfig=kubeconfig or service_account_kubeconfig(self.plane, self.world.namespace),
            namespace=self.world.namespace,
            identity=f"replica-{len(self._replicas)}",
            policy_file=self.policy_file,
            ledger=self.folder / f"ledger-{len(self._replicas)}.sqlite",
            forecast_state=self.folder / f"forecast-{len(self._replicas)}",
            listen="127.0.0.1",
            api_port=0,
            extender_port=self.extender_port,
        )
        stopped = threading.Event()
        thread = threading.Thread(target=self._run, args=(settings, stopped), name="replica")
        thread.start()
        self._replicas.append((thread, stopped))
        self._stack.callback(self.stop)
        eventually(lambda: self.world.found("configmaps", "tidal-plan"), "the first plan")
        return self.script

    def stop(self) -> None:
        """End all replicas; a second time does nothing."""
        for thread, stopped in self._replicas:
            stopped.set()
            thread.join(WAIT_SECONDS)
            assert not thread.is_alive(), "a replica does not stop"

    def _run(self, settings: ClusterSettings, stopped: threading.Event) -> None:
        with ExitStack() as stack, (self.folder / f"{settings.identity}.log").open("w") as file:
            log = logger(verbose=True, file=file)
            Replica(settings, lambda _: self.script, log, stack).run(stopped)

    def logged(self, event: str) -> list[Object]:
        """Return what the replicas logged under that name."""
        files = sorted(self.folder.glob("replica-*.log"))
        lines = (line for file in files for line in file.read_text().splitlines(keepends=True))
        found = (msgspec.json.decode(line) for line in lines if line.endswith("}\n"))
        return [one for one in found if one["event"] == event]

    def has_event(self, about: str, reason: str) -> None:
        """Wait for an Event on an object: it is written beside the change that it tells of."""
        eventually(lambda: reason in self.events(about), f"the Event {reason} on {about}")

    def problems(self) -> list[str]:
        """Return what the first replica's status complains about."""
        port = self.logged("started")[0]["api"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/status") as answer:
            return list(msgspec.json.decode(answer.read())["problems"])

    # ---- workloads -------------------------------------------------------------------------

    def deployment(
        self, name: str, replicas: int, gpus: int = 1, spec: Object | None = None
    ) -> None:
        """A serving Deployment whose pods this rig's scheduler places."""
        template = self.template(name, gpus, spec=spec)
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": template,
            },
        }
        self.world.make("apps/v1/deployments", body)

    def kinds(self, version: Literal["0.7", "0.8"] = "0.7") -> None:
        """Start the stand-in controllers of RoleBasedGroup and LeaderWorkerSet."""
        controllers = StandIn(self.api, self.world.namespace, version)
        controllers.start()
        self._stack.callback(controllers.stop)

    def lws(
        self,
        name: str,
        replicas: int,
        size: int = 2,
        gpus: int = 1,
        **more: Any,  # noqa: ANN401
    ) -> None:
        """A LeaderWorkerSet; `more` is for `template`."""
        parts = {"size": size, "workerTemplate": self.template(name, gpus, **more)}
        body = {
            "apiVersion": "leaderworkerset.x-k8s.io/v1",
            "kind": "LeaderWorkerSet",
            "metadata": {"name": name},
            "spec": {"replicas": replicas, "leaderWorkerTemplate": parts},
        }
        self.world.make(LWS, body)

    def group(self, name: str, *roles: Object) -> None:
        """A RoleBasedGroup."""
        body = {
            "apiVersion": "workloads.x-k8s.io/v1alpha2",
            "kind": "RoleBasedGroup",
            "metadata": {"name": name},
            "spec": {"roles": list(roles)},
        }
        self.world.make(RBG, body)

    def role(
        self,
        name: str,
        replicas: int,
        size: int = 1,
        gpus: int = 1,
        *,
        adapter: bool = False,
        **more: Any,  # noqa: ANN401
    ) -> Object:
        """A role of a group, whose pods have the label `app: NAME`; `more` is for `template`."""
        template = self.template(name, gpus, **more)
        shape: Object = {"standalonePattern": {"template": template}}
        if size > 1:
            shape = {"leaderWorkerPattern": {"size": size, "template": template}}
        scaled = {"scalingAdapter": {"enable": True}} if adapter else {}
        return {"name": name, "replicas": replicas, **shape, **scaled}

    def template(
        self,
        app: str,
        gpus: int,
        *,
        gate: bool = False,
        sim: dict[str, str] | None = None,
        spec: Object | None = None,
    ) -> Object:
        """Template of a serving pod."""
        notes = {f"tidal.dev/sim-{key}": value for key, value in (sim or {}).items()}
        gates = {"schedulingGates": [{"name": "tidal.dev/gang"}]} if gate else {}
        return {
            "metadata": {"labels": {"app": app}, "annotations": notes},
            "spec": self._pod(gpus, ONLINE)
            | {"terminationGracePeriodSeconds": 5}
            | gates
            | (spec or {}),
        }

    def job(
        self,
        name: str,
        pods: int = 1,
        gpus: int = 8,
        annotations: dict[str, str] | None = None,
        sim: dict[str, str] | None = None,
        spec: Object | None = None,
    ) -> None:
        """A suspended batch Job that is handed to Tidal."""
        notes = {f"tidal.dev/sim-{key}": value for key, value in (sim or {}).items()}
        template = {
            "metadata": {"labels": {"app": name}, "annotations": notes},
            "spec": self._pod(gpus, BATCH)
            | {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5}
            | (spec or {}),
        }
        body = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name,
                "labels": {"tidal.dev/queue": "night"},
                "annotations": {
                    f"tidal.dev/{key}": value for key, value in (annotations or {}).items()
                },
            },
            "spec": {
                "suspend": True,
                "parallelism": pods,
                "completions": pods,
                "completionMode": "Indexed",
                "backoffLimit": 100,
                "template": template,
            },
        }
        self.world.make("batch/v1/jobs", body)

    def _pod(self, gpus: int, priority: str) -> Object:
        container = {
            "name": "main",
            "image": "engine:1",
            "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
        }
        return {
            "schedulerName": self.scheduler_name,
            "priorityClassName": priority,
            "containers": [container],
        }

    def _priority(self, name: str, value: int, *, preempts: bool = False) -> None:
        body = {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "preemptionPolicy": "PreemptLowerPriority" if preempts else "Never",
        }
        self.api.post("/apis/scheduling.k8s.io/v1/priorityclasses", body)

    # ---- looking ---------------------------------------------------------------------------

    def ready(self, app: str) -> list[Object]:
        """Ready pods of a workload that are not on their way out."""
        return [one for one in self.world.all("pods", f"app={app}") if _serves(one)]

    def has_ready(self, app: str, count: int, seconds: float = WAIT_SECONDS) -> list[Object]:
        """Wait until exactly so many pods are ready, and none besides is there."""

        def look() -> list[Object] | None:
            there = self.world.all("pods", f"app={app}")
            return there if len(there) == count and all(map(_serves, there)) else None

        found = eventually(look, f"{count} pods of {app} ready", seconds)
        assert found is not None
        return found

    def nodes_of(self, app: str) -> list[str]:
        """Node of each pod that is there, in order of name; empty where it is not bound."""
        pods = self.world.all("pods", f"app={app}")
        return [one["spec"].get("nodeName", "") for one in pods]

    def stays(self, look: Callable[[], bool], what: str, plans: int = 3) -> None:
        """Look again and again until Tidal has planned so often: it must hold all the time."""
        before = len(self.logged("tick"))

        def planned() -> bool:
            assert look(), what
            return len(self.logged("tick")) >= before + plans

        eventually(planned, f"{plans} more plans")

    def suspended(self, job: str) -> bool:
        return bool(self.world.read("batch/v1/jobs", job)["spec"]["suspend"])

    def events(self, about: str) -> set[str]:
        """Reasons of the Events on an object."""
        answer = self.api.get(self.world.path("events.k8s.io/v1/events"))
        items = msgspec.json.decode(answer)["items"]
        return {one["reason"] for one in items if one["regarding"]["name"] == about}


def _serves(pod: Object) -> bool:
    return condition(pod, "Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


@contextmanager
def rig_of(plane: ControlPlane, namespace: str, folder: Path) -> Iterator[Rig]:
    """A rig, and its end."""
    with ExitStack() as stack:
        api = Api.load(plane.kubeconfig)
        stack.callback(api.close)
        world = World(api, namespace)
        # the namespace goes slowly, and Tidal looks at all of them
        stack.callback(api.delete, world.path("batch/v1/jobs"))
        yield Rig(plane, world, folder, stack)
