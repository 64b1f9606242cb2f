"""The world file: the default is whole, an own one is laid over it, an impossible one refused."""

from pathlib import Path

import pytest

from scheduler.simulation.worldfile import Spread, WorldError, load_world


def written(folder: Path, text: str) -> Path:
    path = folder / "world.yaml"
    path.write_text(text)
    return path


def test_the_default_world_is_whole() -> None:
    world = load_world()
    assert {"default", "chat", "code", "reason"} <= set(world.models)
    assert {name: engine.gpus for name, engine in world.engines.items()} == {
        "qwen3-32b": 2,
        "llama-70b": 4,
        "llama-8b": 1,
    }
    for engine in world.engines.values():
        assert {"H100-SXM-80GB", "H200-SXM-141GB", "A100-SXM-80GB"} <= set(engine.speeds)


def test_any_other_model_has_the_default_engine() -> None:
    world = load_world()
    assert world.engine("a-tenant") == world.engines["qwen3-32b"]
    assert world.engine("code") == world.engines["llama-8b"]


def test_a_spread_has_its_quantiles() -> None:
    spread = Spread(p50_seconds=60, p99_seconds=150)
    assert spread.log_mean == pytest.approx(4.094, abs=1e-3)
    assert spread.log_mean + 2.3263 * spread.log_sd == pytest.approx(5.0106, abs=1e-3)


def test_an_own_file_holds_only_what_differs(tmp_path: Path) -> None:
    own = load_world(
        written(
            tmp_path,
            "version: 1\nnoise: {minute_sd: 0.3}\n"
            "models: {chat: {engine: llama-8b}}\n"
            "batch: {priorities: [7], priority_probabilities: [1]}\n",
        )
    )
    default = load_world()
    assert own.noise.minute_sd == 0.3
    assert own.noise.prompt_length_sigma == default.noise.prompt_length_sigma
    assert own.models["chat"].engine == "llama-8b"
    assert own.models["chat"].slo == default.models["chat"].slo
    assert own.batch.priorities == (7,)
    assert own.engines == default.engines


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("noise: {}", ["version: is missing"]),
        ("version: 2", ["version: "]),
        ("version: 1\nstep_seconds: 6", ["step_seconds: ", "less than or equal to 5"]),
        ("version: 1\nstep_seconds: 3.5", ["step_seconds: ", "a minute must be a whole number"]),
        ("version: 1\nnoise: {minute_sd: -1}", ["noise.minute_sd: "]),
        ("version: 1\nnoise: {minute_sd: .nan}", ["noise.minute_sd: "]),
        ("version: 1\nnoise: {minutes: 1}", ["noise.minutes: is no key here"]),
        ("version: 1\nnoise: 3", ["noise: "]),
        ("version: 1\nstarts: {cold: {p99_seconds: 2}}", ["starts.cold: ", "p99_seconds must not"]),
        ("version: 1\nstarts: {tier: warm}", ["starts.tier: "]),
        ("version: 1\nstarts: {failure_share: 1}", ["starts.failure_share: "]),
        (
            "version: 1\nbatch: {priority_probabilities: [.5, .3, .1]}",
            ["batch.priority_probabilities: ", "must sum to 1, not 0.9"],
        ),
        ("version: 1\nbatch: {sizes_gpus: [1]}", ["batch: ", "must be equally long"]),
        ("version: 1\nbatch: {priorities: [1]}", ["batch: ", "must be equally long"]),
        (
            "version: 1\nbatch: {tenants: [{name: a, weight: 1, share: .5}]}",
            ["batch: ", "must sum to 1"],
        ),
        (
            "version: 1\nbatch: {tenants: [&a {name: a, weight: 1, share: .5}, *a]}",
            ["batch: ", "names must differ"],
        ),
        (
            "version: 1\nengines: {llama-8b: {speeds: {H100-SXM-80GB: {prefill: [[9,1],[9,1]]}}}}",
            ["engines.llama-8b.speeds.H100-SXM-80GB: ", "prompt lengths must rise"],
        ),
        (
            "version: 1\nmodels: {x: {engine: gpt}}",
            ["models.x.engine: no engine 'gpt'; known"],
        ),
        ("version: 1\nmodels: {default: null}", ["models.default: "]),
        ("version: 1\nengines: null", ["engines: "]),
        ("[1, 2]", ["must be a mapping"]),
        ("a: [", ["is not YAML"]),
    ],
)
def test_an_impossible_world_is_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(WorldError) as caught:
        load_world(written(tmp_path, text))
    for word in words:
        assert word in str(caught.value)


def test_all_errors_come_at_once(tmp_path: Path) -> None:
    text = "version: 1\nstep_seconds: 9\nnoise: {minute_sd: -1}\n"
    text += "models: {x: {engine: gpt, slo: {ttft_seconds: 1}}}"
    with pytest.raises(WorldError) as caught:
        load_world(written(tmp_path, text))
    fields = [line.partition(":")[0] for line in caught.value.errors]
    assert fields == ["step_seconds", "noise.minute_sd", "models.x.engine"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match=r"nowhere\.yaml"):
        load_world(tmp_path / "nowhere.yaml")
