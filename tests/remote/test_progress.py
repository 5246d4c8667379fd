"""How far a training is, from its checkpoints and its log."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.remote.fake_pod import REMOTE

BEGAN = 1_700_000_000.0
BAR = " 43%|████▎     | 430/1000 [00:12<00:16, 34.20it/s]"


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, imported as its siblings import it."""
    monkeypatch.syspath_prepend(str(REMOTE))
    return importlib.import_module("progress")


@pytest.fixture
def log_progress(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The parser of log lines."""
    monkeypatch.syspath_prepend(str(REMOTE))
    return importlib.import_module("log_progress")


def make_record(root: Path, log: str, *, modified_at: float = BEGAN + 100, **fields: object) -> dict[str, Any]:
    """Return the record of a run with this log; an earlier run's lines stand before it."""
    path = root / "current.log"
    earlier = b"step 999/999\n"
    path.write_bytes(earlier + log.encode())
    os.utime(path, (modified_at, modified_at))
    return {
        "log": str(path),
        "log_start": len(earlier),
        "log_end": None,
        "clone": str(root),
        "checkpoint_dir": "out [x]",
        "checkpoint_pattern": "checkpoint-*",
        "checkpoint": None,
        "started_at": BEGAN - 10,
        "training_started_at": BEGAN,
        "ended_at": None,
        **fields,
    }


def add_checkpoint(root: Path, step: int, written_at: float, **fields: object) -> None:
    """Write a trainer_state.json."""
    path = root / "out [x]" / f"checkpoint-{step}" / "trainer_state.json"
    path.parent.mkdir(parents=True)
    state = {"global_step": step, "max_steps": 1000, "epoch": step / 500, "num_train_epochs": 2, **fields}
    path.write_text(json.dumps(state))
    os.utime(path, (written_at, written_at))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BAR, {"step": 430, "max_steps": 1000, "steps_per_s": 34.2}),
        (f"  0%|  | 0/1000 [00:00<?, ?it/s]\r{BAR}", {"step": 430, "max_steps": 1000, "steps_per_s": 34.2}),
        ("training:  2%|2 | 20/1000 [01:00<49:00, 3.00s/it]", {"step": 20, "max_steps": 1000, "steps_per_s": 1 / 3}),
        ("  1%|1 | 7/1000 [00:12<00:16, 34.2step/s, loss=nan]", {"step": 7, "max_steps": 1000, "steps_per_s": 34.2}),
        ("  0%|  | 0/1000 [00:00<?, ?it/s]", {"step": 0, "max_steps": 1000}),
        ("12%|# | 1.20k/10.0k [1:00:12<2:00, 1.5kit/s]", {"step": 1200, "max_steps": 10_000, "steps_per_s": 1500}),
        ("{'loss': 0.5, 'grad_norm': 1.2, 'learning_rate': 1e-05, 'epoch': 1.25}", {"epoch": 1.25}),
        ("{'loss': '0.5', 'learning_rate': '1e-05', 'epoch': '1.25'}", {"epoch": 1.25}),
        ("step 430/1000 (epoch 3.07): loss 0.1", {"step": 430, "max_steps": 1000, "epoch": 3.07}),
        ("from step 100 of 1000", {"step": 100, "max_steps": 1000}),
        ("INFO epoch=3 global_step=77 loss=0.3", {"step": 77, "epoch": 3}),
        ('{"step": 12, "loss": 0.2}', {"step": 12}),
        ("Epoch [3/10], Step [100/500], Loss: 0.3", {"epoch": 3, "epochs": 10, "step": 100, "max_steps": 500}),
        ("  Num Epochs = 3\n  Total optimization steps = 1,500", {"epochs": 3, "max_steps": 1500}),
        ("Epoch 3:  50%|## | 50/100 [00:10<00:10, 5.00it/s, v_num=0]", {"step": 350, "epoch": 3.5, "steps_per_s": 5}),
        (
            "Epoch 2/4:  50%|## | 50/100 [00:10<00:10, 5.00it/s]",
            {"step": 150, "max_steps": 400, "epoch": 1.5, "epochs": 4, "steps_per_s": 5},
        ),
        # What is no place in the training
        ("Gradient Accumulation steps = 4\nlogging_steps=50, max_steps: 9, warmup steps 10/100\nsteps: 5", {}),
        ("model.bin: 43%|## | 430M/1.00G [00:12<00:16, 34.2MB/s]", {}),
        ("Map: 43%|## | 430/1000 [00:12<00:16, 34.2 examples/s]", {}),
        ("Evaluating: 43%|## | 430/1000 [00:12<00:16, 34.2it/s]", {}),
        ("footstep 5, one-step 7, step-by-step", {}),
        ("", {}),
    ],
)
def test_lines_tell_how_far_the_training_is(log_progress: ModuleType, text: str, expected: dict[str, Any]) -> None:
    found = log_progress.parse(text.replace("\r", "\n").split("\n"))
    assert found == pytest.approx(expected)


