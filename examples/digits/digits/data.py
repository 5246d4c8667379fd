"""The 1,797 digits that come with scikit-learn: 8 by 8 pixels, written by 43 people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Digits:
    """Images as float32 in 0..1 of shape (count, 8, 8), labels 0..9, and places in the data set."""

    images: Floats
    labels: Integers
    indices: Integers

    def __len__(self) -> int:
        return len(self.labels)


def load_digits(test_fraction: float, seed: int) -> tuple[Digits, Digits]:
    """The digits to learn from and those held back for the test, equally many of each digit in both."""
    # scikit-learn takes seconds to import: whoever only reads a configuration should not wait for it.
    from sklearn.datasets import load_digits as load_sklearn_digits
    from sklearn.model_selection import train_test_split

    bunch = load_sklearn_digits()
    images = (bunch.images / 16.0).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=test_fraction, random_state=seed, stratify=labels)
    return Digits(images[train], labels[train], train), Digits(images[test], labels[test], test)


def shift_windows(images: Floats, max_shift_pixels: int) -> Floats:
    """Every way to shift each image, without copying: element [i, y, x] is image i shifted by (y, x)."""
    pad = max_shift_pixels
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad)))
    return np.asarray(sliding_window_view(padded, images.shape[1:], axis=(1, 2)))


def draw_batch(windows: Floats, chosen: Integers, random: np.random.Generator) -> Floats:
    """The chosen images as rows of pixels, each shifted at random."""
    shifts = random.integers(windows.shape[1], size=(2, len(chosen)))
    return np.asarray(windows[chosen, shifts[0], shifts[1]]).reshape(len(chosen), -1)
