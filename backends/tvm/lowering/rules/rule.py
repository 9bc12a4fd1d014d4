"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable

from graphpress.backends.tvm.lowering.context import Lowering
from graphpress.ir import Node

Rule = Callable[[Node, Lowering], None]
"""Emits the kernels of a node. It refuses (``refused``) before it makes room for a result, or not at all: what it reads
until then stays as it is."""
