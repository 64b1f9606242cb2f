"""What the manifests in deploy/ say of Tidal agrees with the program, and with each other."""

import argparse
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from scheduler.adapters.policyfile import CONFIG_MAP_KEY
from scheduler.cli import cluster, jobagent, run
from scheduler.cli.terminal import Parser
from scheduler.daemon.documents.metrics import metrics
from scheduler.daemon.documents.shapes import Facts
from scheduler.daemon.documents.status import status
from scheduler.extender.server import Extender
from scheduler.view import View
from scheduler.wiring.cluster import ClusterSettings
from tests.controlplane.rights import DEPLOY, Object, documents
from tests.fixtures.ticks import busy_world, tick_of
from tests.fixtures.worlds import policy

TOP = DEPLOY.parent
CERTIFICATE_KEYS = {"tls.crt", "tls.key", "ca.crt"}
"""What cert-manager writes into a Secret."""
EXTENDERS = ("overlays/scheduler/configuration.yaml", "kube-scheduler/extender.yaml")


def one(file: str, kind: str, name: str) -> Object:
    (found,) = [
        item
        for item in documents(file)
        if item["kind"] == kind and item["metadata"]["name"] == name
    ]
    return found


DAEMON = one("base/deployment.yaml", "Deployment", "tidal")["spec"]["template"]["spec"]
SCHEDULER = one("overlays/scheduler/scheduler.yaml", "Deployment", "tidal-scheduler")["spec"][
    "template"
]["spec"]
CERTIFICATES = {
    item["spec"]["secretName"]: item["spec"]
    for item in documents("overlays/certmanager/certificates.yaml")
    if item["kind"] == "Certificate"
}


def container(pod: Object) -> Object:
    (found,) = pod["containers"]
    return dict(found)


def arguments(of: Object) -> list[str]:
    """As the kubelet passes them: $(NAME) is a variable of the container."""
    names = {variable["name"] for variable in of["env"]}

    def value(found: re.Match[str]) -> str:
        assert found[1] in names
        return found[1].lower()

    return [re.sub(r"\$\((\w+)\)", value, text) for text in of["args"]]


def settings() -> ClusterSettings:
    return run.settings_of(parsed(run, arguments(container(DAEMON))))


def parsed(command: Any, words: list[str]) -> argparse.Namespace:  # noqa: ANN401
    parser = Parser()
    command.add(parser.add_subparsers())
    return parser.parse_args(words)


def volumes(pod: Object) -> dict[str, tuple[Object, bool]]:
    """Where each volume of the only container is mounted, and whether it may be written."""
    sources = {volume["name"]: volume for volume in pod["volumes"]}
    return {
        mount["mountPath"]: (sources[mount["name"]], not mount.get("readOnly", False))
        for mount in container(pod)["volumeMounts"]
    }


def mounted(pod: Object, file: Path | str) -> tuple[Object, bool]:
    return volumes(pod)[str(Path(file).parent)]


# ---- the daemon ------------------------------------------------------------------------------


def test_the_program_takes_the_arguments() -> None:
    found = settings()
    assert found.namespace == "pod_namespace"
    assert found.identity.startswith("pod_name")
    assert found.listen == "0.0.0.0"  # noqa: S104 - the pod's own addresses


def test_the_program_takes_what_the_bind_overlay_adds() -> None:
    overlay = yaml.safe_load((DEPLOY / "overlays/bind/kustomization.yaml").read_text())
    ((operation,),) = [yaml.safe_load(patch["patch"]) for patch in overlay["patches"]]
    words = [*arguments(container(DAEMON)), operation["value"]]
    assert run.settings_of(parsed(run, words)).bind is True


def test_certificates_come_from_the_secret_and_the_ledger_may_be_written() -> None:
    found = settings()
    for file in (found.tls_cert, found.tls_key, found.tls_authority, found.extender_client_ca):
        assert file is not None
        assert file.name in CERTIFICATE_KEYS
        volume, _ = mounted(DAEMON, file)
        assert volume["secret"]["secretName"] in CERTIFICATES
    volume, writable = mounted(DAEMON, found.ledger)
    assert writable
    assert "emptyDir" in volume
    assert "emptyDir" in volumes(DAEMON)["/tmp"][0]  # noqa: S108


def test_the_policy_named_is_the_one_that_is_deployed() -> None:
    assert (
        CONFIG_MAP_KEY in one("base/policy.yaml", "ConfigMap", settings().policy_configmap)["data"]
    )


def test_ports_are_those_of_the_arguments_and_services_policies_and_probes_name_them() -> None:
    found = settings()
    ports = {port["name"]: port["containerPort"] for port in container(DAEMON)["ports"]}
    assert ports == {
        "api": found.api_port,
        "extender": found.extender_port,
        "health": found.health_port,
    }
    for service in documents("base/services.yaml"):
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    (network,) = documents("base/network.yaml")
    (ingress,) = network["spec"]["ingress"]
    assert {port["port"] for port in ingress["ports"]} == set(ports)
    for name in ("readinessProbe", "livenessProbe"):
        assert container(DAEMON)[name]["httpGet"]["port"] == "health"


def test_probes_ask_for_paths_that_there_are() -> None:
    app = Extender(View(), lambda: 0.0).health_app()
    served = {resource.canonical for resource in app.router.resources()}
    for name in ("readinessProbe", "livenessProbe"):
        assert container(DAEMON)[name]["httpGet"]["path"] in served


