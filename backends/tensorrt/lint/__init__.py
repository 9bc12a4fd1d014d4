"""What the target's TensorRT would refuse, or quietly compute otherwise than requested, found without any toolchain."""

from graphpress.backends.tensorrt.lint.check import lint, unsupported

__all__ = ["lint", "unsupported"]