def test_the_training_bar_is_told_from_an_evaluations(log_progress: ModuleType) -> None:
    evaluation = "100%|####| 50/50 [00:02<00:00, 25.0it/s]"
    lines = [BAR, "  2%|  | 1/50 [00:00<00:02, 25.0it/s]", evaluation]
    assert log_progress.parse(lines)["step"] == 430
    slow = "  2%|  | 1/50 [01:00<00:02, 25.0it/s]"
    assert log_progress.parse([BAR, slow])["step"] == 1
    assert log_progress.parse([BAR, slow], max_steps=1000)["step"] == 430


def test_a_line_that_is_further_than_the_bar_counts(log_progress: ModuleType) -> None:
    found = log_progress.parse(["step 440/1000 (epoch 4): loss 1", BAR])
    assert found == {"step": 440, "max_steps": 1000, "epoch": 4, "steps_per_s": 34.2}


def test_the_log_and_the_checkpoints_complete_each_other(progress: ModuleType, tmp_path: Path) -> None:
    add_checkpoint(tmp_path, 400, BEGAN + 50)
    found = progress.find_progress(make_record(tmp_path, f"hello\n{BAR}"))
    assert found == pytest.approx(
        {
            "step": 430,
            "max_steps": 1000,
            "epoch": 0.8,
            "epochs": 2,
            "steps_per_s": 34.2,
            "eta_s": 570 / 34.2,
            "source": "log",
        }
    )


def test_a_checkpoint_that_is_further_than_the_log_counts(progress: ModuleType, tmp_path: Path) -> None:
    add_checkpoint(tmp_path, 400, BEGAN + 40)
    add_checkpoint(tmp_path, 600, BEGAN + 60)
    found = progress.find_progress(make_record(tmp_path, "step 430/1000\n"))
    assert (found["step"], found["source"]) == (600, "trainer_state")
    assert (found["steps_per_s"], found["eta_s"]) == (10, 40)


def test_without_a_rate_the_pace_since_the_start_counts(progress: ModuleType, tmp_path: Path) -> None:
    record = make_record(tmp_path, "step 430/1000\n", checkpoint={"path": "x", "step": 230})
    found = progress.find_progress(record)
    assert (found["steps_per_s"], found["eta_s"]) == (2, 285)


def test_checkpoints_of_another_run_do_not_count(progress: ModuleType, tmp_path: Path) -> None:
    add_checkpoint(tmp_path, 900, BEGAN - 1000)
    assert progress.find_progress(make_record(tmp_path, "")) is None
    resumed = make_record(tmp_path, "", checkpoint={"path": "x", "step": 900})
    assert progress.find_progress(resumed)["step"] == 900


def test_an_ended_run_has_no_time_left(progress: ModuleType, tmp_path: Path) -> None:
    found = progress.find_progress(make_record(tmp_path, BAR, ended_at=BEGAN + 100))
    assert (found["step"], found["eta_s"]) == (430, None)


@pytest.mark.parametrize("state", ["", "[]", "{}", '{"global_step": "x"}', '{"global_step": 5, "max_steps": -1}'])
def test_a_state_that_makes_no_sense_is_no_trouble(progress: ModuleType, tmp_path: Path, state: str) -> None:
    add_checkpoint(tmp_path, 400, BEGAN + 50)
    (tmp_path / "out [x]" / "checkpoint-400" / "trainer_state.json").write_text(state)
    found = progress.find_progress(make_record(tmp_path, BAR))
    assert (found["step"], found["max_steps"]) == (430, 1000)


def test_a_record_that_could_not_be_read_has_no_progress(progress: ModuleType, tmp_path: Path) -> None:
    assert progress.find_progress({"run_id": "r", "log": str(tmp_path / "no"), "log_start": None}) is None
    assert progress.find_progress({}) is None
