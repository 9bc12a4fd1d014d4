"""Everything that can be asked of a run, under the names of the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, runtime_checkable

from graphpress.backend import Placement, Tuning
from graphpress.data import Dataset
from graphpress.errors import UsageError
from graphpress.manager.recipe import Passes
from graphpress.manager.verification import Verification
from graphpress.targets import Target
from graphpress.targets.load import target_text
from graphpress.validation import MismatchError, check_fields

RECORDED: Final = {"recorded": True}
"""Marks an option that a manifest holds, and a replay therefore takes from it: it says how a model is made. What is
read, written, replaced or run is for the call to say.
"""

EXAMPLE = "NAME=1x3x224x224"
MINIMUM = {"max_drop": 0, "time_limit": 0, "threads": 1, "eval_limit": 1, "seed": 0}
"""Least value of each option that is a number; None leaves one out."""


@runtime_checkable
class DataReader(Protocol):
    """ONNX Runtime's ``CalibrationDataReader``: a feed a call, None at the end."""

    def get_next(self) -> Any:
        """The next feed."""
        ...


Data = str | os.PathLike[str] | Dataset | DataReader | Iterable[Any]
"""Where samples come from: a data file or an .npz; arrays, by input or alone; feeds; a reader."""


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Args:
        target: name of the device, with options in braces; the path of a target file; or a target that was loaded.
        backend: backend to use in place of the target's own.
        data: a data file, an .npz, arrays, feeds or a ``CalibrationDataReader``; None for no data.
        metric: a metric's name, ``module:function`` or a callable; None for top1 with labels, else agreement.
        max_drop: the accuracy budget, in the unit of the metric (0.01 is one point); None waives it; ``auto`` for what
            is usual for the metric: 0.01, of ``closeness`` 0.05, which is an error of 5 %.
        recipe: a built-in recipe, a recipe file, or a manifest to replay; None for the target's own.
        passes: a pipeline in place of a recipe: as text, a pass, or a list of passes and texts.
        output: folder to write; None for ``MODEL-TARGET`` in the working directory.
        force: replace an earlier result; files that no run has written are never replaced.
        allow_worse: deliver what is slower or larger than the input model, too.
        exclude: nodes whose name matches this regular expression stay as they are in lossy passes.
        input_shape: ``NAME=1x3x224x224`` each, to fix open dimensions.
        input_range: ``NAME=1x3x224x224:8x3x224x224:16x3x224x224`` each: minimum, optimum and maximum shape of an input
            with open dimensions, for compilers that tune for them, or make room for the largest.
        threads: threads of the runtime; None for all cores.
        tuning: how kernels are chosen by a backend that generates them: by ``rules``, or by measuring, ``quick`` or
            ``deep``.
        weights: where those of a library lie: ``beside`` it in a file, or ``inside``.
        seed: of everything random.
        time_limit: seconds that the run may take: searches and training end in time, what was done before stays.
        eval_limit: at most this many samples measure the metric, evenly spaced.
        verify: when to compare the outputs of lossless passes with those before.
        strict: a pass that breaks, by a bug of its own, ends the run; without, the result is made without it.
        cache_dir: folder that keeps expensive results by content.
        allow_code: run the user's code that a manifest names, too.
        custom_ops: shared libraries with custom operators of ONNX Runtime, which are loaded.
        keep_docs: keep the model's doc strings, and what its exporter noted beside nodes and values.

    Raises:
        UsageError: a number or a word that makes no sense.
    """

    target: str | os.PathLike[str] | Target = field(default="cpu", metadata=RECORDED)
    backend: str | None = field(default=None, metadata=RECORDED)
    data: Data | None = None
    metric: str | Callable[..., Any] | None = field(default=None, metadata=RECORDED)
    max_drop: float | Literal["auto"] | None = field(default="auto", metadata=RECORDED)
    recipe: str | os.PathLike[str] | None = None
    passes: Passes | None = None
    output: str | os.PathLike[str] | None = None
    force: bool = False
    allow_worse: bool = field(default=False, metadata=RECORDED)
    exclude: str | None = field(default=None, metadata=RECORDED)
    input_shape: Sequence[str] = field(default=(), metadata=RECORDED)
    input_range: Sequence[str] = field(default=(), metadata=RECORDED)
    threads: int | None = field(default=None, metadata=RECORDED)
    tuning: Tuning = field(default="rules", metadata=RECORDED)
    weights: Placement = field(default="beside", metadata=RECORDED)
    seed: int = field(default=0, metadata=RECORDED)
    time_limit: float | None = field(default=None, metadata=RECORDED)
    eval_limit: int | None = field(default=None, metadata=RECORDED)
    verify: Verification = field(default="final", metadata=RECORDED)
    strict: bool = False
    cache_dir: str | os.PathLike[str] | None = None
    allow_code: bool = False
    custom_ops: Sequence[str | os.PathLike[str]] = ()
    keep_docs: bool = field(default=False, metadata=RECORDED)

    def __post_init__(self) -> None:
        for name, example in (("input_shape", EXAMPLE), ("input_range", EXAMPLE), ("custom_ops", "libops.so")):
            if isinstance(getattr(self, name), str):
                raise UsageError("is a single text", where=name, fix=f'give a list: ["{example}"]')
        try:
            check_fields(self)
        except MismatchError as mismatch:
            raise UsageError(mismatch.what, where=mismatch.field, fix=mismatch.fix) from mismatch
        object.__setattr__(self, "target", target_text(self.target))
        for name, minimum in MINIMUM.items():
            value: Any = getattr(self, name)
            if value not in (None, "auto") and not value >= minimum:
                raise UsageError(f"cannot be {value!r}", where=name, fix=f"give {minimum} or more")
