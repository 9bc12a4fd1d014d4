"""What the target's TensorRT would refuse, or quietly compute otherwise than requested, found without any toolchain."""

from graphpress.backends.tensorrt.lint.check import lint, unsupported
from graphpress.backends.tensorrt.lint.device import Device

__all__ = ["Device", "lint", "unsupported"]
