"""The cluster of a simulation: what a file may say, and what is refused."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.simulation.clusterfile import ClusterError, build, load_cluster, parse_cluster

NODE = {"name": "a", "gpu_model": "H100-SXM-80GB", "switch_path": ["core", "s", "l"]}


def test_a_file_of_nodes_and_groups(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(
        """
groups:
  - {name: h200, gpu_model: H200-SXM-141GB, count: 5, leaf_nodes: 2, spine_leaves: 2}
nodes:
  - {name: odd, gpu_model: lab-card, gpus: 4, gpu_memory_gib: 24, spot: true,
     switch_path: [core, lab]}
"""
    )
    cluster = load_cluster(path)
    assert [node.name for node in cluster.nodes] == [f"h200-000{n}" for n in range(1, 6)] + ["odd"]
    assert [node.switch_path[1:] for node in cluster.nodes[:5]] == [
        ("h200-spine-00", "h200-leaf-000"),
        ("h200-spine-00", "h200-leaf-000"),
        ("h200-spine-00", "h200-leaf-001"),
        ("h200-spine-00", "h200-leaf-001"),
        ("h200-spine-01", "h200-leaf-002"),
    ]
    odd = cluster.nodes[-1]
    assert (odd.gpus, odd.gpu_memory_mib, odd.spot) == (4, 24 * 1024, True)
    assert cluster.nodes[0].gpu_memory_mib == 141 * 1024
    assert cluster.gpus == 44


def test_gpu_models_may_share_a_leaf() -> None:
    other = NODE | {"name": "b", "gpu_model": "H200-SXM-141GB"}
    assert len(parse_cluster({"nodes": [NODE, other]}).nodes) == 2


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"nodes": [NODE, NODE]}, "nodes: the name a occurs twice"),
        ({"nodes": [NODE | {"gpus": 0}]}, "nodes.0.gpus: "),
        ({"nodes": [NODE | {"gpus": 17}]}, "(given: 17)"),
        ({"nodes": [NODE | {"switch_path": []}]}, "nodes.0.switch_path: "),
        ({"nodes": [NODE | {"switch_path": ["core", ""]}]}, "nodes.0.switch_path.1: "),
        ({"nodes": [NODE | {"gpu": 8}]}, "nodes.0.gpu: "),
        ({"nodes": [NODE | {"name": "a/b"}]}, "nodes.0.name: "),
        ({"nodes": [NODE | {"gpu_model": "mystery"}]}, "gpu_memory_gib: missing"),
        ({"nodes": []}, "nodes: there are none"),
        ({"groups": [{"name": "g", "gpu_model": "X-80GB", "count": 0}]}, "groups.0.count: "),
        (
            {"nodes": [NODE, NODE | {"name": "b", "switch_path": ["core", "s"]}]},
            "core/s is a leaf of one node and above the leaf of another",
        ),
        ([], "(document): "),
    ],
)
def test_what_cannot_be_is_refused(document: object, said: str) -> None:
    with pytest.raises(ClusterError) as refused:
        parse_cluster(document)
    assert said in str(refused.value)


def test_every_error_is_told_at_once() -> None:
    with pytest.raises(ClusterError) as refused:
        parse_cluster({"nodes": [NODE | {"gpus": 0}, NODE | {"gpus": 99, "colour": "red"}]})
    assert len(refused.value.errors) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [("nodes: [", "is not YAML"), (None, "cannot be read"), (b"\xff\xfe\x00", "is not UTF-8")],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, text: str | bytes | None, said: str) -> None:
    path = tmp_path / "cluster.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ClusterError, match=said):
        load_cluster(path)


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(ClusterError, match="path: is empty"):
        load_cluster(Path())


@given(st.integers(1, 300))
def test_a_built_cluster_alternates_models_by_leaf(nodes: int) -> None:
    cluster = build(nodes)
    assert len({node.name for node in cluster.nodes}) == nodes
    leaves = {node.switch_path: node.gpu_model for node in cluster.nodes}
    assert all(leaves[node.switch_path] == node.gpu_model for node in cluster.nodes)
    assert max(Counter(node.switch_path for node in cluster.nodes).values()) <= 16
    assert max(Counter(path[:-1] for path in leaves).values()) <= 4
    assert len(set(leaves.values())) == min(2, nodes)
    assert cluster.gpus == 8 * nodes


def test_a_cluster_of_nothing_is_refused() -> None:
    with pytest.raises(ClusterError, match="must be 1 to 20000"):
        build(0)
    with pytest.raises(ClusterError, match="gpu_models"):
        build(4, ())
