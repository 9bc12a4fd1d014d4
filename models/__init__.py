"""Models made by code: small, deterministic, named and written as exporters do.

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
    "branches": "Branches",
    "chain": "Chain",
    "conformer": "Conformer",
    "control_flow": "ControlFlow",
    "convnext": "ConvNeXt",
    "crnn": "Crnn",
    "densenet": "DenseNet",
    "detector": "Detector",
    "detr": "Detr",
    "dla": "Dla",
    "dpn": "Dpn",
    "edsr": "Edsr",
    "efficientnet": "EfficientNet",
    "generator": "Generator",
    "ghostnet": "GhostNet",
    "gpt": "Gpt",
    "hourglass": "Hourglass",
    "hrnet": "HrNet",
    "inception": "Inception",
    "llama": "Llama",
    "lstm": "Lstm",
    "mixer": "Mixer",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3": "MobileNetV3",
    "mobilevit": "MobileVit",
    "nas": "Nas",
    "pointnet": "PointNet",
    "poolformer": "PoolFormer",
    "recommender": "Recommender",
    "repvgg": "RepVgg",
    "res2net": "Res2Net",
    "resnest": "ResNeSt",
    "resnet": "ResNet",
    "resnext": "ResNeXt",
    "senet": "SeNet",
    "shufflenet": "ShuffleNet",
    "shufflenet_v1": "ShuffleNetV1",
    "squeezenet": "SqueezeNet",
    "swin": "Swin",
    "unet": "UNet",
    "vgg": "Vgg",
    "vit": "Vit",
    "wavenet": "WaveNet",
    "yolo": "Yolo",
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
