"""TVM, imported without torch: where torch is installed, TVM loads it to exchange tensors, which takes seconds."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class AbsentTorch(MetaPathFinder):
    """Finds no torch, as if it were not installed, for the thread that makes it; others find theirs."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Nothing to add, but for torch.

        Raises:
            ModuleNotFoundError: it is torch that this thread asks for.
        """
        if name == "torch" and threading.get_ident() == self._thread:
            raise ModuleNotFoundError("is not loaded for TVM", name=name)
        return None


def import_tvm() -> None:
    """Import TVM; torch stays where it is loaded already, and can be imported afterwards."""
    absent = AbsentTorch()
    sys.meta_path.insert(0, absent)
    try:
        importlib.import_module("tvm")
    finally:
        sys.meta_path.remove(absent)
