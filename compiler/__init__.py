"""graphpress compiles a trained ONNX model into a smaller, faster one that is still right.

    import graphpress

    result = graphpress.optimize("model.onnx", target="cpu", data="data.yaml", max_drop=0.01)
    print(result.status, result.output)

A pass of one's own is a frozen dataclass derived from ``Pass`` or ``RewritePass``. Nothing heavy is imported until
one of these names is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphpress.backend import Artifact, Availability, Backend, CompileOptions, Findings, Prepared
    from graphpress.driver.api import Result, optimize
    from graphpress.driver.options import Options
    from graphpress.errors import (
        BackendError,
        DataError,
        GraphpressError,
        ModelError,
        PassError,
        ResourceError,
        UsageError,
    )
    from graphpress.ir import Editor, Match, Model, Node, Refusal, Value, load, save
    from graphpress.manager.contract import Context, Outcome, Pass, RewritePass
    from graphpress.report.records import Report
    from graphpress.runtime import Runner
    from graphpress.targets import Target, load_target, target_names

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "Availability",
    "Backend",
    "BackendError",
    "CompileOptions",
    "Context",
    "DataError",
    "Editor",
    "Findings",
    "GraphpressError",
    "Match",
    "Model",
    "ModelError",
    "Node",
    "Options",
    "Outcome",
    "Pass",
    "PassError",
    "Prepared",
    "Refusal",
    "Report",
    "ResourceError",
    "Result",
    "RewritePass",
    "Runner",
    "Target",
    "UsageError",
    "Value",
    "load",
    "load_target",
    "optimize",
    "save",
    "target_names",
]

_HOME = {
    **dict.fromkeys(("Result", "optimize"), "driver.api"),
    **dict.fromkeys(("Artifact", "Availability", "Backend", "CompileOptions", "Findings", "Prepared"), "backend"),
    **dict.fromkeys(
        ("BackendError", "DataError", "GraphpressError", "ModelError", "PassError", "ResourceError", "UsageError"),
        "errors",
    ),
    **dict.fromkeys(("Editor", "Match", "Model", "Node", "Refusal", "Value", "load", "save"), "ir"),
    **dict.fromkeys(("Context", "Outcome", "Pass", "RewritePass"), "manager.contract"),
    "Options": "driver.options",
    "Report": "report.records",
    "Runner": "runtime",
    **dict.fromkeys(("Target", "load_target", "target_names"), "targets"),
}
"""The module of each public name, below this package."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
