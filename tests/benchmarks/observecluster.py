"""The cluster that `observe` reads: nodes and bound pods as a cloud's would look."""

import sys
from concurrent.futures import ThreadPoolExecutor

from scheduler.apiserver.client import Api

GPU = "nvidia.com/gpu"
GPU_SHARE = 0.6
"""Of the pods; the others are daemons, gateways and the like."""
CONNECTIONS = 16


def node(number: int) -> dict[str, object]:
    """A GPU node as a cloud's would look."""
    return {
        "metadata": {
            "name": node_name(number),
            "labels": {
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/os": "linux",
                "kubernetes.io/hostname": node_name(number),
                "node.kubernetes.io/instance-type": "gpu-8",
                "nvidia.com/gpu.count": "8",
                "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
                "topology.kubernetes.io/zone": f"zone-{number % 3}",
                "network.topology.nvidia.com/block": f"block-{number // 256}",
                "network.topology.nvidia.com/spine": f"spine-{number // 1024}",
            },
        },
    }


def node_status() -> dict[str, object]:
    """Capacity, conditions and as many images as a kubelet reports at most."""
    amount = {"cpu": "128", "memory": "2048Gi", "pods": "110", GPU: "8"}
    kinds = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    conditions = [
        {
            "type": kind,
            "status": "True" if kind == "Ready" else "False",
            "reason": f"Kubelet{kind}",
            "message": "kubelet is posting ready status",
            "lastHeartbeatTime": "2025-01-01T00:00:00Z",
            "lastTransitionTime": "2025-01-01T00:00:00Z",
        }
        for kind in kinds
    ]
    images = [
        {
            "names": [
                f"registry.example.com/serving/engine-{image}@sha256:{image:064x}",
                f"registry.example.com/serving/engine-{image}:v1.{image}",
            ],
            "sizeBytes": 1_000_000_000 + image,
        }
        for image in range(50)
    ]
    status = {"capacity": amount, "allocatable": amount, "conditions": conditions}
    return {"status": {**status, "images": images}}


def pod(number: int, nodes: int, gpu: bool) -> dict[str, object]:
    """A bound pod of a workload of some 50 pods, with a sidecar."""
    workload = f"{'engine' if gpu else 'gateway'}-{number // 50}"
    amount = {"cpu": "8", "memory": "64Gi"} | ({GPU: "1"} if gpu else {})
    main = container("main", f"registry.example.com/{workload}:v1", amount)
    sidecar = container("metrics", "registry.example.com/exporter:v3", {"cpu": "100m"})
    return {
        "metadata": {
            "name": pod_name(number),
            "labels": {
                "app.kubernetes.io/name": workload,
                "app.kubernetes.io/part-of": "chat",
                "pod-template-hash": f"{number // 50:010x}",
                "team": f"team-{number % 20}",
            },
            "annotations": {"example.com/rendered-from": "values.yaml " * 10},
        },
        "spec": {
            "nodeName": node_name(number % nodes),
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [main, sidecar],
        },
    }


def container(name: str, image: str, amount: dict[str, str]) -> dict[str, object]:
    """A container with what is usual: variables, ports and a probe."""
    variables = [{"name": f"VARIABLE_{n}", "value": f"value-{n}"} for n in range(10)]
    return {
        "name": name,
        "image": image,
        "args": ["serve", "--model", "/models/chat", "--port", "8000"],
        "env": variables,
        "ports": [{"containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}},
        "resources": {"requests": amount, "limits": amount},
    }


def pod_status() -> dict[str, object]:
    """A running pod's status."""
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    conditions = [
        {"type": one, "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"}
        for one in kinds
    ]
    return {
        "status": {
            "phase": "Running",
            "startTime": "2025-01-01T00:00:00Z",
            "podIP": "10.0.0.1",
            "conditions": conditions,
        }
    }


def node_name(number: int) -> str:
    """A node's name."""
    return f"gpu-{number:05}"


def pod_name(number: int) -> str:
    """A pod's name."""
    return f"pod-{number:06}"


def has_gpu(number: int) -> bool:
    """Whole workloads have GPUs or none; their numbers are spread evenly."""
    return (number // 50) % 10 < GPU_SHARE * 10


def fill(api: Api, nodes: int, pods: int) -> None:
    """Create everything, over parallel connections."""

    def create_node(number: int) -> None:
        api.post("/api/v1/nodes", node(number))
        path = f"/api/v1/nodes/{node_name(number)}/status"
        api.patch(path, node_status(), "strategic")

    def create_pod(number: int) -> int:
        api.post("/api/v1/namespaces/default/pods", pod(number, nodes, has_gpu(number)))
        path = f"/api/v1/namespaces/default/pods/{pod_name(number)}/status"
        api.patch(path, pod_status(), "strategic")
        return number

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for _ in pool.map(create_node, range(nodes)):
            pass
        for done in pool.map(create_pod, range(pods)):
            if done and done % 5000 == 0:
                print(f"  {done} pods", file=sys.stderr, flush=True)
