"""A model as a PyTorch module, and back: the whole interface. Training builds on it (``graphpress.training``).

    student = torch_bridge.to_module(model, taps=["h"])     # encodings become fake quantization
    ...                                                     # train student.parameters
    torch_bridge.write_back(student, model)                 # into the initializers; encodings are renewed

This package loads without torch, and imports it when a model is carried over.
"""

from graphpress.torch_bridge.bridge import TorchModel, TrainableModel, available, to_module, write_back
from graphpress.torch_bridge.errors import BridgeError
from graphpress.torch_bridge.weights import is_trainable

__all__ = ["BridgeError", "TorchModel", "TrainableModel", "available", "is_trainable", "to_module", "write_back"]
