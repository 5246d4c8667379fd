"""Any training configuration: refused, or with directories that stay on the volume."""

from __future__ import annotations

import posixpath
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from podtasks.pure.errors import ConfigError
from podtasks.pure.settings import Settings
from podtasks.pure.training_config import TrainingConfig, checkpoint_directory, parse_training_config
from tests.properties.hostile import JSON, SAMPLES
from tests.properties.profile import examples

OUTPUT_KEYS = ("training.output_dir", "output_dir")
LOGGING_KEYS = ("training.logging_dir", "logging_dir")
PATH = "configs/baseline.yaml"
PARTS = st.sampled_from(
    ["a", "..", ".", "", " ", "~", "out", "workspace", "...", "..a", "a..", "{branch}", "\u00e9", "a b", "\ud800"]
)
DIRECTORIES = st.one_of(
    st.lists(PARTS, max_size=5).map("/".join),
    st.lists(PARTS, max_size=4).map(lambda parts: "/workspace/" + "/".join(parts)),
    st.lists(PARTS, max_size=2).map(lambda parts: "/workspace2/" + "/".join(parts)),
    st.sampled_from(SAMPLES),
    st.text(max_size=12),
    JSON,
)
MAPPINGS = st.dictionaries(
    st.sampled_from(["output_dir", "logging_dir", "training", "training.output_dir", "x"]),
    st.one_of(DIRECTORIES, st.dictionaries(st.sampled_from(["output_dir", "logging_dir"]), DIRECTORIES, max_size=2)),
    max_size=4,
)
PATTERNS = st.sampled_from(["{output_dir}", "{output_dir}/{branch}", "/workspace/{config}_{branch}"])
MOUNTS = st.sampled_from(["/workspace", "/data", "/workspace/deep"])


def parse(text: str, mount_path: str = "/workspace") -> TrainingConfig:
    return parse_training_config(text, PATH, OUTPUT_KEYS, LOGGING_KEYS, mount_path=mount_path)


def require_inside(directory: str, folder: str, mount_path: str) -> None:
    """Fail where a directory, as a program in `folder` would use it, is not below the mount path, links or not."""
    path = posixpath.join(folder, directory)
    assert ".." not in path.split("/")
    assert posixpath.normpath(path).replace("//", "/", 1).startswith(f"{mount_path}/")
    assert directory.encode("utf-8") and not set(directory) & set(map(chr, range(32)))


@examples(200)
@given(MAPPINGS, MOUNTS)
def test_directories_of_any_configuration_stay_on_the_volume(mapping: dict[str, Any], mount_path: str) -> None:
    try:
        config = parse(yaml.dump(mapping, allow_unicode=True), mount_path)
    except ConfigError as error:
        assert PATH in error.what and error.next_step
        return
    clone = f"{mount_path}/speech"
    require_inside(config.output_dir, clone, mount_path)
    if config.logging_dir is not None:
        require_inside(config.logging_dir, clone, mount_path)


@examples(300)
@given(DIRECTORIES, PATTERNS, DIRECTORIES)
def test_checkpoint_directory_of_anything_is_on_the_volume(output_dir: object, pattern: str, branch: object) -> None:
    settings = Settings(project="speech", checkpoint_dir=pattern)
    try:
        directory = checkpoint_directory(settings, TrainingConfig(PATH, str(output_dir), None), str(branch))
    except ConfigError as error:
        assert error.next_step
        return
    require_inside(directory, "/", "/workspace")
    assert directory == posixpath.normpath(directory)


@examples(200)
@given(MAPPINGS)
def test_a_configuration_means_the_same_however_its_yaml_is_written(mapping: dict[str, Any]) -> None:
    texts = (yaml.dump(mapping, default_flow_style=style, allow_unicode=style) for style in (True, False))
    assert len({_outcome(text) for text in texts}) == 1


def _outcome(text: str) -> tuple[str, str | None] | str:
    try:
        config = parse(text)
    except ConfigError as error:
        return error.what
    return config.output_dir, config.logging_dir


@examples(300)
@given(st.one_of(st.text(max_size=80), st.from_regex(r"(output_dir|training|a): ?[\[{!&*|>'\"a-z0-9,: }\]-]*")))
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    try:
        assert parse(text).output_dir
    except ConfigError as error:
        assert error.next_step