def test_the_network_policy_lets_prometheus_be_asked() -> None:
    words = arguments(container(DAEMON))
    address = parsed(run, words).prometheus
    (network,) = documents("base/network.yaml")
    (egress,) = network["spec"]["egress"]
    assert urlsplit(address).port in {port["port"] for port in egress["ports"]}


def test_selectors_find_the_pods() -> None:
    deployment = one("base/deployment.yaml", "Deployment", "tidal")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    selectors = [deployment["selector"]["matchLabels"]]
    selectors += [service["spec"]["selector"] for service in documents("base/services.yaml")]
    (network,), (budget,) = documents("base/network.yaml"), documents("base/disruption.yaml")
    selectors += [network["spec"]["podSelector"]["matchLabels"]]
    selectors += [budget["spec"]["selector"]["matchLabels"]]
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert budget["spec"]["minAvailable"] < deployment["replicas"]


# ---- who calls it ----------------------------------------------------------------------------


@pytest.mark.parametrize("file", EXTENDERS)
def test_kube_scheduler_calls_verbs_of_the_extender_under_a_name_of_its_certificate(
    file: str,
) -> None:
    (extender,) = yaml.safe_load((DEPLOY / file).read_text())["extenders"]
    app = Extender(View(), lambda: 0.0).app()
    served = {resource.canonical for resource in app.router.resources()}
    for verb in ("filterVerb", "prioritizeVerb", "preemptVerb"):
        assert f"/{extender[verb]}" in served
    address = urlsplit(extender["urlPrefix"])
    assert address.port == settings().extender_port
    assert address.hostname in CERTIFICATES["tidal-tls"]["dnsNames"]
    service = one("base/services.yaml", "Service", "tidal-extender")
    assert address.hostname == f"{service['metadata']['name']}.tidal-system.svc"


def test_kube_scheduler_finds_its_files() -> None:
    (argument,) = container(SCHEDULER)["command"][1:]
    volume, _ = mounted(SCHEDULER, argument.removeprefix("--config="))
    overlay = yaml.safe_load((DEPLOY / "overlays/scheduler/kustomization.yaml").read_text())
    (generated,) = overlay["configMapGenerator"]
    assert volume["configMap"]["name"] == generated["name"]
    assert Path(argument).name in generated["files"]
    (extender,) = yaml.safe_load((DEPLOY / EXTENDERS[0]).read_text())["extenders"]
    for name in ("caFile", "certFile", "keyFile"):
        file = Path(extender["tlsConfig"][name])
        assert file.name in CERTIFICATE_KEYS
        volume, _ = mounted(SCHEDULER, file)
        assert "client auth" in CERTIFICATES[volume["secret"]["secretName"]]["usages"]


def test_people_and_prometheus_verify_the_api_under_a_name_of_its_certificate() -> None:
    names = CERTIFICATES["tidal-tls"]["dnsNames"]
    assert f"{cluster.SERVICE}.{cluster.NAMESPACE}.svc" in names
    (monitor,) = documents("overlays/monitoring/servicemonitor.yaml")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["tlsConfig"]["serverName"] in names
    service = one("base/services.yaml", "Service", cluster.SERVICE)
    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert one("base/readers.yaml", "ServiceAccount", cluster.READER)


def test_alerts_name_metrics_that_there_are() -> None:
    rule = yaml.safe_load((DEPLOY / "overlays/monitoring/alerts.yaml").read_text())
    text = " ".join(alert["expr"] for group in rule["spec"]["groups"] for alert in group["rules"])
    written = metrics(status(tick_of(busy_world(), policy()), Facts()))
    there = {line.split()[2] for line in written.splitlines() if line.startswith("# TYPE")}
    assert set(re.findall(r"tidal_\w+", text)) <= there


# ---- the image, and the example --------------------------------------------------------------


def test_the_image_copies_every_package_and_runs_as_the_pods_do() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--" not in line]
    names = {name for names in copied for name in names}
    assert all((TOP / name).exists() for name in names)
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {package.rstrip("*") for package in packages} == {
        name for name in names if (TOP / name).is_dir()
    }
    security = DAEMON["securityContext"]
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}" in lines
    assert project["project"]["scripts"]["scalerctl"]
    assert lines[-1] == 'ENTRYPOINT ["scalerctl"]'


def test_the_example_job_runs_its_agent_with_the_rights_it_has() -> None:
    spec = one("examples/job.yaml", "Job", "train")["spec"]["template"]["spec"]
    (agent,) = spec["initContainers"]
    args = parsed(jobagent, arguments(agent))
    paths = {mount["mountPath"] for mount in agent["volumeMounts"]}
    assert str(args.directory) in paths
    account = spec["serviceAccountName"]
    binding = one("examples/job.yaml", "RoleBinding", account)
    assert account in {subject["name"] for subject in binding["subjects"]}
    classes = {item["metadata"]["name"] for item in documents("base/priorityclasses.yaml")}
    assert spec["priorityClassName"] in classes
    profiles = yaml.safe_load((DEPLOY / EXTENDERS[0]).read_text())["profiles"]
    assert spec["schedulerName"] in {profile["schedulerName"] for profile in profiles}


def test_every_manifest_belongs_to_a_build() -> None:
    apart = {"deploy", "examples", "kube-scheduler"}
    for file in DEPLOY.rglob("*.yaml"):
        if file.parent.name in apart or file.name == "kustomization.yaml":
            continue
        build = yaml.safe_load(file.with_name("kustomization.yaml").read_text())
        generated = [name for made in build.get("configMapGenerator", ()) for name in made["files"]]
        assert file.name in [*build["resources"], *generated]
