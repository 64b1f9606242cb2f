"""The demo on a real cluster: what the options make of it, before anything is touched."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from scheduler.cli import clusterdemo
from scheduler.cli.main import main
from scheduler.planning.targets import Target
from scheduler.wiring.demostage import ALIGNED_SECONDS, origin_of, unasked
from scheduler.wiring.demovalues import ClusterDemo, Scene

WALL = 1_800_000_123.4


def options(tmp_path: Path, **given: object) -> argparse.Namespace:
    plain: dict[str, object] = {
        "kubeconfig": tmp_path / "config",
        "context": None,
        "minutes": 2.0,
        "rate": 30.0,
        "scheduler_name": None,
        "extender_port": None,
        "keep": None,
        "demand": [],
        "nodes": 4,
        "cluster": None,
        "world": None,
        "policy": None,
        "jobs": "unlimited",
        "faults": "none",
        "history": None,
        "days": 1.0,
        "peak_share": 0.6,
        "demand_share": [],
        "seed": 1,
        "out": tmp_path / "out",
        "port": 0,
    }
    return argparse.Namespace(**{**plain, **given})


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> ClusterDemo:
    return clusterdemo.demo_of(options(tmp_path_factory.mktemp("demo")))[0]


def test_minutes_at_a_rate_make_the_demand(demo: ClusterDemo) -> None:
    assert demo.demand.end_seconds == 2 * 60 * 30
    assert demo.demand.start_seconds == -clusterdemo.WARM_UP_SECONDS * 30


def test_each_models_tide_rises_and_falls_within_the_run(demo: ClusterDemo) -> None:
    for arrays in demo.demand.models.values():
        scored = arrays.requests[-720:]
        parts = [part.mean() for part in np.array_split(scored, 6)]
        assert max(parts) > 1.2 * parts[0]
        assert max(parts) > 1.2 * parts[-1]


def test_every_role_has_a_deployment_and_times_allow_for_the_pace(demo: ClusterDemo) -> None:
    targets = dict(demo.policy.targets())
    assert targets["chat/decode"] == Target("Deployment", "tidal-demo", "chat-decode")
    assert not list(demo.policy.aimless())
    assert demo.policy.mode == "act"
    assert demo.policy.cadence.plan_seconds == 60.0
    assert demo.policy.extender.plan_stale_seconds == 900.0
    role = demo.policy.role("chat/decode")
    assert role is not None
    assert role.lead_seconds == 300.0 + 90.0


def test_nodes_have_names_of_their_own(demo: ClusterDemo) -> None:
    assert [node.name for node in demo.cluster.nodes][:1] == ["tidal-demo-node-0001"]


def test_the_clock_begins_at_a_bin() -> None:
    for rate in (2.0, 60.0, 240.0):
        origin = origin_of(WALL, rate)
        now = origin + (WALL - origin) * rate
        assert now % ALIGNED_SECONDS == pytest.approx(0, abs=1e-3)
    assert origin_of(WALL, 1.0) == WALL


def test_the_stanza_names_the_extender(demo: ClusterDemo) -> None:
    words = unasked(demo)
    assert "urlPrefix: http://127.0.0.1:9331" in words
    assert "nodeCacheCapable: true" in words


def test_a_scene_is_one_line() -> None:
    scene = Scene(
        now_seconds=1800.0,
        end_seconds=3600.0,
        gpus={"online": 3, "lent": 4, "free": 1},
        replicas={"chat/decode": 2},
        jobs={"queued": 5},
        filter_calls=6,
    )
    assert clusterdemo.line(scene) == (
        "0.50 h: GPUs 3 online, 4 lent, 1 free; ready chat/decode 2; jobs 5 queued; asked 6 times"
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--rate=60"], "--rate: needs --kubeconfig"),
        (["--keep"], "--keep: needs --kubeconfig"),
        (["--kubeconfig=F", "--days=2"], "--days: not with --kubeconfig"),
        (["--kubeconfig=F", "--faults=x"], "--faults: not with --kubeconfig"),
        (["--kubeconfig=/none"], "--kubeconfig: "),
    ],
)
def test_wrong_use_is_said(
    given: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", *given]) == 2
    assert words in capsys.readouterr().err
