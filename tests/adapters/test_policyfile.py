"""A policy file is read again when it changed, and a bad edit changes nothing."""

import os
from pathlib import Path

import pytest

from scheduler.adapters.policyfile import PolicyFile, read_policy
from scheduler.planning.policy import PolicyError

GOOD = """
version: 1
mode: {mode}
models:
  chat:
    roles:
      decode: {{tokens: generated, capacity_tokens_per_second: {{H100: 1000}}}}
"""
BAD = GOOD.format(mode="maybe").replace("tokens: generated", "tokens: spoken")


def written(path: Path, text: str) -> Path:
    """Write the file anew, as editors and ConfigMap volumes do: another file takes the name."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "policy.yaml", GOOD.format(mode="act"))


def test_the_first_load_raises_every_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        PolicyFile(written(tmp_path / "policy.yaml", BAD))
    fields = [line.partition(":")[0] for line in caught.value.errors]
    assert fields == ["mode", "models.chat.roles.decode.tokens"]


def test_a_good_edit_is_taken_in(path: Path) -> None:
    file = PolicyFile(path)
    assert file.current().mode == "act"
    written(path, GOOD.format(mode="recommend"))
    assert file.current().mode == "recommend"
    assert file.error == ()


def test_a_bad_edit_keeps_the_last_good_policy_until_it_is_mended(path: Path) -> None:
    file = PolicyFile(path)
    before = file.current()
    written(path, BAD)
    assert file.current() is before
    assert [line.partition(":")[0] for line in file.error] == [
        "mode",
        "models.chat.roles.decode.tokens",
    ]
    written(path, GOOD.format(mode="off"))
    assert file.current().mode == "off"
    assert file.error == ()


def test_a_file_that_is_gone_is_a_bad_edit(path: Path) -> None:
    file = PolicyFile(path)
    path.unlink()
    assert file.current().mode == "act"
    assert file.error == (f"{path}: cannot be read: No such file or directory; name a file",)


def test_an_unchanged_file_is_not_read_again(path: Path) -> None:
    file = PolicyFile(path)
    assert file.current() is file.current()


def test_the_swap_of_a_configmap_volume_is_seen(tmp_path: Path) -> None:
    for name, mode in (("one", "act"), ("two", "recommend")):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "policy.yaml"
        file.write_text(GOOD.format(mode=mode))
        os.utime(file, ns=(1, 1))
    link, mounted = tmp_path / "..data", tmp_path / "policy.yaml"
    link.symlink_to("one")
    mounted.symlink_to("..data/policy.yaml")
    policy = PolicyFile(mounted)
    assert policy.current().mode == "act"
    (tmp_path / "..next").symlink_to("two")
    (tmp_path / "..next").rename(link)
    assert policy.current().mode == "recommend"


def test_a_configmap_manifest_carries_the_policy(tmp_path: Path) -> None:
    indented = GOOD.format(mode="act").replace("\n", "\n    ")
    manifest = f"kind: ConfigMap\napiVersion: v1\ndata:\n  policy.yaml: |{indented}\n"
    assert read_policy(written(tmp_path / "map.yaml", manifest)).mode == "act"


@pytest.mark.parametrize("mode", ["off", "recommend", "act", "'off'"])
def test_every_mode_is_a_word_though_yaml_takes_off_for_false(tmp_path: Path, mode: str) -> None:
    policy = read_policy(written(tmp_path / "policy.yaml", GOOD.format(mode=mode)))
    assert policy.mode == mode.strip("'")


def test_true_and_false_stay_what_they_are(tmp_path: Path) -> None:
    text = GOOD.format(mode="act") + "packing: {program: false}\n"
    assert read_policy(written(tmp_path / "policy.yaml", text)).packing.program is False


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: ConfigMap\ndata: {other.yaml: x}", "data.policy.yaml: is missing in the ConfigMap"),
        ("kind: ConfigMap\ndata: 3", "data.policy.yaml: is missing in the ConfigMap"),
        ("kind: ConfigMap\ndata: {policy.yaml: '['}", "data.policy.yaml line 1: "),
        ("- 1\n- 2", "holds no mapping; start with 'version: 1'"),
        ("", "holds no mapping"),
        ("1: 2", "1: is no field name; write it as text"),
        ("version: 1\nmodels: {", "line 2: "),
        ("a: !!python/object:os.system 1", "could not determine a constructor"),
        ("version: 1\nmode: act\nmode: off", "line 3: 'mode' stands twice"),
        ("version: 1\n\x00", "mend the YAML"),
        ("x" * 1_100_000, "is larger than 1048576 bytes"),
    ],
)
def test_what_is_no_policy_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read_policy(written(tmp_path / "policy.yaml", text))
    (line,) = caught.value.errors
    assert words in line
    assert "\n" not in line


def test_a_folder_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read: Is a directory"):
        read_policy(tmp_path)
