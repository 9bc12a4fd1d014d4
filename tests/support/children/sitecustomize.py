"""Imported by the processes that tests start, which have this folder on their path: they measure briefly, too."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

MEASURE = "graphpress.runtime.measure"


class BriefMeasure(MetaPathFinder):
    """Shortens the measurements of the module once it is imported, and costs nothing where it is not."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != MEASURE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_shorten(module: ModuleType) -> None:
                execute(module)
                brief_timing().measure_briefly(module)

            spec.loader.exec_module = execute_and_shorten  # type: ignore[method-assign]
        return spec


def brief_timing() -> ModuleType:
    sys.path.append(str(Path(__file__).parents[1]))
    import brief_timing

    sys.path.pop()
    return brief_timing


sys.meta_path.insert(0, BriefMeasure())
