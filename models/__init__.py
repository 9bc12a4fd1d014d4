"""Models made by code: small, deterministic, named and spelt as exporters do.

>>> from graphpress.models import build
>>> model = build("resnet", depth=18, width=8, classes=10)
>>> model.graph.name
'resnet'
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from graphpress.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from graphpress.ir import Model
    from graphpress.models.architecture import Architecture

_FAMILIES = {
    "bert": "Bert",
    "chain": "Chain",
    "control_flow": "ControlFlow",
    "densenet": "DenseNet",
    "detector": "Detector",
    "gpt": "Gpt",
    "lstm": "Lstm",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3": "MobileNetV3",
    "nas": "Nas",
    "resnet": "ResNet",
    "shufflenet": "ShuffleNet",
    "unet": "UNet",
    "vgg": "Vgg",
    "vit": "Vit",
}
"""Class by family; each lives in the module of the family's name, imported when asked for."""


def names() -> tuple[str, ...]:
    """The families that ``build`` knows."""
    return tuple(_FAMILIES)


def build(name: str, **sizes: Any) -> Model:
    """Build a model.

    Args:
        name: one of ``names()``.
        sizes: fields of the family's class, for instance ``depth=50`` of ``graphpress.models.resnet.ResNet``;
            every family takes ``batch``, ``opset`` and ``seed``. The defaults give a small model.

    Raises:
        UsageError: unknown family or size, or sizes that do not fit together.
    """
    if name not in _FAMILIES:
        raise UsageError("no such family of models", where=name, fix=did_you_mean(name, _FAMILIES))
    family: type[Architecture] = getattr(importlib.import_module(f"graphpress.models.{name}"), _FAMILIES[name])
    known = {field.name for field in dataclasses.fields(family)}
    for size in sizes:
        if size not in known:
            raise UsageError(f"{name} has no such size", where=size, fix=did_you_mean(size, known))
    return family(**sizes).build()
