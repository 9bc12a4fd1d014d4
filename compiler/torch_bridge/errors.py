"""What goes wrong between a model and PyTorch."""

from __future__ import annotations

from graphpress.errors import ModelError


class BridgeError(ModelError):
    """The model cannot be carried into the framework, run there, or be written back."""
