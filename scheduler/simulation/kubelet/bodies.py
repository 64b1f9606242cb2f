"""Wire form of what the fake kubelet tells the API server. Pure: the moment is an argument."""

from typing import Any

from scheduler.apiserver.times import micro_text, text
from scheduler.simulation.clusterfile import NodeSpec
from scheduler.simulation.kubelet.facts import DEVICES, GPU
from scheduler.simulation.kubelet.writes import Remove, Report, ReportImages

Body = dict[str, Any]

MOST_PODS = 110
TIER = "fabric.topograph.run/tier-"
"""Switch labels: tier-0 is the leaf, tier-1 the spine above it."""
LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
_MIB = 1 << 20


def node(spec: NodeSpec) -> Body:
    """Return the Node object to create; its status is written apart."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": spec.name, "labels": labels(spec)},
        "spec": {},
    }


def labels(spec: NodeSpec) -> dict[str, str]:
    """Return what labels say of the node: its GPUs, its zone, its leaf and its spine."""
    found = {
        "kubernetes.io/hostname": spec.name,
        "kubernetes.io/os": "linux",
        "nvidia.com/gpu.product": spec.gpu_model,
        "nvidia.com/gpu.count": str(spec.gpus),
        "nvidia.com/gpu.memory": str(spec.gpu_memory_mib),
    }
    if len(spec.switch_path) > 1:
        found["topology.kubernetes.io/zone"] = spec.switch_path[0]
    below = spec.switch_path[1:] or spec.switch_path
    found.update({f"{TIER}{tier}": name for tier, name in enumerate(reversed(below))})
    if spec.spot:
        found["karpenter.sh/capacity-type"] = "spot"
    return found


def node_status(spec: NodeSpec, now_seconds: float) -> Body:
    """Return the patch of a node's status: what it has, and that it is Ready."""
    amounts = {
        "cpu": f"{spec.cpu_milli}m",
        "memory": f"{spec.memory_mib}Mi",
        "ephemeral-storage": f"{spec.disk_mib}Mi",
        "pods": str(MOST_PODS),
        GPU: str(spec.gpus),
    }
    conditions = [
        _condition("Ready", "True", "KubeletReady", now_seconds),
        *(
            _condition(f"{what}Pressure", "False", "Kubelet", now_seconds)
            for what in ("Memory", "Disk", "PID")
        ),
    ]
    for one in conditions:
        one["lastHeartbeatTime"] = text(now_seconds)
    return {
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": conditions,
            "addresses": [{"type": "Hostname", "address": spec.name}],
        }
    }


def lease(name: str, now_seconds: float) -> Body:
    """Return the node's heartbeat, for server-side apply."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": LEASE_NAMESPACE},
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": micro_text(now_seconds),
        },
    }


def images(write: ReportImages) -> Body:
    """Return the patch of a node's status with its image list."""
    listed = [{"names": [name], "sizeBytes": mib * _MIB} for name, mib in write.images]
    return {"status": {"images": listed}}


def removal(write: Remove) -> Body:
    """Return DeleteOptions: at once, and only this very pod."""
    return {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": write.uid},
    }


def pod_status(write: Report, now_seconds: float) -> Body:
    """Return the patch of a pod's status; the uid in it makes a successor's refuse it."""
    metadata: Body = {"uid": write.uid}
    if write.devices is not None:
        metadata["annotations"] = {DEVICES: ",".join(map(str, write.devices))}
    status: Body = {
        "phase": write.phase,
        "conditions": _conditions(write, now_seconds),
        "containerStatuses": [
            _container(write, name, image, now_seconds) for name, image in write.containers
        ],
    }
    if write.phase == "Pending":
        status["startTime"] = text(now_seconds)
    if write.reason:
        status |= {"reason": write.reason, "message": write.message}
    return {"metadata": metadata, "status": status}


def _conditions(write: Report, now_seconds: float) -> list[Body]:
    running = write.phase == "Running"
    reason = (
        ""
        if running
        else {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(
            write.phase, "ContainersNotReady"
        )
    )
    truths = {
        "PodReadyToStartContainers": running,
        "Initialized": not write.reason,
        "ContainersReady": write.containers_ready,
        "Ready": write.ready,
    }
    return [
        _condition(kind, "True" if true else "False", "" if true else reason, now_seconds)
        for kind, true in truths.items()
    ]


def _condition(kind: str, status: str, reason: str, now_seconds: float) -> Body:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "lastTransitionTime": text(now_seconds),
    }


def _container(write: Report, name: str, image: str, now_seconds: float) -> Body:
    return {
        "name": name,
        "image": image,
        "imageID": "",
        "ready": write.containers_ready,
        "restartCount": 0,
        "started": write.phase == "Running",
        "state": _state(write, now_seconds),
    }


def _state(write: Report, now_seconds: float) -> Body:
    if write.phase == "Running":
        return {"running": {"startedAt": text(now_seconds)}}
    if write.exit_code is None:
        return {"waiting": {"reason": write.reason or "ContainerCreating"}}
    return {
        "terminated": {
            "exitCode": write.exit_code,
            "reason": "Error" if write.exit_code else "Completed",
            "finishedAt": text(now_seconds),
        }
    }
