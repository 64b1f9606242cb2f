"""Command lines and files of the control plane's programs: values in, text out."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.controlplane.certificates import Pair
from tests.controlplane.ports import LOOPBACK

SERVICE_ACCOUNT_ISSUER = "https://kubernetes.default.svc"
# Fake nodes send no heartbeats: these two would taint them and take their pods away.
NODE_HEALTH = ("node-lifecycle-controller", "taint-eviction-controller")


@dataclass(frozen=True, kw_only=True)
class Extender:
    """An entry of `extenders:` in a KubeSchedulerConfiguration. An empty verb is not called."""

    url: str  # with scheme; https turns TLS on
    filter_verb: str = "filter"
    preempt_verb: str = "preempt"
    prioritize_verb: str = ""
    bind_verb: str = ""
    weight: int = 1
    ignorable: bool = False
    # far above deploy/'s 1 s: on a slow machine a late answer of an ignorable extender is skipped,
    # and kube-scheduler then chooses nodes and victims by itself
    timeout_seconds: float = 60.0
    names_only: bool = True  # nodeCacheCapable
    managed_resource: str = "nvidia.com/gpu"
    ignored_resources: tuple[str, ...] = ()  # that kube-scheduler leaves to its extenders
    certificate: Pair | None = None  # what the scheduler shows
    authority: bytes | None = None  # who must have signed the extender's certificate


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings:
    """What a test may choose of a kube-scheduler; `overrides` are merged in at the top level."""

    name: str
    extender: Extender | None = None
    percentage_of_nodes_to_score: int = 100
    qps: int = 5000
    overrides: Mapping[str, object] = field(default_factory=dict)


def scheduler_configuration(settings: SchedulerSettings, kubeconfig: Path) -> dict[str, object]:
    """A KubeSchedulerConfiguration with one profile of that name."""
    extenders = [] if settings.extender is None else [extender_entry(settings.extender)]
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {
            "kubeconfig": str(kubeconfig),
            "qps": settings.qps,
            "burst": 2 * settings.qps,
        },
        "percentageOfNodesToScore": settings.percentage_of_nodes_to_score,
        "profiles": [{"schedulerName": settings.name}],
        "extenders": extenders,
        **settings.overrides,
    }


def extender_entry(extender: Extender) -> dict[str, object]:
    """One entry of `extenders:`, without the verbs that are empty."""
    verbs = {
        "filterVerb": extender.filter_verb,
        "preemptVerb": extender.preempt_verb,
        "prioritizeVerb": extender.prioritize_verb,
        "bindVerb": extender.bind_verb,
    }
    entry: dict[str, object] = {
        "urlPrefix": extender.url,
        **{key: verb for key, verb in verbs.items() if verb},
        "weight": extender.weight,
        "ignorable": extender.ignorable,
        "httpTimeout": f"{extender.timeout_seconds}s",
        "nodeCacheCapable": extender.names_only,
        "managedResources": [
            {"name": extender.managed_resource},
            *({"name": name, "ignoredByScheduler": True} for name in extender.ignored_resources),
        ],
    }
    if extender.url.startswith("https://"):
        entry |= {"enableHTTPS": True, "tlsConfig": _tls(extender)}
    return entry


def _tls(extender: Extender) -> dict[str, object]:
    tls: dict[str, object] = {}
    if extender.authority is not None:
        tls["caData"] = _base64(extender.authority)
    if extender.certificate is not None:
        tls["certData"] = _base64(extender.certificate.certificate)
        tls["keyData"] = _base64(extender.certificate.key)
    return tls


def kubeconfig(url: str, authority: bytes, user: Mapping[str, str]) -> str:
    """A kubeconfig of one cluster, one user and one context, nothing of it in other files."""
    name = "tidal-tests"
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": name,
                    "cluster": {"server": url, "certificate-authority-data": _base64(authority)},
                }
            ],
            "users": [{"name": name, "user": dict(user)}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
    )


def certificate_user(pair: Pair) -> dict[str, str]:
    """The user part of a kubeconfig with a client certificate."""
    return {
        "client-certificate-data": _base64(pair.certificate),
        "client-key-data": _base64(pair.key),
    }


def etcd_flags(folder: Path, client_port: int, peer_port: int) -> list[str]:
    """One member that does not wait for the disk: what it holds is worth one test session."""
    client = f"http://{LOOPBACK}:{client_port}"
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls=http://{LOOPBACK}:{peer_port}",
        "--unsafe-no-fsync",
    ]


def apiserver_flags(folder: Path, port: int, etcd_port: int) -> list[str]:
    """RBAC, client certificates, service account tokens.

    TaintNodesByCondition is off, else a new node is born not-ready until a controller that does
    not run here looks at it. The endpoint reconciler is off because it refuses loopback addresses.
    """
    return [
        f"--etcd-servers=http://{LOOPBACK}:{etcd_port}",
        f"--bind-address={LOOPBACK}",
        f"--advertise-address={LOOPBACK}",
        f"--secure-port={port}",
        "--endpoint-reconciler-type=none",
        "--authorization-mode=RBAC",
        "--disable-admission-plugins=TaintNodesByCondition",
        "--service-cluster-ip-range=10.96.0.0/16",
        f"--client-ca-file={folder / 'ca.crt'}",
        f"--tls-cert-file={folder / 'server.crt'}",
        f"--tls-private-key-file={folder / 'server.key'}",
        f"--service-account-issuer={SERVICE_ACCOUNT_ISSUER}",
        f"--service-account-key-file={folder / 'service-account.pub'}",
        f"--service-account-signing-key-file={folder / 'service-account.key'}",
    ]


def controller_manager_flags(
    folder: Path, kubeconfig_file: Path, port: int, *, node_health: bool
) -> list[str]:
    """All controllers that run by default; those of node health only when asked for."""
    disabled = () if node_health else NODE_HEALTH
    return [
        f"--kubeconfig={kubeconfig_file}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--controllers={','.join(['*', *(f'-{name}' for name in disabled)])}",
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
        f"--root-ca-file={folder / 'ca.crt'}",
        f"--service-account-private-key-file={folder / 'service-account.key'}",
        f"--tls-cert-file={folder / 'server.crt'}",
        f"--tls-private-key-file={folder / 'server.key'}",
    ]


def scheduler_flags(folder: Path, configuration: Path, port: int) -> list[str]:
    """Serves /readyz and /metrics to everyone on the loopback address."""
    return [
        f"--config={configuration}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        "--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics",
        f"--tls-cert-file={folder / 'server.crt'}",
        f"--tls-private-key-file={folder / 'server.key'}",
    ]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
