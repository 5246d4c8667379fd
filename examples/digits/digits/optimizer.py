"""AdamW with linear warm-up and cosine decay."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from digits.network import Weights


def learning_rate_at(step: int, *, peak: float, warmup_steps: int, total_steps: int) -> float:
    """The learning rate of a step counted from 0."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass
class AdamW:
    """Adam's two running averages per weight, and how often they were updated."""

    weight_decay: float
    step_count: int = 0
    mean: Weights = field(default_factory=dict)
    square: Weights = field(default_factory=dict)

    def update(self, weights: Weights, gradients: Weights, learning_rate: float) -> None:
        """Move the weights one step against the gradients, in place."""
        self.step_count += 1
        correct_mean = 1 - 0.9**self.step_count
        correct_square = 1 - 0.999**self.step_count
        for name, gradient in gradients.items():
            mean = self.mean.setdefault(name, np.zeros_like(gradient))
            square = self.square.setdefault(name, np.zeros_like(gradient))
            mean += np.float32(0.1) * (gradient - mean)
            square += np.float32(0.001) * (gradient * gradient - square)
            denominator = np.sqrt(square / np.float32(correct_square)) + np.float32(1e-8)
            if name.endswith("weight"):
                weights[name] *= np.float32(1 - learning_rate * self.weight_decay)
            weights[name] -= np.float32(learning_rate / correct_mean) * (mean / denominator)

    def state(self) -> dict[str, np.ndarray]:
        """Everything needed to go on later, as named arrays."""
        arrays: dict[str, np.ndarray] = {"step_count": np.asarray(self.step_count)}
        arrays.update({f"mean.{name}": value for name, value in self.mean.items()})
        arrays.update({f"square.{name}": value for name, value in self.square.items()})
        return arrays

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.step_count = int(arrays["step_count"])
        self.mean = _with_prefix(arrays, "mean.")
        self.square = _with_prefix(arrays, "square.")


def _with_prefix(arrays: dict[str, np.ndarray], prefix: str) -> Weights:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
