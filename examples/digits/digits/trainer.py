"""The training loop: steps, logs, checkpoints, and the same end whether or not it was interrupted."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from digits.checkpoints import Checkpoint, load_checkpoint, rotate_checkpoints, save_checkpoint
from digits.config import TrainingConfig
from digits.data import Digits, draw_batch, shift_windows
from digits.network import create_weights, loss_and_gradients, mean_loss, predict
from digits.optimizer import AdamW, learning_rate_at


class Trainer:
    """One run over the training digits. `train()` goes from the current step to the last one."""

    def __init__(self, config: TrainingConfig, train: Digits, test: Digits) -> None:
        self.config = config
        self.train_digits = train
        self.test_digits = test
        self.random = np.random.default_rng(config.seed)
        self.weights = create_weights((train.images[0].size, *config.hidden_sizes, 10), self.random)
        self.optimizer = AdamW(config.weight_decay)
        self.windows = shift_windows(train.images, config.max_shift_pixels)
        self.steps_per_epoch = math.ceil(len(train) / config.batch_size)
        self.total_steps = config.max_steps or self.steps_per_epoch * config.num_train_epochs
        self.global_step = 0
        self.losses: list[float] = []
        self.log_history: list[dict[str, Any]] = []

    def resume(self, directory: Path) -> None:
        """Go on from a checkpoint."""
        checkpoint = load_checkpoint(directory)
        self.weights = checkpoint.weights
        self.optimizer.load_state(checkpoint.optimizer)
        self.random.bit_generator.state = checkpoint.rng_state
        self.global_step = checkpoint.trainer_state["global_step"]
        self.log_history = checkpoint.trainer_state["log_history"]

    def train(self) -> None:
        """Train to the last step, logging and saving on the way."""
        # purge_step makes TensorBoard forget what an interrupted run logged after its last checkpoint.
        writer = SummaryWriter(str(self.config.logging_dir), purge_step=self.global_step + 1)
        progress = tqdm(total=self.total_steps, initial=self.global_step, desc="training", unit="step", mininterval=0.5)
        with progress, writer:
            while self.global_step < self.total_steps:
                self._step()
                progress.update()
                self._log_evaluate_save(writer)

    def _step(self) -> None:
        epoch, batch = divmod(self.global_step, self.steps_per_epoch)
        # The order of an epoch depends on its number alone, so a run may resume in its middle.
        order = np.random.default_rng((self.config.seed, epoch)).permutation(len(self.train_digits))
        chosen = order[batch * self.config.batch_size : (batch + 1) * self.config.batch_size]
        pixels = draw_batch(self.windows, chosen, self.random)
        loss, gradients = loss_and_gradients(self.weights, pixels, self.train_digits.labels[chosen])
        self.optimizer.update(self.weights, gradients, self.learning_rate)
        self.global_step += 1
        self.losses.append(loss)

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return learning_rate_at(
            self.global_step,
            peak=self.config.learning_rate,
            warmup_steps=self.config.warmup_steps,
            total_steps=self.total_steps,
        )

    def _log_evaluate_save(self, writer: SummaryWriter) -> None:
        is_last = self.global_step == self.total_steps
        if is_last or self.global_step % self.config.logging_steps == 0:
            self._log(writer, {"learning_rate": self.learning_rate, "loss": float(np.mean(self.losses))})
            self.losses.clear()
        if is_last or self.global_step % self.config.eval_steps == 0:
            self._log(writer, self.evaluate())
        if is_last or self.global_step % self.config.save_steps == 0:
            self._save()

    def _log(self, writer: SummaryWriter, values: dict[str, float]) -> None:
        epoch = round(self.global_step / self.steps_per_epoch, 4)
        self.log_history.append({"epoch": epoch, **values, "step": self.global_step})
        for name, value in values.items():
            split = "eval" if name.startswith("eval_") else "train"
            writer.add_scalar(f"{split}/{name.removeprefix('eval_')}", value, self.global_step)
        text = ", ".join(f"{name} {value:.5g}" for name, value in values.items())
        tqdm.write(f"step {self.global_step}/{self.total_steps} (epoch {epoch:.2f}): {text}")

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy on the held-back digits."""
        started = time.monotonic()
        probabilities = self.predict_test()
        labels = self.test_digits.labels
        accuracy = float((probabilities.argmax(axis=1) == labels).mean())
        return {
            "eval_accuracy": accuracy,
            "eval_loss": mean_loss(probabilities, labels),
            "eval_runtime": round(time.monotonic() - started, 4),
        }

    def predict_test(self) -> np.ndarray:
        """The probabilities for the held-back digits, in their order."""
        return predict(self.weights, self.test_digits.images.reshape(len(self.test_digits), -1))

    def _save(self) -> None:
        checkpoint = Checkpoint(self.weights, self.optimizer.state(), self._rng_state(), self._trainer_state())
        directory = save_checkpoint(self.config.output_dir, checkpoint)
        tqdm.write(f"saved {directory}")
        for deleted in rotate_checkpoints(self.config.output_dir, self.config.save_total_limit):
            tqdm.write(f"deleted {deleted} (save_total_limit {self.config.save_total_limit})")

    def _rng_state(self) -> dict[str, Any]:
        return dict(self.random.bit_generator.state)

    def _trainer_state(self) -> dict[str, Any]:
        return {
            "best_metric": None,
            "best_model_checkpoint": None,
            "epoch": self.global_step / self.steps_per_epoch,
            "eval_steps": self.config.eval_steps,
            "global_step": self.global_step,
            "is_local_process_zero": True,
            "is_world_process_zero": True,
            "log_history": self.log_history,
            "logging_steps": self.config.logging_steps,
            "max_steps": self.total_steps,
            "num_train_epochs": self.config.num_train_epochs,
            "save_steps": self.config.save_steps,
            "train_batch_size": self.config.batch_size,
        }
