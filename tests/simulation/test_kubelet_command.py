"""`scalerctl fake-kubelet`: what it refuses, in one line that names the option."""

from pathlib import Path

import pytest

from scheduler.cli.kubelet import words
from scheduler.cli.main import main
from scheduler.simulation.kubelet.shell import Summary

NODES = "nodes: [{name: n, gpu_model: H100-SXM-80GB, switch_path: [leaf]}]"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "--kubeconfig: is missing"),
        (["--kubeconfig=absent"], "--kubeconfig: kubeconfig absent cannot be used"),
        (["--kubeconfig=f", "--nodes=0"], "--nodes: '0' is not a whole number of 1 or more"),
        (["--kubeconfig=f", "--gpu-model=Fast"], "gpu_model 'Fast' does not end in its GB"),
        (["--kubeconfig=f", "--cluster=absent.yaml"], "--cluster: absent.yaml"),
        (["--kubeconfig=f", "--cluster=c.yaml", "--gpu-model=X"], "--gpu-model: says what"),
        (["--kubeconfig=f", "--start=2"], "--start: '2' is no duration"),
        (["--kubeconfig=f", "--rate=0"], "--rate: '0' is not a number above 0"),
    ],
)
def test_wrong_use_is_named(
    options: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(NODES)
    assert main(["fake-kubelet", *options]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1


def test_the_summary_is_one_line() -> None:
    summary = Summary(2, {"running": 3, "stopping": 1}, 16, 9)
    assert words(summary) == "2 nodes, 9/16 GPUs held, pods: 3 running, 1 stopping"
    assert words(Summary(1, {}, 8, 0)) == "1 nodes, 0/8 GPUs held, pods: none"
