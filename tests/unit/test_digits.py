"""The demo's training: interrupted or not, the same weights; and it does learn."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "digits"
SCRIPT = EXAMPLE / "scripts" / "train.py"
sys.path.insert(0, str(EXAMPLE))

from digits.checkpoints import list_checkpoints, load_checkpoint, rotate_checkpoints  # noqa: E402
from digits.config import ConfigurationError, TrainingConfig, load_config  # noqa: E402
from digits.data import Digits, load_digits, shift_windows  # noqa: E402
from digits.results import write_final_model, write_predictions  # noqa: E402
from digits.trainer import Trainer  # noqa: E402


@pytest.fixture(scope="module")
def digits() -> tuple[Digits, Digits]:
    return load_digits(0.2, 42)


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    """One epoch and a half in 35 steps, a checkpoint every 10."""
    return TrainingConfig(
        output_dir=tmp_path / "checkpoints",
        logging_dir=tmp_path / "logs",
        predictions_file=tmp_path / "predictions" / "digits.jsonl",
        max_steps=35,
        save_steps=10,
        logging_steps=5,
        eval_steps=20,
        hidden_sizes=(32,),
    )


def final_weights(config: TrainingConfig, digits: tuple[Digits, Digits], resume: Path | None = None) -> bytes:
    trainer = Trainer(config, *digits)
    if resume:
        trainer.resume(resume)
    trainer.train()
    return (write_final_model(trainer) / "model.safetensors").read_bytes()


def test_resuming_from_any_checkpoint_ends_with_identical_weights(
    config: TrainingConfig, digits: tuple[Digits, Digits], tmp_path: Path
) -> None:
    uninterrupted = final_weights(config, digits)
    saved = list_checkpoints(config.output_dir)
    assert [path.name for path in saved] == [f"checkpoint-{step}" for step in (10, 20, 30, 35)]
    for checkpoint in saved:
        elsewhere = replace(config, output_dir=tmp_path / f"after-{checkpoint.name}")
        assert final_weights(elsewhere, digits, resume=checkpoint) == uninterrupted


def test_another_seed_ends_with_other_weights(
    config: TrainingConfig, digits: tuple[Digits, Digits], tmp_path: Path
) -> None:
    other = replace(config, seed=43, output_dir=tmp_path / "other")
    assert final_weights(config, digits) != final_weights(other, digits)


def test_checkpoint_has_the_files_and_the_state_hugging_face_writes(
    config: TrainingConfig, digits: tuple[Digits, Digits]
) -> None:
    final_weights(config, digits)
    checkpoint = config.output_dir / "checkpoint-20"
    assert {path.name for path in checkpoint.iterdir()} == {
        "model.safetensors",
        "optimizer.npz",
        "rng_state.json",
        "trainer_state.json",
    }
    state = load_checkpoint(checkpoint).trainer_state
    assert state["global_step"] == 20
    assert state["epoch"] == pytest.approx(20 / 23)
    assert [entry["step"] for entry in state["log_history"]] == [5, 10, 15, 20, 20]
    assert "eval_accuracy" in state["log_history"][-1]
    assert not list(config.output_dir.glob("tmp-*"))
    assert list(config.logging_dir.glob("events.out.tfevents.*"))


def test_save_total_limit_keeps_the_highest_steps(tmp_path: Path) -> None:
    for step in (5, 900, 1000, 20):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    deleted = rotate_checkpoints(tmp_path, 2)
    assert [path.name for path in deleted] == ["checkpoint-5", "checkpoint-20"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-1000",
        "checkpoint-900",
        "checkpoint-best",
    ]


def test_network_learns_to_read_digits_it_has_not_seen(config: TrainingConfig, digits: tuple[Digits, Digits]) -> None:
    trainer = Trainer(replace(config, max_steps=500, save_steps=500, hidden_sizes=(64,), learning_rate=0.01), *digits)
    trainer.train()
    assert trainer.evaluate()["eval_accuracy"] > 0.9
    lines = write_predictions(trainer).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == len(digits[1]) == 360
    assert sum(row["label"] == row["prediction"] for row in rows) > 0.9 * len(rows)


def test_shifts_move_an_image_without_changing_its_ink(digits: tuple[Digits, Digits]) -> None:
    image = digits[0].images[:1]
    windows = shift_windows(image, 1)
    assert windows.shape == (1, 3, 3, 8, 8)
    assert (windows[:, 1, 1] == image).all()
    assert (windows[0, 0, 1, 1:] == image[0, :-1]).all()
    assert (windows[0, 1, 2, :, :-1] == image[0, :, 1:]).all()


def test_shipped_configuration_is_valid() -> None:
    config = load_config(ROOT / "configs" / "digits.yaml")
    assert config.output_dir == Path("checkpoints/digits")
    assert config.logging_dir == Path("logs/digits")


def test_bad_configuration_names_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("training: {output_dir: x, logging_dir: y, epochs: 3, batch_size: many}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError) as raised:
        load_config(path)
    for problem in ("training.epochs is not known", "training.predictions_file is missing", "'many'"):
        assert problem in str(raised.value)


def start_training(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), "--config", "config.yaml", *arguments],
        cwd=directory,
        env={**environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_killed_and_resumed_process_ends_with_identical_weights(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed and resumed", tmp_path / "whole"
    settings = {
        "output_dir": "checkpoints",
        "logging_dir": "logs",
        "predictions_file": "predictions.jsonl",
        "max_steps": 300,
        "save_steps": 40,
        "logging_steps": 100,
        "hidden_sizes": [64],
        "learning_rate": 0.01,
    }
    for directory in (killed, whole):
        directory.mkdir()
        (directory / "config.yaml").write_text(yaml.safe_dump({"training": settings}), encoding="utf-8")
    with start_training(killed) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("saved"):
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    newest = list_checkpoints(killed / "checkpoints")[-1].relative_to(killed)
    with start_training(killed, "--resume", str(newest)) as process:
        resumed_output, _ = process.communicate()
    with start_training(whole) as process:
        whole_output, _ = process.communicate()
    assert f"resuming {newest} at step" in resumed_output
    assert "starting at step 0 of 300" in whole_output
    assert resumed_output.splitlines()[-1].startswith("test accuracy: ")
    weights = "checkpoints/final_model/model.safetensors"
    assert (killed / weights).read_bytes() == (whole / weights).read_bytes()


def test_debug_run_is_short_and_leaves_the_real_checkpoints_alone(tmp_path: Path) -> None:
    shutil.copy(ROOT / "configs" / "digits.yaml", tmp_path / "config.yaml")
    with start_training(tmp_path, "--debug") as process:
        output, _ = process.communicate()
    assert process.returncode == 0
    assert "step 40/40" in output
    assert not (tmp_path / "checkpoints" / "digits").exists()
    assert (tmp_path / "checkpoints" / "digits-debug" / "checkpoint-40").is_dir()
