"""A model as a message without its weights, and back: for tools that read messages and have no need of the numbers.

Every tensor but those of strings becomes a reference to external data at a made-up place, ``held/<number>``; who takes
the message keeps the tensors themselves beside it, by place. So nothing is copied, whatever the size of the model, and
a tensor that comes back is the very one that went, and so are the numbers of encodings.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir

from graphpress.ir.encoding.saving import write_annotations
from graphpress.ir.external import exchange
from graphpress.ir.files import clone, to_proto
from graphpress.ir.types import DataType, Model, TensorProtocol

PLACE = "held/"


def to_skeleton(model: Model) -> tuple[onnx.ModelProto, dict[str, TensorProtocol]]:
    """The model as a message without weights, and the weights by the place that the message refers to."""
    held: dict[str, TensorProtocol] = {}
    places: dict[int, str] = {}

    def refer(tensor: TensorProtocol) -> TensorProtocol:
        if tensor.dtype == DataType.STRING:
            return tensor
        place = places.setdefault(id(tensor), f"{PLACE}{len(held)}")
        held[place] = tensor
        return onnx_ir.ExternalTensor(
            place, None, None, tensor.dtype, shape=onnx_ir.Shape(tensor.shape.numpy()), name=tensor.name or ""
        )

    def keep(array: np.ndarray) -> str:
        place = f"{PLACE}{len(held)}"
        held[place] = onnx_ir.tensor(array)
        return place

    copy = clone(model)
    exchange(copy, refer)
    write_annotations(copy, keep)
    return to_proto(copy, encodings=False), held
