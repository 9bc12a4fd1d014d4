"""The folder that is copied to a device: a model in the forms it needs, a script that builds it, a check that it is right.

    model.onnx            the form the platform prefers; what was measured in ONNX Runtime
    model-weak.onnx       where the platform can also type networks weakly
    model-float.onnx      for the deep learning accelerator, with calibration.cache
    build.sh              builds the engine on the device
    expected.json         what was promised: layers, outputs, files
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from graphpress.backend import ShapeRange
from graphpress.backends.tensorrt.platform import Platform
from graphpress.ir import Model
from graphpress.targets import Target

Form = Literal["strong", "weak", "float"]


@dataclass(frozen=True)
class Promise:
    """What one layer was asked to compute in.

    Args:
        name, op: the ONNX node.
        asked: ``int8``, ``float16``, ….
        proxy: in what it computes in an engine built ahead of time for a stand-in; None where that is not known.
    """

    name: str
    op: str
    asked: str
    proxy: str | None = None


@dataclass(frozen=True)
class Bundle:
    """Everything that goes into the folder.

    Args:
        target: the device.
        platform: TensorRT on it.
        models: the legalised models: ``strong`` and ``weak`` as the platform types networks, ``float`` for the DLA.
        annotated: the float graph with its encodings: tells the DLA's ranges, 2:4 sparsity and the float outputs.
        simulated: what ONNX Runtime runs to tell what the device should say.
        profile: shapes of every input with open dimensions.
        samples: a few feeds.
        layers: what was promised.
        threads: threads of ONNX Runtime while it computes the golden outputs.
    """

    target: Target
    platform: Platform
    models: Mapping[Form, Model]
    annotated: Model
    simulated: Model
    profile: Mapping[str, ShapeRange] = field(default_factory=dict)
    samples: Sequence[Mapping[str, np.ndarray]] = ()
    layers: Sequence[Promise] = ()
    threads: int = 1


def write_bundle(out: Path, bundle: Bundle) -> list[Path]:
    """Write the folder.

    Returns:
        The files, ``model.onnx`` first.
    """
    raise NotImplementedError
