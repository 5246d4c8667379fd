"""What a finished run leaves behind: the model and its predictions."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.numpy import save_file

from digits.checkpoints import write_atomically, write_json
from digits.trainer import Trainer


def write_final_model(trainer: Trainer) -> Path:
    """Write the weights, and what is needed to use them, into `final_model/`."""
    directory = trainer.config.output_dir / "final_model"
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / "model.safetensors", lambda path: save_file(trainer.weights, path))
    config = {
        "model_type": "digits-mlp",
        "image_size": [8, 8],
        "hidden_sizes": list(trainer.config.hidden_sizes),
        "num_labels": 10,
        "trained_steps": trainer.global_step,
    }
    write_atomically(directory / "config.json", lambda path: write_json(path, config))
    return directory


def write_predictions(trainer: Trainer) -> Path:
    """Write one JSON line per held-back digit: its place in the data set, label, prediction, probability."""
    digits = trainer.test_digits
    rows = zip(digits.indices, digits.labels, trainer.predict_test(), strict=True)
    lines = [
        json.dumps(
            {
                "index": int(index),
                "label": int(label),
                "prediction": int(probabilities.argmax()),
                "probability": round(float(probabilities.max()), 5),
            }
        )
        for index, label, probabilities in rows
    ]
    text = "".join(line + "\n" for line in lines)
    path = trainer.config.predictions_file
    write_atomically(path, lambda temporary: _write_text(temporary, text))
    return path


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
