"""A multilayer perceptron in numpy: its weights are a flat dictionary of named arrays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from digits.data import Floats, Integers

Weights = dict[str, Floats]


def create_weights(sizes: Sequence[int], random: np.random.Generator) -> Weights:
    """He-initialised weights and zero biases for layers of the given sizes, input first."""
    weights: Weights = {}
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        scale = np.sqrt(2.0 / inputs)
        weights[f"layers.{layer}.weight"] = random.normal(0, scale, (inputs, outputs)).astype(np.float32)
        weights[f"layers.{layer}.bias"] = np.zeros(outputs, np.float32)
    return weights


def _activations(weights: Weights, pixels: Floats) -> list[Floats]:
    """The input of every layer, then the last layer's output (logits)."""
    layers = len(weights) // 2
    values = [pixels]
    for layer in range(layers):
        value = values[-1] @ weights[f"layers.{layer}.weight"] + weights[f"layers.{layer}.bias"]
        values.append(value if layer == layers - 1 else np.maximum(value, 0))
    return values


def _softmax(logits: Floats) -> Floats:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), np.float32)


def predict(weights: Weights, pixels: Floats) -> Floats:
    """The probability of each digit for each row of pixels."""
    return _softmax(_activations(weights, pixels)[-1])


def mean_loss(probabilities: Floats, labels: Integers) -> float:
    """Cross-entropy of the predictions, in nats."""
    return float(-np.log(probabilities[np.arange(len(labels)), labels] + 1e-12).mean())


def loss_and_gradients(weights: Weights, pixels: Floats, labels: Integers) -> tuple[float, Weights]:
    """The batch's mean loss and its derivative by every weight."""
    values = _activations(weights, pixels)
    probabilities = _softmax(values[-1])
    loss = mean_loss(probabilities, labels)
    probabilities[np.arange(len(labels)), labels] -= 1
    upstream = probabilities / np.float32(len(labels))
    gradients: Weights = {}
    for layer in reversed(range(len(weights) // 2)):
        gradients[f"layers.{layer}.weight"] = values[layer].T @ upstream
        gradients[f"layers.{layer}.bias"] = upstream.sum(axis=0)
        if layer:
            upstream = (upstream @ weights[f"layers.{layer}.weight"].T) * (values[layer] > 0)
    return loss, gradients
