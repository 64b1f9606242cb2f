"""Files of faults: what they may say, what is refused, and when what strikes."""

from pathlib import Path

import numpy as np
import pytest

from scheduler.simulation.clusterfile import ClusterSpec, parse_cluster
from scheduler.simulation.faults import Change, Faults, FaultsError, load_faults


def cluster(*, spot: bool = True) -> ClusterSpec:
    return parse_cluster(
        {
            "groups": [
                {"name": "owned", "gpu_model": "X-80GB", "count": 2},
                {"name": "spot", "gpu_model": "X-80GB", "count": 4, "spot": spot},
            ]
        }
    )


def load(tmp_path: Path, text: str, spec: ClusterSpec | None = None) -> Faults:
    path = tmp_path / "faults.yaml"
    path.write_text(text)
    known = spec or cluster()
    return Faults(load_faults(path, known, ("chat",)), known, np.random.default_rng(1))


ALL_KINDS = """
- {kind: node_loss, node: owned-0001, at_seconds: 100, for_seconds: 50}
- {kind: sick_gpu, node: owned-0002, index: 3, at_seconds: 120}
- {kind: sick_gpu, node: owned-0002, index: 4, at_seconds: 120, for_seconds: 10}
- {kind: spot_wave, share: 0.5, at_seconds: 500, for_seconds: 60, notice_seconds: 30}
- {kind: scrapes_missing, at_seconds: 0, for_seconds: 10, roles: [chat/decode]}
- {kind: metrics_away, at_seconds: 50, for_seconds: 10}
- {kind: level_shift, model: chat, at_seconds: 0, factor: 2}
"""


def test_every_kind_strikes_when_it_should(tmp_path: Path) -> None:
    faults = load(tmp_path, ALL_KINDS)
    assert list(faults.due(99.0)) == []
    assert list(faults.due(150.0)) == [
        Change(100.0, "owned-0001", "lost"),
        Change(120.0, "owned-0002", "sick", 3),
        Change(120.0, "owned-0002", "sick", 4),
        Change(130.0, "owned-0002", "well", 4),
        Change(150.0, "owned-0001", "back"),
    ]
    wave = list(faults.due(1e9))
    assert [(one.at_seconds, one.what) for one in wave] == [
        *[(470.0, "cordoned")] * 2,
        *[(500.0, "lost")] * 2,
        *[(560.0, "back")] * 2,
    ]
    assert len({one.node for one in wave}) == 2
    assert all(one.node.startswith("spot-") for one in wave)
    assert list(faults.due(1e9)) == []


def test_the_nodes_of_a_wave_are_drawn_by_seed(tmp_path: Path) -> None:
    first, again = load(tmp_path, ALL_KINDS), load(tmp_path, ALL_KINDS)
    assert list(first.due(1e9)) == list(again.due(1e9))


@pytest.mark.parametrize(
    ("role", "now", "health"),
    [
        ("chat/decode", 0.0, "stale"),
        ("chat/prefill", 0.0, "live"),
        ("chat/decode", 10.0, "live"),
        ("chat/prefill", 59.0, "absent"),
        ("chat/prefill", 60.0, "live"),
    ],
)
def test_what_can_be_read(tmp_path: Path, role: str, now: float, health: str) -> None:
    assert load(tmp_path, ALL_KINDS).health(role, now) == health


@pytest.mark.parametrize(
    ("model", "since", "until", "blind"),
    [
        ("chat", -300.0, 0.0, False),
        ("chat", 0.0, 5.0, True),
        ("chat", 10.0, 50.0, False),
        ("code", 0.0, 50.0, False),  # another model's scrapes
        ("code", 40.0, 51.0, True),
    ],
)
def test_a_bin_not_seen_as_a_whole_is_blind(
    tmp_path: Path, model: str, since: float, until: float, blind: bool
) -> None:
    assert load(tmp_path, ALL_KINDS).blind(model, since, until) is blind


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{kind: node_loss, node: ghost, at_seconds: 0, for_seconds: 1}", "0.node: the cluster"),
        ("{kind: node_loss, node: owned-0001, at_seconds: 0}", "0.node_loss.for_seconds: "),
        ("{kind: sick_gpu, node: owned-0001, index: 8, at_seconds: 0}", "devices 0 to 7"),
        ("{kind: sick_gpu, node: ghost, index: 0, at_seconds: 0}", "no node ghost"),
        ("{kind: earthquake}", "earthquake"),
        ("{kind: level_shift, model: x, at_seconds: 0, factor: 2}", "no demand for x"),
        ("{kind: scrapes_missing, at_seconds: 0, for_seconds: 1, roles: [x/y]}", "x/y is not"),
        ("{kind: metrics_away, at_seconds: .inf, for_seconds: 1}", "at_seconds: "),
        ("{kind: metrics_away, at_seconds: 0, for_seconds: 1, colour: red}", "colour: "),
    ],
)
def test_a_fault_that_cannot_be_is_refused(tmp_path: Path, entry: str, said: str) -> None:
    with pytest.raises(FaultsError) as refused:
        load(tmp_path, f"- {entry}")
    assert said in str(refused.value)


def test_a_wave_needs_spot_nodes(tmp_path: Path) -> None:
    with pytest.raises(FaultsError, match="spot: true"):
        load(
            tmp_path,
            "- {kind: spot_wave, share: 0.5, at_seconds: 0, for_seconds: 9}",
            cluster(spot=False),
        )
