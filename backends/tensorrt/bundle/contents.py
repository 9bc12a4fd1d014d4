"""What goes into a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from graphpress.backend import ShapeRange
from graphpress.backends.tensorrt.bundle.commands import BUILDER_FLAGS, Needs, Way, ways_of
from graphpress.backends.tensorrt.bundle.expected_precisions import ExpectedPrecision, is_sparse, types_of
from graphpress.backends.tensorrt.platform import Platform
from graphpress.ir import Model
from graphpress.targets import Target

Form = Literal["strong", "weak", "float"]

WORKSPACE_SHARE = 4
"""Tactics may use a quarter of the device's memory, which a Jetson shares between processor and GPU."""


@dataclass(frozen=True)
class Bundle:
    """Everything that goes into the folder.

    Args:
        target: the device.
        platform: TensorRT on it.
        models: the legalized models: ``strong`` and ``weak`` as the platform types networks, ``float`` for the DLA.
        annotated: the float graph with its encodings: source of the DLA's ranges, 2:4 sparsity and the float outputs.
        simulated: what ONNX Runtime runs for the outputs expected of the device.
        profile: shapes of every input with open dimensions.
        samples: a few feeds.
        layers: what was expected.
        threads: threads of ONNX Runtime while it computes the golden outputs.
        unchanged: files to copy as ``model.onnx`` where the input model is delivered as it is; empty otherwise.
        inner_shapes: inner values declare their shapes, as those of the input model do.
    """

    target: Target
    platform: Platform
    models: Mapping[Form, Model]
    annotated: Model
    simulated: Model
    profile: Mapping[str, ShapeRange] = field(default_factory=dict)
    samples: Sequence[Mapping[str, np.ndarray]] = ()
    layers: Sequence[ExpectedPrecision] = ()
    threads: int = 1
    unchanged: Sequence[Path] = ()
    inner_shapes: bool = False

    @property
    def model_files(self) -> dict[Form, str]:
        """The names of the models' files, ``model.onnx`` first."""
        first: Form = self.platform.typing[0]
        names: dict[Form, str] = {first: "model.onnx"}
        return names | {form: f"model-{form}.onnx" for form in sorted(self.models) if form != first}

    @property
    def ways(self) -> list[Way]:
        """The ways to build it, the preferred one first."""
        needs = Needs(types_of(self.annotated), self.profile, self.workspace_mib, self.sparse)
        return ways_of(self.platform, needs)

    @property
    def workspace_mib(self) -> int:
        """Scratch memory that tactics may use, in MiB; 0 where the device's memory is not known."""
        return self.target.memory_bytes // WORKSPACE_SHARE >> 20

    @property
    def builder_flags(self) -> list[str]:
        """What the builder must be allowed, by TensorRT's names; strongly typed networks declare their types."""
        types = next(way.types for way in self.ways if way.name == self.platform.typing[0])
        return [*(BUILDER_FLAGS[dtype] for dtype in types), *(["SPARSE_WEIGHTS"] if self.sparse else [])]

    @property
    def sparse(self) -> bool:
        """Whether there are weights for sparse kernels."""
        return is_sparse(self.annotated)
