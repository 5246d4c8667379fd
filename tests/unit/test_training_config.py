"""The training pipeline's configuration, and where its checkpoints are."""

import pytest

from podtasks.pure.errors import ConfigError
from podtasks.pure.settings import Settings
from podtasks.pure.training_config import (
    TrainingConfig,
    available_configs,
    checkpoint_directory,
    parse_training_config,
)

OUTPUT_KEYS = ("training.output_dir", "output_dir")
LOGGING_KEYS = ("training.logging_dir", "logging_dir")
PATH = "configs/baseline_whisper_small.yaml"


def parse(text: str) -> TrainingConfig:
    return parse_training_config(text, PATH, OUTPUT_KEYS, LOGGING_KEYS)


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as failure:
        parse(text)
    return str(failure.value)


@pytest.mark.parametrize(
    ("text", "output_dir", "logging_dir"),
    [
        ("training: {output_dir: checkpoints/a, logging_dir: logs/a}", "checkpoints/a", "logs/a"),
        ("output_dir: checkpoints/a", "checkpoints/a", None),
        ("training: {epochs: 3}\noutput_dir: out", "out", None),
        ("training: {output_dir: null}\noutput_dir: out", "out", None),
        ("training: {output_dir: first}\noutput_dir: second", "first", None),
        ("training: text\noutput_dir: out", "out", None),
        ("training.output_dir: dotted", "dotted", None),
        ("output_dir: /workspace/out", "/workspace/out", None),
        ('output_dir: "it\'s; $(odd) [name]"', "it's; $(odd) [name]", None),
        ("output_dir: ./out/", "./out/", None),
    ],
)
def test_parse_finds_the_directories_where_the_keys_say(text: str, output_dir: str, logging_dir: str | None) -> None:
    config = parse(text)
    assert (config.output_dir, config.logging_dir) == (output_dir, logging_dir)


def test_parse_keeps_the_path_and_the_name() -> None:
    config = parse("output_dir: out\nbatch_size: 24\n")
    assert (config.path, config.name) == (PATH, "baseline_whisper_small")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: b: c", "is not YAML: line 1, column 5"),
        ("a: 1\nb: [1, 2\nc: 3", "is not YAML: line 3, column 2"),
        ("\tx: 1", "is not YAML: line 1, column 1"),
        ("a: \0", "is not YAML"),
        ("a: !!python/object:os.system x", "is not YAML: line 1"),
        ("a: !!int ''", "a value in it cannot be read"),
        ("day: 2001-99-99", "a value in it cannot be read"),
        ("[" * 5000, "nested too deeply"),
        ("", "is empty"),
        ("- a\n- b", "holds a list"),
        ("just text", "holds a str"),
    ],
)
def test_parse_of_what_is_no_configuration_says_where_and_why(text: str, said: str) -> None:
    message = refusal(text)
    assert said in message
    assert PATH in message


def test_parse_without_output_directory_names_the_keys_and_the_setting() -> None:
    message = refusal("training: {epochs: 3}")
    assert "looked for training.output_dir, output_dir" in message
    assert "podtasks.output_dir in invoke.yaml" in message


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("3", "is not text"),
        ("[a]", "is not text"),
        ("''", "must not be empty"),
        ("' '", "must not be empty"),
        ("../out", "must not climb"),
        ("a/../../b", "must not climb"),
        ("checkpoints/..", "must not climb"),
        ("/workspace/../etc", "must not climb"),
        ("/", "whole disk"),
        ("//", "whole disk"),
        ("/workspace", "whole disk"),
        ("/workspace/./", "whole disk"),
        ("/root/out", "not on the volume"),
        ("/workspace2/out", "not on the volume"),
        ("~/out", "without ~"),
        ('"a\\nb"', "control characters"),
        ('"a\\ud800"', "half characters"),
        ("${root}/out", "only the training script"),
    ],
)
@pytest.mark.parametrize("key", ["output_dir", "logging_dir"])
def test_parse_refuses_a_directory_that_would_lose_the_files(key: str, value: str, said: str) -> None:
    other = "output_dir: out\n" if key == "logging_dir" else ""
    message = refusal(f"{other}{key}: {value}")
    assert said in message
    assert f"{PATH}: {key}" in message


def test_parse_goes_by_the_mount_path() -> None:
    text = "output_dir: /data/out"
    config = parse_training_config(text, PATH, OUTPUT_KEYS, LOGGING_KEYS, mount_path="/data")
    assert config.output_dir == "/data/out"
    with pytest.raises(ConfigError, match="whole disk"):
        parse_training_config("output_dir: /data", PATH, OUTPUT_KEYS, LOGGING_KEYS, mount_path="/data")


@pytest.mark.parametrize(
    ("output_dir", "pattern", "branch", "expected"),
    [
        ("checkpoints/a", "{output_dir}", "main", "/workspace/speech/checkpoints/a"),
        ("./checkpoints//a/", "{output_dir}", "main", "/workspace/speech/checkpoints/a"),
        ("/workspace/out", "{output_dir}", "main", "/workspace/out"),
        ("out", "{output_dir}_{branch}", "feature/x", "/workspace/speech/out_feature/x"),
        ("out", "{output_dir}/{config}", "main", "/workspace/speech/out/baseline_whisper_small"),
        ("{branch}", "{output_dir}", "main", "/workspace/speech/{branch}"),
    ],
)
def test_checkpoint_directory_fills_the_pattern(output_dir: str, pattern: str, branch: str, expected: str) -> None:
    settings = Settings(project="speech", checkpoint_dir=pattern)
    config = TrainingConfig(PATH, output_dir, None)
    assert checkpoint_directory(settings, config, branch) == expected


@pytest.mark.parametrize(
    ("pattern", "branch", "said"),
    [
        ("{output_dir}/{branch}", "../../x", "must not climb"),
        ("/root/{config}", "main", "not on the volume"),
        ("/workspace", "main", "whole disk"),
    ],
)
def test_checkpoint_directory_refuses_what_is_not_on_the_volume(pattern: str, branch: str, said: str) -> None:
    settings = Settings(project="speech", checkpoint_dir=pattern)
    with pytest.raises(ConfigError, match=said) as failure:
        checkpoint_directory(settings, TrainingConfig(PATH, "out", None), branch)
    assert "podtasks.checkpoint_dir" in failure.value.next_step


def test_available_configs_lists_all_and_names_the_nearest() -> None:
    names = ["configs/digits.yaml", "configs/baseline.yaml"]
    assert available_configs(names, "configs/digit.yaml") == (
        "did you mean configs/digits.yaml? Choose one of:\n  configs/baseline.yaml\n  configs/digits.yaml"
    )
    assert available_configs(names, "digits").startswith("did you mean configs/digits.yaml?")
    assert available_configs(["configs/reference.yaml"], "configs/nope.yaml").startswith("choose one of:")
    assert available_configs(names, "zzz").startswith("choose one of:")
    assert available_configs(names).startswith("choose one of:")


def test_available_configs_of_none_says_so() -> None:
    assert "no configurations" in available_configs([], "configs/a.yaml")
