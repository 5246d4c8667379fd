"""Which places on the volume `inv fetch` means: a configuration's outputs, logs, predictions, or a path."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from podtasks.doors import git_questions
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.preflight import read_config
from podtasks.pure.errors import PodtasksError, UsageError
from podtasks.pure.run_ids import is_run_id
from podtasks.pure.run_record import parse_record
from podtasks.pure.settings import Settings
from podtasks.pure.suggestion import ask_or_stop
from podtasks.pure.training_config import TrainingConfig, available_configs, checkpoint_directory
from podtasks.pure.transfer import Carrier, VolumeFile
from podtasks.pure.volume_place import place_of, possible_places

FINAL_MODEL = "final_model"
NAMES = ("checkpoints", "logs", "predictions")


@dataclass(frozen=True)
class Outputs:
    """Where a training's outputs lie, as places on the volume, and what its checkpoints are called."""

    told: str
    checkpoints: str
    pattern: str
    final_model: str


def find_outputs(config: str, settings: Settings, files: ProjectFiles, carrier: Carrier) -> Outputs:
    """Return the outputs of the named configuration, else of the only one, else of the newest run.

    Raises ConfigError for a configuration that cannot be read, UsageError where it is not clear which is meant.
    """
    names = files.config_names()
    if config or len(names) == 1:
        return _outputs_of_config(read_config(config or names[0], settings, files), settings, files)
    record = _read_newest_record(carrier)
    if record is None:
        raise UsageError(
            "It is not clear whose checkpoints are meant: no run has left a record on the volume yet.",
            means="Nothing was fetched.",
            next_step="inv fetch --config NAME; " + available_configs(names),
        )
    return _outputs_of_run(record, settings)


def read_newest_run_id(carrier: Carrier) -> str | None:
    """Return the id of the run that was launched last, None where the volume knows of none."""
    data = carrier.read("runs/newest")
    name = (data or b"").decode(errors="replace").strip()
    return name if is_run_id(name) else None


def find_path(path: str, settings: Settings, carrier: Carrier) -> list[VolumeFile]:
    """Return the files at or below a path on the volume, as the user wrote it.

    Raises UsageError where there is nothing, with what is at the volume's top.
    """
    for place in possible_places(path, settings):
        found = list(carrier.list_files(place))
        if found:
            return found
    folders, files = carrier.list_folder("")
    top = [*(f"{name}/" for name in folders), *(file.place for file in files)]
    known = "at the volume's top there are: " + ", ".join(top) if top else "the volume is empty"
    raise UsageError(
        f"There is nothing at {path} on the volume{ask_or_stop(path, [*NAMES, *folders])}",
        means="Nothing was fetched.",
        next_step=f"inv fetch takes checkpoints, logs, predictions or a path; {known}",
    )


def log_places(settings: Settings) -> list[str]:
    """Return where logs lie: those of podtasks, of the clone, and the records of runs."""
    of_clone = place_of(posixpath.join(settings.clone_path, "logs"), settings)
    return list(dict.fromkeys(("logs", of_clone, "runs")))


def prediction_places(settings: Settings) -> list[str]:
    """Return where predictions lie."""
    return [place_of(posixpath.join(settings.clone_path, "predictions"), settings)]


def list_all(carrier: Carrier, places: Sequence[str]) -> list[VolumeFile]:
    """Return all files at or below places."""
    return [file for place in places for file in carrier.list_files(place)]


def _outputs_of_config(config: TrainingConfig, settings: Settings, files: ProjectFiles) -> Outputs:
    output_dir = posixpath.join(settings.clone_path, config.output_dir)
    directory = checkpoint_directory(settings, config, find_branch(settings, files))
    return Outputs(
        config.path,
        place_of(directory, settings),
        settings.checkpoint_pattern,
        place_of(posixpath.join(output_dir, FINAL_MODEL), settings),
    )


def _outputs_of_run(record: dict[str, Any], settings: Settings) -> Outputs:
    output_dir = str(record["output_dir"])
    return Outputs(
        f"{record.get('config')} (run {record.get('run_id')})",
        place_of(str(record.get("checkpoint_dir") or output_dir), settings),
        str(record.get("checkpoint_pattern") or settings.checkpoint_pattern),
        place_of(posixpath.join(output_dir, FINAL_MODEL), settings),
    )


def find_branch(settings: Settings, files: ProjectFiles) -> str:
    """Return the branch that the pod's clone is on, as far as this machine knows."""
    with contextlib.suppress(PodtasksError):
        root = git_questions.find_root(files.root)
        return (None if settings.code_source == "origin" else git_questions.current_branch(root)) or settings.branch
    return settings.branch


def _read_newest_record(carrier: Carrier) -> dict[str, Any] | None:
    run_id = read_newest_run_id(carrier)
    data = carrier.read(f"runs/{run_id}/run.json") if run_id else None
    record = parse_record(data)
    return record if record and record.get("output_dir") else None
