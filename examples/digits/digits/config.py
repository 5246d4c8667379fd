"""The training configuration: one YAML file, checked before anything slow starts."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml


class ConfigurationError(Exception):
    """The configuration file cannot be used; the text names every problem in it."""


@dataclass(frozen=True)
class TrainingConfig:
    """Everything a run depends on: two runs with equal values end with bit-identical weights.

    Paths are relative to the directory the script is started from.
    """

    output_dir: Path
    logging_dir: Path
    predictions_file: Path
    seed: int = 42
    num_train_epochs: int = 500
    batch_size: int = 64
    learning_rate: float = 0.001
    weight_decay: float = 0.01
    warmup_steps: int = 100
    save_steps: int = 1000
    save_total_limit: int | None = None
    logging_steps: int = 100
    eval_steps: int = 500
    hidden_sizes: tuple[int, ...] = (512, 256)
    max_shift_pixels: int = 1
    test_fraction: float = 0.2
    max_steps: int | None = None

    def for_debugging(self) -> TrainingConfig:
        """The same run cut down to 40 steps, in directories of its own."""
        return replace(
            self,
            output_dir=self.output_dir.with_name(self.output_dir.name + "-debug"),
            logging_dir=self.logging_dir.with_name(self.logging_dir.name + "-debug"),
            predictions_file=self.predictions_file.with_name("debug-" + self.predictions_file.name),
            max_steps=40,
            save_steps=20,
            logging_steps=10,
            eval_steps=20,
        )


def load_config(path: Path) -> TrainingConfig:
    """Read the `training:` section of a YAML file.

    Raises:
        ConfigurationError: the file is missing, is no YAML, lacks a key or has an unknown or wrong one.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    section = document.get("training") if isinstance(document, dict) else None
    if not isinstance(section, dict):
        raise ConfigurationError(f"{path}: there is no section 'training:'")
    problems = _find_problems(section)
    if problems:
        raise ConfigurationError("\n".join(f"{path}: {problem}" for problem in problems))
    values: dict[str, Any] = {key: _convert(key, value) for key, value in section.items()}
    return TrainingConfig(**values)


def _find_problems(section: dict[str, object]) -> list[str]:
    known = {field.name: field for field in fields(TrainingConfig)}
    problems = [f"training.{key} is not known" for key in section if key not in known]
    for name, field in known.items():
        if name not in section:
            if field.default is MISSING:
                problems.append(f"training.{name} is missing")
        elif not _is_valid(name, section[name], field.default):
            problems.append(f"training.{name} cannot be {section[name]!r}")
    return problems


def _is_valid(name: str, value: object, default: object) -> bool:
    if name == "hidden_sizes":
        return isinstance(value, list) and all(isinstance(size, int) and size > 0 for size in value)
    if name in ("save_total_limit", "max_steps"):
        return value is None or (isinstance(value, int) and value > 0)
    if default is MISSING:
        return isinstance(value, str) and bool(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if isinstance(default, int) and not isinstance(value, int):
        return False
    if name == "test_fraction":
        return 0 < value < 1
    may_be_zero = name in ("seed", "weight_decay", "warmup_steps", "max_shift_pixels")
    return value >= 0 if may_be_zero else value > 0


def _convert(name: str, value: object) -> object:
    if name in ("output_dir", "logging_dir", "predictions_file"):
        return Path(str(value))
    return tuple(value) if isinstance(value, list) else value
