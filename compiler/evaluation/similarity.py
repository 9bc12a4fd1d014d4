"""How near two models' outputs are: SQNR, cosine, relative error, and a table by output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from graphpress.data import Feed
from graphpress.data.inputs import is_text
from graphpress.errors import DataError
from graphpress.runtime import Infer


@dataclass(frozen=True)
class OutputAgreement:
    """How far one output of two models agrees over all feeds.

    Args:
        name: the output.
        max_abs: largest absolute difference.
        max_rel: largest absolute difference, over the largest magnitude of the first model's output.
        cosine: cosine of the angle between both outputs, all feeds in one vector.
        sqnr_db: signal-to-quantization-noise ratio in dB; ``inf`` when they are equal.
    """

    name: str
    max_abs: float
    max_rel: float
    cosine: float
    sqnr_db: float


def sqnr(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Signal-to-quantization-noise ratio in dB: ``10 log10(sum(r^2) / sum((r - c)^2))``.

    ``inf`` for equal arrays, ``-inf`` for a candidate that is not finite where the reference is.

    >>> round(sqnr(np.array([1.0, 1.0]), np.array([1.1, 0.9])), 6)
    20.0

    Raises:
        ValueError: the shapes differ.
    """
    if reference.shape != candidate.shape:
        raise ValueError(f"shapes {reference.shape} and {candidate.shape} differ")
    rows = (np.asarray(array, np.float64).reshape(1, -1) for array in (reference, candidate))
    return decibels(*energies(*rows).sum(0))


def energies(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Energy of signal and of noise by row, ``[rows, 2]``; equal infinities are no noise, NaN is infinite noise."""
    with np.errstate(invalid="ignore", over="ignore"):
        signal = np.square(np.where(np.isfinite(reference), reference, 0.0)).sum(1)
        noise = np.square(difference(reference, candidate)).sum(1)
    return np.stack([signal, np.where(np.isnan(noise), np.inf, noise)], axis=1)


def difference(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Element by element; 0 where both are the same infinity or both not a number."""
    with np.errstate(invalid="ignore"):
        same = (reference == candidate) | (np.isnan(reference) & np.isnan(candidate))
        return np.where(same, 0.0, reference - candidate)


def decibels(signal: float, noise: float) -> float:
    """Ten times the decimal logarithm of a ratio of energies; no noise is ``inf``, no signal under noise ``-inf``."""
    if noise == 0:
        return float("inf")
    if signal == 0 or np.isinf(noise):
        return float("-inf")
    return float(10 * (np.log10(signal) - np.log10(noise)))


def cosine(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Cosine of the angle between each pair of rows; two zero vectors agree (1), one alone does not (0)."""
    with np.errstate(invalid="ignore", over="ignore"):
        products = (reference * candidate).sum(1)
        norms = np.sqrt(np.square(reference).sum(1)) * np.sqrt(np.square(candidate).sum(1))
    return _ratio(products, norms, reference, candidate)


def closeness(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """``1 - |r - c| / |r|`` of each pair of rows, at least 0: 1 when equal, 0.95 at an error of 5 %, or 26 dB."""
    signal, noise = energies(reference, candidate).T
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(noise == 0, 0.0, np.sqrt(noise / signal))
    return np.asarray(np.clip(1.0 - error, 0.0, 1.0))


def _ratio(products: np.ndarray, norms: np.ndarray, reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.clip(products / norms, -1.0, 1.0)
    equal = (difference(reference, candidate) == 0).all(1)
    return np.where(equal, 1.0, np.nan_to_num(ratio, nan=0.0))


class _Sums:
    """Running sums of one output over the feeds."""

    def __init__(self) -> None:
        self.max_abs = self.largest = self.product = self.norm_a = self.norm_b = self.noise = self.signal = 0.0

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Take in one feed's outputs, flattened to float64."""
        gap, magnitude = np.abs(difference(first, second)), np.abs(first[np.isfinite(first)])
        self.max_abs = max(self.max_abs, float(np.max(np.nan_to_num(gap, nan=np.inf), initial=0.0)))
        self.largest = max(self.largest, float(np.max(magnitude, initial=0.0)))
        signal, noise = energies(first[None], second[None])[0]
        self.signal, self.noise = self.signal + float(signal), self.noise + float(noise)
        with np.errstate(invalid="ignore", over="ignore"):
            self.product += float(first @ second)
            self.norm_a, self.norm_b = self.norm_a + float(first @ first), self.norm_b + float(second @ second)

    def result(self, name: str) -> OutputAgreement:
        """The figures."""
        norm = float(np.sqrt(self.norm_a) * np.sqrt(self.norm_b))
        angle = 1.0 if self.noise == 0 else self.product / norm if norm > 0 and np.isfinite(norm) else 0.0
        relative = self.max_abs / self.largest if self.largest else (np.inf if self.max_abs else 0.0)
        return OutputAgreement(name, self.max_abs, float(relative), angle, decibels(self.signal, self.noise))


def compare_outputs(first: Infer, second: Infer, feeds: Iterable[Feed]) -> list[OutputAgreement]:
    """Run two models over the same feeds, in bounded memory, and compare outputs of the same name.

    Text outputs are not compared.

    Raises:
        DataError: an output is missing in the second model, or has another shape there.
    """
    sums: dict[str, _Sums] = {}
    for feed in feeds:
        wanted, given = first(feed), second(feed)
        for name, array in wanted.items():
            if not isinstance(array, np.ndarray) or is_text(array.dtype):
                continue
            if name not in given or given[name].shape != array.shape:
                other = list(given[name].shape) if name in given else "missing"
                raise DataError(f"output is {list(array.shape)} in the first model, {other} in the second", where=name)
            flat = (np.asarray(item, np.float64).ravel() for item in (array, given[name]))
            sums.setdefault(name, _Sums()).add(*flat)
    return [total.result(name) for name, total in sums.items()]
