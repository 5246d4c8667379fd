"""The README's first command: the digits demo, trained from a clone of this repository's last commit."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.end_to_end.project import ROOT, TrainingProject


def test_demo_trains_a_real_model_and_leaves_everything_on_the_volume(tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", str(ROOT), str(tmp_path / "clone")], check=True)
    (tmp_path / "clone/.home").mkdir()
    (tmp_path / "clone/.git/info/exclude").write_text(".home/\n")
    project = TrainingProject(tmp_path / "clone")
    try:
        done = project.inv("train", "--config", "configs/digits.yaml", timeout_s=170)

        assert done.code == 0, done.stderr
        require_trained(project)
        assert project.log.endswith("EXIT_CODE=0\n")
        assert project.running_pods() == []
    finally:
        project.end()


def require_trained(project: TrainingProject) -> None:
    output = project.volume / "checkpoints/digits"
    newest = max(output.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    state = json.loads((newest / "trainer_state.json").read_text())
    assert f"checkpoint-{state['global_step']}" == newest.name
    assert (output / "final_model/model.safetensors").is_file()
    assert list((project.volume / "logs/digits").rglob("events.out.tfevents.*"))
    predictions = [json.loads(line) for line in (project.volume / "predictions/digits.jsonl").read_text().splitlines()]
    right = sum(row["label"] == row["prediction"] for row in predictions)
    assert right / len(predictions) > 0.95
