"""Everything that can be asked of a run, by the words of the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, get_args

from graphpress.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from graphpress.manager.contract import Pass

Verification = Literal["none", "final", "each"]

MINIMUM: dict[str, tuple[type, float]] = {
    "max_drop": (Real, 0),
    "time_limit": (Real, 0),
    "threads": (Integral, 1),
    "eval_limit": (Integral, 1),
    "seed": (Integral, 0),
}
"""Kind and minimum of each option that is a number; None leaves one out."""


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Args:
        target: name of the device.
        backend: backend to use in place of the target's own.
        data: a data file, an .npz, arrays, feeds or a ``CalibrationDataReader``; None for no data.
        metric: a metric's name, ``module:function`` or a callable; None for top1 with labels, else agreement.
        max_drop: the accuracy budget, a fraction (0.01 is one point); None waives it.
        recipe: a built-in recipe, a recipe file, or a manifest to replay; None for the target's own.
        passes: a pipeline as text or pass objects, in place of a recipe.
        output: folder to write; None for ``MODEL-TARGET`` in the working directory.
        force: replace a folder that is not empty.
        allow_worse: deliver what is slower or larger than the input model, too.
        exclude: nodes whose name matches this regular expression stay as they are in lossy passes.
        input_shape: ``NAME=1x3x224x224`` each, to fix open dimensions.
        input_range: ``NAME=1x3x224x224:8x3x224x224:16x3x224x224`` each: minimum, optimum and maximum shape of an input
            with open dimensions, for compilers that tune for them.
        threads: threads of the runtime; None for all cores.
        seed: of everything random.
        time_limit: seconds after which no further pass starts.
        eval_limit: at most this many samples measure the metric, evenly spaced.
        verify: when to compare the outputs of lossless passes with those before.
        cache_dir: folder that keeps expensive results by content.

    Raises:
        UsageError: a number or a word that makes no sense.
    """

    target: str = "cpu"
    backend: str | None = None
    data: Any = None
    metric: str | Callable[..., Any] | None = None
    max_drop: float | None = 0.01
    recipe: str | None = None
    passes: str | Sequence[Pass] | None = None
    output: str | os.PathLike[str] | None = None
    force: bool = False
    allow_worse: bool = False
    exclude: str | None = None
    input_shape: Sequence[str] = ()
    input_range: Sequence[str] = ()
    threads: int | None = None
    seed: int = 0
    time_limit: float | None = None
    eval_limit: int | None = None
    verify: Verification = "final"
    cache_dir: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        for name, (kind, minimum) in MINIMUM.items():
            value: Any = getattr(self, name)
            is_number = isinstance(value, kind)
            if value is not None and not (is_number and value >= minimum):
                number = "whole number" if kind is Integral else "number"
                raise UsageError(f"{value!r} cannot be used", where=name, fix=f"give a {number}, {minimum} or more")
        words = get_args(Verification)
        if self.verify not in words:
            raise UsageError(f"unknown word {self.verify!r}", where="verify", fix=did_you_mean(str(self.verify), words))
        for name in ("input_shape", "input_range"):
            if isinstance(getattr(self, name), str):
                raise UsageError("is a single text", where=name, fix='give a list: ["NAME=1x3x224x224"]')
