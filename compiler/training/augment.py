"""Variants of images that need no new label, since the teacher sees the very same ones.

    shift   cut the image out of itself widened by its mirrored border, up to an eighth of its size off center
    flip    mirror it left to right, every other time
    mix     a·x + (1 - a)·y with another image of the batch, every other time, a uniform in [0, 1]

A mixture has no label, but a teacher's answer: few images become many that way ("mixup" in Beyer et al., Knowledge
distillation: a good teacher is patient and consistent, arXiv 2106.05237).

What an image is, is decided by shape: the one input that is floating point of rank 4, with 1, 3 or 4 channels and
both other extents at least 8. Everything is a function of seed and step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SMALLEST_SIDE = 8
CHANNELS = (1, 3, 4)
SHARE = 8
"""Images are shifted by at most their side divided by this (four pixels for CIFAR's 32, as is usual there)."""


@dataclass(frozen=True)
class Augmentation:
    """Random shifts, and flips and mixtures where asked for.

    Args:
        name: the input that holds the images.
        channels_first: whether it is ``[N, C, H, W]``, else ``[N, H, W, C]``.
        flip: mirror left to right as well.
        mix: mix images of a batch as well.
    """

    name: str
    channels_first: bool
    flip: bool = False
    mix: bool = False

    @property
    def label(self) -> str:
        """What it does, for a sentence."""
        *first, last = ["shifted", *(["mirrored"] if self.flip else []), *(["mixed"] if self.mix else [])]
        return f"{', '.join(first)} and {last}" if first else last

    def __call__(self, feed: Mapping[str, np.ndarray], seed: Sequence[int]) -> dict[str, np.ndarray]:
        """The feed with its images changed at random, a function of ``seed``."""
        random = np.random.default_rng(list(seed))
        changed = self._moved(feed[self.name], random)
        return {**feed, self.name: _mixed(changed, random) if self.mix else changed}

    def flipped(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The feed with every image mirrored."""
        return {**feed, self.name: np.ascontiguousarray(np.flip(feed[self.name], self._width))}

    @property
    def _width(self) -> int:
        return 3 if self.channels_first else 2

    def _moved(self, images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        rows = self._width - 1
        height, width = images.shape[rows], images.shape[self._width]
        down, right = height // SHARE, width // SHARE
        pads = [(0, 0)] * 4
        pads[rows], pads[self._width] = (down, down), (right, right)
        wide = np.pad(images, pads, mode="reflect")
        tops = random.integers(0, 2 * down + 1, len(images))
        lefts = random.integers(0, 2 * right + 1, len(images))
        mirrored = random.integers(0, 2, len(images)).astype(bool) & self.flip
        changed = np.empty_like(images)
        for at, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            rest = (slice(top, top + height), slice(left, left + width))
            image = wide[(at, slice(None), *rest) if self.channels_first else (at, *rest)]
            changed[at] = np.flip(image, self._width - 1) if mirrored[at] else image
        return changed


def _mixed(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Every other image, on average, mixed with one of the batch."""
    count = len(images)
    others = images[random.permutation(count)]
    alone = random.integers(0, 2, count).astype(bool)
    share = np.where(alone, 1.0, random.uniform(0, 1, count)).astype(images.dtype).reshape(-1, 1, 1, 1)
    mixed: np.ndarray = share * images + (1 - share) * others
    return mixed


def find_images(shapes: Mapping[str, tuple[int, ...]], floating: Mapping[str, bool]) -> Augmentation | None:
    """The augmentation of the only input that holds images; None where there is none, or several.

    Args:
        shapes: of one feed, by input.
        floating: whether an input is of floating point.
    """
    augmentations = [
        Augmentation(name, channels_first)
        for name, shape in shapes.items()
        if floating[name] and (channels_first := _layout(shape)) is not None
    ]
    return augmentations[0] if len(augmentations) == 1 else None


def _layout(shape: tuple[int, ...]) -> bool | None:
    """Whether channels come first; None where this is no image."""
    if len(shape) != 4:
        return None
    if shape[1] in CHANNELS and min(shape[2:]) >= SMALLEST_SIDE:
        return True
    return False if shape[3] in CHANNELS and min(shape[1:3]) >= SMALLEST_SIDE else None
