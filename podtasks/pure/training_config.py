"""The training pipeline's own configuration (configs/*.yaml), of which podtasks needs two directories."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from podtasks.pure.errors import ConfigError
from podtasks.pure.placeholder import fill
from podtasks.pure.pod_path import absolute_path, clean_path, is_inside, path_problem
from podtasks.pure.suggestion import find_nearest
from podtasks.pure.yaml_text import YamlTextError, load_yaml

if TYPE_CHECKING:
    from podtasks.pure.settings import Settings  # pydantic costs 0.2 s, so not at run time


@dataclass(frozen=True)
class TrainingConfig:
    """A training configuration that podtasks can work with.

    Args:
        path: where the file stands, as the user named it.
        output_dir: where training writes its checkpoints, relative to the clone or absolute.
        logging_dir: where training writes its event files, where the file says so.
    """

    path: str
    output_dir: str
    logging_dir: str | None

    @property
    def name(self) -> str:
        """The file's name without folder and ending."""
        return posixpath.splitext(posixpath.basename(self.path))[0]


def parse_training_config(
    text: str,
    path: str,
    output_dir_keys: Sequence[str],
    logging_dir_keys: Sequence[str],
    *,
    mount_path: str = "/workspace",
) -> TrainingConfig:
    """Read a training configuration and check the directories that podtasks needs of it.

    Args:
        text: the file's content.
        path: the file's path, for messages.
        output_dir_keys: dotted keys under which the output directory may stand; the first one present counts.
        logging_dir_keys: the same for the logging directory, which may be missing.
        mount_path: where the volume is mounted on the pod.

    Raises:
        ConfigError: the file is not YAML, or a directory is missing or would not be on the volume.
    """
    mapping = _load_mapping(text, path)
    output_dir = _find_directory(mapping, path, output_dir_keys, mount_path)
    if output_dir is None:
        raise _no_output_dir(path, output_dir_keys)
    logging_dir = _find_directory(mapping, path, logging_dir_keys, mount_path)
    return TrainingConfig(path, output_dir, logging_dir)


def checkpoint_directory(settings: Settings, config: TrainingConfig, branch: str) -> str:
    """Return the absolute path on the pod where this configuration's checkpoints are.

    Args:
        settings: whose `checkpoint_dir` is the pattern, filled with output_dir, branch and config.
        config: the training configuration.
        branch: the git branch the pod's clone is on.

    Raises:
        ConfigError: the filled pattern would not be on the volume.
    """
    values = {"output_dir": config.output_dir, "branch": branch, "config": config.name}
    filled = fill(settings.checkpoint_dir, values)
    problem = _directory_problem(filled, settings.mount_path)
    if problem:
        raise ConfigError(
            f"{config.path}: the checkpoint directory {_shown(filled)} {problem}.",
            next_step=f"change the output directory in {config.path} or podtasks.checkpoint_dir "
            f"in invoke.yaml (now {_shown(settings.checkpoint_dir)})",
        )
    return absolute_path(settings.clone_path, filled)


def available_configs(names: Sequence[str], wanted: str = "") -> str:
    """Return a message that lists the configurations there are, and the one most like what was wanted.

    Args:
        names: paths of the configurations there are.
        wanted: the path that was asked for and is not there.
    """
    if not names:
        return "there are no configurations in configs/ yet; write one"
    listing = "".join(f"\n  {name}" for name in sorted(names))
    # By the names alone: the folder and the ending that all share would make any two look alike.
    by_stem = {_stem(name): name for name in names}
    nearest = find_nearest(_stem(wanted), by_stem)
    question = f"did you mean {by_stem[nearest]}? " if nearest else ""
    return f"{question}{'Choose' if question else 'choose'} one of:{listing}"


def _load_mapping(text: str, path: str) -> Mapping[object, object]:
    try:
        value = load_yaml(text)
    except YamlTextError as error:
        raise ConfigError(f"{path} is not YAML: {error}.", next_step=f"correct {path} there") from None
    if not isinstance(value, dict):
        found = "is empty" if value is None else f"holds a {type(value).__name__}"
        raise ConfigError(
            f"{path} {found}, where keys and values are needed.",
            next_step=f"write the training's settings into {path} as lines of key: value",
        )
    return value


def _find_directory(mapping: Mapping[object, object], path: str, keys: Sequence[str], mount_path: str) -> str | None:
    for key in keys:
        value = _look_up(mapping, key)
        if value is not None:
            return _require_directory(value, key, path, mount_path)
    return None


def _look_up(mapping: Mapping[object, object], dotted_key: str) -> object:
    """Given a dotted key, return what stands under it, as nested keys or as one key with dots; else None."""
    value: object = mapping
    for part in dotted_key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return mapping.get(dotted_key) if value is None else value


def _require_directory(value: object, key: str, path: str, mount_path: str) -> str:
    problem = _directory_problem(value, mount_path) if isinstance(value, str) else "is not text"
    if problem:
        shown = f" {_shown(value)}" if isinstance(value, str) else ""
        raise ConfigError(
            f"{path}: {key}{shown} {problem}.",
            next_step=f"write a folder such as checkpoints/{_stem(path)} under {key} in {path}",
        )
    return str(value)


def _directory_problem(directory: str, mount_path: str) -> str | None:
    """Given a directory as training will use it, return why its files would be lost or mixed up, or None."""
    problem = path_problem(directory)
    if problem:
        return problem
    if "${" in directory:
        return "holds ${...}, which only the training script can fill in"
    if not directory.startswith("/"):
        return None
    if clean_path(directory) in ("/", clean_path(mount_path)):
        return "is a whole disk, not a folder of this training"
    if not is_inside(directory, mount_path):
        return f"is not on the volume ({mount_path}): what is written there is wiped when the pod stops"
    return None


def _no_output_dir(path: str, keys: Sequence[str]) -> ConfigError:
    return ConfigError(
        f"{path} names no output directory: looked for {', '.join(keys)}.",
        means="Without it podtasks cannot find the checkpoints to resume from.",
        next_step=f"add one of them to {path}, or name your own key as podtasks.output_dir in invoke.yaml",
    )


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
