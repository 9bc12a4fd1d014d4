"""The demo's data: scikit-learn's handwritten digits, split once and for all.

1,797 images of 8x8 gray levels (UCI "Optical Recognition of Handwritten Digits", test part); 1,197 train and
calibrate, 600 are held out.
"""

from __future__ import annotations

import numpy as np

from graphpress.errors import DataError

HELD_OUT = 600
SPLIT_SEED = 0


def calibration() -> np.ndarray:
    """The training images, without labels: float32 (1197, 1, 8, 8), gray levels 0 to 1.

    Raises:
        DataError: scikit-learn is not installed.
    """
    return training()[0]


def training() -> tuple[np.ndarray, np.ndarray]:
    """The training images as ``calibration`` gives them, and their labels: int64 (1197,)."""
    images, labels = _shuffled()
    return images[HELD_OUT:], labels[HELD_OUT:]


def evaluation() -> tuple[np.ndarray, np.ndarray]:
    """The held-out images, float32 (600, 1, 8, 8), and their labels, int64 (600,).

    Raises:
        DataError: scikit-learn is not installed.
    """
    images, labels = _shuffled()
    return images[:HELD_OUT], labels[:HELD_OUT]


def _shuffled() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "the demo takes its images from scikit-learn, which is not installed",
            where=__name__,
            fix="pip install graphpress[demo]",
        ) from error
    digits = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(digits.target))
    images = (digits.images[order] / 16).astype(np.float32)[:, np.newaxis]
    return images, digits.target[order].astype(np.int64)
